"""Exchanges, one file each: what becomes of a gradient where it was computed, and what a node sends and takes in."""
