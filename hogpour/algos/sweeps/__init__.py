"""Sweeps, one file for each layer: whole blocks of examples in one compiled loop, a step each, in place."""
