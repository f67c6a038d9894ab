"""Choose one run by an explicit rule, and say why.

usage: python -m analysis.choose SOURCE [SOURCE …] [--rule RULE]

    f1, max:METRIC, min:METRIC                 the best of the front; f1 is max:f1
    knee                                       the front's run nearest to the ideal point, each metric spanning 0 to 1
    recall>=0.98 and test_loss<=0.1 then RULE  the best of all finished runs that satisfy every condition
    RULE within 0.5% of best f1                the best of all finished runs whose f1 lacks at most that share of the best f1
    run:ID                                     that run

Conditions look at all finished runs, not at the front alone: a run that another one beats in precision and recall may be
the smallest that is good enough. With both, `within` counts from the best among the runs that satisfy the conditions; the
knee is then of the front of what is left. Runs of one configuration are one candidate, with their means (findings/repeats.py).
Of equals, the run that is better in what else is weighed is taken, then that of higher precision and recall, of lower
test_loss, the smaller one (n_parameters), then the earlier (paretune/core/run_order.py).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from paretune.analysis.document.language import translate as _
from paretune.analysis.findings.aims import add_aims, aims_of, check_aims, default_metrics, goals_of, stated_goals
from paretune.analysis.findings.candidates import numeric_metrics, unknown_metric
from paretune.analysis.findings.confidence import configurations, doubt_of
from paretune.analysis.findings.front import candidates_in_words, counted, front_of, pareto_front
from paretune.analysis.findings.order import better_first
from paretune.analysis.findings.repeats import REPEATS, RUNS
from paretune.analysis.history import RunRecord, add_sources, filters_of, load_runs, runs_table
from paretune.analysis.rules import RULES, Rule, parse_rule
from paretune.core.command_line import SentenceParser, exit_with_sentence
from paretune.core.errors import UsageError, names_there
from paretune.core.quoted_names import quoted
from paretune.core.run_order import tie_breakers

if TYPE_CHECKING:
    import pandas as pd

ROUNDING = 1e-9  # distances to the ideal point that differ by less are equal


@dataclass(frozen=True)
class Choice:
    """The chosen run (a row of the runs table), the rule, the reason in words, and the runs it was chosen from.

    The first run of a configuration stands for all that tried it, in what is chosen and in what it is chosen from.
    """

    run: pd.Series
    rule: str
    reason: str
    candidates: list[str]
    metrics: tuple[str, ...]
    left_out: dict[str, int]
    runner_up: str = ""  # the name of the run that comes next by the same rule; none for a run that a person named
    doubt: str = ""  # how many other configurations are within noise of the chosen one, where that can be said

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, for a model's metadata."""
        return {
            "run": str(self.run["run"]),
            "name": str(self.run["name"]),
            "rule": self.rule,
            "reason": self.reason,
            "front": list(self.metrics),
            "candidates": self.candidates,
            "left_out": self.left_out,
            "runner_up": self.runner_up,
            "doubt": self.doubt,
        }


