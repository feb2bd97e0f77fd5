"""Many runs under one budget."""
