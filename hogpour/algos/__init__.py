"""Decisions: schemes/, exchange/, gate/, correction/, optim/, schedule/, lbfgs/."""
