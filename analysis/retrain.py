"""Retrain the chosen run on the whole training set, evaluate it once on the locked test part, save it under models/.

usage: python -m analysis.retrain SOURCE [--rule f1] [--to models/NAME] [--seeds K] [--precision bf16] [--onnx]

The number of epochs is that of the chosen run's best epoch on the hold-out. The default configuration, if the sweep tried
it, is retrained beside it as the baseline. What figures show of the locked part is kept with the model (locked_part.py).
A model that stands there already for the same run and data is kept.

With --seeds K, K models are trained with the chosen run's seed and the K - 1 after it, and evaluated in one reading of the
locked part when all are trained. The model kept is the first one's, whatever the others reach. Finished seeds, and the
checkpoints of long trainings, lie in models/.NAME.parts until the model is saved: after an interruption the same command
goes on. That the locked part is read is written down there before it happens. For more seeds than a standing model has, or
in another precision, it is made anew, and the locked part is read again: on record as well.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paretune.analysis.choose import Choice, aims_by, choose, default_rule
from paretune.analysis.findings.aims import add_aims, check_aims
from paretune.analysis.findings.confidence import is_spread, mean_interval, range_of
from paretune.analysis.findings.repeats import RUNS
from paretune.analysis.history import RunRecord, load_runs, runs_table
from paretune.analysis.locked_part import keep, save_kept
from paretune.analysis.rules import RULES
from paretune.core.command_line import SentenceParser, exit_with_sentence
from paretune.core.errors import UsageError
from paretune.core.folders import ROOT
from paretune.core.progress import Progress
from paretune.data.dataset import Data, load_data
from paretune.data.options import LOCKED_SPLIT, DataOptions
from paretune.data.provenance import provenance
from paretune.models.contract import Classifier, Model
from paretune.models.evaluation import Evaluation, evaluate
from paretune.models.export import export_saved
from paretune.models.locked_readings import KEY, new_reading, of_model, put_in_study, read_down, together, write_down
from paretune.models.programs import check_program, load_programs
from paretune.models.registry import MODELS, model_class
from paretune.models.run_config import configure
from paretune.models.saved_models import check_destination, check_finite, describe, load, read_metrics, save
from paretune.runs.study_storage import database

if TYPE_CHECKING:
    import pandas as pd

READS = "locked_part_reads.json"
MAX_SEEDS = 100


def config_of(run: RunRecord) -> dict[str, Any]:
    """Return the flat values of a run's config, as `paretune.models.run_config.configure` takes them."""
    return {key: value for key, value in run.config.items() if not (run.ours and key == "provenance")}


def locked_fingerprint(run: RunRecord) -> str | None:
    """Return the fingerprint of the locked part that a run never saw; None where it is unknown."""
    known = run.origin.get("fingerprints", {}).get("test")
    return None if known is None else str(known)


