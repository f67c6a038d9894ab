"""The sections of the report: what stands in each, as blocks of a document."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from paretune.analysis.document.document import Heading, Paragraph, Picture, Table
from paretune.analysis.document.language import translate as _
from paretune.analysis.document.study import Study, searched, short_in
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
from paretune.analysis.findings.curves import curve_names, known_curves
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

if TYPE_CHECKING:
    import pandas as pd

MOST_COLUMNS = 6
MOST_CHARACTERS = 16  # of a run's name above a column
SCORES = ("accuracy", "precision", "recall", "f1")
SCORE_LABELS = {"accuracy": "accuracy", "precision": "precision", "recall": "recall", "f1": "F1", "loss": "loss"}
STATE_LABELS = {
    "finished": "finished",
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
    held = _("{metric} hold-out").format(metric=word_of(metric)) if on_hold_out(studies) else word_of(metric)
    heads = [head_of(studies), _("chosen run"), held]
    retrained = any(study.test for study in studies)
    if retrained:
        heads += [*(_(SCORE_LABELS[name]) for name in SCORES), _("right"), _("95 % of accuracy")]
    rows = []
    for study in studies:
        run = study.choice.run
        row = [study.name, str(run["name"]), value_of(run.get(metric))]
        rows.append([*row, *_locked_cells(study)] if retrained else row)
    caption = _("The chosen run of each classifier, by rule {rule}.")
    if not _all_ours(studies):
        caption = _("The chosen run of each source, by rule {rule}.")
    caption = caption.format(rule=studies[0].choice.rule)
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
        text = _(
            "No model was retrained from the choice of {names}, so nothing here was measured on data that nobody chose "
            "with: the scores of a chosen run are too good by what the choice itself gains."
        )
        if not _all_ours(missing):
            text = _(
                "The runs of {names} do not say which data they were scored on. On data that the choice is made with, the scores "
                "of a chosen run are too good by what the choice itself gains."
            )
        blocks.append(Paragraph(text.format(names=", ".join(study.name for study in missing))))
    return blocks


def _all_ours(studies: Sequence[Study]) -> bool:
    """Whether all runs are of classifiers of ours, which say what they were trained and scored on."""
    return all(study.classifier for study in studies)


def on_hold_out(studies: Sequence[Study]) -> bool:
    """Whether all runs say that they were scored on a hold-out."""
    return all(study.on_hold_out for study in studies)


def head_of(studies: Sequence[Study]) -> str:
    """Return the head of a column of names of studies."""
    return _("classifier") if _all_ours(studies) else _("source")


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
    """Count the runs that have no place on a front: they did not finish, break a constraint, which is named, or lack a value."""
    parts = []
    for study in studies:
        rest = study.table[study.table["state"] == "finished"]
        counts = [text for state, text in states_in_words(study.table).items() if state != "finished"]
        if "feasible" in rest:
            broken, rest = rest[~rest["feasible"].astype(bool)], rest[rest["feasible"].astype(bool)]
            broken = broken if "broken" in broken else broken.assign(broken="")
            for constraint, group in broken.groupby("broken", sort=False):
                counts.append(_breaking_in_words(str(constraint), len(group)))
        if "diverged" in rest:
            diverged, rest = rest[rest["diverged"].astype(bool)], rest[~rest["diverged"].astype(bool)]
            counts += [_("{count} whose loss is not finite").format(count=len(diverged))] if len(diverged) else []
        n_lacking = len(rest) - counted(study.front)[2]
        if n_lacking:
            counts.append(_("{count} without a finite {metrics}").format(count=n_lacking, metrics=_(" or ").join(study.aims)))
        parts += [f"{study.name}: {', '.join(counts)}"] if counts else []
    if not parts:
        return _("Every run has finished.")
    return _("Other runs have no place on it ({parts}).").format(parts="; ".join(parts))


def _breaking_in_words(constraint: str, count: int) -> str:
    """Count runs that break a constraint, or several, joined by semicolons; an empty text where it is unknown."""
    if not constraint:
        text = _("1 breaking a constraint") if count == 1 else _("{count} breaking a constraint")
    elif "; " in constraint:
        text = _("1 breaking the constraints {constraint}") if count == 1 else _("{count} breaking the constraints {constraint}")
    else:
        text = _("1 breaking the constraint {constraint}") if count == 1 else _("{count} breaking the constraint {constraint}")
    return text.format(count=count, constraint=constraint)


def states_in_words(table: pd.DataFrame) -> dict[str, str]:
    """Count runs by their state, in words."""
    counts = table["state"].value_counts()
    order = [*(state for state in STATE_LABELS if state in counts), *(state for state in counts.index if state not in STATE_LABELS)]
    return {state: f"{counts[state]} {_(STATE_LABELS[state]) if state in STATE_LABELS else state}" for state in order}


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
    words = in_a_row(named)
    fronts = "; ".join(f"{study.name}: {_front_in_words(study)}" for study in studies)
    text = _("With {metrics} alone to weigh, the front is the best run, with those that equal it. On the front are {fronts}.")
    if len(aims) > 1:
        text = _(
            "A run is on the front when no other run is at least as good in {metrics} and better in one of them. On the front are "
            "{fronts}."
        )
    text = text.format(metrics=words, fronts=fronts)
    point = _("Each point is a run.")
    if any(study.repeated for study in studies):
        point = _("Each point is a configuration, the mean of its runs.")
    blocks: list[Any] = [
        Heading(_("The Pareto front")),
        Paragraph(f"{text} {left_out_in_words(studies)} {_scored_in_words(studies)}"),
    ]
    if len(aims) == 2:
        picture = save_figure(pareto_figure(tables, list(aims), list(aims.values()), chosen), figures / "pareto.png")
        caption = _(
            "The candidates by {metrics}. {point} The shaded area is what the front dominates; runs beyond the frame are counted "
            "above it."
        ).format(metrics=words, point=point)
        blocks.append(Picture(picture, caption, pareto_html(studies, list(aims), list(aims.values()))))
    elif len(aims) > 2:
        for study in studies:
            figure = pairs_figure(study.front, list(aims), list(aims.values()), chosen[study.name])
            caption = _("The candidates of {study} by each pair of the metrics. {point}").format(study=study.name, point=point)
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
    search = _("The search: {metric} of each run, and the best so far.")
    goal = studies[0].goals.get(metric) or goal_of(metric)
    figure = search_figure({study.name: study.table for study in studies}, metric, goal, chosen)
    blocks.append(Picture(save_figure(figure, figures / "search.png"), search.format(metric=word_of(metric))))
    if len(aims) > 1:
        grown = {study.name: volumes_of(study.front, list(aims), list(aims.values())) for study in studies}
        corners = "; ".join(f"{name}: {', '.join(f'{value:.4g}' for value in corner)}" for name, (__, corner) in grown.items())
        repeated = any(study.repeated for study in studies)
        figure = hypervolume_figure({name: volumes for name, (volumes, __) in grown.items()}, repeated=repeated)
        caption = _("The hypervolume that the front dominates after each candidate run, from the worst values ({corners}).")
        if repeated:
            caption = _(
                "The hypervolume that the front dominates after each configuration, in the order of their first runs, from the "
                "worst values ({corners})."
            )
        blocks.append(Picture(save_figure(figure, figures / "hypervolume.png"), caption.format(corners=corners), width="55%"))
    return blocks + [block for study in studies for block in front_table(study)]


def _front_in_words(study: Study) -> str:
    """Count the configurations on the front; where several runs tried one, of so many runs."""
    n_front, n_configurations, n_runs = counted(study.front)
    if n_runs == 1:
        return _("1 of 1 finished run")
    if n_runs == n_configurations:
        return _("{count} of {total} finished runs").format(count=n_front, total=n_runs)
    text = _("{count} of {total} configurations, which {runs} finished runs tried")
    return text.format(count=n_front, total=n_configurations, runs=n_runs)


def in_a_row(names: Sequence[str]) -> str:
    """Return names as a sentence lists them."""
    return _("{first} and {last}").format(first=", ".join(names[:-1]), last=names[-1]) if len(names) > 1 else names[0]


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
    names = [str(name) for name in shown["name"]]
    heads = _column_heads(names, shown["is_chosen"])
    rows = [[word_of(name), *(value_of(value) for value in shown[name])] for name in dict.fromkeys([*study.aims, study.metric])]
    if front["best_epoch"].notna().any():
        epochs = [f"{value:.0f}" if np.isfinite(value) else "–" for value in shown["best_epoch"]]
        rows.append([_("best epoch") if front["picked"].all() else _("last epoch"), *epochs])
    if (front[RUNS].map(len) > 1).any():
        rows.append([_("runs"), *(str(len(every)) for every in shown[RUNS])])
    rows += [[name, *(short_in(configs[run], name) for run in shown["run"])] for name in searched(study)]
    caption = (
        _("The front of {study}, a column per configuration.") if study.repeated else _("The front of {study}, a column per run.")
    )
    caption = caption.format(study=study.name)
    if len(front) > len(shown):
        caption += " " + _("{count} more are left out here.").format(count=len(front) - len(shown))
    return [
        Table(
            [_("trial") if _trial_numbers(names) and (study.classifier or study.chosen.sweep) else _("run"), *heads], rows, caption
        )
    ]


def _column_heads(names: Sequence[str], chosen: Iterable[bool]) -> list[str]:
    """Return runs as heads of columns: the numbers of trials, or the names where these do not tell the runs apart."""
    heads = _trial_numbers(names) or shortened(names, MOST_CHARACTERS)
    return [_("{run} (chosen)").format(run=head) if is_chosen else head for head, is_chosen in zip(heads, chosen, strict=True)]


def _trial_numbers(names: Sequence[str]) -> list[str]:
    """Return the numbers at the end of names, as of a sweep's trials; nothing where these do not tell the names apart."""
    numbers = [name.rpartition("-")[2] for name in names]
    return numbers if len(set(numbers)) == len(set(names)) and all(number.isdecimal() for number in numbers) else []


