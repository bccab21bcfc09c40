"""Schemes: which exchange, gate, correction and optimiser make an algorithm of the literature. Pure decisions."""
