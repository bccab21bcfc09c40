"""Named schemes: one combination of choices a file."""
