"""Decisions: schemes/, exchange/, gate/, correction/, optim/, schedule/, sweeps/, lbfgs/."""