def choose(
    runs: pd.DataFrame,
    rule: str = "f1",
    metrics: Mapping[str, str] | Sequence[str] | None = None,
    *,
    records: Sequence[RunRecord] = (),
) -> Choice:
    """Choose from a runs table by a rule.

    Args:
        metrics: what the front is of, with or without the goals (see `paretune.analysis.findings.aims.aims_of`).
        records: the runs themselves; with them, the choice knows what their sweep looks for, and what is within noise of it.

    Raises:
        UsageError: if the rule is unknown, names a metric or run that is not there, or no run satisfies it.
    """
    wanted = parse_rule(rule)
    goals_known = stated_goals(records)
    aims = dict(metrics) if isinstance(metrics, Mapping) else aims_of(records, metrics)
    stated = {**goals_known, **aims}
    table, left_out = front_of(runs, list(aims), list(aims.values()), records)
    if wanted.kind == "run":
        chosen = _named(runs, table, wanted)
        names = [str(run) for run in table.loc[table["on_front"], "run"]]
        reason = (
            _("named by the person; it is on the front") if chosen["on_front"] else _("named by the person; it is not on the front")
        )
        return Choice(chosen, rule, reason, names, tuple(aims), left_out)
    eligible, among = _eligible(table, wanted, stated)
    if wanted.kind == "knee":
        if wanted.filters:
            eligible = eligible[pareto_front(eligible[list(aims)].to_numpy(dtype=np.float64), list(aims.values()))]
        score = _distance_to_ideal(eligible, list(aims), list(aims.values()))
        score[score <= score.min() + ROUNDING] = score.min()
        whose = _("the front of {runs}").format(runs=among) if wanted.filters else _("the front")
        reason = _("nearest to the best {metrics} of {whose}, of {runs}").format(
            metrics=_(" and ").join(aims), whose=whose, runs=_count(eligible)
        )
        equals = eligible[score == score.min()]
        if len(equals) > 1:
            reason += _("; of {count} equals {which}").format(count=len(equals), which=_told_apart(equals, aims))
    else:
        values = _numbers(eligible, wanted.name, rule, "on the front" if not wanted.filters else "that satisfies it")
        score = -values if wanted.kind == "max" else values
        best = values[np.nanargmin(score)]
        text = (
            _("highest {metric}, {value}, of {runs} {which}")
            if wanted.kind == "max"
            else _("lowest {metric}, {value}, of {runs} {which}")
        )
        which = f"({among})" if wanted.filters else _("on the front")
        reason = text.format(metric=wanted.name, value=_shown(best), runs=_count(eligible), which=which)
        equals = eligible[values == best]
        if len(equals) > 1:
            reason += _("; of {count} equals {which}").format(count=len(equals), which=_told_apart(equals, aims))
    ordered = eligible.iloc[better_first(eligible, score, aims)]
    n_repeats = len(ordered.iloc[0][REPEATS])
    if n_repeats > 1:
        reason += _("; its values are means over {count} runs of one configuration").format(count=n_repeats)
    if not ordered.iloc[0]["on_front"]:
        reason += _("; it is not on the front of {metrics}").format(metrics=_(" and ").join(aims))
    runner_up = str(ordered.iloc[1]["name"]) if len(ordered) > 1 else ""
    names = [str(run) for run in eligible["run"]]
    judged_by = list(aims) if wanted.kind == "knee" else [wanted.name]
    others = eligible if wanted.filters else table
    others = runs[runs["run"].isin([run for every in others[RUNS] for run in every])]
    doubt = _doubt(ordered.iloc[0], others, records, judged_by, runner_up)
    return Choice(ordered.iloc[0], rule, reason, names, tuple(aims), left_out, runner_up, doubt)


def aims_by(
    runs: Sequence[RunRecord],
    rule: str | None,
    metrics: Sequence[str] | None = None,
    goals: Sequence[str] | None = None,
    *,
    table: pd.DataFrame | None = None,
) -> dict[str, str]:
    """Return what is weighed, metric -> goal, as `pareto.aims_of`; where runs log none of that, what the rule names.

    Args:
        table: `runs_table` of the runs, where it is there already.

    Raises:
        UsageError: as `aims_of`, or if the rule cannot be read, or names a metric that no run has.
    """
    if metrics is None and rule is not None:
        wanted, known = parse_rule(rule), numeric_metrics(runs_table(runs) if table is None else table)
        for name in wanted.metrics:
            if name not in known:
                raise unknown_metric(name, known, of=f"rule {rule}: no run has the metric")
        if wanted.kind in ("max", "min") and not set(default_metrics(runs)) <= set(known):
            return {wanted.name: "maximize" if wanted.kind == "max" else "minimize"}
    return aims_of(runs, metrics, goals)


