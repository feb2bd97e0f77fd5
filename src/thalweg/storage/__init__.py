"""Files that a crash leaves whole, with known checksums, changed by one process at a time."""
