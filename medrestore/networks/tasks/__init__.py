"""Task networks T, one a file."""
