"""The wire: frames, wire/ (a file a message), connections without I/O, then the sockets."""
