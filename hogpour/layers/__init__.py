"""Layers and losses, one file each: kernels, forward and backward side by side. Pure mathematics, batch last."""
