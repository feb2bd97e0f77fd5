"""A comparison -> one HTML page: curves, times to the target, tuning, and the sentence to quote."""
