"""Shared memory of one machine: one anonymous segment, atomics, clocks, control words, the live vector. No network."""
