"""The schemes for several machines, for tests with real nodes, which take seconds each."""

from __future__ import annotations

from hogpour.core import registry

__all__ = ["KINDS", "SCHEMES"]

SCHEMES = [name for name, cls in registry.available("scheme").items() if name != "custom" and cls().federated]

_OF = {name: registry.available("scheme")[name]().choices() for name in SCHEMES}

KINDS = sorted({(type(one.exchange), type(one.gate)): name for name, one in reversed(_OF.items())}.values())
"""The first scheme of each kind: what it sends, and who waits for whom."""