def study_section(study: Study, figures: Path) -> list[Any]:
    """One classifier: the rule, the curves, the confusion matrix and the per-class report."""
    run, choice, n_runs = study.chosen, study.choice, counted(study.front)[2]
    left_out = ", ".join(
        f"{count} {_(STATE_LABELS[why]) if why in STATE_LABELS else why}" for why, count in choice.left_out.items()
    )
    told = [
        _("Rule {rule} chose run {run}: {reason}.").format(rule=choice.rule, run=run.called, reason=choice.reason),
        _("Candidates: {count} of {total} runs; left out: {left_out}.").format(
            count=n_runs, total=len(study.table), left_out=left_out
        )
        if left_out
        else _("Candidates: {count} of {total} runs.").format(count=n_runs, total=len(study.table)),
    ]
    varied, fixed = searched(study), fixed_names(study)
    names = list(dict.fromkeys([*varied, *fixed]))
    blocks: list[Any] = [
        Heading((_("The chosen {study}") if study.classifier else _("The chosen run of {study}")).format(study=study.name)),
        Paragraph(" ".join(told)),
    ]
    if names:
        caption = _("Configuration of {run}: the hyper-parameters in which the runs differ.")
        if not varied:
            caption = _("Configuration of {run}: the hyper-parameters that are not at their defaults.")
        elif len(names) > len(varied):
            caption = _("Configuration of {run}: the runs differ in the first {count}; the others are not at their defaults.")
        rows = [[name, short_in(run.effective_config, name)] for name in names]
        caption = caption.format(run=choice.run["name"], count=len(varied))
        blocks.append(Table([_("hyper-parameter"), _("value")], rows, caption, text_columns=2))
    return [*blocks, *_curve_blocks(study, figures), *(_class_blocks(study, figures) if "confusion" in study.test else [])]


