"""The sections of the report: what stands in each, as blocks of a document."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paretune.analysis.document.document import Heading, Paragraph, Picture, Table
from paretune.analysis.document.language import translate as _
from paretune.analysis.document.study import Study, searched, short
from paretune.analysis.figures.fronts import hypervolume_figure, pairs_figure
from paretune.analysis.figures.interactive import pareto_html
from paretune.analysis.figures.runs import (
    confusion_figure,
    curves_figure,
    pareto_figure,
    save_figure,
    search_figure,
    tradeoff_figure,
)
from paretune.analysis.findings.confidence import wilson_interval
from paretune.analysis.findings.front import counted, volumes_of
from paretune.analysis.findings.order import better_first
from paretune.analysis.findings.repeats import RUNS
from paretune.analysis.history import tidy
from paretune.analysis.locked_part import load_kept
from paretune.analysis.sources.run_record import RunRecord
from paretune.core.best_epoch import goal_of
from paretune.core.errors import UsageError
from paretune.core.short_names import shortened
from paretune.models.locked_readings import KEY, together
from paretune.models.registry import MODELS, model_class

MOST_COLUMNS = 6
MOST_CHARACTERS = 16  # of a run's name above a column
SCORES = ("accuracy", "precision", "recall", "f1")
SCORE_LABELS = {"accuracy": "accuracy", "precision": "precision", "recall": "recall", "f1": "F1", "loss": "loss"}
STATE_LABELS = {
    "pruned": "stopped early",
    "failed": "failed",
    "crashed": "crashed",
    "killed": "killed",
    "interrupted": "interrupted, tried again",
    "running": "still running",
    "damaged": "damaged run file",
}


def sizes(study: Study) -> dict[str, int]:
    """Return how many images each part held: train, holdout (of the sweep), full (of the retrain), test; 0 where unknown."""
    origin = study.chosen.origin
    return {
        "train": int(origin.get("n_train", 0)),
        "holdout": int(origin.get("n_holdout", 0)),
        "full": int(study.models["chosen"].get("n_train", 0)),
        "test": int(study.test.get("n_samples", 0)),
    }


def summary_section(studies: Sequence[Study]) -> list[Any]:
    """What came out: one line per classifier, and which number comes from which images."""
    metric = studies[0].metric
    held = _("{metric} hold-out").format(metric=word_of(metric))
    heads = [_("classifier"), _("chosen run"), held]
    retrained = any(study.test for study in studies)
    if retrained:
        heads += [*(_(SCORE_LABELS[name]) for name in SCORES), _("right"), _("95 % of accuracy")]
    rows = []
    for study in studies:
        run = study.choice.run
        row = [study.name, str(run["name"]), value_of(run.get(metric))]
        rows.append([*row, *_locked_cells(study)] if retrained else row)
    caption = _("The chosen run of each classifier, by rule {rule}.").format(rule=studies[0].choice.rule)
    if retrained:
        caption += " " + _(
            "{held} was known when it was chosen; the columns to its right were measured on the locked test part, after the choice "
            "and the retraining. The last one is Wilson's interval for so many images."
        ).format(held=held)
    blocks: list[Any] = [Heading(_("Result")), Table(heads, rows, caption, text_columns=2)]
    missing = [study for study in studies if not study.test]
    if len(missing) < len(studies):
        blocks.append(Paragraph(_which_images([study for study in studies if study.test])))
    if missing:
        names = ", ".join(study.name for study in missing)
        blocks.append(
            Paragraph(
                _(
                    "No model was retrained from the choice of {names}, so nothing here was measured on data that nobody chose "
                    "with: the scores of a chosen run are too high by what the choice itself gains."
                ).format(names=names)
            )
        )
    return blocks


def _locked_cells(study: Study) -> list[str]:
    """Return what was measured on the locked part: scores, right answers, Wilson's interval."""
    test = study.test
    cells = [value_of(test.get(name)) for name in SCORES]
    if "confusion" not in test:
        return [*cells, "–", "–"]
    right, n = int(np.trace(np.array(test["confusion"]))), int(test["n_samples"])
    low, high = wilson_interval(right / n, n)
    return [*cells, _("{right} of {total}").format(right=right, total=n), f"{low:.4f}–{high:.4f}"]


