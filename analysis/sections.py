"""The sections of the report: what stands in each, as blocks of a document."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.document import Heading, Paragraph, Picture, Table
from analysis.history import tidy

if TYPE_CHECKING:
    from analysis.report import Study

MOST_COLUMNS = 6
SAME_FOR_ALL = {"classifier", "evaluation_split", "best_metric", "preset", "average", "positive_class", "curves_on_test", "holdout"}


def sizes(study: Study) -> dict[str, int]:
    """Return how many images each part held: train, holdout (of the sweep), full (of the retrain), test."""
    origin = study.chosen.config.get("provenance", {})
    return {
        "train": int(origin.get("n_train", 0)),
        "holdout": int(origin.get("n_holdout", 0)),
        "full": int(study.models["chosen"]["n_train"]),
        "test": int(study.models["chosen"]["test"]["n_samples"]),
    }


def summary_section(studies: Sequence[Study]) -> list[Any]:
    """What came out: one line per classifier, and which number comes from which images."""
    rows = []
    for study in studies:
        test, run = study.models["chosen"]["test"], study.choice.run
        right = int(np.trace(np.array(test["confusion"])))
        rows.append(
            [
                study.name,
                str(run["name"]),
                f"{run['f1']:.4f}",
                *(f"{test[name]:.4f}" for name in ("accuracy", "precision", "recall", "f1")),
                f"{right} of {test['n_samples']}",
            ]
        )
    parts = sizes(studies[0])
    return [
        Heading("Result"),
        Table(
            ["classifier", "chosen run", "F1 hold-out", "accuracy", "precision", "recall", "F1", "right"],
            rows,
            f"The chosen run of each classifier, by rule {studies[0].choice.rule}. F1 hold-out was known when it was chosen; the "
            "columns to its right were measured on the locked test part, after the choice and the retraining.",
            text_columns=2,
        ),
        Paragraph(
            f"Every choice in this report was made on the hold-out ({parts['holdout']:,} images drawn from the training "
            "images), on which no run was trained. The chosen configurations were then trained anew on all "
            f"{parts['full']:,} training images and evaluated on the locked test part ({parts['test']:,} images), "
            f"which no sweep reads. {reads_in_words(studies)} {average_in_words(studies[0].chosen.config)}"
        ),
    ]


def reads_in_words(studies: Sequence[Study]) -> str:
    """Say for how many chosen configurations the locked part was read."""
    read = {study.name: {entry["run"] for entry in study.models["chosen"].get("locked_part_reads", [])} for study in studies}
    often = [f"{len(runs)} runs of {name}" for name, runs in read.items() if len(runs) > 1]
    if often:
        return f"It was read for {' and '.join(often)}, as the choice was made more than once: take the figures with that caution."
    return "It was read once for each of them."


def average_in_words(config: Mapping[str, Any]) -> str:
    """Say how precision, recall and F1 are averaged over the classes."""
    average = config.get("average", "macro")
    if average == "binary":
        return f"Precision, recall and F1 are those of the class {config.get('positive_class')}."
    weights = "weighted by its images" if average == "weighted" else "each counting alike"
    return f"Precision, recall and F1 are {average} averages: the mean over the classes, {weights}."


def left_out_in_words(studies: Sequence[Study]) -> str:
    """Count the runs that have no place on a front because they did not finish."""
    counts = {study.name: study.table["state"].value_counts() for study in studies}
    words = {"pruned": "stopped early", "failed": "failed", "interrupted": "interrupted, tried again", "running": "still running"}
    parts = [
        f"{name}: {', '.join(f'{states[state]} {text}' for state, text in words.items() if state in states)}"
        for name, states in counts.items()
        if set(words) & set(states.index)
    ]
    return f"Runs that did not finish have no place on it ({'; '.join(parts)})." if parts else "Every run has finished."


def front_section(studies: Sequence[Study], figures: Path) -> list[Any]:
    """The Pareto front: figure, table, and the search that led to it."""
    from analysis.figures import pareto_figure, save_figure, search_figure, tradeoff_figure
    from analysis.front_figures import hypervolume_figure, pairs_figure
    from analysis.interactive import pareto_html
    from analysis.pareto import volumes_of

    tables = {study.name: study.front for study in studies}
    chosen = {study.name: str(study.choice.run["run"]) for study in studies}
    aims = studies[0].aims
    words = f"{', '.join(list(aims)[:-1])} and {list(aims)[-1]}" if len(aims) > 1 else next(iter(aims))
    sizes_text = "; ".join(
        f"{study.name}: {int(study.front['on_front'].sum())} of {len(study.front)} finished runs" for study in studies
    )
    blocks: list[Any] = [
        Heading("The Pareto front"),
        Paragraph(
            f"A run is on the front when no other run is at least as good in {words} and better in one. "
            f"On the front are {sizes_text}. {left_out_in_words(studies)}"
        ),
    ]
    if len(aims) == 2:
        picture = save_figure(pareto_figure(tables, list(aims), list(aims.values()), chosen), figures / "pareto.png")
        caption = (
            f"{words[:1].upper()}{words[1:]} of every finished run at its best epoch, on the hold-out. The shaded area is what the "
            "front dominates; the frame shows the better three quarters."
        )
        blocks.append(Picture(picture, caption, pareto_html(studies, list(aims), list(aims.values()))))
    elif len(aims) > 2:
        for study in studies:
            figure = pairs_figure(study.front, list(aims), list(aims.values()), chosen[study.name])
            caption = f"Each pair of the metrics, {study.name}: finished runs at their best epoch, on the hold-out."
            blocks.append(Picture(save_figure(figure, figures / f"pareto-{study.name}.png"), caption))
    single, nearly_equal = any(int(study.front["on_front"].sum()) == 1 for study in studies), _nearly_equal(studies)
    if single or nearly_equal:
        why = "Precision and recall of one run nearly coincide here, so that" if nearly_equal else "Here"
        tradeoff = save_figure(tradeoff_figure(tables, chosen), figures / "tradeoff.png")
        blocks += [
            Paragraph(f"{why} a front is a single run or a single point. What a run costs tells the runs apart:"),
            Picture(tradeoff, "F1 on the hold-out against the learnt numbers and the training time. Circles mark the chosen runs."),
        ]
    every = {study.name: study.table for study in studies}
    blocks.append(
        Picture(
            save_figure(search_figure(every), figures / "search.png"),
            "The search: F1 on the hold-out of each trial at its best epoch, and the best so far.",
        )
    )
    if len(aims) > 1:
        grown = {study.name: volumes_of(study.front, list(aims), list(aims.values())) for study in studies}
        corners = "; ".join(f"{name}: {', '.join(f'{value:.4g}' for value in corner)}" for name, (_, corner) in grown.items())
        blocks.append(
            Picture(
                save_figure(
                    hypervolume_figure({name: volumes for name, (volumes, _) in grown.items()}), figures / "hypervolume.png"
                ),
                f"The hypervolume that the front dominates after each finished run, from the worst values ({corners}).",
                width="55%",
            )
        )
    return blocks + [block for study in studies for block in front_table(study)]


def _nearly_equal(studies: Sequence[Study]) -> bool:
    if any(set(study.aims) != {"precision", "recall"} for study in studies):
        return False
    gaps = [float((study.front["precision"] - study.front["recall"]).abs().median()) for study in studies]
    return max(gaps) < 0.01


def front_table(study: Study) -> list[Any]:
    """The runs on the front, a column each: their scores, then what the sweep searched."""
    front = study.front[study.front["on_front"]].copy()
    front["is_chosen"] = front["run"] == study.choice.run["run"]
    front = front.sort_values(["is_chosen", "f1"], ascending=False, kind="stable")
    shown = front.head(MOST_COLUMNS)
    configs = {run.run: run.config for run in study.runs}
    heads = [f"{row['name'].rpartition('-')[2]}{' (chosen)' if row['is_chosen'] else ''}" for _, row in shown.iterrows()]
    rows = [[name, *(f"{value:.4f}" for value in shown[name])] for name in dict.fromkeys([*study.aims, "f1"])]
    rows.append(["best epoch", *(f"{value:.0f}" for value in shown["best_epoch"])])
    rows += [[name, *(short(configs[run].get(name)) for run in shown["run"])] for name in searched(study)]
    more = f" {len(front) - len(shown)} more are left out here." if len(front) > len(shown) else ""
    caption = f"The front of {study.name}, a column per run, scored on the hold-out.{more}"
    return [Table(["trial", *heads], rows, caption)]


def searched(study: Study) -> list[str]:
    """Return the hyper-parameters whose values differ between the runs."""
    names = dict.fromkeys(name for run in study.runs for name in run.config if name not in SAME_FOR_ALL and name != "provenance")
    return [
        name for name in names if len({json.dumps(run.config.get(name), sort_keys=True) for run in study.runs if run.config}) > 1
    ]


def short(value: Any) -> str:
    """Return a value as a table shows it."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def study_section(study: Study, figures: Path) -> list[Any]:
    """One classifier: the rule, the curves, the confusion matrix and the per-class report."""
    from analysis.figures import confusion_figure, curves_figure, save_figure

    run, choice = study.chosen, study.choice
    parts, test = sizes(study), study.models["chosen"]["test"]
    history = tidy([run])
    n_epochs = int(choice.run["best_epoch"])
    left_out = ", ".join(f"{count} {reason}" for reason, count in choice.left_out.items())
    blocks: list[Any] = [
        Heading(f"The chosen {study.name}"),
        Paragraph(
            f"Rule {choice.rule} chose run {choice.run['name']} ({run.run}): {choice.reason}. "
            f"Candidates were the {len(study.front)} finished runs{f'; left out: {left_out}' if left_out else ''}."
        ),
        Table(
            ["hyper-parameter", "value"],
            [[name, short(run.config.get(name))] for name in dict.fromkeys([*searched(study), *fixed_names(study)])],
            f"Configuration of {choice.run['name']}; the sweep searched the first {len(searched(study))}.",
            text_columns=2,
        ),
    ]
    if len(history) > 1:
        picture = save_figure(
            curves_figure(history, title=str(choice.run["name"]), n_epochs=n_epochs), figures / f"curves-{study.name}.png"
        )
        blocks.append(
            Picture(
                picture,
                f"Loss and accuracy of {choice.run['name']} on its {parts['train']:,} training images (as they were "
                "trained on, with dropout and augmentation where they are on) and on the "
                f"{parts['holdout']:,} hold-out images. It was retrained for {n_epochs} "
                f"epoch{'s' if n_epochs > 1 else ''}, its best.",
            )
        )
    confusion = np.array(test["confusion"])
    names = list(test["per_class"])
    title = f"{study.name}, locked test part, {parts['test']:,} images"
    blocks.append(
        Picture(
            save_figure(confusion_figure(confusion, names, title=title), figures / f"confusion-{study.name}.png"),
            f"Confusion matrix of the retrained {study.name} on the locked test part. {confusions_in_words(confusion, names)}",
            width="62%",
        )
    )
    rows = [
        [name, *(f"{scores[metric]:.4f}" for metric in ("precision", "recall", "f1")), f"{scores['support']:.0f}"]
        for name, scores in test["per_class"].items()
    ]
    average = str(run.config.get("average") or "macro")
    label = str(run.config.get("positive_class")) if average == "binary" else f"{average} average"
    rows.append([label, *(f"{test[metric]:.4f}" for metric in ("precision", "recall", "f1")), f"{test['n_samples']}"])
    blocks.append(
        Table(
            ["class", "precision", "recall", "F1", "images"],
            rows,
            f"Per-class report of the retrained {study.name} on the locked test part.",
        )
    )
    return blocks


