"""Mathematics: a file a layer; losses/; kernels/, of which tile.py and registers.py are the core."""
