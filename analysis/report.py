"""Write the report of one or more sweeps: front, choice, curves, confusion matrices, baseline beside tuned; HTML and PDF.

usage: python -m analysis.report SOURCE [SOURCE …] [--rule f1] [--models models] [--to reports] [--language en|es]

Reads the histories and, where they are there, the retrained models (python -m analysis.retrain); writes report.html, report.pdf
and figures/. Without a model, and for runs of other programs, what the locked part would say is left out.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from paretune.analysis.document.language import LANGUAGES, speak
from paretune.analysis.findings.aims import add_aims, check_aims
from paretune.analysis.history import add_sources
from paretune.core.command_line import SentenceParser, exit_with_sentence
from paretune.core.folders import ROOT


def main(arguments: Sequence[str] | None = None) -> int:
    parser = SentenceParser(prog="python -m analysis.report", description=__doc__.splitlines()[0], allow_abbrev=False)
    add_sources(parser)
    add_aims(parser)
    parser.add_argument("--rule", help="the rule that the models were chosen by (default: as analysis.choose)")
    parser.add_argument("--models", default=str(ROOT / "models"), help="folder of the retrained models (default: models)")
    parser.add_argument("--to", default="reports", help="folder of the report (default: reports)")
    languages = ", ".join(f"{code} ({name})" for code, name in LANGUAGES.items())
    parser.add_argument("--language", default="en", help=f"{languages}; default: en")
    options = parser.parse_args(arguments)
    from paretune.analysis.document import sweep_report  # here, as what draws takes a tenth of the time of --help

    with exit_with_sentence():
        check_aims(options)
        with speak(options.language):  # an unknown one is refused before anything is read
            pass
        wanted = options.metrics, options.goals
        studies = [sweep_report.read_study(source, options.rule, Path(options.models), *wanted) for source in options.sources]
        html, pdf = sweep_report.write_report(studies, Path(options.to), options.language)
        for study in sweep_report.comparable(studies):
            print(sweep_report.in_a_line(study))
        print(f"wrote {html} and {pdf}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