def fixed_names(study: Study) -> list[str]:
    """Return the hyper-parameters worth naming beside the searched ones."""
    from trainers import model_class

    defaults = model_class(study.classifier).Config().to_dict()
    config = study.chosen.config
    return [name for name in config if name in defaults and config[name] != defaults[name]]


def confusions_in_words(confusion: np.ndarray, names: Sequence[str]) -> str:
    """Name the two most frequent confusions."""
    mistakes = confusion.copy()
    np.fill_diagonal(mistakes, 0)
    order = np.argsort(mistakes, axis=None, kind="stable")[::-1][:2]
    pairs = [(int(i), int(j)) for i, j in (np.unravel_index(place, mistakes.shape) for place in order)]
    words = [f"{names[i]} taken for {names[j]} ({mistakes[i, j]})" for i, j in pairs if mistakes[i, j] > 0]
    return f"Most frequent: {', '.join(words)}." if words else "No image was taken for another class."


def baseline_section(studies: Sequence[Study]) -> list[Any]:
    """The default configuration beside the tuned one, on the hold-out and on the locked part."""
    rows, settings, won = [], [], []
    for study in studies:
        baseline = study.baseline
        if baseline is None:
            continue
        if baseline.run == study.chosen.run:
            won.append(f"In {study.name} the default configuration itself was chosen, so there is nothing to set beside it.")
            continue
        for label, kind, run in (
            (f"{study.name}, default", "baseline", baseline),
            (f"{study.name}, tuned", "chosen", study.chosen),
        ):
            row = study.table[study.table["run"] == run.run].iloc[0]
            test = study.models.get(kind, {}).get("test", {})
            held = [_value(row.get(name)) for name in ("test_loss", "precision", "recall")]
            rows.append([label, *held, *(_value(test.get(name)) for name in ("loss", "precision", "recall", "accuracy"))])
        names = searched(study)
        settings.append(
            Table(
                ["hyper-parameter", "default", "tuned"],
                [[name, short(baseline.config.get(name)), short(study.chosen.config.get(name))] for name in names],
                f"What the sweep changed in {study.name}.",
                text_columns=3,
            )
        )
    heading = [Heading("The baseline"), Paragraph(" ".join(won))] if won else [Heading("The baseline")]
    if not rows:
        return heading if won else []
    svm = any(study.classifier == "svm" for study in studies)
    return [
        *heading,
        Paragraph(
            "The default configuration of a classifier was the first trial of its sweep. The default and the tuned one were "
            "each trained anew on the whole training set and evaluated once on the locked part."
            + (
                " A dash stands where nothing was measured: in a sweep an SVM has no loss, as its probabilities are "
                "calibrated only when it is retrained."
                if svm
                else ""
            )
        ),
        Table(
            ["configuration", "loss", "precision", "recall", "loss (test)", "precision (test)", "recall (test)", "accuracy (test)"],
            rows,
            "Default and tuned configurations: the first three columns on the hold-out, the others on the locked test part.",
        ),
        *settings,
    ]


