"""Report section on provenance: programs, commits, versions, devices, and the split that each figure comes from."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from paretune.analysis.document.document import Heading, Table
from paretune.analysis.document.language import translate as _
from paretune.analysis.document.sections import head_of, on_hold_out, states_in_words
from paretune.analysis.document.study import Study
from paretune.analysis.sources.run_record import RunRecord


def or_unknown(values: Mapping[str, Any], name: str) -> str:
    """Return a value as text, `unknown` where a mapping lacks it."""
    return _("unknown") if values.get(name) is None else str(values[name])


def sources_section(studies: Sequence[Study]) -> list[Any]:
    """What was run, when, on what, at which commit and with which seeds; and which figure comes from which part."""
    rows = []
    for study in studies:
        begun = study.table["created"].min()
        when = _("unknown")
        if np.isfinite(begun):
            when = datetime.datetime.fromtimestamp(begun, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
        states = ", ".join(states_in_words(study.table).values())
        rows += [[study.name, _("runs"), f"{len(study.table)} ({states})"], ["", _("begun"), when]]
        rows += [["", *line] for line in (_origin_of_ours(study) if study.classifier else _origin_of_theirs(study.chosen))]
        if study.origin and "run" not in study.origin:
            rows.append(["", _("run that was retrained"), _("unknown")])
        read = study.models["chosen"].get("locked_part_read", _("unknown") if study.test else _("never"))
        rows += [["", _("locked part read"), str(read)]] if study.classifier else []
    blocks: list[Any] = [Heading(_("Where the numbers come from"))]
    if on_hold_out(studies):
        heads = [_("figure or table"), _("images")]
        blocks.append(Table(heads, _parts_of_data(studies), _("Which figure comes from which part of the data."), text_columns=2))
    return [*blocks, Table([head_of(studies), "", ""], rows, _("What was run."), text_columns=3)]


def _parts_of_data(studies: Sequence[Study]) -> list[list[str]]:
    """Return what is shown, and on which part of the data it was measured."""
    found = [
        [_("How sure, diagnosis, importance, slices"), _("hold-out (curves: training images too)")],
        [_("Pareto front, F1 against cost, search"), _("hold-out")],
        [_("Loss and accuracy curves"), _("training images and hold-out")],
        [_("Table of the front, choice"), _("hold-out")],
    ]
    if any(study.test for study in studies):
        found += [
            [_("Scores by class, calibration, hardest images, t-SNE"), _("locked test part, from the reading at the retrain")],
            [_("Confusion matrix, per-class report"), _("locked test part, after the retrain")],
            [_("Baseline beside tuned"), _("hold-out, and locked test part where it says test")],
        ]
    return found


def _origin_of_ours(study: Study) -> list[list[str]]:
    """Return what the chosen run of a classifier of ours says of its data, seeds, commit, packages and device."""
    origin, config = study.chosen.origin, study.chosen.config
    prints = ", ".join(f"{part} {digits}" for part, digits in origin.get("fingerprints", {}).items())
    packages = ", ".join(f"{name} {version}" for name, version in origin.get("versions", {}).items())
    seeds = _("training {seed}, split {split}").format(seed=or_unknown(config, "seed"), split=or_unknown(config, "split_seed"))
    retrained = or_unknown(study.origin.get("provenance", {}), "device") if study.origin else "–"
    devices = _("sweep {sweep}, retrain {retrain}").format(sweep=or_unknown(origin, "device"), retrain=retrained)
    data = _("{data}; fingerprints {prints}").format(data=or_unknown(config, "data"), prints=prints or _("unknown"))
    return [
        [_("data"), data],
        [_("seeds"), seeds],
        [_("commit"), or_unknown(origin, "commit")],
        [_("packages"), packages or _("unknown")],
        [_("device"), devices],
    ]


def _origin_of_theirs(run: RunRecord) -> list[list[str]]:
    """Return what W&B's client recorded of another program's chosen run, and what searched for it where paretune did."""
    known, unknown = run.environment, _("not recorded")
    program = " ".join(known[name] for name in ("program", "args") if name in known)
    packages = ", ".join(f"{name} {known[name]}" for name in ("python", "wandb") if name in known)
    found = [[_("program"), program or unknown], [_("commit"), known.get("commit", unknown)], [_("packages"), packages or unknown]]
    if run.engine:
        engine = f"paretune {run.engine.get('commit') or _('unknown')}"
        found.append([_("searched by"), engine])
    return found