def default_rule(runs: Sequence[RunRecord], aims: Mapping[str, str]) -> str:
    """Return f1, or the best of the first aim for runs that do not log it."""
    if any("f1" in run.columns for run in runs):
        return "f1"
    metric, goal = next(iter(aims.items()))
    return f"{goal[:3]}:{quoted(metric)}"


def _named(runs: pd.DataFrame, table: pd.DataFrame, rule: Rule) -> pd.Series:
    """Return the run that a rule names, with its own values, and whether its configuration is on the front of `table`.

    Raises:
        UsageError: if it is not among the candidates, whose configurations are in `table`; which it is, and why it is none.
    """
    finished = runs[runs["run"].isin({run for every in table[RUNS] for run in every})]
    picked, others = (frame[(frame["run"] == rule.name) | (frame["name"] == rule.name)] for frame in (finished, runs))
    for frame in (picked, others):
        ids = list(frame["run"])
        if len(ids) > 1 and rule.name not in ids:
            raise UsageError(
                f"rule {rule.text}: {len(ids)} runs have the name {rule.name}: give an id, run:{' or run:'.join(ids)}."
            )
    if picked.empty and not others.empty:
        raise UsageError(f"rule {rule.text}: the run {rule.name} cannot be chosen: {_why_not(others.iloc[0])}; name another one.")
    if picked.empty:
        near = names_there(rule.name, [*finished["name"], *finished["run"]])
        raise UsageError(f"rule {rule.text}: there is no finished run {rule.name!r}{near}")
    run = picked.iloc[int((picked["run"] == rule.name).argmax())].copy()
    whole = next(row for _place, row in table.iterrows() if run["run"] in row[RUNS])
    for name in (RUNS, REPEATS, "on_front"):
        run[name] = whole[name]
    return run


def _why_not(run: pd.Series) -> str:
    """Say why a run is no candidate."""
    if run["state"] != "finished":
        return f"it is {run['state']}"
    if not run.get("feasible", True):
        return "it breaks a constraint of the sweep"
    return "its loss is not finite" if run.get("diverged", False) else "it lacks a metric of the front, or its value is not finite"


def _eligible(table: pd.DataFrame, rule: Rule, stated: Mapping[str, str]) -> tuple[pd.DataFrame, str]:
    """Return the runs that a rule chooses from, and in words which these are."""
    if not rule.filters:
        return table[table["on_front"]], _("on the front")
    words = [str(condition) for condition in rule.conditions]
    if rule.conditions:
        # how far each run is from each bound, (n_runs, n_conditions); 0 where it keeps it
        values = np.stack([_numbers(table, one.metric, rule.text, "finished") for one in rule.conditions], axis=1)
        signs = np.array([1.0 if one.sign == ">=" else -1.0 for one in rule.conditions])
        lacking = np.maximum(signs * (np.array([one.bound for one in rule.conditions]) - values), 0.0)
        if not (lacking == 0).all(axis=1).any():
            spans = np.nanmax(values, axis=0) - np.nanmin(values, axis=0)
            far = (np.nan_to_num(lacking, nan=np.inf) / np.where(spans > 0, spans, 1.0)).sum(axis=1)
            nearest = table.iloc[int(far.argmin())]
            has = " and ".join(f"{one.metric} {_shown(nearest[one.metric])}" for one in rule.conditions)
            raise UsageError(
                f"rule {rule.text}: none of {candidates_in_words(table)} has {' and '.join(words)}; "
                f"the nearest, {nearest['name']}, has {has}: loosen the rule or search further."
            )
        table = table[(lacking == 0).all(axis=1)]
    if rule.tolerance is not None:
        values = _numbers(table, rule.tolerated, rule.text, "that satisfies it" if rule.conditions else "finished")
        sign = 1.0 if goals_of([rule.tolerated], stated) == ["maximize"] else -1.0
        best = values[np.nanargmax(sign * values)]
        table = table[sign * values >= sign * best - rule.tolerance * abs(best)]
        text = _("{metric} within {share:g}% of the best, {value}")
        words.append(text.format(metric=rule.tolerated, share=100 * rule.tolerance, value=_shown(best)))
    return table, _("those with {conditions}").format(conditions=_(" and ").join(words))


