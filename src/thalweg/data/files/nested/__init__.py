"""JSON with more than one level: objects inside of rows, and whole files that are one value."""
