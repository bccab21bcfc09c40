"""Benchmarks: one question a file, answered by ``python -m bench NAME`` with the peers beside us in the same run.

``harness`` times, describes the machine and prints. A file of this folder is a bench if it defines ``measure(options)``
that returns a ``harness.Report``; its docstring begins with the question. ``_peers`` runs what others have. Kept
results lie in ``results/``, each with its machine and commit.
"""
