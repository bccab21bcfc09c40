"""A trained model, its file, snapshots of a cluster, the disk."""
