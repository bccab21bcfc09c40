"""The networks that peers of ``bench hogwild`` build, by name."""

from __future__ import annotations

__all__ = ["units_of"]


def units_of(name: str) -> list[int]:
    """Return the units of a network.

    Args:
        name: ``mlp:784-128-10``, units of input, hidden and output layers; or ``example``, the network of PyTorch's
            Hogwild example, which has no such list: two 5 x 5 convolutions of 10 and 20 channels with max pooling,
            linear 320-50-10, dropout.

    Raises:
        ValueError: another name.
    """
    kind, _, widths = name.partition(":")
    units = [int(n) for n in widths.split("-")] if kind == "mlp" and widths else []
    if len(units) < 2 and name != "example":
        raise ValueError(f"network {name!r}, expected example or mlp:IN-...-OUT")
    return units
