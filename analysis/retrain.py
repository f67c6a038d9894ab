"""Retrain the chosen run on the whole training set, evaluate it once on the locked test part, save it under models/.

usage: python -m analysis.retrain SOURCE [--rule f1] [--to models/NAME]

The number of epochs is that of the chosen run's best epoch on the hold-out. The default configuration, if the sweep tried
it, is retrained beside it as the baseline. What figures show of the locked part is kept with the model (locked_part.py).
A model that stands there already for the same run and data is kept.
"""

from __future__ import annotations

import datetime
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.choose import Choice, choose
from analysis.history import RunRecord, load_runs, runs_table
from analysis.locked_part import keep, save_kept
from trainers import classifier_class
from trainers.base import Classifier
from trainers.command_line import ROOT, configure
from trainers.data import LOCKED_SPLIT, Data, DataOptions, load_data
from trainers.errors import UsageError
from trainers.evaluate import Evaluation, evaluate
from trainers.progress import Progress
from trainers.provenance import provenance
from trainers.saved import check_destination, describe, load, read_metrics, save

if TYPE_CHECKING:
    import pandas as pd


def config_of(run: RunRecord) -> dict[str, Any]:
    """Return the flat values of a run's config, as `trainers.command_line.configure` takes them."""
    return {key: value for key, value in run.config.items() if key != "provenance"}


def fit_again(
    values: Mapping[str, Any],
    n_epochs: int,
    *,
    device: str = "auto",
    locked_split: int = LOCKED_SPLIT,
    locked_fingerprint: str | None = None,
    progress: Progress | None = None,
) -> tuple[Classifier, Data, DataOptions]:
    """Train a configuration on everything but the locked part, for `n_epochs` epochs of its own schedule.

    `train_size`, the hold-out or fold and early stopping are dropped; an svm gets probabilities, which do not change its labels.

    Raises:
        UsageError: if the locked part is not the one of `locked_fingerprint`, which the run never saw.
    """
    kind = classifier_class(str(values.get("classifier")))
    config, data_options, _ = configure(kind, values)
    data_options = data_options.replace(holdout=0.0, n_folds=None, fold=0, train_size=None, curves_on_test=False)
    if getattr(config, "early_stopping", None) is not None:
        config = config.replace(early_stopping=None)
    if "probability" in kind.Config.model_fields:
        config = config.replace(probability=True)
    data = load_data(data_options, locked_split=locked_split)
    if locked_fingerprint not in (None, data.fingerprints["test"]):
        raise UsageError(
            f"the locked test part of {data.name} is not the one of the sweep (files changed since): run the sweep anew."
        )
    classifier = kind(config, device=device)
    for epoch in classifier.fit_epochs(data):
        if progress is not None:
            progress.step(
                ", ".join(f"{name} {epoch.metrics[name]:.4f}" for name in ("train_loss", "train_f1") if name in epoch.metrics)
            )
        if epoch.number == n_epochs:
            break
    return classifier, data, data_options


def retrain(
    run: RunRecord,
    row: pd.Series,
    directory: Path,
    *,
    choice: Mapping[str, Any],
    device: str = "auto",
    label: str = "retrain",
) -> Evaluation | None:
    """Retrain one run into `directory`; return its evaluation, or None where that very model stands there already."""
    n_epochs = int(row["best_epoch"])
    if _stands(directory, run, n_epochs):
        return None
    check_destination(directory)  # before the training, and before the locked part is read
    with Progress(label, n_epochs, unit="epoch", every=10) as progress:
        locked = run.config.get("provenance", {}).get("fingerprints", {}).get("test")
        classifier, data, data_options = fit_again(
            config_of(run), n_epochs, device=device, locked_fingerprint=locked, progress=progress
        )
    evaluation = evaluate(classifier, data.test, data)  # the one look at the locked part …
    kept = keep(classifier, data, seed=int(run.config.get("seed") or 0))  # … and what the figures show of it later
    origin = {
        "data_options": data_options.to_dict(),
        "provenance": provenance(data, str(classifier.device)),
        "run": run.run,
        "n_epochs": n_epochs,
        "choice": dict(choice),
    }
    holdout = {key: float(value) for key, value in row.items() if isinstance(value, float) and key != "created" and value == value}
    when = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    read = {"run": run.run, "rule": choice.get("rule"), "when": when, "accuracy": evaluation.metrics["accuracy"]}
    metrics = {
        "split": "test",
        "locked_part_read": when,
        "locked_part_reads": [*_earlier_reads(directory), read],  # of every run that this folder has held
        "n_train": len(data.train),
        "test": evaluation.to_dict(),
        "holdout": holdout,
    }
    save(classifier, directory, metrics=metrics, origin=origin, beside=lambda folder: save_kept(kept, folder))
    return evaluation


def _stands(directory: Path, run: RunRecord, n_epochs: int) -> bool:
    """Whether the folder holds the whole model of this very run: its locked part is not read a second time."""
    try:
        known = describe(directory)
        if known.get("run") != run.run or known.get("n_epochs") != n_epochs:
            return False
        load(directory, device="cpu")
        return "test" in read_metrics(directory)
    except UsageError:
        return False  # nothing there, or a broken model: it is made anew


def _earlier_reads(directory: Path) -> list[dict[str, Any]]:
    try:
        return list(read_metrics(directory).get("locked_part_reads", []))
    except UsageError:
        return []


def main(arguments: Sequence[str] | None = None) -> int:
    from trainers.command_line import SentenceParser, exit_with_sentence

    parser = SentenceParser(prog="python -m analysis.retrain", description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("source", metavar="SOURCE", help="runs/NAME, a folder of offline runs, or entity/project[/sweep]")
    parser.add_argument("--rule", default="f1", help="how the run is chosen (default: f1); see python -m analysis.choose --help")
    parser.add_argument("--to", help="folder of the model (default: models/ and the source's name)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    options = parser.parse_args(arguments)
    with exit_with_sentence():
        runs = load_runs(options.source)
        directory = Path(options.to) if options.to else ROOT / "models" / Path(options.source).name
        for run, row, folder, choice in to_retrain(runs, options.rule, directory):
            print(f"{folder.name}: run {row['name']} by rule {choice['rule']}: {choice['reason']}")
            label = folder.name
            result = retrain(run, row, folder, choice=choice, device=options.device, label=label)
            if result is None:
                print(f"{folder.name}: that model stands in {folder} already; its locked part was read, and is read once")
            else:
                scores = ", ".join(f"{name} {value:.4f}" for name, value in result.metrics.items())
                print(f"{folder.name}: locked test part ({result.n_samples:,} images): {scores}; saved in {folder}")
    return 0


def to_retrain(runs: Sequence[RunRecord], rule: str, directory: Path) -> list[tuple[RunRecord, pd.Series, Path, dict[str, Any]]]:
    """Return what a source retrains: the chosen run, and the baseline where there is one and it is another run."""
    table = runs_table(runs)
    by_id = {run.run: run for run in runs}
    choice: Choice = choose(table, rule)
    jobs = [(by_id[choice.run["run"]], choice.run, directory, choice.to_dict())]
    baseline = table[table["baseline"] & (table["state"] == "finished")]
    if not baseline.empty and baseline.iloc[0]["run"] != choice.run["run"]:
        row = baseline.iloc[0]
        reason = {"rule": "baseline", "reason": "the default configuration, the first trial of the sweep", "run": row["run"]}
        jobs.append((by_id[row["run"]], row, directory.with_name(f"{directory.name}-baseline"), reason))
    return jobs


if __name__ == "__main__":
    sys.exit(main())
