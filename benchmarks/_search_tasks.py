"""The tasks of search_quality.py: functions to minimise, with their spaces and lowest values.

DEVELOPMENT tasks are for choosing a rule of search; REPORTED ones are only measured by. No task is in both.
Functions: Surjanovic and Bingham, Virtual Library of Simulation Experiments, www.sfu.ca/~ssurjano/optimization.html. The
optimum is moved out of the middle of the space where it lies there, as some methods begin in the middle.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from benchmarks.ann_table import SPACE, read_table

Space = Mapping[str, BaseDistribution]
Parameters = Mapping[str, Any]


@dataclass(frozen=True)
class Task:
    """A function of parameters; `noise` is the standard deviation of what is added to the values that a method is told."""

    name: str
    space: Space
    value: Callable[[Parameters], float]
    lowest: float
    noise: float = 0.0

    def told(self, parameters: Parameters, seed: int, number: int) -> float:
        """Return what a method is told in trial `number` of study `seed`: every method meets the same noise."""
        if self.noise == 0:
            return self.value(parameters)
        drawn = np.random.default_rng([seed, number]).standard_normal()
        return self.value(parameters) + self.noise * float(drawn)


def vector(parameters: Parameters) -> np.ndarray:
    """Return the values of x1, x2, …"""
    return np.array([parameters[f"x{place + 1}"] for place in range(len(parameters))])


def box(*bounds: tuple[float, float]) -> Space:
    """Return a space of floats x1, x2, …"""
    return {f"x{place + 1}": FloatDistribution(low, high) for place, (low, high) in enumerate(bounds)}


# Development


def ackley(parameters: Parameters) -> float:
    """Many shallow valleys around one deep one."""
    x = vector(parameters)
    waves = math.exp(np.cos(2 * math.pi * x).mean())
    return float(-20 * math.exp(-0.2 * math.sqrt(np.square(x).mean())) - waves + 20 + math.e)


def levy(parameters: Parameters) -> float:
    """Ripples on a bowl."""
    w = 1 + (vector(parameters) - 1) / 4
    middle = np.square(w[:-1] - 1) * (1 + 10 * np.square(np.sin(math.pi * w[:-1] + 1)))
    last = (w[-1] - 1) ** 2 * (1 + math.sin(2 * math.pi * w[-1]) ** 2)
    return float(math.sin(math.pi * w[0]) ** 2 + middle.sum() + last)


def rosenbrock(parameters: Parameters) -> float:
    """The logarithm of 1 + Rosenbrock's curved valley."""
    x = vector(parameters)
    return float(np.log1p(np.sum(100 * np.square(x[1:] - np.square(x[:-1])) + np.square(1 - x[:-1]))))


def styblinski_tang(parameters: Parameters) -> float:
    """Two valleys in every dimension, one deeper."""
    x = vector(parameters)
    return float(0.5 * np.sum(x**4 - 16 * x**2 + 5 * x) + 39.16616570377142 * len(x))


def pipeline(parameters: Parameters) -> float:
    """Three methods with another best learning rate each, a regularisation over decades, and two options."""
    best_rate, floor = {"a": (-3.0, 0.15), "b": (-2.0, 0.0), "c": (-1.0, 0.05), "d": (-2.5, 0.3)}[parameters["method"]]
    rate = math.log10(parameters["rate"]) - best_rate
    decay = math.log10(parameters["decay"]) + 4 + 0.5 * rate
    size = (parameters["size"] - 11) / 8
    scaling = {"none": 0.2, "standard": 0.0, "half": 0.05}[parameters["scaling"]]
    shuffle = 0.0 if parameters["shuffle"] else 0.1
    return float(floor + scaling + shuffle + 1 - math.exp(-0.5 * rate**2) + 0.1 * decay**2 + 0.2 * size**2)


