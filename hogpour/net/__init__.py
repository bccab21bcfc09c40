"""The wire between nodes: frames, one file per message, connections without I/O, and the sockets around them."""
