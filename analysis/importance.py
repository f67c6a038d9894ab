"""Which searched hyper-parameters decide a metric: Optuna's importances over the finished runs of a sweep, with intervals.

usage: python -m analysis.importance SOURCE [SOURCE …] [--metric f1] [--goal minimize] [--evaluator fanova] [--figures DIR]

ped-anova asks what tells the best runs from all of them (Watanabe et al. 2023). Of a parameter that is inactive in some
runs, or that some lack, it weighs the other runs alone, by their share of the best and of all (conditional PED-ANOVA, Kato
et al. 2026): a momentum that the best runs ignore decides nothing. fanova asks how much of the metric's variance a parameter
explains (Hutter et al. 2014), mdi how much it lessens the impurity of a random forest; both leave such a parameter out. The
interval is the middle 90 % over bootstrap resamples of the runs (Efron 1979).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from paretune.analysis.document.language import translate as _
from paretune.analysis.figures.interactive import save_page
from paretune.analysis.figures.parameters import importance_figure, parallel_figure, parallel_html, slices_figure
from paretune.analysis.figures.runs import save_figure
from paretune.analysis.findings.aims import add_goal, explained_metric
from paretune.analysis.findings.parameters import Tried, tried
from paretune.analysis.history import add_sources, sources_of
from paretune.core.command_line import SentenceParser, exit_with_sentence
from paretune.core.errors import UsageError
from paretune.search.importance import EVALUATOR_LABELS, Importance, importances


def main(arguments: Sequence[str] | None = None) -> int:
    parser = SentenceParser(prog="python -m analysis.importance", description=__doc__.splitlines()[0], allow_abbrev=False)
    add_sources(parser)
    parser.add_argument("--metric", help="the metric that is explained (default: the sweep's first objective, else f1)")
    add_goal(parser)
    parser.add_argument("--evaluator", default="ped-anova", help=f"one of {', '.join(EVALUATOR_LABELS)} (default: ped-anova)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the resamples and of the forests (default: 0)")
    parser.add_argument("--figures", metavar="DIR", help="draw importance, parallel coordinates and slices into this folder")
    options = parser.parse_args(arguments)
    with exit_with_sentence():
        if options.seed < 0:
            raise UsageError(f"--seed must be at least 0. Got {options.seed}.")
        runs = sources_of(options)
        metric, why = (options.metric, "") if options.metric else explained_metric(runs)
        found = tried(runs, metric, options.goal)
        result = importances(found, options.evaluator, seed=options.seed, translate=_)
        print(result.table.to_string(index=False, float_format=lambda value: f"{value:.3f}"))
        print("\n" + " ".join([result.in_words(_), *([why] if why else [])]))
        if options.figures:
            _draw(found, result, Path(options.figures))
    return 0


def _draw(found: Tried, result: Importance, folder: Path) -> None:
    order = list(result.table["parameter"])
    save_figure(importance_figure(result), folder / "importance.png")
    save_figure(parallel_figure(found, order), folder / "parallel.png")
    save_figure(slices_figure(found, order), folder / "slices.png")
    save_page(parallel_html(found, order), folder / "parallel.html", title="Parallel coordinates")
    print(f"wrote importance.png, parallel.png, slices.png and parallel.html to {folder}")


if __name__ == "__main__":
    sys.exit(main())
