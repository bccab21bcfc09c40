"""Files to arrays, and which examples when."""
