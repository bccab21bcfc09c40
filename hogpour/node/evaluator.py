"""Which parameters of a run are good: finite, with a finite loss. Knows no event loop; called on threads."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from hogpour.core.job import Job
from hogpour.core.kernels.vector import vector_copy
from hogpour.core.progress import Evaluation
from hogpour.machine.prepare import Prepared
from hogpour.model.model import Model
from hogpour.model.training_state import TrainingState
from hogpour.shm.params import params_finite

__all__ = ["Evaluator"]

Floats = npt.NDArray[np.float32]


class Evaluator:
    """Judges copies of the live vector, and keeps the last good one. One call at a time.

    Attributes:
        evaluation: the newest one that was finite; ``shown`` is False until somebody has shown it.
        good: the last good model; before there is one, the parameters that the run began with.
        good_state: where training stood then; None in a cluster.
        found_good: whether ``good`` is of this run.
        final: the model at the end.
        took_s: seconds that the last evaluation took.
    """

    def __init__(self, job: Job, ready: Prepared, clock: Callable[[], float]) -> None:
        self._test, self._clock = ready.test, clock
        # Two models beside the live vector: the newest snapshot and the last good one; none is allocated later.
        self._snapshot, self.good = (
            Model(job, ready.network, ready.live.arrays["params"].copy(), ready.encoding) for _ in range(2)
        )
        self.good_state: TrainingState | None = None
        self.found_good, self.shown, self.took_s = False, True, 0.0
        self.evaluation: Evaluation | None = None
        self.final = self.good

    def look(self, params: Floats, state: TrainingState | None, go_on: Callable[[], bool]) -> bool:
        """Judge a snapshot of these parameters and remember it as good where it is; return whether it is.

        Args:
            params: (n,) float32, live; others write it meanwhile.
            state: where training stood, read before the parameters are.
            go_on: asked after every batch; where it says no, nothing is known of the snapshot.
        """
        began = self._clock()
        if self.take(params) is None or not self._evaluate(go_on):
            return False
        self._snapshot, self.good, self.good_state, self.found_good = self.good, self._snapshot, state, True
        self.took_s = self._clock() - began
        return True

    def take(self, params: Floats) -> Model | None:
        """Return a snapshot of these parameters, which the next call overwrites; None where they are not finite."""
        vector_copy(self._snapshot.params, params)
        return self._snapshot if params_finite(self._snapshot.params) else None

    def take_final(self, params: Floats, go_on: Callable[[], bool]) -> bool:
        """Judge the parameters at the end, and keep them as ``final``; return whether they are good.

        Where ``go_on`` ends the evaluation, the newest one stands.
        """
        if self.take(params) is None or self._evaluate(go_on) is False:
            return False
        self.final, self.shown = self._snapshot, self._test is None
        return True

    def _evaluate(self, go_on: Callable[[], bool]) -> bool | None:
        """Return whether the snapshot's loss is finite, as without test examples; None: ``go_on`` ended it."""
        if self._test is None:
            return True
        evaluation = self._snapshot.evaluate(self._test, go_on)
        if evaluation is None:
            return None
        if not np.isfinite(evaluation.loss):
            return False
        self.evaluation, self.shown = evaluation, False
        return True
