"""Check sweep files: the grammar, the trainer's own limits, what is left without effect; every fault with its line.

usage: python -m paretune.search.check SWEEP.yaml [SWEEP.yaml …]
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from paretune.core.command_line import SentenceParser
from paretune.core.errors import UsageError


def main(arguments: Sequence[str] | None = None) -> int:
    usage = "%(prog)s SWEEP.yaml [SWEEP.yaml ...]"
    parser = SentenceParser(
        prog="python -m paretune.search.check", usage=usage, description=__doc__.splitlines()[0], allow_abbrev=False
    )
    parser.add_argument("sweeps", nargs="+", metavar="SWEEP.yaml", help="sweep files")
    options = parser.parse_args(arguments)
    from paretune.search.spec.sweep import read_sweep

    refused = 0
    for path in options.sweeps:
        try:
            sweep = read_sweep(path)
        except UsageError as error:
            refused += 1
            print("\n".join(f"error: {line}" for line in str(error).splitlines()), file=sys.stderr)
            continue
        space = sweep.space
        count = f", {space.n_combinations()} combinations" if sweep.method == "grid" else ""
        goals = ", ".join(f"{objective.goal} {objective.name}" for objective in sweep.objectives)
        print(f"{path}: {sweep.method} over {len(space.parameters)} parameters{count}, {len(space.fixed)} fixed; {goals}")
        for note in sweep.notes:
            print(f"  note: {note}")
    return 2 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
