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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from paretune.analysis.confidence import t_interval
from paretune.analysis.document.language import speak
from paretune.analysis.document.language import translate as _
from paretune.analysis.history import RunRecord, add_sources, sources_of
from paretune.analysis.pareto import candidates_by
from paretune.core.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from paretune.data.dataset import Data

SETTINGS = ("translate", "scale", "rotate", "flip", "crop")
N_IMAGES, N_COPIES = 6, 4


def compare_augmentation(runs: Sequence[RunRecord], metric: str = "f1") -> pd.DataFrame:
    """Compare the finished runs with and without augmentation.

    Returns:
        a row for augment False and one for True, where there are runs: augment, runs, best, median, mean, low and high (the
        t interval of the mean, NaN of a single run) of `metric`, and gap (the median train accuracy minus that of the
        hold-out; NaN where not logged).

    Raises:
        UsageError: if the runs do not say whether they augmented, or cannot be compared by `metric`.
    """
    import pandas as pd

    table, goal = candidates_by(runs, metric)
    augmented = {run.run: run.config.get("augment") for run in runs}
    table = table.assign(augment=[augmented[run] for run in table["run"]])
    table = table[table["augment"].isin([True, False])]
    if table.empty:
        raise UsageError("no finished run says whether it augmented its training images: give a sweep of the ann.")
    lines: list[dict[str, Any]] = []
    for augment, part in table.groupby(table["augment"].astype(bool)):
        values = part[metric].to_numpy(dtype=np.float64)
        low, high = mean_interval(values)
        gaps = part["train_accuracy"] - part["test_accuracy"] if {"train_accuracy", "test_accuracy"} <= set(part) else pd.Series()
        lines.append(
            {
                "augment": bool(augment),
                "runs": len(part),
                "best": values.max() if goal == "maximize" else values.min(),
                "median": np.median(values),
                "mean": values.mean(),
                "low": low,
                "high": high,
                "gap": gaps.median(),
            }
        )
    return pd.DataFrame(lines)


def mean_interval(values: np.ndarray) -> tuple[float, float]:
    """Return the 95 % interval of the mean of values (n,); NaN of fewer than two."""
    if len(values) < 2:
        return float("nan"), float("nan")
    low, high = t_interval(values.mean(), values.std(ddof=1), len(values))
    return float(low), float(high)


def in_words(table: pd.DataFrame, metric: str) -> str:
    """Say what the comparison shows, and that it is not a controlled one."""
    if len(table) < 2:
        count = table["runs"].iloc[0]
        if count == 1:
            text = _("There is one finished run alone, and thus nothing to compare it with.")
        elif table["augment"].iloc[0]:
            text = _("All {count} finished runs were trained with augmentation: there is nothing to compare them with.")
        else:
            text = _("All {count} finished runs were trained without augmentation: there is nothing to compare them with.")
        return text.format(count=count)
    without, augmented = table.iloc[0], table.iloc[1]
    if np.isfinite([without["gap"], augmented["gap"]]).all():
        text = _(
            "The median {metric} was {augmented:.4f} over {n_augmented} runs with augmentation and {without:.4f} over {n_without} "
            "runs without; the train accuracy less that of the hold-out was {gap_augmented:.1f} and {gap_without:.1f} points "
            "(median), where the train accuracy is measured on the changed images."
        )
    else:
        text = _(
            "The median {metric} was {augmented:.4f} over {n_augmented} runs with augmentation and {without:.4f} over {n_without} "
            "runs without."
        )
    shown = text.format(
        metric=metric,
        augmented=augmented["median"],
        n_augmented=augmented["runs"],
        without=without["median"],
        n_without=without["runs"],
        gap_augmented=100 * augmented["gap"],
        gap_without=100 * without["gap"],
    )
    caution = _(
        "This is not a controlled comparison: the runs differ in their other hyper-parameters too, and it was the search that "
        "chose how many of each kind there are."
    )
    return f"{shown} {caution}"


def settings_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the augmentation of a run's config, with the trainer's defaults where it says nothing."""
    from paretune.trainers.ann import AnnConfig

    return {name: config.get(name, AnnConfig.model_fields[name].default) for name in SETTINGS}


def augmentation_figure(data: Data, settings: Mapping[str, Any], *, seed: int = 0) -> Figure:
    """Draw training images in a row, of different classes as far as there are, and changed copies of each below it.

    Args:
        settings: translate, scale, rotate, flip and crop, as `paretune.data.augmentation.augment` takes them.
    """
    import torch
    from matplotlib.figure import Figure

    from paretune.data.augmentation import augment
    from paretune.networks.step import seeded

    chosen = examples(data.train.y.numpy(force=True), N_IMAGES, seed)
    images = data.train.x[torch.from_numpy(chosen)]
    rows = [images]
    for copy in range(N_COPIES):
        with seeded(images.device, seed, copy):
            rows.append(augment(images, **settings))
    figure = Figure(figsize=(0.72 * N_IMAGES + 0.6, 0.72 * len(rows) + 0.3), layout="constrained")
    for place, (line, row) in enumerate(zip(figure.subplots(len(rows), len(images), squeeze=False), rows, strict=True)):
        for axes, image in zip(line, row.clamp(0, 1).movedim(1, -1).numpy(force=True), strict=True):
            axes.imshow(image[..., 0] if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(place == 0)
        line[0].set_ylabel(_("original") if place == 0 else _("copy {number}").format(number=place), fontsize=8)
    for axes, label in zip(figure.axes, data.train.y[torch.from_numpy(chosen)], strict=False):
        axes.set_title(data.class_names[int(label)], fontsize=8)
    return figure


def examples(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return indices of `count` images, one of each class in turn, drawn at random."""
    order = np.random.default_rng(seed).permutation(len(labels))
    turns = np.zeros(len(labels), dtype=np.int64)  # how many of its class stand before an image
    for label in np.unique(labels):
        own = np.flatnonzero(labels[order] == label)
        turns[own] = np.arange(len(own))
    return order[np.lexsort((labels[order], turns))][:count]


def main(arguments: Sequence[str] | None = None) -> int:
    from paretune.core.command_line import SentenceParser, exit_with_sentence

    parser = SentenceParser(prog="python -m analysis.augmentation", description=__doc__.splitlines()[0], allow_abbrev=False)
    of_runs = add_sources(parser, nargs="*")
    group = parser.add_argument_group("the runs of a sweep")
    of_runs += [
        group.add_argument("--metric", default="f1", help="the metric that is compared (default: f1)"),
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
                from paretune.analysis.drawn_report import run

                run(options)
    return 0


def _add_training(group: argparse._ArgumentGroup) -> list[argparse.Action]:
    """Add the flags that go with --drawings, and return them."""
    from paretune.analysis.document.language import LANGUAGES
    from paretune.core.folders import ROOT

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
    table = compare_augmentation(runs, options.metric)
    print(table.to_string(index=False, float_format=lambda value: f"{value:.4f}", na_rep="-"))
    print(f"\n{in_words(table, options.metric)}")
    if options.figure:
        from paretune.analysis.figures.runs import save_figure
        from paretune.analysis.retrain import config_of
        from paretune.data.dataset import load_data
        from paretune.models.registry import model_class
        from paretune.models.run_config import configure

        run = next((run for run in runs if run.config.get("augment")), runs[0])
        _, data_options, _ = configure(model_class(str(run.config.get("classifier"))), config_of(run))
        figure = augmentation_figure(load_data(data_options), settings_of(run.config), seed=options.seed)
        print(f"wrote {save_figure(figure, Path(options.figure))}")


if __name__ == "__main__":
    sys.exit(main())
