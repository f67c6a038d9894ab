"""Whether a run over-fits, under-fits, is unstable, …: judged from its loss and accuracy curves by stated rules.

The rules stand in rules_table, their numbers in the constants; the first one that holds is the diagnosis. Curves are
smoothed by a centred running mean before they are judged, and a rise of the loss counts only where it is larger than the
noise, which is estimated from the curve itself.
Slope and its confidence interval: Theil 1950 and Sen 1968, by scipy.stats.theilslopes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from paretune.analysis.document.language import translate as _
from paretune.analysis.sources.run_record import LEADING

if TYPE_CHECKING:
    import pandas as pd

KIND_WORDS = ("still running", "no loss", "too few epochs", "unstable", "over-fitting", "under-fitting", "still improving", "fine")
RUNNING, NO_LOSS, TOO_SHORT, UNSTABLE, OVER, UNDER, IMPROVING, FINE = KIND_WORDS
CURVES = ("epoch", "train_loss", "test_loss", "train_accuracy", "test_accuracy")
TRAIN_NAMES = ("train/{}", "train.{}", "training_{}", "training/{}", "train_{}")  # in other programs; the first that is there
HOLD_OUT_NAMES = (
    "val/{}",
    "val.{}",
    "val_{}",
    "valid_{}",
    "valid/{}",
    "validation_{}",
    "validation/{}",
    "eval/{}",
    "eval_{}",
    "test_{}",
)
MOST_NAMES = 8  # of logged metrics in a reason
WINDOW = 5  # epochs of the running mean; 3 where a run has fewer than 10
MIN_EPOCHS = 6
NOISE = 2.5  # standard deviations of a smoothed value; smaller rises are taken for noise
MATERIAL = 0.02  # of the first epoch's loss: changes below it do not matter, whatever their ratio
TRAIN_RISE = 0.5  # above the lowest train loss: the training came apart
JUMPS = 0.2  # noise of the train loss from epoch to epoch, as a share of its level
TEST_RISE = 0.1  # above the lowest hold-out loss …
RISEN_EPOCHS = 3  # … in at least so many epochs, up to the last
GAP = 0.1  # of accuracy between training and hold-out
SHORTFALL = 0.05  # of accuracy, below what is attainable
ATTAINABLE = 0.9  # accuracy, where no other run tells
TAIL = 1 / 3  # of the epochs, at least MIN_EPOCHS, in which the hold-out loss is asked whether it still falls
FALL = 0.05  # over the tail, as a share of the hold-out loss at its begin


@dataclass(frozen=True)
class Diagnosis:
    """What is said of a run: one of KIND_WORDS, the epoch from which it holds (None: no particular one), and why in words."""

    kind: str
    epoch: int | None
    reason: str


def diagnose(history: pd.DataFrame, *, attainable: float = ATTAINABLE, train: str = "", test: str = "") -> Diagnosis:
    """Diagnose one run.

    Args:
        history: its rows of `paretune.analysis.history.tidy`: epoch, train_loss, test_loss and, where there are, train_accuracy and
            test_accuracy, or other names of them that `known_curves` finds.
        attainable: the accuracy that other runs on the same data reached on the hold-out.
        train, test: the names of the loss curves, where they are other ones.
    """
    curves = _by_epoch(known_curves(history, train, test))
    if "state" in history and (history["state"] == "running").any():
        n_epochs = len(curves["epoch"])
        text = _("{count} epochs so far") if n_epochs != 1 else _("{count} epoch so far")
        return Diagnosis(RUNNING, None, text.format(count=n_epochs))
    return _judged(curves, history, attainable)


def known_curves(history: pd.DataFrame, train: str = "", test: str = "") -> pd.DataFrame:
    """Return the rows of one run with its curves under our names, where it logged them under other common ones.

    Args:
        train, test: the names of the loss curves, before any other name.
    """
    found = {}
    logged = {name for name in history.columns if history[name].notna().any()}
    for kind, words in (("loss", ("loss",)), ("accuracy", ("accuracy", "acc"))):
        ours = (f"train_{kind}", f"test_{kind}")
        names = [ours[1], *(name.format(word) for name in HOLD_OUT_NAMES for word in words)]
        if kind == "loss" and test:
            names.insert(0, test)
        hold_out = next((name for name in names if name in logged), "")
        names = [ours[0], *(name.format(word) for name in TRAIN_NAMES for word in words)]
        if hold_out and hold_out != ours[1]:
            names += words  # as Keras names it: a bare name is of the training where another one is of the hold-out
        if kind == "loss" and train:
            names.insert(0, train)
        for own, name in zip(ours, (next((name for name in names if name in logged), ""), hold_out), strict=True):
            if name and name != own:
                found[own] = history[name]
    return history.assign(**found) if found else history


def _judged(curves: dict[str, np.ndarray], history: pd.DataFrame, attainable: float) -> Diagnosis:
    epochs, train, test = curves["epoch"], curves["train_loss"], curves["test_loss"]
    known = np.maximum.accumulate(np.isfinite(train))  # before its first value, a loss that is missing was not logged
    broken = np.isinf(train) | np.isinf(test) | (known & np.isnan(train) & ~np.isnan(curves["train_accuracy"]))
    if broken.any() and broken[-1]:
        begin = int(epochs[broken][0])
        return Diagnosis(UNSTABLE, begin, _("the loss is not finite from epoch {epoch} on").format(epoch=begin))
    no_train, no_test = (bool(np.isnan(values).all()) for values in (train, test))
    if no_train or no_test:
        return Diagnosis(NO_LOSS, None, _without_loss(history, no_train=no_train, no_test=no_test))
    both = np.isfinite(train) & np.isfinite(test)  # a loss may be logged every few epochs only
    curves = {name: values[both] for name, values in curves.items()}
    n_epochs = int(both.sum())
    if n_epochs == 0:
        return Diagnosis(TOO_SHORT, None, _("in no epoch it logged both a train and a hold-out loss"))
    if n_epochs < MIN_EPOCHS:
        text = _("{count} epochs tell too little") if n_epochs != 1 else _("{count} epoch tell too little")
        return Diagnosis(TOO_SHORT, None, text.format(count=n_epochs))
    found = _unstable(curves) or _over_fitting(curves) or _improving(curves) or _under_fitting(curves, attainable)
    return found or Diagnosis(FINE, None, _ends_at(curves))


def _without_loss(history: pd.DataFrame, *, no_train: bool, no_test: bool) -> str:
    """Say which loss a run lacks, and of a program that is not ours what it logged instead."""
    ours = "config.classifier" in history and history["config.classifier"].notna().any()
    outside = {*LEADING, "epoch"}
    names = (
        [] if ours else [name for name in history.select_dtypes("number") if name not in outside and history[name].notna().any()]
    )
    names = [name for name in names if not name.startswith("config.")]
    if not names:
        if no_train and no_test:
            return _("it logged no finite train and no hold-out loss")
        return _("it logged no finite train loss") if no_train else _("it logged no finite hold-out loss")
    if no_train and no_test:
        text = _("no train and no hold-out loss is known by its name; it logged {names}: {how}")
    elif no_train:
        text = _("no train loss is known by its name; it logged {names}: {how}")
    else:
        text = _("no hold-out loss is known by its name; it logged {names}: {how}")
    how = _("name the loss curves by --train and --test of python -m analysis.diagnose")
    shown = ", ".join(names[:MOST_NAMES])
    if len(names) > MOST_NAMES:
        shown = _("{names} and {count} more").format(names=shown, count=len(names) - MOST_NAMES)
    return text.format(names=shown, how=how)


def _by_epoch(history: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return each curve (n_epochs,), NaN where it was not logged; scripts may log train and hold-out in rows of their own."""
    rows = history.reindex(columns=CURVES).groupby("epoch", as_index=False).last()
    return {name: rows[name].to_numpy(dtype=np.float64) for name in CURVES}


