"""The contract of schemes: a named combination of choices, with the paper's constants as defaults.

A scheme is a frozen dataclass in a short file of its own. What each choice answers is in the contract of its kind:
``algos/exchange``, ``algos/gate``, ``algos/correction`` and ``algos/optim``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

from hogpour.algos.correction.base import Correction
from hogpour.algos.correction.plain import Plain
from hogpour.algos.exchange.base import Exchange, Traffic
from hogpour.algos.gate.base import Gate
from hogpour.algos.gate.open import Open
from hogpour.algos.optim.base import Optimiser
from hogpour.algos.optim.sgd import Sgd
from hogpour.algos.schedule.base import Schedule
from hogpour.algos.schedule.constant import Constant
from hogpour.core.limits import Checked

__all__ = ["Choices", "Scheme"]


@dataclass(frozen=True, slots=True)
class Choices:
    """What a scheme consists of, beside the optimiser, which is every job's own choice.

    Raises:
        ValueError: they make no sense together; the message says why.
    """

    exchange: Exchange
    """What becomes of a gradient where it was computed, what a node sends and takes in."""
    correction: Correction = field(default_factory=Plain)
    """What is done about staleness."""
    gate: Gate = field(default_factory=Open)
    """Which gradients count, and who waits for whom."""

    def __post_init__(self) -> None:
        plain = isinstance(self.gate, Open) and isinstance(self.correction, Plain)
        if self.exchange.traffic is Traffic.SUMMED and not plain:
            raise ValueError(f"{type(self.exchange).__name__} sums the gradient of a whole batch, in which nothing is "
                             "late; leave gate and correction out")  # fmt: skip
        if self.gate.closes:
            self._check_gate()
        if self.exchange.traffic is Traffic.NONE and not isinstance(self.correction, Plain):
            raise ValueError(f"{type(self.correction).__name__} amends what is pushed to a parameter server, and "
                             f"{type(self.exchange).__name__} pushes nothing; set an exchange that does")  # fmt: skip
        reason = "" if isinstance(self.correction, Plain) else self.exchange.refusal(self.correction)
        if reason:
            raise ValueError(f"{type(self.correction).__name__} {reason}")
        if self.correction.amends and (self.exchange.n_push, self.exchange.n_fetch) != (1, 1):
            numbers = f"n_push = {self.exchange.n_push} and n_fetch = {self.exchange.n_fetch}"
            raise ValueError(f"{type(self.correction).__name__} amends a push by the parameters that its gradient was "
                             f"computed on, and with {numbers} these are several, of local steps; set both to "
                             "1")  # fmt: skip

    def _check_gate(self) -> None:
        gate, exchange = type(self.gate).__name__, type(self.exchange).__name__
        if self.exchange.traffic is Traffic.NONE:
            raise ValueError(f"{gate} decides on what is pushed to parameter servers, and {exchange} pushes nothing; "
                             "set an exchange that does")  # fmt: skip
        if self.exchange.traffic is Traffic.PULLED:
            raise ValueError(f"{gate} lets an origin fetch when its push is decided on, and {exchange} pushes what "
                             "comes of a fetch; set another exchange, or no gate")  # fmt: skip
        if self.exchange.n_push != self.exchange.n_fetch:
            numbers = f"n_push = {self.exchange.n_push} and n_fetch = {self.exchange.n_fetch}"
            raise ValueError(f"{gate} lets an origin fetch when its push is decided on, got {numbers}; set both to the "
                             "same")  # fmt: skip
        if not self.gate.holds:
            return
        if self.correction.amends:
            raise ValueError(f"{type(self.correction).__name__} amends one gradient by the parameters that it meets, "
                             f"and {gate} applies the mean of several; set another correction, or no gate")  # fmt: skip
        if not self.gate.counts_late and not isinstance(self.correction, Plain):
            raise ValueError(f"{type(self.correction).__name__} amends late gradients, and {gate} drops them; set one "
                             "of the two")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Scheme(Checked, ABC):
    """A way to train: which choices are combined. Fields are what ``[algorithm]`` of a job file may say."""

    kind: ClassVar[str] = "scheme"
    paper: ClassVar[str] = ""
    """Authors and year of where it is from; for the table of schemes."""
    summary: ClassVar[str] = ""
    """What it does in a line; for the table of schemes."""

    unused: ClassVar[frozenset[str]] = frozenset()
    """Fields of every scheme that this one has no use for, and refuses."""

    optimiser: Optimiser = field(default_factory=lambda: Sgd(lr=0.1), metadata={"kind": "optimiser"})
    """How a gradient changes the parameters."""
    schedule: Schedule = field(default_factory=Constant, metadata={"kind": "schedule"})
    """Factor of the learning rate over the run."""

    def __post_init__(self) -> None:
        Checked.__post_init__(self)
        self.choices()  # what is out of range, or makes no sense together, is refused at once

    @abstractmethod
    def choices(self) -> Choices:
        """Return the combination."""

    @property
    def federated(self) -> bool:
        """Whether parameters live on shards, and nodes can join; else on one machine's live vector."""
        return self.choices().exchange.traffic is not Traffic.NONE

    @property
    def replica_rule(self) -> Optimiser:
        """How replicas change the live vector."""
        return self.choices().exchange.replica_rule(self.optimiser)

    @property
    def server_rule(self) -> Optimiser:
        """How servers apply what is pushed; only where something is."""
        return self.choices().exchange.server_rule(self.optimiser)

    @property
    def batch_blocks(self) -> int:
        """Batch methods: the blocks of a batch, see ``data.blocks.Blocks.count``; 0: no batch method."""
        return 0

    def check_replicas(self, replicas: int) -> None:
        """Raise ValueError where this scheme does not run with so many replicas; called before anything starts."""
