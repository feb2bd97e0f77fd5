"""Every public name of `thalweg` and of its parts, used as a user would; types are checked, and a test runs it."""
