"""What a layer or loss of your own is held to."""
