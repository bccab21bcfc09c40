"""The coordinator and what it decides: members, leases, the gate, placement, evaluations."""
