"""Files to arrays: formats/; which examples when."""
