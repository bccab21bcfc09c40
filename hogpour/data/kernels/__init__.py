"""Loops over the numbers of a data set, compiled."""