def smoothed(values: np.ndarray) -> np.ndarray:
    """Return the centred running mean (n_epochs,); the window is cut at the ends."""
    half = (WINDOW if len(values) >= 2 * WINDOW else 3) // 2
    sums = np.concatenate([[0.0], np.cumsum(values)])
    first = np.maximum(np.arange(len(values)) - half, 0)
    last = np.minimum(np.arange(len(values)) + half + 1, len(values))
    return (sums[last] - sums[first]) / (last - first)


def noise_of(values: np.ndarray) -> float:
    """Return the standard deviation of a curve's noise, from its second differences, which a smooth curve hardly has.

    The median makes it robust against single jumps; the variance of a second difference is 6 times that of the noise.
    """
    return float(1.4826 * np.median(np.abs(np.diff(values, 2))) / np.sqrt(6))


def _unstable(curves: dict[str, np.ndarray]) -> Diagnosis | None:
    epochs, train = curves["epoch"], curves["train_loss"]
    floor = MATERIAL * train[0]
    level = smoothed(train)
    lowest = int(level.argmin())
    rise = level[-1] - level[lowest]
    if rise > max(TRAIN_RISE * level[lowest], floor, NOISE * noise_of(train)):
        begin = int(epochs[lowest])
        reason = _("the train loss rose from {low:.3g} in epoch {epoch} to {end:.3g} at the end")
        return Diagnosis(UNSTABLE, begin, reason.format(low=level[lowest], epoch=begin, end=level[-1]))
    begin_at = len(train) // 3
    late = train[begin_at:]
    spread, typical = noise_of(late), float(np.median(late))
    if spread > max(JUMPS * typical, floor):
        begin = int(epochs[begin_at + 1 + int(np.abs(np.diff(late)).argmax())])
        reason = _("the train loss jumps from epoch to epoch by about {share:.0%} of its level; most in epoch {epoch}")
        return Diagnosis(UNSTABLE, begin, reason.format(share=spread / typical, epoch=begin))
    return None


