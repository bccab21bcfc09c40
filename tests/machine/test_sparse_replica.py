"""A replica on sparse examples, in this process: every shortcut comes to the bits of what it replaces."""

from __future__ import annotations

import tracemalloc
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from support.replicas import job_of

import hogpour as hp
from hogpour.algos.exchange.in_place import InPlace
from hogpour.core.csr import Csr
from hogpour.core.job import Job
from hogpour.layers.sequential import network_of
from hogpour.machine.replica import Replica, live_layout
from hogpour.machine.sweeping import MERGE_EVERY, head_of, hot_features
from hogpour.shm.clocks import Clocks
from hogpour.shm.segment import Segment

N, FEATURES = 400, 1500
RULES = [hp.Sgd(0.1), hp.Adagrad(0.05), hp.Ftrl(0.1, l1=0.01)]
LOSSES = [hp.Logistic(), hp.Hinge(), hp.SquaredError()]


def examples(ones: bool = False) -> Csr:
    """Text, as it were: feature k is in a share 1 / (k + 2) of the examples, so a few are in many."""
    rng = np.random.default_rng(1)
    x = (rng.random((N, FEATURES)) < 1 / np.arange(2, FEATURES + 2)) * rng.normal(size=(N, FEATURES)).astype(np.float32)
    sparse = Csr.from_dense(x)
    return Csr(sparse.indptr, sparse.indices, sparse.values[: 0 if ones else None], FEATURES)


def answers(loss: Any) -> np.ndarray:
    rng = np.random.default_rng(2)
    return rng.integers(2, size=N) if loss.targets == "labels" else rng.normal(size=(N, 1)).astype(np.float32)


def sparse_job(rule: Any = RULES[0], loss: Any = LOSSES[0], **changes: Any) -> Job:
    settings = {"model": [hp.SparseLinear(1)], "loss": loss, "batch": 1, "epochs": 2}
    return job_of(**settings | {"algorithm": hp.Hogwild(optimiser=rule, schedule=hp.BackOff(beta=0.8))} | changes)


def live_of(job: Job, replicas: int = 1) -> Mapping[str, np.ndarray]:
    layout = live_layout(network_of(job, (FEATURES,)), job.algorithm.replica_rule, replicas, 0)
    return layout.views(bytearray(layout.size))


def replica_of(job: Job, live: Mapping[str, np.ndarray], x: Csr, **more: Any) -> Replica:
    more = {"block_replicas": 1, "number": 0} | more
    return Replica(job, network_of(job, (FEATURES,)), live, x, answers(job.loss), **more)


def vectors(live: Mapping[str, np.ndarray]) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in live.items() if array.dtype == np.float32}


SWEPT = [
    *((hp.SparseLinear(1, bias), rule, loss) for rule in RULES for loss in LOSSES for bias in (True, False)),
    *((hp.FactorizationMachine(factors, bias), rule, loss)
      for rule in RULES[:2] for loss in LOSSES[::2] for factors, bias in [(3, True), (8, False), (17, True)]),
]  # fmt: skip


