"""How sure the scores are: intervals, the probability of each configuration to be on the front, and what is within noise.

usage: python -m analysis.confidence SOURCE [SOURCE …] [--metrics precision recall] [--seed 0]

Repeats are the seeds or folds of one trial (controller.search.repeats), or finished runs of one configuration
(findings/repeats.py). With k of them a mean has Student's t interval (k - 1 degrees of freedom; over folds it is too narrow,
as folds share training images: Nadeau and Bengio 2003). Without repeats test_accuracy alone has an interval, Wilson's (1927),
over the images of the hold-out; precision, recall and F1 averaged over classes are no proportions, and none is claimed for
them.

An interval is of one configuration by itself. That its epoch, and the best of many configurations, were picked by the same
hold-out is in no interval: the locked test part answers that.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from paretune.analysis.findings.aims import add_aims, aims_of, check_aims
from paretune.analysis.findings.confidence import summary
from paretune.analysis.history import add_sources, filters_of, load_runs
from paretune.core.command_line import SentenceParser, exit_with_sentence


def main(arguments: Sequence[str] | None = None) -> int:
    parser = SentenceParser(prog="python -m analysis.confidence", description=__doc__.splitlines()[0], allow_abbrev=False)
    add_sources(parser)
    add_aims(parser)
    parser.add_argument("--seed", type=int, default=0, help="of the draws for p(front) (default: 0)")
    options = parser.parse_args(arguments)
    with exit_with_sentence():
        check_aims(options)
        for source in options.sources:
            runs = load_runs(source, filters_of(options))
            aims = aims_of(runs, options.metrics, options.goals)
            print("\n".join([f"{source}:", *summary(runs, aims, seed=options.seed)]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
