"""Learning from the answers of a finished run."""
