"""Sandblaster L-BFGS: the gradient of the whole batch from all nodes, L-BFGS on vectors that stay on the shards.

Dean et al. 2012, section "Sandblaster: distributed batch optimization" and appendix, algorithm 1.2. The objective is
the mean of the loss over all training examples, half of ``l2`` times the squares of some tensors, and ``l1`` times the
magnitudes of some.

What the paper leaves open, as decided here: the gradient is that of the mean; a block, which is what a node is given,
sums and sends, is the same for any number of nodes (``blocks``), and is computed in batches of ``run.batch``; shards
add blocks without rounding (``exact_sums.py``), so that their order does not matter; which of two copies of a block
counts does not matter either, since both are the same; m = 10 and the strong Wolfe conditions (``minimise.py``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from hogpour.algos.exchange.portion import Portion
from hogpour.algos.lbfgs.commands import Penalty, Vectors
from hogpour.algos.lbfgs.minimise import LbfgsOptions
from hogpour.algos.optim.base import Optimiser
from hogpour.algos.optim.sgd import Sgd
from hogpour.algos.schedule.constant import Constant
from hogpour.algos.schemes.base import Choices, Scheme
from hogpour.core.errors import ConfigError
from hogpour.core.limits import Fraction, Nonnegative, Range
from hogpour.core.spec import ALIGNMENT, Spec

__all__ = ["Sandblaster", "penalty", "rules"]


@dataclass(frozen=True, kw_only=True)
class Sandblaster(Scheme):
    """Results do not depend on the number of nodes, replicas and shards. ``run.epochs`` bounds the evaluations."""

    paper: ClassVar[str] = "Dean et al. 2012"
    summary: ClassVar[str] = "L-BFGS on the whole batch: no learning rate, few and large messages"
    unused: ClassVar[frozenset[str]] = frozenset({"optimiser", "schedule"})

    memory: Annotated[int, Range(1, 100)] = 10
    """Pairs of the history; each costs two vectors on the shards."""
    blocks: Annotated[int, Range(1, 1 << 16)] = 64
    """Blocks that the batch is cut into: many more than there are replicas."""
    l2: Nonnegative = 0.0
    """Regularisation: half of this times the sum of squares of ``l2_tensors`` is added to the mean loss."""
    l2_tensors: str = "weight"
    """Tensors whose names end with this; "" stands for all."""
    l1: Nonnegative = 0.0
    """Regularisation that makes elements vanish: this times the sum of magnitudes of ``l1_tensors`` is added; the
    method then is OWL-QN (Andrew & Gao 2007)."""
    l1_tensors: str = "weight"
    """As ``l2_tensors``."""
    iterations: Annotated[int, Range(0, 2.0**40)] = 0
    """At most; 0: no bound."""
    gradient: Nonnegative = 1e-6
    """Ends when no element of the gradient is larger."""
    decrease: Fraction = 1e-10
    """Ends when an iteration lowers the objective by no more than this, relatively."""
    seconds: Nonnegative = 0.0
    """Ends after the iteration that this many seconds pass in; 0: no bound."""
    subset: Fraction = 1.0
    """Share of the blocks that a line search looks for its step on, above 0. Below 1 the whole batch is then
    evaluated at that step alone, unless it is not good there. Each evaluation of a subset counts as one."""
    copies: bool = True
    """Whether blocks that are still out at the end of a batch are given to others as well."""

    def __post_init__(self) -> None:
        Scheme.__post_init__(self)
        if not self.subset:
            raise ValueError("subset = 0, expected a share above 0, at most 1")
        if self.l1 and self.subset < 1:
            raise ValueError(f"l1 = {self.l1:g} with subset = {self.subset:g}: OWL-QN has no line search that a subset "
                             "could shorten; leave one of the two out")  # fmt: skip
        if self.optimiser != Sgd(lr=0.1) or self.schedule != Constant():
            raise ValueError("sandblaster is L-BFGS, which finds its steps itself: leave optimiser and schedule out")

    def choices(self) -> Choices:
        return Choices(Portion())

    @property
    def batch_blocks(self) -> int:
        return self.blocks

    @property
    def server_rule(self) -> Optimiser:
        return Vectors(self.memory, self.l1 > 0)


def rules(scheme: Sandblaster, spec: Spec) -> LbfgsOptions:
    """Return what the state machine needs; raises as ``penalty``."""
    l1 = _penalty(spec, "l1", scheme.l1, scheme.l1_tensors)
    return LbfgsOptions(
        scheme.memory, scheme.iterations, scheme.gradient, scheme.decrease, subsets=scheme.subset < 1, l1=l1
    )


def penalty(scheme: Sandblaster, spec: Spec) -> Penalty:
    """Return the L2 of a model of this spec.

    Raises:
        ConfigError: no tensor has such a name.
    """
    return _penalty(spec, "l2", scheme.l2, scheme.l2_tensors)


def _penalty(spec: Spec, kind: str, factor: float, ending: str) -> Penalty:
    if not factor:
        return Penalty()
    chosen = [tensor for tensor in spec.tensors if tensor.name.endswith(ending)]
    if not chosen:
        raise ConfigError(f"algorithm.{kind}_tensors = {ending!r}: no tensor has a name that ends so; there are "
                         f"{', '.join(tensor.name for tensor in spec.tensors)}")  # fmt: skip
    # Up to the next line: what lies between two tensors is zero.
    return Penalty(
        factor, tuple((tensor.offset, tensor.offset + -(-tensor.size // ALIGNMENT) * ALIGNMENT) for tensor in chosen)
    )
