"""Data that is not one text file: archives, Parquet and Arrow, spreadsheets, folders, several files, Python objects."""