def _which_images(studies: Sequence[Study]) -> str:
    """Say on which images the choice was made and on which it was tested."""
    parts = [sizes(study) for study in studies]
    numbers = list(dict.fromkeys(f"{part['holdout']:,}" if part["holdout"] else _("an unknown number of") for part in parts))
    text = _(
        "Every choice in this report was made on the hold-out ({holdout} images drawn from the training images), on which no run "
        "was trained. The chosen configurations were then trained anew on all {full}training images and evaluated on the locked"
        " test part ({test:,} images), which no sweep reads."
    ).format(holdout=_(" or ").join(numbers), full=f"{parts[0]['full']:,} " if parts[0]["full"] else "", test=parts[0]["test"])
    return " ".join([text, reads_in_words(studies), average_in_words(studies[0].chosen.config)])


def reads_in_words(studies: Sequence[Study]) -> str:
    """Say how often the locked part was read, by the records of the models and of their studies."""
    if any(KEY not in study.models["chosen"] for study in studies):
        return _("How often it was read is unknown.")
    of_each = {study.name: readings_of(study) for study in studies}
    reads = [reading for some in of_each.values() for reading in some]
    if len({reading.get("run") for reading in reads}) == len(reads) and not _chosen_again(studies, of_each):
        return _("On record, it was read once for each of them.")
    by = Counter((name, _reader(reading)) for name, some in of_each.items() for reading in some)
    parts = [_("{study}: {count} by {command}").format(study=name, count=n, command=command) for (name, command), n in by.items()]
    words = [_("{count} readings of it are on record ({parts}).").format(count=len(reads), parts="; ".join(parts))]
    again = _chosen_again(studies, of_each)
    if again:
        words.append(_("It was read for {runs}, as the choice was made again.").format(runs=_(" and ").join(again)))
    return " ".join([*words, _("Take the figures with that caution.")])


def readings_of(study: Study) -> list[dict[str, Any]]:
    """Return the readings of a study's locked part that are on record: of its models, and of the study itself."""
    reads = together(*(metrics.get(KEY, []) for metrics in study.models.values()), study.reads)
    part = study.origin.get("provenance", {}).get("fingerprints", {}).get("test")
    return [reading for reading in reads if part is None or reading.get("fingerprint") in (None, part)]  # not of other data


def _reader(reading: Mapping[str, Any]) -> str:
    """Return the command that read; in records of older versions there are retrains alone."""
    return str(reading.get("by") or ("analysis.retrain" if "rule" in reading else _("an unknown command")))


