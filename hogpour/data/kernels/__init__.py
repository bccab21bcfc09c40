"""Loops over the text and the numbers of data sets, compiled."""
