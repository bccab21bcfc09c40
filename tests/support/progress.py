"""A run at one moment, and at its end, made up."""

from __future__ import annotations

from hogpour.core.progress import Progress, Summary

__all__ = ["SNAPSHOT", "SUMMARY"]

SNAPSHOT = Progress(
    epoch=1.0, epochs=4, examples=1000, seconds=2.0, rate=500.0, loss=0.5, evaluation=None, left_s=6.0, replicas=2,
    computing=2, new_evaluation=False, notices=(),
)  # fmt: skip
SUMMARY = Summary(
    outcome="finished", examples=4000, seconds=8.0, rate=500.0, loss=0.25, accuracy=0.975, epoch=4.0, restarts=0,
    model="m.safetensors",
)  # fmt: skip
