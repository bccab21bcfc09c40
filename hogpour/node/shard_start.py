"""What the shards of a run begin with: the parameters that were drawn, or a snapshot. Pure, but for the read."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from hogpour.algos.lbfgs.commands import ResumePoint
from hogpour.algos.schemes.sandblaster import Sandblaster
from hogpour.cluster.leases import LedgerState
from hogpour.core.errors import LayoutError
from hogpour.core.job import Job
from hogpour.core.progress import Notice
from hogpour.core.shard_map import cut
from hogpour.data.blocks import Blocks
from hogpour.machine.prepare import Prepared
from hogpour.model import snapshot
from hogpour.model.description import Description
from hogpour.model.disk import Disk

__all__ = ["ShardStart"]

_OBJECTIVE = ("l2", "l2_tensors", "l1", "l1_tensors")
"""Of sandblaster's fields, those that say what is minimised."""

_NAMED = 4
"""Optimiser rows that an error names."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ShardStart:
    """What the shards begin with."""

    stored: snapshot.Snapshot | None
    """Where the run goes on; None: it is a new one."""
    bounds: tuple[int, ...]
    """(shards + 1,) of the shards in the vector."""
    shards: tuple[tuple[Floats, list[Floats], int], ...]
    """Parameters, optimiser rows and clock of each."""

    @classmethod
    def read(cls, job: Job, ready: Prepared, resume: bool, disk: Disk) -> ShardStart:
        """Copy the whole model, or read it: to be called on a thread.

        Args:
            resume: go on from the newest snapshot beside the job's model file.

        Raises:
            LayoutError: there is none that can be used, or it is of another job.
        """
        stored = _stored(job, ready, disk) if resume else None
        params, names = ready.live.arrays["params"], [row.name for row in job.algorithm.server_rule.state]
        bounds = cut(params.size, job.cluster.shard_bytes)
        shards: list[tuple[Floats, list[Floats], int]] = []
        for start, stop in pairwise(bounds):
            own, rows, clock = params[start:stop].copy(), [np.zeros(stop - start, np.float32) for _ in names], 0
            if stored is not None:
                clock = stored.fill(own, dict(zip(names, rows, strict=True)), start=start)
            shards.append((own, rows, clock))
        if job.algorithm.choices().gate.holds:  # the clock counts steps of all shards; a run without a gate had others
            newest = max(clock for _, _, clock in shards)
            shards = [(own, rows, newest) for own, rows, _ in shards]
        return cls(stored, bounds, tuple(shards))

    def ledger(self, blocks: Blocks) -> LedgerState:
        """Return where the ledger begins; a run with fewer epochs than before may begin behind its end."""
        if self.stored is None:
            return LedgerState()
        state = self.stored.state
        return LedgerState(min(state.tickets, blocks.total), tuple(t for t, _ in state.pending if t < blocks.total))

    def resume_point(self, scheme: Sandblaster) -> tuple[ResumePoint | None, list[str]]:
        """Return where a batch method goes on, None: it begins anew; and what is another than in the snapshot.

        Of another objective, value and gradient mean nothing: it begins anew, at the same point.
        """
        if self.stored is None or not isinstance(before := self.stored.meta.description.job.algorithm, Sandblaster):
            return None, []
        changed = {name: (getattr(before, name), getattr(scheme, name)) for name in _OBJECTIVE}
        said = [f"{name} = {a!r}, now {b!r}" for name, (a, b) in changed.items() if a != b]
        return None if said else self.stored.state.start, said


def _stored(job: Job, ready: Prepared, disk: Disk) -> snapshot.Snapshot:
    """Return the newest snapshot, checked."""
    if not job.save:
        raise LayoutError("--resume: run.model is empty, and snapshots lie beside the model file")
    stored = snapshot.read(snapshot.folder_beside(job.save), disk)
    meta, what = stored.meta, f"snapshot {stored.folder}"
    was, wanted = meta.description, Description(job, ready.network, ready.encoding)
    if was.network.spec.fingerprint != ready.network.spec.fingerprint:
        raise LayoutError(f"{what}: {was.other_tensors(wanted)}")
    was.check_same(what, stored.state.n, wanted, ready.n)
    rows = {row.name for row in job.algorithm.server_rule.state}
    before, now = was.job.algorithm, job.algorithm
    if set(meta.rows) != rows and isinstance(before, Sandblaster) and isinstance(now, Sandblaster):
        raise LayoutError(f"{what}: of algorithm.memory = {before.memory} and l1 = {before.l1:g}; memory = "
                          f"{now.memory} and l1 = {now.l1:g} need other vectors: set them back, or begin anew "
                          "without --resume")  # fmt: skip
    if set(meta.rows) != rows:
        raise LayoutError(f"{what}: holds optimiser rows {_few(meta.rows)}; the job's optimiser needs {_few(rows)}")
    if said := was.other_settings(wanted):
        stored = replace(stored, notices=(*stored.notices, Notice("warning", f"{what}: was trained with {said}")))
    return stored


def _few(rows: Collection[str]) -> str:
    """Name rows; a batch method may have two hundred."""
    names = sorted(rows)
    rest = f" and {len(names) - _NAMED} others" if len(names) > _NAMED + 1 else ""
    return ", ".join(names[:_NAMED] if rest else names) + rest or "none"