def _value(value: Any) -> str:
    return "–" if value is None or (isinstance(value, float) and not np.isfinite(value)) else f"{value:.4f}"


def sources_section(studies: Sequence[Study]) -> list[Any]:
    """What was run, when, on what, at which commit and with which seeds; and which figure comes from which part."""
    rows = []
    for study in studies:
        origin = study.chosen.config.get("provenance", {})
        config = study.chosen.config
        counts = ", ".join(f"{count} {state}" for state, count in study.table["state"].value_counts().items())
        begun = study.table["created"].min()
        rows += [
            [study.name, "runs", f"{len(study.table)} ({counts})"],
            ["", "begun", datetime.datetime.fromtimestamp(begun, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")],
            [
                "",
                "data",
                f"{config.get('data')}; fingerprints {', '.join(f'{k} {v}' for k, v in origin.get('fingerprints', {}).items())}",
            ],
            ["", "seeds", f"training {config.get('seed')}, split {config.get('split_seed')}"],
            ["", "commit", str(origin.get("commit") or "unknown")],
            ["", "packages", ", ".join(f"{name} {version}" for name, version in origin.get("versions", {}).items())],
            ["", "device", f"sweep {origin.get('device')}, retrain {study.origin.get('provenance', {}).get('device')}"],
            ["", "locked part read", str(study.models["chosen"]["locked_part_read"])],
        ]
    splits = [
        ["How sure, diagnosis, importance, slices", "hold-out (curves: training images too)"],
        ["Scores by class, calibration, hardest images, t-SNE", "locked test part, from the same one reading"],
        ["Pareto front, F1 against cost, search", "hold-out"],
        ["Loss and accuracy curves", "training images and hold-out"],
        ["Table of the front, choice", "hold-out"],
        ["Confusion matrix, per-class report", "locked test part, once, after the retrain"],
        ["Baseline beside tuned", "hold-out, and locked test part where it says test"],
    ]
    return [
        Heading("Where the numbers come from"),
        Table(["figure or table", "images"], splits, "Which figure comes from which part of the data.", text_columns=2),
        Table(["classifier", "", ""], rows, "What was run.", text_columns=3),
    ]
