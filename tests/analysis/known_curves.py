"""Curves of training whose truth is known by the formula that they are made of, with noise, of many lengths and kinds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from paretune.analysis.findings.diagnosis import FINE, IMPROVING, NO_LOSS, OVER, TOO_SHORT, UNDER, UNSTABLE

Random = np.random.Generator
Columns = dict[str, np.ndarray]
Family = Callable[[Random, np.ndarray], Columns]
FAMILIES: dict[str, tuple[str, Family]] = {}


def family(kind: str) -> Callable[[Family], Family]:
    """Enter a function as a family of curves of one kind; it returns columns without noise, by their names."""

    def enter(make: Family) -> Family:
        FAMILIES[make.__name__] = kind, make
        return make

    return enter


def decay(epochs: np.ndarray, floor: float, rate: float, begin: float = 2.3) -> np.ndarray:
    """Return an exponential decay from `begin` to a floor; of a rate of 12 it has arrived after two thirds of the epochs."""
    return floor + (begin - floor) * np.exp(-rate * (epochs - 1) / len(epochs))


def accuracies(epochs: np.ndarray, train: float, test: float) -> Columns:
    rise = 1 - np.exp(-12 * epochs / len(epochs))
    return {"train_accuracy": train * rise, "test_accuracy": test * rise}


def rising(epochs: np.ndarray, since: float, slope: float) -> np.ndarray:
    """Return 0 up to a share of the epochs, then a line that ends at `slope`."""
    begin = since * len(epochs)
    return slope * np.maximum(epochs - begin, 0) / (len(epochs) - begin)


def sawtooth(epochs: np.ndarray, period: int, height: float) -> np.ndarray:
    """Return what restarts of the learning rate add to a loss: a jump, and a fall back within the period."""
    return height * np.where(epochs > period, np.exp(-6 * ((epochs - 1) % period) / period), 0.0)


@family(FINE)
def arrived(random: Random, epochs: np.ndarray) -> Columns:
    floor = random.uniform(0.05, 0.6)
    losses = {"train_loss": decay(epochs, floor, 15), "test_loss": decay(epochs, 1.2 * floor, 15)}
    return losses | accuracies(epochs, 0.98, 0.96)


@family(FINE)
def arrived_without_accuracies(random: Random, epochs: np.ndarray) -> Columns:
    scale = 10 ** random.uniform(-3, 3)
    return {"train_loss": scale * decay(epochs, 0.3, 16), "test_loss": scale * decay(epochs, 0.4, 16)}


@family(OVER)
def hold_out_loss_turns(random: Random, epochs: np.ndarray) -> Columns:
    turn = rising(epochs, random.uniform(0.3, 0.6), random.uniform(0.3, 1.0))
    losses = {"train_loss": decay(epochs, 0.03, 8), "test_loss": decay(epochs, 0.35, 15) + turn}
    return losses | accuracies(epochs, 0.99, 0.93)


@family(OVER)
def hold_out_loss_turns_in_bits(random: Random, epochs: np.ndarray) -> Columns:
    turn = rising(epochs, 0.5, random.uniform(0.3, 0.6))
    return {"train_loss": decay(epochs, 0.1, 8) / np.log(2), "test_loss": (decay(epochs, 0.5, 18) + turn) / np.log(2)}


@family(OVER)
def accuracies_part(random: Random, epochs: np.ndarray) -> Columns:
    losses = {"train_loss": decay(epochs, 0.05, 15), "test_loss": decay(epochs, 0.7, 18)}
    return losses | accuracies(epochs, 0.99, random.uniform(0.7, 0.82))


@family(OVER)
def train_loss_reaches_zero(random: Random, epochs: np.ndarray) -> Columns:
    train = np.maximum(decay(epochs, -0.05, 12), 0.0)
    return {"train_loss": train, "test_loss": decay(epochs, 0.3, 18) + rising(epochs, 0.45, random.uniform(0.3, 0.8))}


@family(OVER)
def log_likelihoods_part(random: Random, epochs: np.ndarray) -> Columns:
    test = decay(epochs, -4.0, 15) + rising(epochs, 0.5, random.uniform(1.2, 2.5))
    return {"train_loss": decay(epochs, -6.0, 6), "test_loss": test}


@family(OVER)
def stopped_ten_epochs_after_its_best(random: Random, epochs: np.ndarray) -> Columns:
    best = max(len(epochs) - 10, 4) / len(epochs)
    return {
        "train_loss": decay(epochs, 0.05, 8),
        "test_loss": decay(epochs, 0.25, 20) + rising(epochs, best, random.uniform(0.15, 0.3)),
    }


@family(FINE)
def stopped_early_on_a_plateau(random: Random, epochs: np.ndarray) -> Columns:
    return {"train_loss": decay(epochs, 0.2, 20), "test_loss": decay(epochs, 0.3, 20)} | accuracies(epochs, 0.95, 0.94)


@family(UNDER)
def low_accuracy(random: Random, epochs: np.ndarray) -> Columns:
    reached = random.uniform(0.3, 0.75)
    return {"train_loss": decay(epochs, 1.2, 16), "test_loss": decay(epochs, 1.25, 16)} | accuracies(
        epochs, reached, reached - 0.01
    )


@family(UNDER)
def low_accuracy_of_100(random: Random, epochs: np.ndarray) -> Columns:
    reached = random.uniform(30, 75)
    losses = {"train/loss": decay(epochs, 1.2, 16), "val/loss": decay(epochs, 1.25, 16)}
    both = accuracies(epochs, reached, reached - 1)
    return losses | {"train/acc": both["train_accuracy"], "val/acc": both["test_accuracy"]}


@family(UNDER)
def low_hold_out_accuracy_alone(random: Random, epochs: np.ndarray) -> Columns:
    losses = {"loss": decay(epochs, 1.3, 18), "val_loss": decay(epochs, 1.35, 18)}
    return losses | {"val_accuracy": accuracies(epochs, 0.6, 0.6)["test_accuracy"]}


@family(UNDER)
def nothing_learnt(random: Random, epochs: np.ndarray) -> Columns:
    return {"train_loss": np.full(len(epochs), np.log(10)), "test_loss": np.full(len(epochs), np.log(10))}


@family(IMPROVING)
def slow(random: Random, epochs: np.ndarray) -> Columns:
    rate = random.uniform(1.2, 2.5)
    return {"train_loss": decay(epochs, 0.1, rate), "test_loss": decay(epochs, 0.12, 0.95 * rate)} | accuracies(epochs, 0.8, 0.79)


@family(IMPROVING)
def slow_log_likelihoods(random: Random, epochs: np.ndarray) -> Columns:
    slope = random.uniform(2, 8)
    line = 1 - slope * (epochs - 1) / len(epochs)
    return {"train_loss": line, "test_loss": line + 0.1}


@family(IMPROVING)
def slow_and_evaluated_every_third_epoch(random: Random, epochs: np.ndarray) -> Columns:
    columns = slow(random, epochs)
    return columns | {"test_loss": np.where(epochs % 3 == 0, columns["test_loss"], np.nan)}


@family(IMPROVING)
def power_law(random: Random, epochs: np.ndarray) -> Columns:
    train = 2.5 * epochs ** -random.uniform(0.5, 0.9)
    return {"train_loss": train, "test_loss": 1.1 * train}


@family(UNSTABLE)
def random_jumps(random: Random, epochs: np.ndarray) -> Columns:
    jumps = np.exp(random.uniform(0.5, 0.9) * random.standard_normal(len(epochs)))
    return {"train_loss": decay(epochs, 0.4, 14) * jumps, "test_loss": decay(epochs, 0.5, 14) * jumps}


@family(UNSTABLE)
def to_and_fro(random: Random, epochs: np.ndarray) -> Columns:
    swing = random.uniform(0.5, 1.0) * (epochs % 2) * (epochs > len(epochs) / 4)
    return {"train_loss": decay(epochs, 0.2, 12) + swing, "test_loss": decay(epochs, 0.25, 12) + swing}


@family(UNSTABLE)
def late_divergence(random: Random, epochs: np.ndarray) -> Columns:
    away = np.expm1(rising(epochs, 0.75, random.uniform(1.5, 5)))
    return {"train_loss": decay(epochs, 0.3, 12) + away, "test_loss": decay(epochs, 0.35, 12) + away}


@family(UNSTABLE)
def diverged_from_the_start(random: Random, epochs: np.ndarray) -> Columns:
    away = 2.3 * np.exp(random.uniform(2, 10) * epochs / len(epochs))
    return {"train_loss": away, "test_loss": 1.1 * away}


@family(UNSTABLE)
def not_a_number_at_the_end(random: Random, epochs: np.ndarray) -> Columns:
    lost = epochs > random.uniform(0.4, 0.8) * len(epochs)
    losses = {"train_loss": decay(epochs, 0.3, 10), "test_loss": decay(epochs, 0.35, 10)}
    return {name: np.where(lost, np.nan, values) for name, values in losses.items()} | accuracies(epochs, 0.1, 0.1)


@family(UNSTABLE)
def infinite_at_the_end(random: Random, epochs: np.ndarray) -> Columns:
    lost = epochs > random.uniform(0.5, 0.9) * len(epochs)
    return {
        "train_loss": np.where(lost, np.inf, decay(epochs, 0.3, 10)),
        "test_loss": np.where(lost, np.inf, decay(epochs, 0.35, 10)),
    }


@family(FINE)
def restarts(random: Random, epochs: np.ndarray) -> Columns:
    period = int(random.integers(5, 11))
    teeth = sawtooth(epochs, period, random.uniform(0.2, 0.5))
    return {"train_loss": decay(epochs, 0.3, 18) + teeth, "test_loss": decay(epochs, 0.35, 18) + teeth}


@family(IMPROVING)
def restarts_that_gain(random: Random, epochs: np.ndarray) -> Columns:
    teeth = sawtooth(epochs, int(random.integers(7, 11)), 0.3)
    return {"train_loss": decay(epochs, 0.1, 1.8) + teeth, "test_loss": decay(epochs, 0.12, 1.7) + teeth}


@family(OVER)
def restarts_that_lose(random: Random, epochs: np.ndarray) -> Columns:
    teeth = sawtooth(epochs, int(random.integers(7, 11)), 0.3)
    return {
        "train_loss": decay(epochs, 0.05, 10) + teeth,
        "test_loss": decay(epochs, 0.3, 20) + teeth + rising(epochs, 0.35, random.uniform(0.4, 0.8)),
    }


@family(FINE)
def cosine_cycles(random: Random, epochs: np.ndarray) -> Columns:
    wave = random.uniform(0.03, 0.08) * (1 - np.cos(2 * np.pi * epochs / random.integers(8, 13)))
    return {"train_loss": decay(epochs, 0.4, 18) + wave, "test_loss": decay(epochs, 0.45, 18) + wave}


@family(FINE)
def one_spike_that_recovers(random: Random, epochs: np.ndarray) -> Columns:
    spike = random.uniform(1, 20) * (epochs == int(random.uniform(0.5, 0.9) * len(epochs)))
    return {"train_loss": decay(epochs, 0.3, 16) + spike, "test_loss": decay(epochs, 0.35, 16) + spike}


@family(FINE)
def not_a_number_in_the_middle(random: Random, epochs: np.ndarray) -> Columns:
    middle = np.abs(epochs - 0.6 * len(epochs)) <= random.integers(0, 2)
    losses = {"train_loss": decay(epochs, 0.3, 18), "test_loss": decay(epochs, 0.35, 18)}
    return {name: np.where(middle, np.nan, values) for name, values in losses.items()} | accuracies(epochs, 0.95, 0.93)


@family(FINE)
def high_accuracy_of_100(random: Random, epochs: np.ndarray) -> Columns:
    losses = {"train/loss": decay(epochs, 0.05, 18), "val/loss": decay(epochs, 0.06, 18)}
    both = accuracies(epochs, 97.0, random.uniform(94, 97))
    return losses | {"train/accuracy": both["train_accuracy"], "val/accuracy": both["test_accuracy"]}


@family(FINE)
def both_losses_reach_zero(random: Random, epochs: np.ndarray) -> Columns:
    train = np.maximum(decay(epochs, -0.05, 18), 0.0)
    return {"train_loss": train, "test_loss": np.maximum(decay(epochs, -0.04, 17), 0.0)}


@family(FINE)
def step_to_a_plateau(random: Random, epochs: np.ndarray) -> Columns:
    stair = np.where(epochs < random.uniform(0.3, 0.5) * len(epochs), 0.8, 0.4)
    return {"train_loss": stair, "test_loss": 1.1 * stair} | accuracies(epochs, 0.95, 0.93)


@family(FINE)
def log_likelihoods_arrived(random: Random, epochs: np.ndarray) -> Columns:
    return {"train_loss": decay(epochs, -3.0, 18), "test_loss": decay(epochs, -2.8, 18)}


@family(OVER)
def hold_out_loss_rises_and_stays(random: Random, epochs: np.ndarray) -> Columns:
    step = random.uniform(0.2, 0.5) * np.clip((epochs / len(epochs) - 0.45) / 0.2, 0, 1)
    return {"train_loss": decay(epochs, 0.05, 9), "test_loss": decay(epochs, 0.4, 18) + step}


@family(OVER)
def hold_out_loss_rises_from_the_start(random: Random, epochs: np.ndarray) -> Columns:
    return {"train_loss": decay(epochs, 0.02, 9, 0.4), "test_loss": 0.4 + rising(epochs, 0.02, random.uniform(0.3, 0.9))}


@family(FINE)
def logged_by_step(random: Random, epochs: np.ndarray) -> Columns:
    steps = np.repeat(epochs, 20) + np.tile(np.arange(20) / 20, len(epochs))
    train = decay(steps, 0.3, 18 * len(steps) / len(epochs)) * np.exp(0.15 * random.standard_normal(len(steps)))
    return {"epoch": steps, "train_loss": train, "test_loss": decay(steps, 0.35, 18 * len(steps) / len(epochs))}


@family(FINE)
def rate_lowered_late(random: Random, epochs: np.ndarray) -> Columns:
    late = 1 - 0.3 * (epochs > random.uniform(0.55, 0.65) * len(epochs))
    return {"train_loss": late * decay(epochs, 0.4, 18), "test_loss": late * decay(epochs, 0.45, 18)}


@family(TOO_SHORT)
def few_epochs(random: Random, epochs: np.ndarray) -> Columns:
    end = int(random.integers(1, 6))
    return {name: values[:end] for name, values in arrived(random, epochs).items()}


@family(TOO_SHORT)
def hold_out_evaluated_a_few_times(random: Random, epochs: np.ndarray) -> Columns:
    columns = arrived_without_accuracies(random, epochs)
    return columns | {"test_loss": np.where(epochs % (len(epochs) // 4) == 0, columns["test_loss"], np.nan)}


@family(NO_LOSS)
def hold_out_loss_missing(random: Random, epochs: np.ndarray) -> Columns:
    return {"train_loss": decay(epochs, 0.3, 16)} | accuracies(epochs, 0.95, 0.93)


def draw(name: str, seed: int, noises: Sequence[float]) -> pd.DataFrame:
    """Return the rows of one run of a family: of 24 to 60 epochs, with one of the noises on its losses.

    The noise is multiplicative, or of a log-likelihood a share of its range; that of accuracies is a tenth of it.
    """
    random = np.random.default_rng([seed, sorted(FAMILIES).index(name)])
    epochs = np.arange(1.0, int(random.integers(24, 61)) + 1)
    columns = FAMILIES[name][1](random, epochs)
    noise = float(random.choice(noises))
    epochs = columns.pop("epoch", epochs)
    for key, values in columns.items():
        finite = values[np.isfinite(values)]
        drawn = (1.0 if key.startswith(("val", "test")) else 0.5) * noise * random.standard_normal(len(values))
        if "acc" in key:
            highest = 100.0 if finite.max() > 1 else 1.0
            columns[key] = np.clip(values + highest / 10 * drawn, 0, highest)
        elif (finite < 0).any():
            columns[key] = values + np.ptp(finite) / 3 * drawn
        else:
            columns[key] = values * np.exp(drawn)
    return pd.DataFrame({"epoch": epochs[: len(next(iter(columns.values())))], **columns})
