"""Optimisers, one file each: element-wise kernels on the flat vector."""