def _numbers(table: pd.DataFrame, metric: str, rule: str, which: str) -> np.ndarray:
    """Return a metric of the runs (n_runs,), NaN where a run has none; at least one is finite."""
    import pandas as pd

    if metric not in table or not pd.api.types.is_numeric_dtype(table[metric]):
        raise unknown_metric(metric, numeric_metrics(table), of=f"rule {rule}: no run has the metric")
    values = table[metric].to_numpy(dtype=np.float64)
    values = np.where(np.isfinite(values), values, np.nan)
    if np.isnan(values).all():
        raise UsageError(f"rule {rule}: no run {which} has a value of {metric}: choose by another metric.")
    return values


def _doubt(chosen: pd.Series, table: pd.DataFrame, records: Sequence[RunRecord], metrics: Sequence[str], runner_up: str) -> str:
    if not records:
        return ""
    estimates = configurations(records, table)
    ours = next(estimate for estimate in estimates if chosen["run"] in estimate.runs)
    others = [estimate for estimate in estimates if estimate is not ours]
    return doubt_of(ours, others, metrics, runner_up=runner_up)


def _shown(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) >= 10 else f"{value:.4f}"


def _count(table: pd.DataFrame) -> str:
    """Count runs, or where several tried one of them configurations."""
    __, n_configurations, n_runs = counted(table)
    if n_configurations == 1:
        return _("1 run") if n_runs == 1 else _("1 configuration")
    return (_("{count} runs") if n_runs == n_configurations else _("{count} configurations")).format(count=n_configurations)


def _told_apart(equals: pd.DataFrame, aims: Mapping[str, str]) -> str:
    """Say which metric told runs of equal score apart."""
    for name, goal in tie_breakers(aims).items():
        if name in equals and equals[name].notna().any():
            equals = equals[equals[name] == (equals[name].min() if goal == "minimize" else equals[name].max())]
            if len(equals) == 1 and name == "n_parameters":
                return _("the one of fewer parameters")
            if len(equals) == 1:
                return (_("the one of lower {metric}") if goal == "minimize" else _("the one of higher {metric}")).format(
                    metric=name
                )
    return _("the earlier one")


def _distance_to_ideal(front: pd.DataFrame, metrics: Sequence[str], goals: Sequence[str]) -> np.ndarray:
    values = front[list(metrics)].to_numpy(dtype=np.float64) * [1.0 if goal == "minimize" else -1.0 for goal in goals]
    low, span = values.min(axis=0), np.ptp(values, axis=0)
    return np.linalg.norm((values - low) / np.where(span > 0, span, 1.0), axis=1)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = SentenceParser(prog="python -m analysis.choose", description=__doc__.splitlines()[0], allow_abbrev=False)
    add_sources(parser)
    add_aims(parser)
    rules = "; ".join(RULES).replace("%", "%%")
    parser.add_argument("--rule", help=f"{rules} (default: f1, or where it is not logged the best of the first objective)")
    options = parser.parse_args(arguments)
    with exit_with_sentence():
        check_aims(options)
        for source in options.sources:
            runs = load_runs(source, filters_of(options))
            table = runs_table(runs)
            aims = aims_by(runs, options.rule, options.metrics, options.goals, table=table)
            rule = default_rule(runs, aims) if options.rule is None else options.rule
            choice = choose(table, rule, aims, records=runs)
            chosen = next(run for run in runs if run.run == choice.run["run"])
            print(f"{source}: {chosen.called} by rule {choice.rule}: {choice.reason}")
            if choice.doubt:
                print(f"how sure: {choice.doubt}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