def _over_fitting(curves: dict[str, np.ndarray]) -> Diagnosis | None:
    epochs, test, train = curves["epoch"], smoothed(curves["test_loss"]), smoothed(curves["train_loss"])
    lowest = int(test.argmin())
    limit = test[lowest] + max(TEST_RISE * test[lowest], NOISE * noise_of(curves["test_loss"]))
    risen = len(test) - 1 - int(np.flatnonzero(test <= limit)[-1])  # epochs above it, up to the last
    if risen >= RISEN_EPOCHS and train[-1] < train[lowest]:
        begin = int(epochs[lowest])
        reason = _(
            "from epoch {epoch} on the hold-out loss rose from {low:.3g} to {high:.3g} while the train loss fell from {before:.3g} "
            "to {after:.3g}"
        ).format(epoch=begin, low=test[lowest], high=test[-1], before=train[lowest], after=train[-1])
        return Diagnosis(OVER, begin, reason)
    gaps = smoothed(curves["train_accuracy"] - curves["test_accuracy"])
    if gaps[-1] > GAP:  # False where an accuracy is missing
        wide = np.concatenate([[False], gaps > GAP])  # [i + 1]: in epoch i
        begin = int(epochs[np.flatnonzero(~wide)[-1]])
        reason = _(
            "since epoch {epoch} the train accuracy has been above that of the hold-out by more than {gap:.0f} points; {ends}"
        ).format(epoch=begin, gap=100 * GAP, ends=_ends_at(curves))
        return Diagnosis(OVER, begin, reason)
    return None


def _improving(curves: dict[str, np.ndarray]) -> Diagnosis | None:
    from scipy.stats import theilslopes

    n_tail = max(round(TAIL * len(curves["epoch"])), MIN_EPOCHS)
    epochs, test = curves["epoch"][-n_tail:], curves["test_loss"][-n_tail:]
    slope, intercept, _low, high = theilslopes(test, epochs, 0.95)
    begin, end = intercept + slope * epochs[0], intercept + slope * epochs[-1]
    if high < 0 and begin - end > FALL * begin:
        reason = _("the hold-out loss fell from about {begin:.3g} to {end:.3g} over the last {count} epochs: more epochs may help")
        return Diagnosis(IMPROVING, int(epochs[0]), reason.format(begin=begin, end=end, count=n_tail))
    return None


