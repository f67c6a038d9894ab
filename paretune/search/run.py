"""Run one trial of a study again: the same configuration, seed and data, beside what was recorded.

usage: python -m paretune.search.run STUDY --trial N [--device NAME]

Nothing is written to the study. The run's own files go to runs/NAME-again/ with --wandb=offline, online or auto; else what a
program of one's own writes is removed. Ends with exit code 1 where an epoch is not as recorded.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from paretune.core.command_line import SentenceParser, exit_with_sentence
from paretune.search.status import add_study, open_existing


def main(arguments: Sequence[str] | None = None) -> int:
    parser = SentenceParser(prog="python -m paretune.search.run", description=__doc__.splitlines()[0], allow_abbrev=False)
    add_study(parser)
    parser.add_argument("--trial", type=int, required=True, metavar="N", help="the trial's number")
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda or mps")
    parser.add_argument("--wandb", default="disabled", help="disabled (default), offline, online or auto")
    options = parser.parse_args(arguments)
    with exit_with_sentence():
        from paretune.search.repetition import again, folder_for, trial_of  # Optuna: only once the flags are read

        study = open_existing(options.study, options.name)
        trial = trial_of(study, options.trial)
        with folder_for(options.study, study.study_name, mode=options.wandb) as folder:
            differing = again(study, trial, folder, device=options.device, mode=options.wandb)
        print("every epoch is as recorded" if not differing else f"epochs that differ from the record: {', '.join(differing)}")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
