"""Runs with scores, of which is known what decides them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from paretune.search.importance import Scored


def scored_of(values: dict[str, list[Any]], scores: np.ndarray, goal: str = "maximize", metric: str = "f1") -> Scored:
    frame = pd.DataFrame({name: pd.Series(column, dtype=object) for name, column in values.items()})
    names = [f"run-{place}" for place in range(len(scores))]
    return Scored(frame, scores, names, metric, goal, "holdout", {})


def additive(n_runs: int, seed: int = 0, weight: float = 2) -> Scored:
    """f1 = weight a + b, with c for nothing, all uniform: of weight 2, a explains 4/5 of the variance and b 1/5."""
    random = np.random.default_rng(seed)
    a, b, c = random.uniform(0, 1, (3, n_runs))
    return scored_of({"a": a.tolist(), "b": b.tolist(), "c": c.tolist()}, weight * a + b)


def mixed(n_runs: int = 24) -> Scored:
    """Every kind of parameter: a wide range, a range, few numbers, texts, a truth value, a list, one that some runs lack."""
    random = np.random.default_rng(1)
    rate = 10 ** random.uniform(-4, -1, n_runs)
    some = [float(place) if place % 3 else pd.NA for place in range(n_runs)]
    return scored_of(
        {
            "learning_rate": rate.tolist(),
            "dropout": random.uniform(0, 0.5, n_runs).tolist(),
            "batch_size": [float(size) for size in random.choice([32, 64, 128], n_runs)],
            "optimizer": random.choice(["sgd", "adam"], n_runs).tolist(),
            "augment": random.choice(["true", "false"], n_runs).tolist(),
            "hidden": random.choice(["[64]", "[64, 32]", "null", "[256, 256, 256, 256]"], n_runs).tolist(),
            "some": some,
            "momentum": [value if place % 2 else pd.NA for place, value in enumerate(random.choice(["0.9", "0.5"], n_runs))],
        },
        0.9 + 0.02 * np.log10(rate) + 0.005 * random.standard_normal(n_runs),
    )
