"""Whether a run over-fits, under-fits, is unstable, …: judged from its loss and accuracy curves by stated rules.

The rules stand in rules_table, their numbers in the constants; the first one that holds is the diagnosis. Curves are smoothed by a
running median (findings/curves.py), a change counts only where it is larger than their noise, and every number of a reason is one
that was logged, in the epoch that stands beside it. Losses may be of any size and sign: shares are of the lowest loss where all
are above 0, else of half of the curve's range.
Slope and its confidence interval: Theil 1950 and Sen 1968, by scipy.stats.theilslopes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from paretune.analysis.document.language import translate as _
from paretune.analysis.findings.curves import (
    CURVES,
    MATERIAL,
    NOISE,
    WINDOW,
    Curve,
    by_epoch,
    curve_names,
    curve_of,
    known_curves,
)
from paretune.analysis.sources.lost_metrics import lost_from
from paretune.analysis.sources.run_record import LEADING, RunRecord, last_values, tidy
from paretune.core.best_epoch import known_goal
from paretune.core.errors import MOST_NAMED

if TYPE_CHECKING:
    import pandas as pd

KIND_WORDS = ("still running", "no loss", "too few epochs", "unstable", "over-fitting", "under-fitting", "still improving", "fine")
RUNNING, NO_LOSS, TOO_SHORT, UNSTABLE, OVER, UNDER, IMPROVING, FINE = KIND_WORDS
MIN_EPOCHS = 6
TRAIN_RISE = 0.25  # above the lowest train loss: the training came apart
JUMPS = 0.2  # noise of the train loss from epoch to epoch, as a share of its level
TURNS = 0.3  # of the steps, that go the other way than the one before; of random ones two thirds
TEST_RISE = 0.05  # above the lowest hold-out loss …
RISEN_EPOCHS = 3  # … in at least so many epochs, up to the last
GAP = 0.1  # of accuracy between training and hold-out
SHORTFALL = 0.05  # of accuracy, below what is attainable
ATTAINABLE = 0.9  # accuracy, where no other run tells
TAIL = 1 / 3  # of the epochs, at least MIN_EPOCHS, in which the hold-out loss is asked whether it still falls
NO_SHARE = 1.5  # an accuracy above it is of 100
FALL = 0.05  # of the hold-out loss over the tail


@dataclass(frozen=True)
class Diagnosis:
    """What is said of a run: one of KIND_WORDS, the epoch from which it holds (None: no particular one), and why in words."""

    kind: str
    epoch: int | None
    reason: str


def diagnose(
    history: pd.DataFrame,
    *,
    attainable: float = ATTAINABLE,
    train: str = "",
    test: str = "",
    percent: bool | None = None,
    ours: bool = False,
    never_finite: Collection[str] = (),
    last_values: Mapping[str, float] | None = None,
) -> Diagnosis:
    """Diagnose one run.

    Args:
        history: its rows of `paretune.analysis.history.tidy`: epoch, train_loss, test_loss and, where there are, train_accuracy and
            test_accuracy, or other names of them that `known_curves` finds.
        attainable: the accuracy that other runs on the same data reached on the hold-out, as a share.
        train, test: the names of the loss curves, where they are other ones.
        percent: whether accuracies are of 100; by default where one is above NO_SHARE.
        ours: whether a trainer of ours wrote the run, so that a loss that it lacks has no other name.
        never_finite: metrics that it logged, and never as a finite number, which the rows do not tell from others.
        last_values: what was logged last of its metrics, which may be NaN, where it is known.
    """
    logged = history
    names = curve_names(history, train, test, never_finite)
    history = known_curves(history, train, test, never_finite)
    rows = by_epoch(history)
    rows = rows.drop(columns=set(names.values()) - {"", *CURVES})  # the curves once, under our names
    states = set(history["state"]) if "state" in history else set()
    if "running" in states:
        n_epochs = len(rows)
        text = _("{count} epochs so far") if n_epochs != 1 else _("{count} epoch so far")
        return Diagnosis(RUNNING, None, text.format(count=n_epochs))
    ends = {name: (last_values or {}).get(names[name]) for name in ("train_loss", "test_loss")}
    lost = [place for place in (lost_from(rows, name, value) for name, value in ends.items()) if place is not None]
    if any(names[name] in never_finite for name in ("train_loss", "test_loss")):
        begin = int(rows["epoch"].iloc[0])
        return Diagnosis(UNSTABLE, begin, _("the loss was not finite in any epoch"))
    if lost:
        begin = int(rows["epoch"].iloc[min(lost)])
        return Diagnosis(UNSTABLE, begin, _("the loss is not finite from epoch {epoch} on").format(epoch=begin))
    epochs = rows["epoch"].to_numpy(dtype=np.float64)
    curves = {name: curve_of(epochs, rows[name].to_numpy(dtype=np.float64)) for name in CURVES}
    no_train, no_test = (len(curves[name]) == 0 for name in ("train_loss", "test_loss"))
    if no_train or no_test:
        return Diagnosis(NO_LOSS, None, _without_loss(logged, ours=ours, no_train=no_train, no_test=no_test))
    n_epochs = min(len(curves["train_loss"]), len(curves["test_loss"]))
    if n_epochs < MIN_EPOCHS:
        text = _("{count} epochs tell too little") if n_epochs != 1 else _("{count} epoch tell too little")
        return Diagnosis(TOO_SHORT, None, text.format(count=n_epochs))
    judged = _Judged(rows, curves, attainable, in_percent(rows) if percent is None else percent, "pruned" in states)
    found = judged.unstable() or judged.over_fitting() or judged.improving() or judged.under_fitting()
    return found or Diagnosis(FINE, None, judged.ends_at())


def in_percent(history: pd.DataFrame) -> bool:
    """Whether the accuracies of a run are of 100."""
    accuracies = history.reindex(columns=["train_accuracy", "test_accuracy"]).to_numpy(dtype=np.float64)
    return bool((accuracies[np.isfinite(accuracies)] > NO_SHARE).any())


def _is_share(history: pd.DataFrame) -> bool:
    """Whether a run logged accuracies of 1, where its program logs some of 100; a run that learnt nothing stays at 1 %."""
    accuracies = history.reindex(columns=["train_accuracy", "test_accuracy"])
    highest = float(accuracies.max(axis=None))
    return highest <= 1 and bool((accuracies.max() - accuracies.min() > MATERIAL * highest).any())


class _Judged:
    """The rules on the curves of a run that ended and logged both losses in enough epochs."""

    def __init__(self, rows: pd.DataFrame, curves: dict[str, Curve], attainable: float, percent: bool, pruned: bool) -> None:
        self.rows, self.train, self.test = rows, curves["train_loss"], curves["test_loss"]
        self.train_accuracy, self.test_accuracy = curves["train_accuracy"], curves["test_accuracy"]
        self.attainable, self.whole, self.pruned = attainable, 100.0 if percent else 1.0, pruned
        self.cycle = self.train.cycle(TEST_RISE)
        self.train_lows, self.test_lows = self.train.settled(self.cycle), self.test.settled(self.cycle)

    def unstable(self) -> Diagnosis | None:
        """The train loss ends above its lowest value, or jumps from epoch to epoch."""
        train, levels = self.train, self.train.level[self.train_lows]
        lowest = int(levels.argmin())
        if levels[-1] - levels[lowest] > train.change(TRAIN_RISE):
            low = int(train.places[self.train_lows[lowest]]) if self.cycle else _lowest(train, train.turn(TRAIN_RISE))
            begin, end = int(train.epochs[low]), int(self.train_lows[-1])
            reason = _("the train loss rose from {low:.3g} in epoch {epoch} to {high:.3g} in epoch {end}")
            said = reason.format(low=train.values[low], epoch=begin, high=train.level[end], end=train.epoch(end))
            return Diagnosis(UNSTABLE, begin, said)
        begin = len(train) // 3
        steps = np.diff(train.values[begin:])
        typical = float(np.median(train.values[begin:])) if train.values.min() > 0 else train.unit
        turns = np.mean(steps[1:] * steps[:-1] < 0) if len(steps) > 1 else 0.0
        if turns > TURNS and not train.period and train.noise > max(JUMPS * typical, MATERIAL * train.range):
            place = begin + 1 + int(np.abs(steps).argmax())
            reason = _(
                "the train loss jumps from epoch to epoch, most from {before:.3g} in epoch {epoch} to {after:.3g} in epoch {next}"
            )
            at, values = train.epochs.astype(int), train.values
            said = reason.format(before=values[place - 1], epoch=at[place - 1], after=values[place], next=at[place])
            return Diagnosis(UNSTABLE, int(at[place]), said)
        return None

    def over_fitting(self) -> Diagnosis | None:
        """The hold-out loss has risen since its lowest value, and the train loss has not; or their accuracies part."""
        test, train, levels = self.test, self.train, self.test.level[self.test_lows]
        lowest = int(levels.argmin())
        limit = levels[lowest] + test.change(TEST_RISE)
        risen = len(test) - 1 - int(np.flatnonzero(levels <= limit)[-1])  # values above it, up to the last
        low, end = int(self.test_lows[lowest]), int(self.test_lows[-1])
        before = int(self.train_lows[np.abs(train.epochs - test.epochs[lowest]).argmin()])
        after = int(self.train_lows[-1])
        if risen >= RISEN_EPOCHS and train.level[after] <= train.level[before] + train.change(TEST_RISE):
            begins = np.array([test.places[low]]) if self.cycle else test.turn(TEST_RISE)
            first, train_first = _in_one_epoch(test, train, begins, _lowest(test, begins), int(train.places[before]))
            ends = np.array([test.places[end]]) if self.cycle else np.arange(len(test) - 3, len(test))
            last, train_last = _in_one_epoch(test, train, ends, int(test.places[end]), int(train.places[after]))
            reason = _(
                "the hold-out loss rose from {low:.3g} in epoch {epoch} to {high:.3g} in epoch {end}, while the train loss went "
                "from {before:.3g} in epoch {first} to {after:.3g} in epoch {last}"
            ).format(
                low=test.values[first],
                epoch=int(test.epochs[first]),
                high=test.values[last],
                end=int(test.epochs[last]),
                before=train.values[train_first],
                first=int(train.epochs[train_first]),
                after=train.values[train_last],
                last=int(train.epochs[train_last]),
            )
            return Diagnosis(OVER, int(test.epochs[first]), reason)
        return self._parted()

    def _parted(self) -> Diagnosis | None:
        both = self.rows[["epoch", "train_accuracy", "test_accuracy"]].dropna()
        epochs = both["epoch"].to_numpy(dtype=np.float64)
        gap = curve_of(epochs, (both["train_accuracy"] - both["test_accuracy"]).to_numpy(dtype=np.float64) / self.whole)
        if not len(gap) or gap.level[-1] <= GAP:
            return None
        narrow = np.flatnonzero(gap.level <= GAP)
        begin, end = int(gap.epochs[narrow[-1] + 1 if len(narrow) else 0]), gap.epoch(-1)
        at = both[both["epoch"] == gap.epochs[gap.places[-1]]].iloc[0]
        reason = _(
            "since about epoch {epoch} the train accuracy has been above that of the hold-out by more than {gap:.0f} points: "
            "{train:.4g} and {test:.4g} in epoch {end}"
        )
        train, test = float(at["train_accuracy"]), float(at["test_accuracy"])
        return Diagnosis(OVER, begin, reason.format(epoch=begin, gap=100 * GAP, train=train, test=test, end=end))

    def improving(self) -> Diagnosis | None:
        """The hold-out loss is at its lowest at the end, and fell over the tail and over the last half of it."""
        test, levels, least = self.test, self.test.level[self.test_lows], self.test.change(FALL)
        if levels[-1] > levels.min() + min(least, NOISE * test.noise + MATERIAL * test.range):
            return None
        n_tail = max(round(TAIL * len(test)), MIN_EPOCHS)
        begin = len(test) - n_tail
        if self.cycle:
            begin = min(int(np.searchsorted(test.epochs, test.epochs[-1] - self.cycle)), len(test) - 2)
            falls = levels[begin] - levels[-1] > least
        else:
            slope, high = _slope(test, n_tail)
            late, _high = _slope(test, max(n_tail // 2, 3))
            span = test.epochs[-1] - test.epochs[begin]
            falls = high < 0 and -slope * span > max(FALL * test.unit, MATERIAL * test.range)
            falls = falls and -late * span > max(FALL * test.unit, MATERIAL * test.range)
        first, last = int(self.test_lows[begin]), int(self.test_lows[-1])
        if not falls or test.level[last] >= test.level[first]:
            return None
        text = _("the hold-out loss fell from {begin:.3g} in epoch {epoch} to {end:.3g} in epoch {last}: more epochs may help")
        if self.pruned:
            text = _(
                "the hold-out loss fell from {begin:.3g} in epoch {epoch} to {end:.3g} in epoch {last}, when the run was pruned"
            )
        said = text.format(begin=test.level[first], epoch=test.epoch(first), end=test.level[last], last=test.epoch(last))
        return Diagnosis(IMPROVING, test.epoch(first), said)

    def under_fitting(self) -> Diagnosis | None:
        """Both accuracies end below what is attainable; without any, the train loss never fell."""
        known = [curve for curve in (self.train_accuracy, self.test_accuracy) if len(curve)]
        if known:
            if max(curve.level[-1] for curve in known) / self.whole < self.attainable - SHORTFALL:
                reason = _("{ends}; attainable is {attainable:.4g}")
                return Diagnosis(UNDER, None, reason.format(ends=self.ends_at(), attainable=self.attainable * self.whole))
            return None
        train, end = self.train, len(self.train) - 1
        if train.level[0] - train.level[-1] <= max(NOISE * train.noise, MATERIAL * abs(train.level[0])) and train.level.max() != 0:
            reason = _("the train loss did not fall: {first:.3g} in epoch {epoch}, {last:.3g} in epoch {end}")
            said = reason.format(first=train.level[0], epoch=train.epoch(0), last=train.level[-1], end=train.epoch(end))
            return Diagnosis(UNDER, None, said)
        return None

    def ends_at(self) -> str:
        """Say where the accuracies end, or the hold-out loss where there is none."""
        train, test = self.train_accuracy, self.test_accuracy
        if not len(train) and not len(test):
            return _("hold-out loss {loss:.3g} in epoch {epoch}").format(loss=self.test.level[-1], epoch=self.test.epoch(-1))
        text = _("accuracy {train:.4g} in training (epoch {first}) and {test:.4g} on the hold-out (epoch {last})")
        if not len(train):
            text = _("accuracy {test:.4g} on the hold-out (epoch {last})")
        elif not len(test):
            text = _("accuracy {train:.4g} in training (epoch {first})")
        (first, ours), (last, theirs) = ((curve.epoch(-1), curve.level[-1]) if len(curve) else (0, 0.0) for curve in (train, test))
        if len(train) and len(test):
            ends = np.arange(max(len(test) - 3, 0), len(test))
            at, train_at = _in_one_epoch(test, train, ends, int(test.places[-1]), int(train.places[-1]))
            first, ours, last, theirs = int(train.epochs[train_at]), train.values[train_at], int(test.epochs[at]), test.values[at]
        return text.format(train=ours, first=first, test=theirs, last=last)


def _lowest(curve: Curve, places: np.ndarray) -> int:
    """Return which of the values at some places is the lowest."""
    return int(places[curve.values[places].argmin()])


def _in_one_epoch(test: Curve, train: Curve, places: np.ndarray, place: int, train_place: int) -> tuple[int, int]:
    """Return the positions of a value of either curve that a sentence names together: of one epoch where both were logged.

    Of the epochs at `places` of the hold-out's curve, it is the one in which this is nearest to its value at `place` and the
    other one to its running median. Without such an epoch it is `place` and `train_place`.
    """
    _epochs, of_test, of_train = np.intersect1d(test.epochs[places], train.epochs, return_indices=True)
    if not len(of_test):
        return place, train_place
    own = places[of_test]
    away = np.abs(test.values[own] - test.values[place]) / (test.range or 1.0)
    away += np.abs(train.values[of_train] - train.level[of_train]) / (train.range or 1.0)
    best = int(away.argmin())
    return int(own[best]), int(of_train[best])


def _slope(curve: Curve, n_values: int) -> tuple[float, float]:
    """Return the slope of the last values of a curve, and the upper end of its 95 % confidence interval."""
    from scipy.stats import theilslopes

    found = theilslopes(curve.values[-n_values:], curve.epochs[-n_values:], 0.95)
    return float(found[0]), float(found[3])


def _without_loss(history: pd.DataFrame, *, ours: bool, no_train: bool, no_test: bool) -> str:
    """Say which loss a run lacks, and of a program that is not ours what it logged instead."""
    names = [] if ours else logged_metrics(history)
    if not names:
        if no_train and no_test:
            return _("it logged neither a finite train loss nor a finite hold-out loss")
        return _("it logged no finite train loss") if no_train else _("it logged no finite hold-out loss")
    if no_train and no_test:
        text = _("no train and no hold-out loss is known by its name; it logged {names}: {how}")
    elif no_train:
        text = _("no train loss is known by its name; it logged {names}: {how}")
    else:
        text = _("no hold-out loss is known by its name; it logged {names}: {how}")
    how = _("name the loss curves by --train and --test of python -m analysis.diagnose")
    names.sort(key=lambda name: known_goal(name) != "minimize")  # what may be a loss comes first
    shown = ", ".join(names[:MOST_NAMED])
    if len(names) > MOST_NAMED:
        shown = _("{names} and {count} more").format(names=shown, count=len(names) - MOST_NAMED)
    return text.format(names=shown, how=how)


def logged_metrics(history: pd.DataFrame) -> list[str]:
    """Return the metrics that runs logged as finite numbers, of which any could be a curve."""
    names = [
        str(name) for name in history.select_dtypes("number") if name not in {*LEADING, "epoch"} and history[name].notna().any()
    ]
    return [name for name in names if not name.startswith("config.")]


def diagnose_records(
    runs: Sequence[RunRecord], *, history: pd.DataFrame | None = None, train: str = "", test: str = ""
) -> pd.DataFrame:
    """Diagnose runs by all that is known of them; returns what `diagnose_runs` does.

    Args:
        history: `tidy` of the runs, where it is there already.
        train, test: as for `diagnose`.
    """
    return diagnose_runs(
        tidy(runs) if history is None else history,
        ours={run.run for run in runs if run.ours},
        logged={run.run: list(run.columns) for run in runs},
        last_values={run.run: last_values(run) for run in runs},
        train=train,
        test=test,
    )


def diagnose_runs(
    history: pd.DataFrame,
    *,
    ours: Collection[str] = (),
    logged: Mapping[str, Collection[str]] | None = None,
    last_values: Mapping[str, Mapping[str, float]] | None = None,
    train: str = "",
    test: str = "",
) -> pd.DataFrame:
    """Diagnose every run of a history, each measured by the best hold-out accuracy of the runs on the same data.

    Args:
        ours: the ids of the runs that a trainer of ours wrote.
        logged: the metrics that each run logged, by its id, of which some may never have been finite.
        last_values: what each run logged last of its metrics, by its id, where the rows do not tell it.
        train, test: the names of the loss curves, where they are other ones than `known_curves` finds.

    Returns:
        a row per run: run, name, state, epochs, diagnosis, epoch (NaN where none), reason.
    """
    import pandas as pd

    data = history["config.data"].map(str) if "config.data" in history else pd.Series("", index=history.index)
    by_run = dict(iter(history.groupby("run", sort=False)))
    never = {run: [name for name in (logged or {}).get(run, ()) if not rows[name].notna().any()] for run, rows in by_run.items()}
    names = {run: tuple(curve_names(rows, train, test).values()) for run, rows in by_run.items()}
    known = {run: known_curves(rows, train, test) for run, rows in by_run.items()}
    percent = {names[run] for run, rows in known.items() if in_percent(rows)}
    of_100 = {run for run, rows in known.items() if names[run] in percent and (in_percent(rows) or not _is_share(rows))}
    best: dict[str, float] = {}
    for run, rows in known.items():
        highest = rows["test_accuracy"].max() if "test_accuracy" in rows else np.nan
        if np.isfinite(highest):
            key = data[rows.index[0]]
            best[key] = max(best.get(key, 0.0), float(highest) / (100 if run in of_100 else 1))
    lines: list[dict[str, Any]] = []
    for run, rows in known.items():
        attainable = best.get(data[rows.index[0]], ATTAINABLE)
        found = diagnose(
            by_run[run],
            attainable=attainable,
            train=train,
            test=test,
            percent=run in of_100,
            ours=run in ours,
            never_finite=never[run],
            last_values=(last_values or {}).get(run),
        )
        first = rows.iloc[0]
        lines.append(
            {
                "run": run,
                "name": first["name"],
                "state": first["state"],
                "epochs": int(rows["epoch"].nunique()) if "epoch" in rows else 0,
                "diagnosis": found.kind,
                "epoch": np.nan if found.epoch is None else float(found.epoch),
                "reason": found.reason,
            }
        )
    return pd.DataFrame(lines)


def rules_table() -> list[list[str]]:
    """Return the rules as rows of diagnosis and condition, in the order in which they are asked."""
    unstable = _(
        "a loss ends not finite; or the train loss ends more than {rise:.0f} % above its lowest value; or over the last two thirds "
        "of the epochs its noise (by second differences) is above {jumps:.0f} % of its level, and its steps turn in more than "
        "{turns:.0f} % of them without a period"
    )
    over = _(
        "the hold-out loss ends more than {rise:.0f} % above its lowest value, and has been there for {epochs} epochs or more, "
        "while the train loss did not rise; or the train accuracy ends more than {gap:.0f} points above that of the hold-out"
    )
    improving = _(
        "the hold-out loss ends at its lowest, and over the last third of the epochs, at least {epochs}, it fell by more than "
        "{fall:.0f} %, its slope being below 0 with 95 % confidence, as it does by the slope of the last half of these"
    )
    under = _(
        "neither the train nor the hold-out accuracy ends within {shortfall:.0f} points of what is attainable: the best hold-out "
        "accuracy of all the runs on the same data ({attainable:g} where none is known); without accuracies, the train loss did "
        "not fall"
    )
    none = _(
        "none of these. Curves are judged by their running median over {window} epochs; a change counts if it is above {noise:g} "
        "standard deviations of the noise and {material:g} % of the curve's range. Shares are of the lowest loss, or of half of "
        "that range where a loss is not above 0. Rises that the train loss recovered from more than once are cycles, of which "
        "the lowest values are judged."
    )
    return [
        [_(RUNNING), _("the run has not ended: its curves are not judged yet")],
        [
            _(NO_LOSS),
            _("the run logged no train loss or no hold-out loss, or not under a name that is known (an svm has no curves)"),
        ],
        [_(TOO_SHORT), _("fewer than {epochs} epochs").format(epochs=MIN_EPOCHS)],
        [_(UNSTABLE), unstable.format(rise=100 * TRAIN_RISE, jumps=100 * JUMPS, turns=100 * TURNS)],
        [_(OVER), over.format(rise=100 * TEST_RISE, epochs=RISEN_EPOCHS, gap=100 * GAP)],
        [_(IMPROVING), improving.format(epochs=MIN_EPOCHS, fall=100 * FALL)],
        [_(UNDER), under.format(shortfall=100 * SHORTFALL, attainable=ATTAINABLE)],
        [_(FINE), none.format(window=WINDOW, noise=NOISE, material=100 * MATERIAL)],
    ]
