"""A node towards the shards and the coordinator: pushes, pulls, fetches, the gate, routes, membership."""