def _chosen_again(studies: Sequence[Study], of_each: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """Name the studies of which several runs were read for, the default configuration aside."""
    found = []
    for study in studies:
        default = None if study.baseline is None else study.baseline.run
        runs = {reading.get("run") for reading in of_each[study.name]} - {default, None}
        if len(runs) > 1:
            found.append(_("{count} runs of {study}").format(count=len(runs), study=study.name))
    return found


def average_in_words(config: Mapping[str, Any]) -> str:
    """Say how precision, recall and F1 are averaged over the classes."""
    average = config.get("average", "macro")
    if average == "binary":
        return _("Precision, recall and F1 are those of the class {name}.").format(name=config.get("positive_class"))
    if average == "weighted":
        return _("Precision, recall and F1 are weighted averages: the mean over the classes, weighted by its images.")
    return _("Precision, recall and F1 are macro averages: the mean over the classes, each counting alike.")


def left_out_in_words(studies: Sequence[Study]) -> str:
    """Count the runs that have no place on a front because they did not finish."""
    parts = []
    for study in studies:
        table, finished = study.table, study.table["state"] == "finished"
        states = table["state"].value_counts()
        counts = [f"{states[state]} {_(text)}" for state, text in STATE_LABELS.items() if state in states]
        for column, is_out, text in (
            ("feasible", False, _("breaking a constraint")),
            ("diverged", True, _("whose loss is not finite")),
        ):
            n_out = int((finished & (table[column].astype(bool) == is_out)).sum()) if column in table else 0
            counts += [f"{n_out} {text}"] if n_out else []
        parts += [f"{study.name}: {', '.join(counts)}"] if counts else []
    if not parts:
        return _("Every run has finished.")
    return _("Other runs have no place on it ({parts}).").format(parts="; ".join(parts))


def _scored_in_words(studies: Sequence[Study]) -> str:
    """Say of which epoch and of which images the values of runs are."""
    if all(bool(study.front["picked"].all()) for study in studies):
        return _("Values are those of each run's best epoch, scored on the hold-out.")
    return _("Values are each run's last ones, or what its program decided; the runs do not say on which images they were scored.")


def front_section(studies: Sequence[Study], figures: Path) -> list[Any]:
    """The Pareto front: figure, table, and the search that led to it."""
    tables = {study.name: study.front for study in studies}
    chosen = {study.name: study.marked for study in studies}
    aims, metric = studies[0].aims, studies[0].metric
    named = [word_of(name) for name in aims]
    words = _("{first} and {last}").format(first=", ".join(named[:-1]), last=named[-1]) if len(aims) > 1 else named[0]
    fronts = "; ".join(f"{study.name}: {_front_in_words(study)}" for study in studies)
    text = _(
        "A run is on the front when no other run is at least as good in {metrics} and better in one. On the front are {fronts}."
    ).format(metrics=words, fronts=fronts)
    blocks: list[Any] = [
        Heading(_("The Pareto front")),
        Paragraph(f"{text} {left_out_in_words(studies)} {_scored_in_words(studies)}"),
    ]
    if len(aims) == 2:
        picture = save_figure(pareto_figure(tables, list(aims), list(aims.values()), chosen), figures / "pareto.png")
        caption = _(
            "{metrics} of every finished run. The shaded area is what the front dominates; the "
            "frame shows the better three quarters."
        ).format(metrics=f"{words[:1].upper()}{words[1:]}")
        blocks.append(Picture(picture, caption, pareto_html(studies, list(aims), list(aims.values()))))
    elif len(aims) > 2:
        for study in studies:
            figure = pairs_figure(study.front, list(aims), list(aims.values()), chosen[study.name])
            caption = _("Each pair of the metrics, {study}: finished runs.").format(study=study.name)
            blocks.append(Picture(save_figure(figure, figures / f"pareto-{study.name}.png"), caption))
    nearly_equal = _nearly_equal(studies)
    costed = all({"f1", "n_parameters", "seconds"} <= set(study.front.columns) for study in studies)
    if costed and (nearly_equal or any(int(study.front["on_front"].sum()) == 1 for study in studies)):
        why = _("Here a front is a single run or a single point. What a run costs tells the runs apart:")
        if nearly_equal:
            why = _(
                "Precision and recall of one run nearly coincide here, so that a front is a single run or a single point. What a "
                "run costs tells the runs apart:"
            )
        cost = _("F1 on the hold-out against the number of parameters and the training time. Circles mark the chosen runs.")
        blocks += [Paragraph(why), Picture(save_figure(tradeoff_figure(tables, chosen), figures / "tradeoff.png"), cost)]
    search = _("The search: {metric} of each trial, and the best so far.")
    goal = studies[0].goals.get(metric) or goal_of(metric)
    figure = search_figure({study.name: study.table for study in studies}, metric, goal, chosen)
    blocks.append(Picture(save_figure(figure, figures / "search.png"), search.format(metric=word_of(metric))))
    if len(aims) > 1:
        grown = {study.name: volumes_of(study.front, list(aims), list(aims.values())) for study in studies}
        corners = "; ".join(f"{name}: {', '.join(f'{value:.4g}' for value in corner)}" for name, (__, corner) in grown.items())
        figure = hypervolume_figure({name: volumes for name, (volumes, __) in grown.items()})
        caption = _("The hypervolume that the front dominates after each finished run, from the worst values ({corners}).")
        blocks.append(Picture(save_figure(figure, figures / "hypervolume.png"), caption.format(corners=corners), width="55%"))
    return blocks + [block for study in studies for block in front_table(study)]


def _front_in_words(study: Study) -> str:
    """Count the configurations on the front; where several runs tried one, of so many runs."""
    n_front, n_configurations, n_runs = counted(study.front)
    if n_runs == n_configurations:
        return _("{count} of {total} finished runs").format(count=n_front, total=n_runs)
    text = _("{count} of {total} configurations, which {runs} finished runs tried")
    return text.format(count=n_front, total=n_configurations, runs=n_runs)


def word_of(metric: str) -> str:
    """Return a metric as text names it: its word where it has one, else its key."""
    return _(SCORE_LABELS[metric]) if metric in SCORE_LABELS else metric


def _nearly_equal(studies: Sequence[Study]) -> bool:
    if any(set(study.aims) != {"precision", "recall"} for study in studies):
        return False
    gaps = [float((study.front["precision"] - study.front["recall"]).abs().median()) for study in studies]
    return max(gaps) < 0.01


def front_table(study: Study) -> list[Any]:
    """The configurations on the front, a column each: their scores, then what the sweep searched, where it has an effect."""
    front = study.front[study.front["on_front"]].copy()
    front["is_chosen"] = front["run"] == study.marked
    sign = 1.0 if study.goals.get(study.metric) == "minimize" else -1.0
    front = front.iloc[better_first(front, sign * front[study.metric].to_numpy(dtype=np.float64), study.aims)]
    front = front.sort_values("is_chosen", ascending=False, kind="stable")
    shown = front.head(MOST_COLUMNS)
    configs = {run.run: run.effective_config for run in study.runs}
    heads = _column_heads([str(name) for name in shown["name"]], shown["is_chosen"])
    rows = [[word_of(name), *(value_of(value) for value in shown[name])] for name in dict.fromkeys([*study.aims, study.metric])]
    rows.append([_("best epoch") if front["picked"].all() else _("last epoch"), *(f"{value:.0f}" for value in shown["best_epoch"])])
    if (front[RUNS].map(len) > 1).any():
        rows.append([_("runs"), *(str(len(every)) for every in shown[RUNS])])
    rows += [[name, *(short(configs[run].get(name)) for run in shown["run"])] for name in searched(study)]
    caption = _("The front of {study}, a column per run.").format(study=study.name)
    if len(front) > len(shown):
        caption += " " + _("{count} more are left out here.").format(count=len(front) - len(shown))
    return [Table([_("trial"), *heads], rows, caption)]


def _column_heads(names: Sequence[str], chosen: Iterable[bool]) -> list[str]:
    """Return runs as heads of columns: the numbers of trials, or the names where these do not tell the runs apart."""
    numbers = [name.rpartition("-")[2] for name in names]
    heads = numbers if len(set(numbers)) == len(set(names)) and all(numbers) else shortened(names, MOST_CHARACTERS)
    return [_("{run} (chosen)").format(run=head) if is_chosen else head for head, is_chosen in zip(heads, chosen, strict=True)]


def study_section(study: Study, figures: Path) -> list[Any]:
    """One classifier: the rule, the curves, the confusion matrix and the per-class report."""
    run, choice, parts, n_runs = study.chosen, study.choice, sizes(study), counted(study.front)[2]
    history = tidy([run])
    left_out = ", ".join(
        f"{count} {_(STATE_LABELS[why]) if why in STATE_LABELS else why}" for why, count in choice.left_out.items()
    )
    told = [
        _("Rule {rule} chose run {name} ({run}): {reason}.").format(
            rule=choice.rule, name=choice.run["name"], run=run.run, reason=choice.reason
        ),
        _("Candidates were the {count} finished runs; left out: {left_out}.").format(count=n_runs, left_out=left_out)
        if left_out
        else _("Candidates were the {count} finished runs.").format(count=n_runs),
    ]
    names = list(dict.fromkeys([*searched(study), *fixed_names(study)]))
    blocks: list[Any] = [
        Heading(_("The chosen {study}").format(study=study.name)),
        Paragraph(" ".join(told)),
        Table(
            [_("hyper-parameter"), _("value")],
            [[name, short(run.effective_config.get(name))] for name in names],
            _("Configuration of {run}; the sweep searched the first {count}.").format(
                run=choice.run["name"], count=len(searched(study))
            ),
            text_columns=2,
        ),
    ]
    if len(history) > 1 and {"train_loss", "test_loss"} & set(history.dropna(axis=1, how="all").columns):
        n_epochs = int(choice.run["best_epoch"])
        figure = curves_figure(history, title=str(choice.run["name"]), n_epochs=n_epochs)
        caption = _(
            "Loss and accuracy of {run} on its training images (as they were trained on, with dropout and augmentation where they "
            "are on) and on the hold-out images. Its best epoch is {epoch}."
        ).format(run=choice.run["name"], epoch=n_epochs)
        if parts["train"] and parts["holdout"]:
            caption += " " + _("It trained on {train:,} images, {holdout:,} were held out.").format(**parts)
        blocks.append(Picture(save_figure(figure, figures / f"curves-{study.name}.png"), caption))
    return [*blocks, *_class_blocks(study, figures)] if "confusion" in study.test else blocks


def _class_blocks(study: Study, figures: Path) -> list[Any]:
    """The confusion matrix and the scores of each class on the locked part."""
    test, config = study.test, study.chosen.config
    confusion, names = np.array(test["confusion"]), list(test["per_class"])
    title = _("{study}, locked test part, {count:,} images").format(study=study.name, count=int(test["n_samples"]))
    picture = save_figure(confusion_figure(confusion, names, title=title), figures / f"confusion-{study.name}.png")
    caption = _("Confusion matrix of the retrained {study} on the locked test part.").format(study=study.name)
    rows = [
        [name, *(f"{scores[metric]:.4f}" for metric in ("precision", "recall", "f1")), f"{scores['support']:.0f}"]
        for name, scores in test["per_class"].items()
    ]
    average = str(config.get("average") or "macro")
    label = str(config.get("positive_class")) if average == "binary" else _("{kind} average").format(kind=average)
    rows.append([label, *(f"{test[metric]:.4f}" for metric in ("precision", "recall", "f1")), f"{test['n_samples']}"])
    return [
        Picture(picture, caption, width="62%"),
        Table(
            [_("class"), _("precision"), _("recall"), _("F1"), _("images")],
            rows,
            _("Per-class report of the retrained {study} on the locked test part.").format(study=study.name),
        ),
    ]


def fixed_names(study: Study) -> list[str]:
    """Return the hyper-parameters worth naming beside the searched ones; of a program of one's own, none."""
    if study.classifier not in MODELS:
        return []
    defaults = model_class(study.classifier).Config().to_dict()
    config = study.chosen.effective_config
    return [name for name in config if name in defaults and config[name] != defaults[name]]


def baseline_section(studies: Sequence[Study]) -> list[Any]:
    """The default configuration beside the tuned one, on the hold-out and on the locked part."""
    rows, settings, won, told = [], [], [], []
    for study in studies:
        baseline = study.baseline
        if baseline is None:
            continue
        if study.baseline_chosen:
            won.append(
                _("In {study} the default configuration itself was chosen, so there is nothing to set beside it.").format(
                    study=study.name
                )
            )
            continue
        for label, kind, run in (
            (_("{study}, default").format(study=study.name), "baseline", baseline),
            (_("{study}, tuned").format(study=study.name), "chosen", study.chosen),
        ):
            row = study.table[study.table["run"] == run.run].iloc[0]
            test = study.models.get(kind, {}).get("test", {})
            held = [value_of(row.get(name)) for name in ("test_loss", "precision", "recall")]
            rows.append([label, *held, *(value_of(test.get(name)) for name in ("loss", "precision", "recall", "accuracy"))])
        told += tuned_against_default(study)
        settings.append(
            Table(
                [_("hyper-parameter"), _("default"), _("tuned")],
                _changes(study, baseline),
                _("What the sweep changed in {study}.").format(study=study.name),
                text_columns=3,
            )
        )
    heading = [Heading(_("The baseline")), *([Paragraph(" ".join(won))] if won else [])]
    if not rows:
        return heading if won else []
    text = _(
        "The default configuration of a classifier was the first trial of its sweep. The default and the tuned one were each "
        "trained anew on the whole training set and evaluated once on the locked part."
    )
    if any(study.classifier == "svm" for study in studies):
        text += " " + _(
            "A dash stands where nothing was measured: in a sweep an SVM has no loss, as its probabilities are calibrated only "
            "when it is retrained."
        )
    columns = [_("loss"), _("precision"), _("recall")]
    tested = [_("{metric} (test)").format(metric=_(SCORE_LABELS[name])) for name in ("loss", "precision", "recall", "accuracy")]
    caption = _("Default and tuned configurations: the first three columns on the hold-out, the others on the locked test part.")
    return [
        *heading,
        Paragraph(text),
        Table([_("configuration"), *columns, *tested], rows, caption),
        *([Paragraph(" ".join(told))] if told else []),
        *settings,
    ]


def _changes(study: Study, baseline: RunRecord) -> list[list[str]]:
    """Return what the sweep searched, default and tuned, but what has no effect in either."""
    configs = baseline.effective_config, study.chosen.effective_config
    names = [name for name in searched(study) if any(name in config for config in configs)]
    return [[name, *(short(config.get(name)) for config in configs)] for name in names]


def tuned_against_default(study: Study) -> list[str]:
    """Say whether the tuned model reads more of the locked images rightly than the default one: McNemar's exact test.

    Both read the same images, so that only those count that one of them reads rightly and the other does not (McNemar 1947).
    """
    from scipy.stats import binomtest

    try:
        tuned, default = load_kept(study.folder), load_kept(study.folder.with_name(f"{study.folder.name}-baseline"))
    except UsageError:  # retrained by an older version, or without a baseline
        return []
    if not np.array_equal(tuned.labels, default.labels) or "baseline" not in study.models:
        return []
    right = tuned.predicted == tuned.labels, default.predicted == default.labels
    gained, lost = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
    if gained + lost == 0:
        return [_("Both configurations of {study} read the same images of the locked part rightly.").format(study=study.name)]
    p = float(binomtest(gained, gained + lost).pvalue)
    text = _(
        "Of the images of the locked part that only one configuration of {study} reads rightly, the tuned one reads {gained} and "
        "the default one {lost} (McNemar's exact test: {p})."
    ).format(study=study.name, gained=gained, lost=lost, p=f"p = {p:.3f}" if p >= 0.001 else "p < 0.001")
    verdict = _("That is more than chance explains at 5 %.") if p < 0.05 else _("At 5 % they cannot be told apart.")
    return [text, verdict]


def value_of(value: Any) -> str:
    """Return a score as a table shows it, a dash where there is none."""
    if value is None or (isinstance(value, float) and not np.isfinite(value)):
        return "–"
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) >= 10 else f"{value:.4f}"


