"""Gates, one file each: which gradients count in a step, and who must wait for whom."""
