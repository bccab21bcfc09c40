"""What every file with kernels needs: numba's decorators with types, and loops that several rooms share."""
