"""What augmentation does: training images with random changes of them, and the runs of a sweep with and without it.

usage: python -m analysis.augmentation SOURCE [SOURCE …] [--metric f1] [--figure FILE.png] [--seed 0]
       python -m analysis.augmentation --drawings DIR [--preset simple_cnn | --model MODEL] [--data mnist] [--seeds 3]

The images are training images, changed by `paretune.data.augmentation` as the run's own settings say. The intervals are those of
Student's t for the mean of the runs' best epochs. It is no controlled comparison: the runs differ in other hyper-parameters.

With --drawings the comparison is a controlled one: a configuration is trained with and without augmentation over the seeds, and
reads the locked test part and a folder of drawings (analysis/drawn_digits.py).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from paretune.analysis.document.language import LANGUAGES, speak
from paretune.analysis.drawn_report import run
from paretune.analysis.figures.augmentation import augmentation_figure
from paretune.analysis.figures.runs import save_figure
from paretune.analysis.findings.aims import add_goal, explained_metric
from paretune.analysis.findings.augmentation import compare_augmentation, in_words, settings_of
from paretune.analysis.history import add_sources, sources_of
from paretune.analysis.retrain import config_of
from paretune.core.command_line import SentenceParser, exit_with_sentence
from paretune.core.errors import UsageError
from paretune.core.folders import ROOT
from paretune.data.dataset import load_data
from paretune.models.registry import model_class
from paretune.models.run_config import configure


def main(arguments: Sequence[str] | None = None) -> int:
    parser = SentenceParser(prog="python -m analysis.augmentation", description=__doc__.splitlines()[0], allow_abbrev=False)
    of_runs = add_sources(parser, nargs="*")
    group = parser.add_argument_group("the runs of a sweep")
    of_runs += [
        group.add_argument("--metric", help="the metric that is compared (default: the sweep's first objective, else f1)"),
        add_goal(group),
        group.add_argument("--figure", metavar="FILE.png", help="draw training images and changed copies of them"),
        group.add_argument("--seed", type=int, default=0, help="seed of the images and their changes (default: 0)"),
    ]
    parser.add_argument("--drawings", metavar="DIR", help="instead of SOURCE: train with and without, and read these drawings")
    of_drawings = _add_training(parser.add_argument_group("with --drawings"))
    options = parser.parse_args(arguments)
    with exit_with_sentence():
        if bool(options.sources) == (options.drawings is not None):
            came = "both" if options.sources else "neither"
            raise UsageError(f"give either SOURCE, whose runs are compared, or --drawings DIR, to train and compare. Got {came}.")
        idle = next((flag for flag in (of_drawings if options.drawings is None else of_runs) if _given(flag, options)), None)
        if idle is not None:
            other = "--drawings" if options.drawings is None else "SOURCE"
            raise UsageError(f"{idle.option_strings[0]} goes with {other}, which is not given: leave it out.")
        with speak(options.language):
            if options.drawings is None:
                _compare_runs(options)
            else:
                run(options)
    return 0


def _add_training(group: argparse._ArgumentGroup) -> list[argparse.Action]:
    """Add the flags that go with --drawings, and return them."""
    languages = ", ".join(f"{code} ({name})" for code, name in LANGUAGES.items())
    return [
        group.add_argument("--preset", help="the configuration that is trained, as trainers/ann.py takes it (default: simple_cnn)"),
        group.add_argument("--model", help="folder of a saved ann, to train its configuration anew"),
        group.add_argument("--data", help="the set that is trained on (default: the model's own, or mnist)"),
        group.add_argument("--seeds", type=int, default=3, metavar="K", help="seeds 0 to K - 1, two models each (default: 3)"),
        group.add_argument("--epochs", type=int, metavar="N", help="epochs of each training (default: the configuration's)"),
        group.add_argument("--train_size", type=int, metavar="N", help="train on at most N images (default: all)"),
        group.add_argument(
            "--models", default=str(ROOT / "models" / "augmentation"), help="folder of its models (default: models/augmentation)"
        ),
        group.add_argument("--to", default="reports/augmentation", help="folder of the report (default: reports/augmentation)"),
        group.add_argument("--device", default="auto", help="auto, cpu, cuda or mps"),
        group.add_argument("--language", default="en", help=f"{languages}; default: en"),
    ]


def _given(flag: argparse.Action, options: argparse.Namespace) -> bool:
    return bool(flag.option_strings) and getattr(options, flag.dest) != flag.default


def _compare_runs(options: argparse.Namespace) -> None:
    """Compare the runs of the sources, and draw images as the first run with augmentation changed them."""
    if options.seed < 0:
        raise UsageError(f"--seed must be at least 0. Got {options.seed}.")
    runs = sources_of(options)
    metric, why = (options.metric, "") if options.metric else explained_metric(runs)
    table = compare_augmentation(runs, metric, options.goal)
    print(table.to_string(index=False, float_format=lambda value: f"{value:.4f}", na_rep="-"))
    print("\n" + " ".join([in_words(table, metric), *([why] if why else [])]))
    if options.figure:
        run = next((run for run in runs if run.config.get("augment")), runs[0])
        _, data_options, _ = configure(model_class(str(run.config.get("classifier"))), config_of(run))
        figure = augmentation_figure(load_data(data_options), settings_of(run.config), seed=options.seed)
        print(f"wrote {save_figure(figure, Path(options.figure))}")


if __name__ == "__main__":
    sys.exit(main())
