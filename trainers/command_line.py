"""The command line that every trainer shares: flags from the Config, a run tracked, a model saved.

Each flag is a Config field or a data option; `wandb agent` writes them as `--learning_rate=0.01 --hidden=[64, 32]`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from pydantic import Field

from trainers import model_class
from trainers.config import Config, value_from_text
from trainers.data import DataOptions
from trainers.errors import UsageError, did_you_mean
from trainers.start import collect_as_usual, collecting_later

if TYPE_CHECKING:
    from trainers.base import Epoch, Model, ModelConfig
    from trainers.data import Data
    from trainers.evaluate import Evaluation

ROOT = Path(__file__).resolve().parents[1]
# what a run's config says of a run, beside the values that it was given
NOT_GIVEN = {"provenance", "evaluation_split", "classifier", "repeats", "repeats_over"}


class RunOptions(Config):
    """What a run's config holds beside the classifier's values and the data options."""

    preset: str | None = Field(None, description="values to start from: a name below trainers/presets/ or a YAML file")
    best_metric: str = Field(
        "f1", description="the hold-out metric by which a run's best epoch is picked; of an autoencoder test_loss"
    )


def main(name: str, arguments: Sequence[str] | None = None) -> int:
    """Train the classifier `name` as the command line says; return the exit code."""
    kind = model_class(name)
    parser = build_parser(name, kind)
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


@contextlib.contextmanager
def exit_with_sentence() -> Iterator[None]:
    """Turn a person's mistake into one sentence on stderr and exit code 2, and Ctrl-C into exit code 130."""
    try:
        yield
    except UsageError as error:
        sys.stdout.flush()
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("\ninterrupted: what was finished is kept.", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output went away, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


class SentenceParser(argparse.ArgumentParser):
    """argparse that reports a mistake in one sentence; of a flag that is none it says which was meant."""

    _given: Sequence[str] = ()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self._given = sys.argv[1:] if args is None else list(args)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        unknown = self._unknown_flag()
        if unknown is not None and message.startswith(("unrecognized arguments", "argument", "the following")):
            message = f"{unknown} is not a flag of {self.prog}{did_you_mean(unknown, self._flags()) or '; --help lists them.'}"
        print(f"error: {message}", file=sys.stderr)
        sys.exit(2)

    def _flags(self) -> list[str]:
        """Return the flags of this command and of its sub-commands."""
        found = list(self._option_string_actions)
        for action in self._actions:
            for parser in action.choices.values() if isinstance(action.choices, Mapping) else ():
                found += parser._flags()
        return found

    def _unknown_flag(self) -> str | None:
        """Return the first argument that looks like a long flag and is none; what stands behind it was taken for something else."""
        given = self._given[: self._given.index("--")] if "--" in self._given else self._given
        names = (text.partition("=")[0] for text in given if text.startswith("--"))
        known = self._flags()
        return next((name for name in names if name not in known), None)


def build_parser(name: str, kind: type[Model]) -> argparse.ArgumentParser:
    """Return a parser with one flag per field."""
    parser = SentenceParser(
        prog=f"trainers/{name}.py",
        usage="%(prog)s [--FLAG=VALUE ...]",
        description=(sys.modules[kind.__module__].__doc__ or "").splitlines()[0],
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


def add_fields(group: argparse._ArgumentGroup, config: type[Config], *, leave_out: Sequence[str] = ()) -> None:
    """Add one flag per field of a Config; a flag without a value means True."""
    for field_name, field in config.model_fields.items():
        if field_name in leave_out:
            continue
        default = field.get_default(call_default_factory=True)
        text = (field.description or "").replace("%", "%%")
        group.add_argument(
            f"--{field_name}",
            nargs="?",
            const="True",
            default=argparse.SUPPRESS,
            metavar="VALUE",
            help=f"{text} (default: {default})".replace("(default: )", "(default: none)"),
        )


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


def with_underscores(arguments: Sequence[str]) -> list[str]:
    """Write --train-size=5 as --train_size=5: both spellings are the same flag."""
    result = []
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        result.append((flag.replace("-", "_").replace("__", "--", 1) if flag.startswith("--") else flag) + equals + value)
    return result


def read_preset(preset: str) -> dict[str, Any]:
    """Return the values of a preset: a name below trainers/presets/, or a path to a YAML file."""
    import yaml

    folder = Path(__file__).parent / "presets"
    path = Path(preset) if preset.endswith((".yaml", ".yml")) else folder / f"{preset}.yaml"
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        names = sorted(file.stem for file in folder.glob("*.yaml"))
        near = did_you_mean(preset, names) or f"; there are {', '.join(names)}, or give a YAML file."
        raise UsageError(f"preset {preset!r} is not known{near}") from None
    except (OSError, yaml.YAMLError) as error:
        raise UsageError(f"preset {path} cannot be read ({' '.join(str(error).split())}).") from None
    if not isinstance(values, dict):
        raise UsageError(f"preset {path} must be a mapping of hyper-parameters to values.")
    return values


def configure(kind: type[Model], values: Mapping[str, Any]) -> tuple[ModelConfig, DataOptions, RunOptions]:
    """Sort flat values into the classifier's Config, the data options and the run options, all checked.

    Raises:
        UsageError: naming an unknown key, or every unfit value.
    """
    if values.get("preset") is not None:
        values = {**read_preset(str(values["preset"])), **values}
    rest = {"best_metric": kind.BEST_METRIC, **{key: value for key, value in values.items() if key not in NOT_GIVEN}}
    data = {key: rest.pop(key) for key in list(rest) if key in DataOptions.model_fields}
    run = {key: rest.pop(key) for key in list(rest) if key in RunOptions.model_fields}
    for key in rest:
        if key not in kind.Config.model_fields:
            names = [*kind.Config.model_fields, *DataOptions.model_fields, *RunOptions.model_fields]
            raise UsageError(f"{key} is not a hyper-parameter of trainers/{kind.name}.py{did_you_mean(key, names) or '.'}")
    config, data_options, run_options = kind.Config.from_dict(rest), DataOptions.from_dict(data), RunOptions.from_dict(run)
    if data_options.evaluation_split == "holdout":
        names = kind.metric_names(config)
        if run_options.best_metric not in names:
            near = did_you_mean(run_options.best_metric, names) or f"; there are {', '.join(names)}."
            raise UsageError(f"best_metric {run_options.best_metric!r} is not logged by trainers/{kind.name}.py{near}")
    elif getattr(config, "early_stopping", None) is not None:
        raise UsageError("early_stopping needs a hold-out to watch. Got holdout=0 or curves_on_test: drop one of the two.")
    return config, data_options, run_options


def run_values(kind: type[Model], config: ModelConfig, data: DataOptions, run: RunOptions) -> dict[str, Any]:
    """Return what stands at the top level of a run's config."""
    values = {**config.to_dict(), **data.to_dict(), **run.to_dict()}
    return {**values, "classifier": kind.name, "evaluation_split": data.evaluation_split}


def train_in_sweep(kind: type[Model], device: str) -> None:
    """Run one training of an online sweep inside W&B's agent, which has no command line."""
    parser = build_parser(kind.name, kind)
    train(kind, {}, parser.parse_args([f"--device={device}"]))


def train(kind: type[Model], given: Mapping[str, Any], options: argparse.Namespace) -> None:
    """Run one training from start to saved model, tracked."""
    from trainers.provenance import provenance
    from trainers.shared import cache_folder
    from trainers.tracking import track

    in_sweep = bool(os.environ.get("WANDB_SWEEP_ID"))
    folder = model_folder(kind.name, options.save, in_sweep)
    if folder is not None:
        from trainers.saved import check_destination

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
        origin = provenance(data, device)
        tracker.describe(run_values(kind, config, data_options, run_options), origin)
        reading = None
        if data_options.evaluation_split == "test":
            from trainers.locked_readings import new_reading

            reading = new_reading(f"trainers.{kind.name}", data.fingerprints["test"])
        print(f"{kind.name} on {data.name}: {len(data.train):,} training images of {len(data.class_names)} classes, on {device}")
        for epoch in classifier.fit_epochs(data):
            tracker.log(epoch)
            print(epoch_line(epoch, getattr(config, "epochs", 1)), flush=True)
        result = final_evaluation(classifier, data)
        if data.evaluated is None:
            from trainers.metrics import named

            tracker.log_final(named(result.metrics, "test"))
            print(f"locked test part: {', '.join(f'{name} {value:.4f}' for name, value in result.metrics.items())}")
        if result.confusion is not None:
            tracker.log_confusion(result.confusion, result.class_names)
        summary = tracker.summarize()
        if folder is not None:
            from trainers.locked_readings import KEY, of_model
            from trainers.saved import save

            reads = [*of_model(folder), *([] if reading is None else [{**reading, "accuracy": result.metrics.get("accuracy")}])]
            metrics = {"split": data_options.evaluation_split, "summary": summary, "final": result.to_dict(), KEY: reads}
            save(classifier, folder, metrics=metrics, origin={"data_options": data_options.to_dict(), "provenance": origin})
            tracker.log_model(folder, f"{kind.name}-{data_options.short_name}")
            print(f"model saved in {folder}")


def prepare(kind: type[Model], values: Mapping[str, Any], device: str) -> tuple[Model, ModelConfig, DataOptions, RunOptions, Data]:
    """Return the untrained classifier, its checked values, and its data."""
    from trainers.data import load_data
    from trainers.devices import pick_device

    config, data_options, run_options = configure(kind, values)
    pick_device(device)
    return kind(config, device=device), config, data_options, run_options, load_data(data_options)


def final_evaluation(classifier: Model, data: Data) -> Evaluation:
    """Evaluate the trained classifier on the part that its run is judged by."""
    from trainers.evaluate import evaluate

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
    from trainers.data import load_data

    config, data_options, _ = configure(kind, given)
    classifier = kind(config, device="cpu")
    if not hasattr(classifier, "network"):
        raise UsageError(f"--summary is for networks; trainers/{kind.name}.py has no layers.")
    from trainers.network import layer_table

    data = load_data(data_options)
    classifier.start(data)
    print(layer_table(classifier.network(), data.input_shape))
