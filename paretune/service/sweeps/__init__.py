"""Sweeps of W&B's agents, searched by our engine."""