def fit_again(
    values: Mapping[str, Any],
    n_epochs: int,
    *,
    device: str = "auto",
    precision: str = "fp32",
    locked_split: int = LOCKED_SPLIT,
    locked_fingerprint: str | None = None,
    progress: Progress | None = None,
    part: Path | None = None,
    train_size: int | None = None,
) -> tuple[Model, Data, DataOptions]:
    """Train a configuration on everything but the locked part, for `n_epochs` epochs of its own schedule.

    The hold-out or fold, early stopping and the run's own `train_size` are dropped; an svm gets probabilities, which do not
    change its labels.

    Args:
        part: a folder for the finished model (and beside it the checkpoint of a long training); where it holds that very
            model already, this one is loaded.
        train_size: train on at most this many images; None takes all.

    Raises:
        UsageError: if the locked part is not the one of `locked_fingerprint`, which the run never saw, or the training diverges.
    """
    kind = model_class(str(values.get("classifier")))
    config, data_options, _ = configure(kind, values)
    data_options = data_options.replace(holdout=0.0, n_folds=None, fold=0, train_size=train_size, curves_on_test=False)
    if getattr(config, "early_stopping", None) is not None:
        config = config.replace(early_stopping=None)
    if "probability" in kind.Config.model_fields:
        config = config.replace(probability=True)
    classifier = kind(config, device=device, precision=precision)  # a precision that cannot be had is refused before the data
    data = load_data(data_options, locked_split=locked_split)
    if locked_fingerprint not in (None, data.fingerprints["test"]):
        raise UsageError(
            f"the locked test part of {data.name} is not the one of the sweep (files changed since): run the sweep anew."
        )
    identity = {"n_epochs": n_epochs, "precision": precision, "fingerprints": dict(data.fingerprints)}
    if part is not None and _holds(part, classifier, identity):
        if progress is not None:
            progress.reach(progress.done + n_epochs, f"{part.name} was finished before")
        return load(part, device=device), data, data_options
    # by the number of epochs: a training that ends earlier must not go on from beyond its end
    checkpoint = None if part is None else part.with_name(f"{part.name}-of-{n_epochs}.checkpoint")
    done = 0 if progress is None else progress.done
    for epoch in classifier.fit_from_checkpoint(data, checkpoint):
        if progress is not None:
            shown = [name for name in ("train_loss", "train_f1") if name in epoch.metrics]
            progress.reach(done + epoch.number, ", ".join(f"{name} {epoch.metrics[name]:.4f}" for name in shown))
        loss = epoch.metrics.get("train_loss", 0.0)
        if not math.isfinite(loss):
            raise UsageError(
                f"the training of {kind.name} must have a finite train_loss. Got {loss} in epoch {epoch.number}: it diverged, and "
                "reads no locked part; choose a run of a lower learning rate."
            )
        if epoch.number == n_epochs:
            break
    check_finite(classifier.state(), f"the {kind.name} that was trained", classifier.parameter_names())
    if part is not None:
        save(classifier, part, metrics={}, origin=identity)
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)
    return classifier, data, data_options


def _holds(part: Path, classifier: Model, identity: Mapping[str, Any]) -> bool:
    """Whether a folder holds the whole model that this training would end with."""
    expected = {"classifier": classifier.name, "config": classifier.config.to_dict(), **identity}
    try:
        known = describe(part)
        load(part, device="cpu")
        known["config"] = classifier.Config.from_dict(known.get("config", {})).to_dict()  # with the fields that are newer than it
    except UsageError:
        return False
    return {key: known.get(key) for key in expected} == json.loads(json.dumps(expected))


def retrain(
    run: RunRecord,
    row: pd.Series,
    directory: Path,
    *,
    choice: Mapping[str, Any],
    device: str = "auto",
    label: str = "retrain",
    n_seeds: int = 1,
    precision: str = "fp32",
    study: str | None = None,
) -> Evaluation | None:
    """Retrain one run into `directory`; return its evaluation, or None where that very model stands there already.

    With several seeds, the evaluation and the model are of the run's own seed, the first.

    Args:
        study: the run's study, as `study_storage.database` takes it, on whose record the reading is put; None without one.
    """
    n_epochs, values = int(row["best_epoch"]), config_of(run)
    parts = directory.with_name(f".{directory.name}.parts")
    if _stands(directory, run, n_epochs, n_seeds, precision):
        _add_reads(directory, parts)
        return None
    check_destination(directory)  # before the training, and before the locked part is read
    locked = locked_fingerprint(run)
    first = int(values.get("seed", 0))
    trained = {}
    with Progress(label, n_epochs * n_seeds, unit="epoch", every=10) as progress:
        for seed in range(first, first + n_seeds):
            trained[seed], data, data_options = fit_again(
                {**values, "seed": seed},
                n_epochs,
                device=device,
                precision=precision,
                locked_fingerprint=locked,
                progress=progress,
                part=parts / f"seed-{seed}",
            )
    classifier = trained[first]
    reading = new_reading("analysis.retrain", data.fingerprints["test"], run=run.run, rule=choice.get("rule"))
    earlier = together(of_model(directory), read_down(parts / READS))  # of every run that this folder has held
    write_down(parts / READS, [*earlier, reading])
    if study is not None:
        put_in_study(study, reading)
    # The one look at the locked part, with those at the other seeds' models below; nothing is chosen by it.
    evaluation = evaluate(classifier, data.test, data)
    kept = keep(classifier, data, seed=first) if isinstance(classifier, Classifier) else None  # what the figures show of it later
    others = [evaluate(trained[seed], data.test, data) for seed in trained if seed != first]
    reading["accuracy"] = evaluation.metrics.get("accuracy")
    if study is not None:
        put_in_study(study, reading)
    scores = [one.metrics for one in (evaluation, *others)]
    origin = {
        "data_options": data_options.to_dict(),
        "provenance": provenance(data, str(classifier.device), classifier.source),
        "run": run.run,
        "n_epochs": n_epochs,
        "precision": precision,
        "choice": dict(choice),
        "study": study,
    }
    holdout = {key: float(value) for key, value in row.items() if isinstance(value, float) and key != "created" and value == value}
    metrics = {
        "split": "test",
        "locked_part_read": reading["when"],
        KEY: [*earlier, reading],
        "n_train": len(data.train),
        "test": evaluation.to_dict(),
        "seeds": [{"seed": seed, **values} for seed, values in zip(trained, scores, strict=True)],
        "interval": intervals(scores),
        "holdout": holdout,
    }
    save(
        classifier,
        directory,
        metrics=metrics,
        origin=origin,
        beside=None if kept is None else lambda folder: save_kept(kept, folder),
    )
    shutil.rmtree(parts, ignore_errors=True)
    return evaluation


