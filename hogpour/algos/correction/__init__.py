"""Corrections, one file each: how a gradient that comes late is amended before it is applied."""