def or_unknown(values: Mapping[str, Any], name: str) -> str:
    """Return a value as text, `unknown` where a mapping lacks it."""
    return _("unknown") if values.get(name) is None else str(values[name])


def sources_section(studies: Sequence[Study]) -> list[Any]:
    """What was run, when, on what, at which commit and with which seeds; and which figure comes from which part."""
    rows = []
    for study in studies:
        origin, config = study.chosen.origin, study.chosen.config
        counts = ", ".join(f"{count} {state}" for state, count in study.table["state"].value_counts().items())
        begun = study.table["created"].min()
        when = _("unknown")
        if np.isfinite(begun):
            when = datetime.datetime.fromtimestamp(begun, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
        prints = ", ".join(f"{part} {digits}" for part, digits in origin.get("fingerprints", {}).items())
        packages = ", ".join(f"{name} {version}" for name, version in origin.get("versions", {}).items())
        rows += [[study.name, _("runs"), f"{len(study.table)} ({counts})"], ["", _("begun"), when]]
        if origin or study.classifier:
            seeds = _("training {seed}, split {split}").format(
                seed=or_unknown(config, "seed"), split=or_unknown(config, "split_seed")
            )
            retrained = or_unknown(study.origin.get("provenance", {}), "device") if study.origin else "–"
            devices = _("sweep {sweep}, retrain {retrain}").format(sweep=or_unknown(origin, "device"), retrain=retrained)
            data = _("{data}; fingerprints {prints}").format(data=or_unknown(config, "data"), prints=prints or _("unknown"))
            rows += [
                ["", _("data"), data],
                ["", _("seeds"), seeds],
                ["", _("commit"), or_unknown(origin, "commit")],
                ["", _("packages"), packages or _("unknown")],
                ["", _("device"), devices],
            ]
        if study.origin and "run" not in study.origin:
            rows.append(["", _("run that was retrained"), _("unknown")])
        read = study.models["chosen"].get("locked_part_read", _("unknown") if study.test else _("never"))
        rows.append(["", _("locked part read"), str(read)])
    locked = _("locked test part, from the reading at the retrain")
    splits = [
        [_("How sure, diagnosis, importance, slices"), _("hold-out (curves: training images too)")],
        [_("Scores by class, calibration, hardest images, t-SNE"), locked],
        [_("Pareto front, F1 against cost, search"), _("hold-out")],
        [_("Loss and accuracy curves"), _("training images and hold-out")],
        [_("Table of the front, choice"), _("hold-out")],
        [_("Confusion matrix, per-class report"), _("locked test part, after the retrain")],
        [_("Baseline beside tuned"), _("hold-out, and locked test part where it says test")],
    ]
    return [
        Heading(_("Where the numbers come from")),
        Table([_("figure or table"), _("images")], splits, _("Which figure comes from which part of the data."), text_columns=2),
        Table([_("classifier"), "", ""], rows, _("What was run."), text_columns=3),
    ]
