"""Reproduce systems of the source documents, each with its figures, table and page.

usage: python -m studies NAME [NAME …] [--quick]        (all: every study)
       python -m studies --table                        (the results so far)
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from paretune.core.command_line import SentenceParser, exit_with_sentence
from paretune.core.errors import UsageError
from paretune.core.folders import ROOT
from studies.base import STUDIES, Study, entry_of, function_of
from studies.pages import results_table, write, write_report


def main(arguments: Sequence[str] | None = None) -> int:
    listed = "\n".join(f"  {name}  {entry.title}" for name, entry in STUDIES.items())
    parser = SentenceParser(
        prog="python -m studies",
        description=f"{(__doc__ or '').splitlines()[0]}\n\n{listed}",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="a study of the list above, or all")
    parser.add_argument("--table", action="store_true", help="print the results of the studies that --to holds, as Markdown")
    parser.add_argument("--quick", action="store_true", help="the reduced form, at most two minutes each")
    parser.add_argument("--to", default="reports/studies", help="folder of pages and figures (default: %(default)s)")
    parser.add_argument("--runs", default=str(ROOT / "runs"), help="folder of their sweeps (default: runs)")
    parser.add_argument("--models", default=str(ROOT / "models"), help="folder of their models (default: models)")
    parser.add_argument(
        "--backbone", metavar="NAME", help="c5: torchvision's network NAME with its ImageNet weights, such as resnet18"
    )
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda or mps")
    options = parser.parse_args(arguments)
    with exit_with_sentence():
        if options.table:
            print(results_table(Path(options.to)))
            return 0
        if not options.names:
            raise UsageError("name a study, such as f3, or all; --help lists them.")
        names = list(STUDIES) if options.names == ["all"] else [name.lower() for name in options.names]
        entries = {name: entry_of(name) for name in names}
        if options.backbone and "c5" not in entries:
            raise UsageError(f"--backbone is for the study c5 alone. Got {', '.join(entries)}.")
        for name, entry in entries.items():
            study = Study(
                name,
                entry.title,
                to=Path(options.to),
                runs=Path(options.runs),
                models=Path(options.models),
                device=options.device,
                quick=options.quick,
                backbone=options.backbone,
            )
            study.to.mkdir(parents=True, exist_ok=True)
            print(f"{name}: {entry.title}{' (reduced form)' if options.quick else ''}", flush=True)
            function_of(entry)(study)
            page, results = write(study)
            print(f"{name}: wrote {page} and {results}")
            report, pdf = write_report(study.to)
            print(f"{name}: the report of the studies so far: {report}, {pdf}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
