"""Kernels that layers share: tiles, registers, threads, gathering."""
