"""The command line that every trainer shares: flags from the Config, a run tracked, a model saved.

Each flag is a Config field or a data option; `wandb agent` writes them as `--learning_rate=0.01 --hidden=[64, 32]`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from paretune.core.command_line import SentenceParser, exit_with_sentence, with_underscores
from paretune.core.config import add_fields, value_from_text
from paretune.core.deferred_gc import collect_as_usual, collecting_later
from paretune.core.devices import pick_device
from paretune.core.errors import UsageError, did_you_mean
from paretune.core.folders import ROOT
from paretune.core.metrics import named
from paretune.core.shared_arrays import cache_folder
from paretune.data.dataset import load_data
from paretune.data.options import DataOptions
from paretune.data.provenance import provenance
from paretune.models.contract import Layered
from paretune.models.evaluation import evaluate
from paretune.models.locked_readings import KEY, new_reading, of_model
from paretune.models.programs import load_program
from paretune.models.registry import model_class, program_of
from paretune.models.run_config import RunOptions, configure, inactive_in, run_values
from paretune.models.saved_models import check_destination, check_finite, save
from paretune.runs.tracking import track

if TYPE_CHECKING:
    from paretune.core.epoch import Epoch
    from paretune.data.dataset import Data
    from paretune.models.contract import Model, ModelConfig
    from paretune.models.evaluation import Evaluation


def main(name: str, arguments: Sequence[str] | None = None) -> int:
    """Train a model as the command line says; return the exit code.

    Args:
        name: of a model that comes with the package, or the file of a program with a model (`main(__file__)`).
    """
    with exit_with_sentence():
        kind = load_program(name) if name.endswith(".py") else model_class(name)
    parser = build_parser(kind.name, kind)
    with exit_with_sentence(), collecting_later():
        options, given = parse(parser, kind, sys.argv[1:] if arguments is None else arguments)
        if options.summary:
            print_summary(kind, given)
            return 0
        with contextlib.suppress(ValueError):  # not in the main thread, under wandb.agent(function=…)
            signal.signal(signal.SIGTERM, _finish_on_signal)  # W&B's agent stops a run so: finish it, lose no row
        train(kind, given, options)
    return 0


def _finish_on_signal(signum: int, frame: Any) -> NoReturn:
    sys.exit(128 + signum)


def build_parser(name: str, kind: type[Model]) -> argparse.ArgumentParser:
    """Return a parser with one flag per field."""
    parser = SentenceParser(
        prog=program_of(kind),
        usage="%(prog)s [--FLAG=VALUE ...]",
        description=(sys.modules[kind.__module__].__doc__ or kind.name).splitlines()[0],
        epilog="Flags take Python literals: --hidden='[64, 32]' --batch_norm=True --learning_rate=1e-3. --a-b means --a_b.",
        allow_abbrev=False,
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=32, width=118),
    )
    for title, config in (("hyper-parameters", kind.Config), ("data", DataOptions), ("run", RunOptions)):
        add_fields(parser.add_argument_group(title), config)
    group = parser.add_argument_group("tracking and output")
    group.add_argument("--wandb", default="auto", help="auto (online when logged in), online, offline or disabled")
    group.add_argument("--project", help="W&B project (paretune)")
    group.add_argument("--name", help="W&B run name")
    group.add_argument("--group", help="W&B group")
    group.add_argument("--tags", nargs="*", default=[], help="W&B tags")
    group.add_argument("--device", default="auto", help="auto (CUDA, then MPS, then CPU), cpu, cuda, cuda:N or mps")
    group.add_argument("--save", help=f"folder for the trained model (models/{name}; none in a sweep); 'none' saves nothing")
    group.add_argument("--summary", action="store_true", help="print the table of layers and parameters, and train nothing")
    return parser


def parse(
    parser: argparse.ArgumentParser, kind: type[Model], arguments: Sequence[str]
) -> tuple[argparse.Namespace, dict[str, Any]]:
    """Split the command line into the parser's options and the given values, read by their fields' types."""
    fields = {**kind.Config.model_fields, **DataOptions.model_fields, **RunOptions.model_fields}
    options, unknown = parser.parse_known_args(with_underscores(arguments))
    if unknown:
        flags = [flag.removeprefix("--") for flag in parser._option_string_actions if flag.startswith("--")]
        flag = unknown[0].partition("=")[0]
        near = did_you_mean(flag.removeprefix("--"), flags).replace("'", "", 1).replace("mean ", "mean --").replace("'?", "?")
        raise UsageError(f"{flag} is not a flag of {parser.prog}{near or '; --help lists them.'}")
    given = {name: value_from_text(name, fields[name], text) for name, text in vars(options).items() if name in fields}
    return options, given


def train_in_sweep(kind: type[Model], device: str) -> None:
    """Run one training of an online sweep inside W&B's agent, which has no command line."""
    parser = build_parser(kind.name, kind)
    train(kind, {}, parser.parse_args([f"--device={device}"]))