@pytest.mark.parametrize(("layer", "rule", "loss"), SWEPT)
def test_a_sweep_comes_to_the_bits_of_its_steps(layer: Any, rule: Any, loss: Any) -> None:
    job, x = sparse_job(rule, loss, model=[layer]), examples(ones=not layer.bias)
    swept, stepped = live_of(job), live_of(job)
    for live in (swept, stepped):
        network_of(job, (FEATURES,)).init(live["params"], np.random.default_rng(0))
    sweeping, stepping = replica_of(job, swept, x), replica_of(job, stepped, x)
    assert sweeping._sweep is not None
    stepping._sweep = None
    sweeping.run()
    stepping.run()
    assert vectors(swept) == vectors(stepped)
    assert swept["params"].any()
    a, b = (Clocks(live["counters"], live["sums"]) for live in (swept, stepped))
    assert (a.examples, a.right, a.steps.tolist()) == (b.examples, b.right, b.steps.tolist()) == (800, b.right, [800])
    assert a.loss == pytest.approx(b.loss, rel=1e-6)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize(
    "model",
    [[hp.SparseLinear(1)], [hp.SparseLinear(3), hp.Tanh(), hp.Linear(2)], [hp.FactorizationMachine(9)]],
    ids=["linear", "deep", "machine"],
)
def test_gradients_by_row_come_to_the_bits_of_dense_ones(
    rule: Any, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, x = sparse_job(rule, model=model, batch=7), examples()
    by_row, dense = live_of(job), live_of(job)
    for live in (by_row, dense):
        network_of(job, (FEATURES,)).init(live["params"], np.random.default_rng(0))
    replica_of(job, by_row, x).run()
    monkeypatch.setattr(InPlace, "by_rows", False)
    replica_of(job, dense, x).run()
    assert vectors(by_row) == vectors(dense)


def test_a_sweep_of_ftrl_begins_at_a_rate_of_0_as_its_steps_do() -> None:
    warm = hp.Hogwild(optimiser=hp.Ftrl(0.1), schedule=hp.WarmUp(epochs=1, start=0.0))
    job, x = sparse_job(algorithm=warm), examples()
    swept, stepped = live_of(job), live_of(job)
    sweeping, stepping = replica_of(job, swept, x), replica_of(job, stepped, x)
    assert sweeping._sweep is not None
    stepping._sweep = None
    sweeping.run()
    stepping.run()
    assert vectors(swept) == vectors(stepped)
    assert np.isfinite(swept["params"]).all()
    assert swept["params"].any()


def test_rules_that_change_every_element_train_on_sparse_examples_too() -> None:
    """Their gradients are made dense: to the bits of the dense layer, but for the order in which a dot is summed."""
    x = examples()
    for rule in (hp.Adam(0.01), hp.Sgd(0.1, weight_decay=0.01)):
        sparse, dense = sparse_job(rule, batch=8), sparse_job(rule, model=[hp.Linear(1)], batch=8)
        a, b = live_of(sparse), live_of(dense)
        replica_of(sparse, a, x).run()
        Replica(dense, network_of(dense, (FEATURES,)), b, x.toarray(np.float32), answers(dense.loss), 0,
                block_replicas=1).run()  # fmt: skip
        weight = network_of(sparse, (FEATURES,)).spec.by_row[0].view(a["params"])
        assert abs(weight).max() > 0.01
        # Other orders of the examples, so the same only in the large.
        assert np.corrcoef(weight[:, 0], b["params"][:FEATURES])[0, 1] > 0.9


@pytest.mark.real
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_a_replica_that_is_alone_comes_to_the_same_bits_with_a_head(rule: Any) -> None:
    job, x = sparse_job(rule), examples()
    network = network_of(job, (FEATURES,))
    plain = live_of(job)
    replica_of(job, plain, x).run()
    segment = Segment.create(live_layout(network, rule, 1, 0), "a test")
    head = head_of(job, network, x, segment, replicas=2)
    assert head is not None
    assert [len(own) for own, _, _ in head.parts] == [1024] * (1 + len(rule.state))
    replica_of(job, segment.arrays, x, head=head).run()
    assert vectors(segment.arrays) == vectors(plain)
    segment.close()


@pytest.mark.real
def test_what_two_heads_change_meets_in_the_shared_vector() -> None:
    """One after the other, so that none of it is lost to a race: each has changed the same features since its merge."""
    features = 1000  # so that all are in the head
    job, x = sparse_job(hp.Sgd(0.1)), Csr.from_dense(examples().toarray(np.float32)[:, :features])
    network = network_of(job, (features,))
    segment = Segment.create(live_layout(network, job.algorithm.replica_rule, 2, 0), "a test")
    heads = [head_of(job, network, x, segment, replicas=2) for _ in range(2)]
    alone = []
    for head in heads:
        assert head is not None
        replica = Replica(job, network, segment.arrays, x, answers(job.loss), 0, block_replicas=1, head=head)
        before = segment.arrays["params"].copy()
        assert replica._swept(replica._sweep, np.arange(MERGE_EVERY))
        alone.append(segment.arrays["params"] - before)
    # The second one did not see the first one's changes while it stepped, and added its own to them.
    assert alone[0] == pytest.approx(alone[1], abs=1e-6)
    assert alone[0].any()
    segment.close()


def test_there_is_a_head_only_where_several_replicas_sweep_over_hot_features() -> None:
    job, x = sparse_job(), examples()
    network = network_of(job, (FEATURES,))
    segment: Any = None  # none is asked for
    assert head_of(job, network, x, segment, replicas=1) is None
    assert head_of(sparse_job(batch=2), network, x, segment, replicas=2) is None
    cold = Csr(np.arange(FEATURES + 1), np.arange(FEATURES, dtype=np.uint32), np.empty(0, np.float32), FEATURES)
    assert head_of(job, network, cold, segment, replicas=2) is None


def test_hot_features_are_counted_in_little_memory() -> None:
    """Each replica counts: 8 bytes for each non-zero and each feature were several times the examples of all."""
    n, each, features = 40_000, 50, 1 << 22
    rng = np.random.default_rng(0)
    indices = rng.integers(5, features, n * each, dtype=np.uint32)
    indices[::each], indices[1 :: 70 * each], indices[2 :: 110 * each] = 0, 1, 2  # in all, in 1.4 %, in 0.9 %
    x = Csr(np.arange(0, n * each + 1, each), indices, np.empty(0, np.float32), features)
    tracemalloc.start()
    try:
        assert hot_features(x) == 2
        assert tracemalloc.get_traced_memory()[1] < 1 << 21
    finally:
        tracemalloc.stop()
