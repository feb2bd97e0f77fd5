"""Data that are more than memory: files cut into blocks of rows, which are read when their turn comes."""
