"""Composition: the async API, a run in a cluster, the first node, training, snapshots."""