def train(kind: type[Model], given: Mapping[str, Any], options: argparse.Namespace) -> None:
    """Run one training from start to saved model, tracked."""
    in_sweep = bool(os.environ.get("WANDB_SWEEP_ID"))
    folder = model_folder(kind.name, options.save, in_sweep)
    if folder is not None:
        check_destination(folder)
    ready = None if in_sweep else prepare(kind, given, options.device)  # a mistake is refused before a run begins
    with track(
        mode=options.wandb,
        project=options.project,
        name=options.name,
        group=options.group,
        job_type="sweep" if in_sweep else "train",
        tags=options.tags,
    ) as tracker:
        ready = ready or prepare(kind, {**given, **tracker.sweep_values}, options.device)
        classifier, config, data_options, run_options, data = ready
        if in_sweep:  # an agent starts a process per trial
            data = replace(data, cache=cache_folder())
        collect_as_usual()
        device = str(classifier.device)
        origin = provenance(data, device, kind.source, inactive_in(config, data_options, run_options))
        tracker.describe(run_values(kind, config, data_options, run_options), origin)
        reading = None
        if data_options.evaluation_split == "test":
            reading = new_reading(f"trainers.{kind.name}", data.fingerprints["test"])
        print(f"{kind.name} on {data.name}: {len(data.train):,} training images of {len(data.class_names)} classes, on {device}")
        for epoch in classifier.fit_epochs(data):
            tracker.log(epoch)
            print(epoch_line(epoch, getattr(config, "epochs", 1)), flush=True)
        if data.evaluated is None:  # a model that diverged does not read the locked part
            check_finite(classifier.state(), f"the {kind.name} that was trained", classifier.parameter_names())
        result = final_evaluation(classifier, data)
        if data.evaluated is None:
            tracker.log_final(named(result.metrics, "test"))
            print(f"locked test part: {', '.join(f'{name} {value:.4f}' for name, value in result.metrics.items())}")
        if result.confusion is not None:
            tracker.log_confusion(result.confusion, result.class_names)
        summary = tracker.summarize()
        if folder is not None:
            reads = [*of_model(folder), *([] if reading is None else [{**reading, "accuracy": result.metrics.get("accuracy")}])]
            metrics = {"split": data_options.evaluation_split, "summary": summary, "final": result.to_dict(), KEY: reads}
            save(classifier, folder, metrics=metrics, origin={"data_options": data_options.to_dict(), "provenance": origin})
            tracker.log_model(folder, f"{kind.name}-{data_options.short_name}")
            print(f"model saved in {folder}")


def prepare(kind: type[Model], values: Mapping[str, Any], device: str) -> tuple[Model, ModelConfig, DataOptions, RunOptions, Data]:
    """Return the untrained classifier, its checked values, and its data."""
    config, data_options, run_options = configure(kind, values)
    pick_device(device)
    return kind(config, device=device), config, data_options, run_options, load_data(data_options)


def final_evaluation(classifier: Model, data: Data) -> Evaluation:
    """Evaluate the trained classifier on the part that its run is judged by."""
    return evaluate(classifier, data.test if data.evaluated is None else data.evaluated, data)


def model_folder(name: str, asked: str | None, in_sweep: bool) -> Path | None:
    """Return where the model goes; None where none is kept."""
    if asked is None:
        return None if in_sweep else ROOT / "models" / name
    return None if asked.lower() == "none" else Path(asked)


def epoch_line(epoch: Epoch, epochs: int) -> str:
    """Return one line of progress."""
    metrics = epoch.metrics
    shown = [name for name in ("train_loss", "test_loss", "train_accuracy", "test_accuracy", "f1") if name in metrics]
    values = "  ".join(f"{name} {metrics[name]:.4f}" for name in shown)
    left = "" if epoch.last else f", {metrics['seconds'] / epoch.number * (epochs - epoch.number):.1f} s left"
    return f"epoch {epoch.number}/{epochs}  {values}  {metrics['seconds']:.1f} s{left}"


def print_summary(kind: type[Model], given: Mapping[str, Any]) -> None:
    """Print the layer table of a network, without training it."""
    config, data_options, _ = configure(kind, given)
    classifier = kind(config, device="cpu")
    if not isinstance(classifier, Layered):
        raise UsageError(f"--summary is for networks; {program_of(kind)} has no layers.")
    data = load_data(data_options)
    classifier.start(data)
    print(classifier.layer_table())
