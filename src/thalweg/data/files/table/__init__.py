"""The parts of a delimited file: its dialect and its header."""
