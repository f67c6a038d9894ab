"""One sweep as the report shows it, and its searched hyper-parameters."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paretune.analysis.choose import Choice
from paretune.analysis.document.language import translate as _
from paretune.analysis.findings.aims import stated_goals
from paretune.analysis.findings.front import stands_for
from paretune.analysis.findings.repeats import RUNS
from paretune.analysis.sources.run_record import RunRecord
from paretune.core.provenance import written_by_us
from paretune.models.effective_configuration import text_of

if TYPE_CHECKING:
    import pandas as pd

SAME_FOR_ALL = {"classifier", "evaluation_split", "best_metric", "preset", "average", "positive_class", "curves_on_test", "holdout"}


@dataclass
class Study:
    """One classifier's sweep as the report shows it."""

    name: str  # the classifier's; the source's where two sweeps are of one classifier
    source: str
    classifier: str
    runs: list[RunRecord]
    table: pd.DataFrame  # every run, one row
    front: pd.DataFrame  # the candidates, with on_front
    choice: Choice
    models: dict[str, dict[str, Any]]  # metrics.json of "chosen" (empty where none was retrained) and, where it was, "baseline"
    origin: dict[str, Any]  # config.json of the chosen model; empty without one
    folder: Path  # of the chosen model
    aims: dict[str, str]  # what the front is of: metric -> goal
    reads: list[dict[str, Any]] = field(default_factory=list)  # of the locked part, on the study's record

    @property
    def chosen(self) -> RunRecord:
        return next(run for run in self.runs if run.run == self.choice.run["run"])

    @property
    def marked(self) -> str:
        """The run that stands for the chosen run's configuration on the front, and is marked there."""
        return stands_for(self.front, self.chosen.run)

    @property
    def baseline(self) -> RunRecord | None:
        return next((run for run in self.runs if run.baseline), None)

    @property
    def baseline_chosen(self) -> bool:
        """Whether the default configuration was chosen."""
        return self.baseline is not None and self.baseline.run in self.choice.run[RUNS]

    @property
    def test(self) -> dict[str, Any]:
        """What the chosen run's retrained model did on the locked part; empty where none was retrained."""
        return self.models["chosen"].get("test", {})

    @property
    def on_hold_out(self) -> bool:
        """Whether the runs say that they were scored on a hold-out."""
        return bool((self.front["evaluation_split"] == "holdout").all())

    @property
    def repeated(self) -> bool:
        """Whether several runs tried one configuration, so that a point of the front is their mean."""
        return bool((self.front[RUNS].map(len) > 1).any())

    @property
    def goals(self) -> dict[str, str]:
        """The goal of each metric that is shown."""
        return {**stated_goals(self.runs), "f1": "maximize", **self.aims}

    @property
    def metric(self) -> str:
        """The score that tables and the search show beside the aims: F1, or the first aim of runs that do not log it."""
        return "f1" if "f1" in self.front and self.front["f1"].notna().any() else next(iter(self.aims))


def searched(study: Study) -> list[str]:
    """Return the hyper-parameters whose values differ between the runs, where they have an effect."""
    return differing_parameters([run for run in study.runs if run.config])


def differing_parameters(runs: Sequence[RunRecord]) -> list[str]:
    """Return the parameters whose values differ between runs, where they have an effect."""
    effective = set(differing([shown_config(run) for run in runs]))
    return [name for name in differing([run.config for run in runs]) if name in effective]


def shown_config(run: RunRecord) -> dict[str, Any]:
    """Return a run's effective configuration without what is the same for all runs of ours."""
    return {name: value for name, value in run.effective_config.items() if not (run.ours and name in SAME_FOR_ALL)}


def differing(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names whose values differ between configurations; what follows from the others is left out."""
    own = [{*SAME_FOR_ALL, "provenance"} if written_by_us(config) else set() for config in configs]
    names = dict.fromkeys(name for config, described in zip(configs, own, strict=True) for name in config if name not in described)
    return [name for name in names if len({text_of(config.get(name)) for config in configs}) > 1]


def short_in(config: Mapping[str, Any], name: str) -> str:
    """Return what a configuration has under a name as a table shows it; a dash where it has nothing."""
    return short(config[name]) if name in config else "–"


def short(value: Any) -> str:
    """Return a value as a table shows it: lists, mappings and null as JSON."""
    if value is None or isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    return f"{value:.3g}" if isinstance(value, float) else str(value)
