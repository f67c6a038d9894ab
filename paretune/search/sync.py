"""Upload offline runs to W&B with W&B's own `wandb sync`; runs of a sweep arrive as one group, named like the study.

usage: python -m paretune.search.sync [FOLDER …]
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from paretune.core.command_line import SentenceParser, exit_with_sentence
from paretune.core.errors import UsageError
from paretune.runs.tracking import logged_in
from paretune.runs.wandb_files import read_records

AT_ONCE = 100  # run folders per call of wandb sync: command lines have a length


def main(arguments: Sequence[str] | None = None) -> int:
    parser = SentenceParser(prog="python -m paretune.search.sync", description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument(
        "folders", nargs="*", default=["runs", "wandb"], help="where to look for offline runs (default: runs wandb)"
    )
    options = parser.parse_args(arguments)
    with exit_with_sentence():
        runs = offline_runs([Path(folder) for folder in options.folders])
        if not runs:
            raise UsageError(f"no offline run that is not uploaded yet is below {' or '.join(options.folders)}.")
        if not logged_in():
            raise UsageError(f"uploading {len(runs)} offline runs needs W&B credentials: log in with 'wandb login' first.")
        for start in range(0, len(runs), AT_ONCE):
            part = [str(run) for run in runs[start : start + AT_ONCE]]
            code = subprocess.run([sys.executable, "-m", "wandb", "sync", "--yes", *part]).returncode
            if code != 0:
                raise UsageError("wandb sync stopped with an error (see above); run the same command again to go on.")
        print(f"uploaded {len({run.name.split('-', 3)[-1] for run in runs})} runs")
    return 0


def offline_runs(folders: Sequence[Path]) -> list[Path]:
    """Return the offline run folders that W&B has not marked as synced.

    Without those whose file holds no record, as its client was killed before it wrote one: W&B uploads nothing of all where one of
    them is empty.
    """
    found = sorted({run for folder in folders for run in folder.rglob("offline-run-*") if run.is_dir()})
    fresh = [run for run in found if not list(run.glob("run-*.wandb.synced"))]
    return [run for run in fresh if any(next(read_records(file), None) is not None for file in run.glob("run-*.wandb"))]


if __name__ == "__main__":
    sys.exit(main())
