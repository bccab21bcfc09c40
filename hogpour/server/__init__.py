"""The parameter server: shards, turns, deduplication, gated steps, vector operations, handover."""
