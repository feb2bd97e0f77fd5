"""What keeps a run whole: who may change it, how its folder appears, its history, and what is checked."""