def _under_fitting(curves: dict[str, np.ndarray], attainable: float) -> Diagnosis | None:
    ends = [smoothed(curves[name])[-1] for name in ("train_accuracy", "test_accuracy")]
    if not np.isnan(ends).all() and np.nanmax(ends) < attainable - SHORTFALL:
        reason = _("{ends}; attainable is {attainable:.4f}").format(ends=_ends_at(curves), attainable=attainable)
        return Diagnosis(UNDER, None, reason)
    return None


def _ends_at(curves: dict[str, np.ndarray]) -> str:
    train, test = (smoothed(curves[name])[-1] for name in ("train_accuracy", "test_accuracy"))
    if np.isnan([train, test]).any():
        return _("hold-out loss {loss:.3g} at the end").format(loss=smoothed(curves["test_loss"])[-1])
    return _("accuracy {train:.4f} in training and {test:.4f} on the hold-out at the end").format(train=train, test=test)


def diagnose_runs(history: pd.DataFrame, *, train: str = "", test: str = "") -> pd.DataFrame:
    """Diagnose every run of a history, each measured by the best hold-out accuracy of the runs on the same data.

    Args:
        train, test: the names of the loss curves, where they are other ones than `known_curves` finds.

    Returns:
        a row per run: run, name, state, epochs, diagnosis, epoch (NaN where none), reason.
    """
    import pandas as pd

    whole = [known_curves(rows, train, test) for _run, rows in history.groupby("run", sort=False)]
    history = pd.concat(whole) if whole else history
    data = history["config.data"].map(str) if "config.data" in history else pd.Series("", index=history.index)
    best = history.groupby(data)["test_accuracy"].max() if "test_accuracy" in history else pd.Series(dtype=float)
    lines: list[dict[str, Any]] = []
    for run, rows in history.groupby("run", sort=False):
        attainable = best.get(data[rows.index[0]], np.nan)
        found = diagnose(rows, attainable=ATTAINABLE if np.isnan(attainable) else float(attainable))
        first = rows.iloc[0]
        lines.append(
            {
                "run": run,
                "name": first["name"],
                "state": first["state"],
                "epochs": int(rows["epoch"].notna().sum()) if "epoch" in rows else 0,
                "diagnosis": found.kind,
                "epoch": np.nan if found.epoch is None else float(found.epoch),
                "reason": found.reason,
            }
        )
    return pd.DataFrame(lines)


def rules_table() -> list[list[str]]:
    """Return the rules as rows of diagnosis and condition, in the order in which they are asked."""
    unstable = _(
        "the loss ends not finite; or the train loss ends more than {rise:.0f} % above its lowest value; or over the last two "
        "thirds of the epochs its noise (by second differences) is above {jumps:.0f} % of its level"
    )
    over = _(
        "the hold-out loss ends more than {rise:.0f} % above its lowest value, and has been there for {epochs} epochs or more, "
        "while the train loss fell; or the train accuracy ends more than {gap:.0f} points above that of the hold-out"
    )
    improving = _(
        "over the last third of the epochs, at least {epochs}, the hold-out loss fell by more than {fall:.0f} %, its slope being "
        "below 0 with 95 % confidence"
    )
    under = _(
        "neither the train nor the hold-out accuracy ends within {shortfall:.0f} points of what is attainable: the best hold-out "
        "accuracy of all the runs on the same data ({attainable:g} where none is known)"
    )
    return [
        [_(RUNNING), _("the run has not ended: its curves are not judged yet")],
        [_(NO_LOSS), _("the run logged no train loss or no hold-out loss (an svm has no curves)")],
        [_(TOO_SHORT), _("fewer than {epochs} epochs").format(epochs=MIN_EPOCHS)],
        [_(UNSTABLE), unstable.format(rise=100 * TRAIN_RISE, jumps=100 * JUMPS)],
        [_(OVER), over.format(rise=100 * TEST_RISE, epochs=RISEN_EPOCHS, gap=100 * GAP)],
        [_(IMPROVING), improving.format(epochs=MIN_EPOCHS, fall=100 * FALL)],
        [_(UNDER), under.format(shortfall=100 * SHORTFALL, attainable=ATTAINABLE)],
        [_(FINE), _("none of these")],
    ]