PIPELINE: Space = {
    "method": CategoricalDistribution(["a", "b", "c", "d"]),
    "rate": FloatDistribution(1e-5, 1.0, log=True),
    "decay": FloatDistribution(1e-7, 1e-1, log=True),
    "size": IntDistribution(1, 16),
    "scaling": CategoricalDistribution(["none", "standard", "half"]),
    "shuffle": CategoricalDistribution([False, True]),
}


def choices(parameters: Parameters) -> float:
    """Six choices and two numbers: pairs of choices that suit each other, as layers and optimizers do."""
    levels = [int(parameters[f"choice{place}"][1:]) for place in range(6)]
    wanted = (2, 0, 3, 1, 4, 2)
    misses = sum(0.1 * (level != best) for level, best in zip(levels, wanted, strict=True))
    pairs = 0.15 * ((levels[0] + levels[1]) % 5 != 2) + 0.15 * ((levels[3] + levels[4]) % 5 != 0)
    rate = math.log10(parameters["rate"]) + 1.5 + 0.3 * levels[0]
    return float(misses + pairs + min(rate**2, 4) / 4 + (parameters["share"] - 0.3) ** 2)


CHOICES: Space = {
    **{f"choice{place}": CategoricalDistribution([f"v{level}" for level in range(5)]) for place in range(6)},
    "rate": FloatDistribution(1e-4, 1.0, log=True),
    "share": FloatDistribution(0.0, 0.9),
}

DEVELOPMENT = (
    Task("Ackley-5", box(*[(-10.0, 22.0)] * 5), ackley, 0.0),
    Task("Levy-4", box(*[(-10.0, 10.0)] * 4), levy, 0.0),
    Task("Rosenbrock-3", box(*[(-2.048, 2.048)] * 3), rosenbrock, 0.0),
    Task("Styblinski-Tang-4", box(*[(-5.0, 5.0)] * 4), styblinski_tang, 0.0),
    Task("pipeline", PIPELINE, pipeline, 0.0),
    Task("choices", CHOICES, choices, 0.0),
    Task("pipeline, noisy", PIPELINE, pipeline, 0.0, noise=0.1),
    Task("Styblinski-Tang-4, noisy", box(*[(-5.0, 5.0)] * 4), styblinski_tang, 0.0, noise=10.0),
)


# Reported


def branin(parameters: Parameters) -> float:
    """Three equally deep valleys."""
    x, y = vector(parameters)
    valley = y - 5.1 / (4 * math.pi**2) * x**2 + 5 / math.pi * x - 6
    return float(valley**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10)


HARTMANN_A = np.array([[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14]])
HARTMANN_P = 1e-4 * np.array(
    [
        [1312, 1696, 5569, 124, 8283, 5886],
        [2329, 4135, 8307, 3736, 1004, 9991],
        [2348, 1451, 3522, 2883, 3047, 6650],
        [4047, 8828, 8732, 5743, 1091, 381],
    ]
)


def hartmann(parameters: Parameters) -> float:
    """Six local minima in six dimensions."""
    exponents = (HARTMANN_A * np.square(vector(parameters) - HARTMANN_P)).sum(axis=1)
    return float(-np.array([1.0, 1.2, 3.0, 3.2]) @ np.exp(-exponents))


def network(parameters: Parameters) -> float:
    """A made-up error of a network by two floats on a logarithmic scale, two whole numbers, a float and three choices."""
    optimizer = {"sgd": (-1.0, 0.02), "adam": (-2.7, 0.0), "rmsprop": (-3.2, 0.03)}[parameters["optimizer"]]
    rate = (math.log10(parameters["learning_rate"]) - optimizer[0] - 0.2 * math.log2(parameters["batch_size"] / 64)) / 0.7
    decay = (math.log10(parameters["weight_decay"]) + 3.5) / 2
    capacity = math.log2(parameters["width"] * parameters["layers"]) - 8.3
    overfit = max(capacity, 0.0) * (0.5 - parameters["dropout"]) ** 2 * 0.4
    underfit = max(-capacity, 0.0) * 0.08 + 0.1 * (parameters["dropout"] - 0.15) ** 2
    activation = {"relu": 0.01, "gelu": 0.0, "tanh": 0.04, "sigmoid": 0.12}[parameters["activation"]]
    missed = 0.6 * (1 - math.exp(-0.5 * rate**2))
    return float(optimizer[1] + activation + missed + overfit + underfit + 0.03 * decay**2)