def _curve_blocks(study: Study, figures: Path) -> list[Any]:
    """The curves of the chosen run, where it logged losses that are known by their names."""
    run, name = study.chosen, str(study.choice.run["name"])
    logged = tidy([run])
    history = known_curves(logged)
    curves = {own: other for own, other in curve_names(logged).items() if other}
    if len(history) < 2 or not {"train_loss", "test_loss"} & set(curves):
        return []
    file = figures / f"curves-{study.name}.png"
    if not run.ours:
        caption = _("{curves} of {run}.").format(curves=in_a_row(list(curves.values())), run=name)
        return [Picture(save_figure(curves_figure(history, title=name), file), caption)]
    n_epochs, parts = int(study.choice.run["best_epoch"]), sizes(study)
    caption = _(
        "Loss and accuracy of {run} on its training images (as they were trained on, with dropout and augmentation where they "
        "are on) and on the hold-out images. Its best epoch is {epoch}."
    ).format(run=name, epoch=n_epochs)
    if parts["train"] and parts["holdout"]:
        caption += " " + _("It trained on {train:,} images, {holdout:,} were held out.").format(**parts)
    return [Picture(save_figure(curves_figure(history, title=name, n_epochs=n_epochs), file), caption)]


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
    return [[name, *(short_in(config, name) for config in configs)] for name in names]


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
