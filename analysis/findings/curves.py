"""The loss and accuracy curves of a run: which metrics they are, and what lies beneath their noise.

A curve holds logged values alone. It is smoothed by a running median, so that what is said of it is a value that was logged in an
epoch that is named, and a single spike that recovers leaves no trace. Rises that a run has recovered from more than once are
cycles, as of a cyclic learning rate: such a curve is judged by its lowest values over one cycle.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from paretune.analysis.sources.run_record import LEADING

if TYPE_CHECKING:
    import pandas as pd

CURVES = ("train_loss", "test_loss", "train_accuracy", "test_accuracy")
# in other programs; the first that is there
TRAIN_NAMES: tuple[str, ...] = ("train/{}", "train.{}", "training_{}", "training/{}", "train_{}")
TRAIN_NAMES += ("train/{}_epoch", "train_{}_epoch", "train/{}_step", "train_{}_step")  # as PyTorch Lightning names them
BARE_NAMES = ("{}", "epoch/{}")  # as Keras names what is of the training, where another one is of the hold-out
HOLD_OUT_NAMES = (
    "val/{}",
    "val.{}",
    "val_{}",
    "epoch/val_{}",
    "valid_{}",
    "valid/{}",
    "validation_{}",
    "validation/{}",
    "eval/{}",
    "eval_{}",
    "test_{}",
)
WINDOW = 5  # values of the running median; 3 of a curve of fewer than 10, and at the ends
MOST_VALUES = 200  # of a curve: longer ones, logged by step, are reduced to the medians of equal stretches
ROUNDING = 1e-12  # of the largest value
SHORTEST_CYCLE = 3  # epochs; to and fro from one to the next is none
ALIKE = 0.75  # correlation of the steps of one cycle with those of the next
NOISE = 2.5  # standard deviations of single values; smaller changes are taken for noise
MATERIAL = 0.01  # of the range of the curve: changes below it do not matter, whatever their ratio


@dataclass(frozen=True)
class Curve:
    """A metric of one run where it was logged as a finite number: epochs and values, (n_values,) each."""

    epochs: np.ndarray
    values: np.ndarray

    def __len__(self) -> int:
        return len(self.values)

    @cached_property
    def places(self) -> np.ndarray:
        """Which logged value each value of the running median is (n_values,)."""
        return running_median(self.values)

    @cached_property
    def level(self) -> np.ndarray:
        """The running median (n_values,)."""
        return self.values[self.places]

    @cached_property
    def noise(self) -> float:
        """The standard deviation of the noise over the last two thirds, from second differences, which a smooth curve hardly has.

        The median makes it robust against single jumps; the variance of a second difference is 6 times that of the noise.
        """
        late = self.values[len(self) // 3 :]
        return float(1.4826 * np.median(np.abs(np.diff(late, 2))) / np.sqrt(6)) if len(late) > 2 else 0.0

    @cached_property
    def range(self) -> float:
        """How far the curve reaches above its lowest value, a tenth of its values, the highest, aside."""
        return float(np.quantile(self.level, 0.9) - self.level.min())

    @cached_property
    def unit(self) -> float:
        """What shares are of: the lowest value of a loss above 0, half of the range of another one (a log-likelihood)."""
        lowest = float(self.values.min())
        return float(self.level.min()) if lowest > 0 else float(np.ptp(self.level)) / 2

    def change(self, share: float) -> float:
        """Return from which size on a change counts: a share of the unit, and above noise and what does not matter."""
        return max(share * self.unit, MATERIAL * self.range, NOISE * self.noise)

    @cached_property
    def period(self) -> float:
        """After how many epochs the steps of the last two thirds come again, as of a cyclic learning rate; 0 where they do not."""
        steps = np.diff(self.values[len(self) // 3 :])
        least = ROUNDING * float(np.abs(self.values).max(initial=0.0))  # steps that differ by rounding alone are alike
        turned = False  # the steps of a plain fall are alike at every distance
        for lag in range(1, len(steps) // 2 + 1):
            before, after = steps[:-lag], steps[lag:]
            alike = np.corrcoef(before, after)[0, 1] if min(before.std(), after.std()) > least else 0.0
            if turned and alike > ALIKE:
                return float(lag * np.median(np.diff(self.epochs))) if lag >= SHORTEST_CYCLE else 0.0
            turned = turned or alike < 0
        return 0.0

    def cycle(self, share: float) -> float:
        """Return the epochs of one cycle, 0 where there is none.

        It is the period, or the longest of several rises above `change(share)` that the curve recovered from.
        """
        least = self.change(share)
        lengths, low, is_high = [], 0, False
        for place, value in enumerate(self.level):
            if value > self.level[low] + least:
                is_high = True
            elif is_high and value <= self.level[low] + least / 4:
                lengths.append(self.epochs[place] - self.epochs[low])
                low, is_high = place, False
            elif not is_high and value < self.level[low]:
                low = place
        return max(self.period, float(max(lengths)) if len(lengths) > 1 else 0.0)

    def settled(self, cycle: float) -> np.ndarray:
        """Return the positions in `level` (n_values,) of its lowest values over the cycle before each; their own without cycles."""
        if not cycle:
            return np.arange(len(self))
        firsts = np.searchsorted(self.epochs, self.epochs - cycle)
        return np.array([first + self.level[first : place + 1].argmin() for place, first in enumerate(firsts)])

    def turn(self, share: float) -> np.ndarray:
        """Return the positions of the values around which the curve begins to rise for good, which hold its lowest there.

        They are the values of the running median's window around the last one that is within noise of the least. A lone dip is
        none: its neighbours exceed it by more than `change(share)` and than the steps beyond them.
        """
        last = int(np.flatnonzero(self.level <= self.level.min() + self.noise)[-1])
        around = np.arange(max(last - WINDOW // 2, 0), min(last + WINDOW // 2 + 1, len(self)))
        steps = np.abs(np.diff(self.values, prepend=[self.values[0]] * 2, append=[self.values[-1]] * 2))
        dips = np.diff(np.pad(self.values, 1, mode="edge"))
        beyond = np.maximum(steps[around], steps[around + 3])
        lone = np.minimum(-dips[around], dips[around + 1]) > self.change(share) + beyond
        return around if lone.all() else around[~lone]

    def epoch(self, place: int) -> int:
        """Return the epoch of a value of `level`."""
        return int(self.epochs[self.places[place]])


def running_median(values: np.ndarray) -> np.ndarray:
    """Return which value is the median of those around each (n_values,); the window is narrower at the ends."""
    n_values = len(values)
    if n_values < 3:
        return np.arange(n_values)
    half = (WINDOW if n_values >= 2 * WINDOW else 3) // 2

    def medians(reach: int) -> np.ndarray:
        windows = np.lib.stride_tricks.sliding_window_view(values, 2 * reach + 1)
        return np.arange(len(windows)) + np.argsort(windows, axis=1, kind="stable")[:, reach]

    narrow, wide = medians(1), medians(half)
    places = np.concatenate([narrow[:1], narrow, narrow[-1:]])
    places[half : n_values - half] = wide
    return places


def curve_of(epochs: np.ndarray, values: np.ndarray) -> Curve:
    """Return the finite part of a curve, long ones reduced to MOST_VALUES: the medians, which were logged, of equal stretches."""
    finite = np.isfinite(values)
    epochs, values = epochs[finite], values[finite]
    if len(values) > MOST_VALUES:
        stretches = np.array_split(np.arange(len(values)), MOST_VALUES)
        kept = [part[np.argsort(values[part], kind="stable")[(len(part) - 1) // 2]] for part in stretches]
        epochs, values = epochs[kept], values[kept]
    return Curve(epochs, values)


def curve_names(history: pd.DataFrame, train: str = "", test: str = "", never_finite: Collection[str] = ()) -> dict[str, str]:
    """Return under which names a run logged its curves, by ours; empty texts where it did not.

    Args:
        train, test: the names of the loss curves, before any other name.
        never_finite: metrics that it logged, and never as a finite number: they count where no other name is there.
    """
    names = _names_among({name for name in history.columns if history[name].notna().any()}, train, test)
    if never_finite and not all(names.values()):
        lost = _names_among({*filter(None, names.values()), *never_finite}, train, test)
        names = {own: name or lost[own] for own, name in names.items()}
    return names


def _names_among(logged: Collection[str], train: str, test: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for kind, words in (("loss", ("loss",)), ("accuracy", ("accuracy", "acc"))):
        ours = (f"train_{kind}", f"test_{kind}")
        names = [ours[1], *(name.format(word) for name in HOLD_OUT_NAMES for word in words)]
        if kind == "loss" and test:
            names.insert(0, test)
        hold_out = next((name for name in names if name in logged), "")
        names = [ours[0], *(name.format(word) for name in TRAIN_NAMES for word in words)]
        if hold_out and hold_out != ours[1]:
            names += [name.format(word) for name in BARE_NAMES for word in words]
        if kind == "loss" and train:
            names.insert(0, train)
        found |= {ours[0]: next((name for name in names if name in logged), ""), ours[1]: hold_out}
    return found


def known_curves(history: pd.DataFrame, train: str = "", test: str = "", never_finite: Collection[str] = ()) -> pd.DataFrame:
    """Return the rows of one run with its curves under our names, where it logged them under other common ones."""
    names = curve_names(history, train, test, never_finite)
    found = {own: history[name] for own, name in names.items() if name and name != own}
    return history.assign(**found) if found else history


def by_epoch(history: pd.DataFrame) -> pd.DataFrame:
    """Return a row per epoch with every logged number, NaN where it was not: scripts may log train and hold-out in own rows."""
    outside = {*LEADING, "epoch"}
    names = [name for name in history.select_dtypes("number") if name not in outside and not str(name).startswith("config.")]
    return history.reindex(columns=["epoch", *dict.fromkeys([*CURVES, *names])]).groupby("epoch", as_index=False).last()