NETWORK_LOWEST = 0.08 * (8.3 - math.log2(315))  # 315 = width x layers comes nearest to a capacity of 0; all else can be 0
NETWORK: Space = {
    "optimizer": CategoricalDistribution(["sgd", "adam", "rmsprop"]),
    "learning_rate": FloatDistribution(1e-5, 1.0, log=True),
    "weight_decay": FloatDistribution(1e-7, 1e-1, log=True),
    "dropout": FloatDistribution(0.0, 0.7),
    "layers": IntDistribution(1, 6),
    "width": IntDistribution(16, 512, log=True),
    "batch_size": CategoricalDistribution([32, 64, 128, 256]),
    "activation": CategoricalDistribution(["relu", "gelu", "tanh", "sigmoid"]),
}


def griewank_noisy(parameters: Parameters) -> float:
    """A bowl with regular ripples, its lowest point off the middle."""
    x = vector(parameters) - np.array([1.5, -2.0, 0.5, 2.5])
    ripples = np.prod(np.cos(2 * x / np.sqrt(np.arange(1, 5))))
    return float(np.square(x).sum() / 20 + 1 - ripples)


WEIGHT = {"learning_rate": 3.0}  # it decides whether a network trains at all; every other parameter weighs 1


@functools.cache
def table() -> tuple[list[dict[str, Any]], np.ndarray]:
    """Return the recorded configurations and their errors, 1 - F1."""
    rows = read_table()
    return [values for values, _ in rows], np.array([1 - f1 for _, f1 in rows])


@functools.cache
def columns() -> dict[str, np.ndarray]:
    """Return the recorded values by parameter: numbers as shares of their range, choices as their places."""
    return {name: np.array([share(name, values[name]) for values in table()[0]]) for name in SPACE}


def share(name: str, value: Any) -> float:
    """Return a number as its share of the range (of its logarithms where it is searched so), a choice as its place."""
    distribution = SPACE[name]
    if isinstance(distribution, CategoricalDistribution):
        return float(distribution.choices.index(value))
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high, here = distribution.low, distribution.high, value
    if distribution.log:
        low, high, here = math.log(low), math.log(high), math.log(value)
    return float((here - low) / (high - low))


def nearest(parameters: Parameters) -> int:
    """Return the row of the table nearest to a configuration (Gower's distance: choices differ by 0 or 1)."""
    distance = np.zeros(len(table()[1]))
    for name, column in columns().items():
        apart = np.abs(column - share(name, parameters[name]))
        if isinstance(SPACE[name], CategoricalDistribution):
            apart = (apart > 0).astype(float)
        distance += WEIGHT.get(name, 1.0) * apart
    return int(distance.argmin())


def table_error(parameters: Parameters) -> float:
    """Return the error of the nearest recorded configuration."""
    return float(table()[1][nearest(parameters)])


def reported() -> tuple[Task, ...]:
    """Return the reported tasks; the table is read here."""
    return (
        Task("Branin", box((-5.0, 10.0), (0.0, 15.0)), branin, 0.39788735772973816),
        Task("Hartmann-6", box(*[(0.0, 1.0)] * 6), hartmann, -3.322368011415515),
        Task("network (mixed)", NETWORK, network, NETWORK_LOWEST),
        Task("Griewank-4, noisy", box(*[(-5.0, 5.0)] * 4), griewank_noisy, 0.0, noise=0.3),
        Task("ANN on MNIST (table)", SPACE, table_error, float(table()[1].min())),
    )
