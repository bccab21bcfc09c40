"""Our own side of benches where it runs in processes of its own, as its peers in ``_peers`` do."""
