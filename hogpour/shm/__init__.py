"""Shared memory between a replica and its node; params.py tells of THE RACE."""