def intervals(scores: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
    """Return per metric the mean over the seeds, and low and high of its 95 % t interval, cut at the metric's range.

    Nothing of a single seed, or of a classifier that does not depend on it: its repeats say nothing about the spread.
    """
    import numpy as np

    by_name = {name: np.array([one[name] for one in scores]) for name in scores[0]}
    if not any(is_spread(float(np.ptp(values)), float(values.mean())) for values in by_name.values()):
        return {}
    found = {}
    for name, values in by_name.items():
        found[name] = [float(values.mean()), *mean_interval(values, range_of(name, values, ours=True))]
    return found


def _stands(directory: Path, run: RunRecord, n_epochs: int, n_seeds: int, precision: str) -> bool:
    """Whether the folder holds the whole model of this very run: its locked part is not read a second time."""
    try:
        known, metrics = describe(directory), read_metrics(directory)
        if (known.get("run"), known.get("n_epochs"), known.get("precision", "fp32")) != (run.run, n_epochs, precision):
            return False
        load(directory, device="cpu")
    except UsageError:
        return False  # nothing there, or a broken model: it is made anew
    return "test" in metrics and len(metrics.get("seeds", [None])) >= n_seeds


def _add_reads(directory: Path, parts: Path) -> None:
    """Put readings that another run's interrupted retrain left on the record of the model that stands."""
    metrics, known = read_metrics(directory), of_model(directory)
    reads = together(known, read_down(parts / READS))
    if len(reads) > len(known):
        write_down(directory / "metrics.json", {**metrics, KEY: reads})


def main(arguments: Sequence[str] | None = None) -> int:
    parser = SentenceParser(prog="python -m analysis.retrain", description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("source", metavar="SOURCE", help="runs/NAME, a folder of offline runs, or entity/project[/sweep]")
    add_aims(parser)
    parser.add_argument("--rule", help=f"{'; '.join(RULES)} (default: as analysis.choose)".replace("%", "%%"))
    parser.add_argument("--to", help="folder of the model (default: models/ and the source's name)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    parser.add_argument("--seeds", type=int, default=1, metavar="K", help="train K models that differ by seed (default: 1)")
    parser.add_argument(
        "--precision", default="fp32", help="fp32, tf32 (CUDA) or bf16: what training calculates with (default: fp32)"
    )
    parser.add_program()
    parser.add_argument("--onnx", action="store_true", help="write model.onnx as well; see python -m paretune.models.export --help")
    options = parser.parse_args(arguments)
    with exit_with_sentence():
        check_aims(options)
        if not 1 <= options.seeds <= MAX_SEEDS:
            raise UsageError(f"--seeds must be from 1 to {MAX_SEEDS}. Got {options.seeds}.")
        load_programs(options.program)
        runs = load_runs(options.source)
        directory = Path(options.to) if options.to else ROOT / "models" / Path(options.source).name
        for run, row, folder, choice in to_retrain(runs, options.rule, directory, options.metrics, options.goals):
            print(f"{folder.name}: run {row['name']} by rule {choice['rule']}: {choice['reason']}")
            label = folder.name
            if locked_fingerprint(run) is None:
                print(f"{label}: the fingerprint of the run's locked part is unknown: nothing shows that today's is the same")
            if choice.get("doubt"):
                print(f"{folder.name}: how sure: {choice['doubt']}")
            result = retrain(
                run,
                row,
                folder,
                choice=choice,
                device=options.device,
                label=label,
                n_seeds=options.seeds,
                precision=options.precision,
                study=study_of(options.source, run),
            )
            if result is None:
                print(f"{folder.name}: that model stands in {folder} already: its locked part is not read again")
            else:
                scores = ", ".join(f"{name} {value:.4f}" for name, value in result.metrics.items())
                print(f"{folder.name}: locked test part ({result.n_samples:,} images): {scores}; saved in {folder}")
                for line in _spread_lines(folder):
                    print(f"{folder.name}: {line}")
            if options.onnx:
                print(export_saved(folder).sentence)
    return 0


def study_of(source: str, run: RunRecord) -> str | None:
    """Return where the study of a run is, as a model keeps it; None where the source is none."""
    try:
        _, name = database(source)
    except UsageError:
        return None
    place = source if "://" in source else str(Path(source).resolve())
    return f"{place}#{run.group}" if "://" in source and name is None else place


def _spread_lines(folder: Path) -> list[str]:
    """Say what the seeds of a model reached, where there are several."""
    metrics = read_metrics(folder)
    spreads = [f"{name} {mean:.4f} [{low:.4f}, {high:.4f}]" for name, (mean, low, high) in metrics["interval"].items()]
    seeds = [entry["seed"] for entry in metrics["seeds"]]
    if len(seeds) == 1:
        return []
    if not spreads:
        return [f"all {len(seeds)} seeds gave the same scores, so that they say nothing about the spread"]
    which = f"mean [95 % t interval] over the seeds {seeds[0]} to {seeds[-1]}: {', '.join(spreads)}"
    return [which, f"the model saved is that of seed {seeds[0]}, whatever the others reached"]


def to_retrain(
    runs: Sequence[RunRecord],
    rule: str | None,
    directory: Path,
    metrics: Sequence[str] | None = None,
    goals: Sequence[str] | None = None,
) -> list[tuple[RunRecord, pd.Series, Path, dict[str, Any]]]:
    """Return what a source retrains: the chosen run, and the baseline where there is one and it is another run.

    Raises:
        UsageError: as `analysis.choose`, or if the chosen run is of a program of the person's own.
    """
    aims = aims_by(runs, rule, metrics, goals)
    table = runs_table(runs)
    by_id = {run.run: run for run in runs}
    choice: Choice = choose(table, default_rule(runs, aims) if rule is None else rule, aims, records=runs)
    if not math.isfinite(choice.run["best_epoch"]):
        raise UsageError(f"run {choice.run['name']}, which rule {choice.rule} chooses, has logged no epoch: choose one that has.")
    chosen = by_id[choice.run["run"]]
    name, program = str(chosen.stated.get("classifier")), chosen.origin.get("program")
    if isinstance(program, Mapping):
        check_program(name, program, f"run {choice.run['name']}")
    elif name not in MODELS:
        raise UsageError(
            f"run {choice.run['name']}, which rule {choice.rule} chooses, is of a program of your own: only the models of "
            f"trainers/ are trained anew here. Train it with its own program on all images but the test set; analysis.report needs"
            f" no model."
        )
    jobs = [(by_id[choice.run["run"]], choice.run, directory, choice.to_dict())]
    baseline = table[table["baseline"] & (table["state"] == "finished") & ~table["diverged"].astype(bool)]
    if not baseline.empty and baseline.iloc[0]["run"] not in choice.run[RUNS]:
        row = baseline.iloc[0]
        reason = {"rule": "baseline", "reason": "the default configuration, the first trial of the sweep", "run": row["run"]}
        jobs.append((by_id[row["run"]], row, directory.with_name(f"{directory.name}-baseline"), reason))
    return jobs


if __name__ == "__main__":
    sys.exit(main())
