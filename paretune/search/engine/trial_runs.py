"""Finds the W&B runs that a trial's program writes, wherever the client puts them, and selects the trial's own.

A program may choose the folder of its run files itself (`wandb.init(dir=…)`, `Settings(root_dir=…)`, WANDB_DIR). They are
looked for where the client says that it writes them, among the files that the program and its children hold open (Linux),
and, by the id that was handed out, below the working directory. What lies elsewhere is linked into the trial's folder, so
that `analysis` and `wandb sync` find it there as well.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from paretune.runs.wandb_files import RunFile, numbers, read_run
from paretune.runs.whole_runs import merge_run_files, own_run

COLOURS = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")  # ECMA-48's control sequences
SAID = re.compile(r"^wandb: Run data is saved locally in (.+?)\s*$", re.MULTILINE)
RUN_FOLDER = re.compile(r"(?:offline-)?run-\d{8}_\d{6}-(.+)")
PATTERNS = ("wandb/*run-*/run-*.wandb", ".wandb/*run-*/run-*.wandb")  # the client prefers a `.wandb` that is there
MAX_DEPTH = 4  # folders below the working directory in which a run of the handed-out id is looked for
PROC = Path("/proc")


@dataclass
class TrialRuns:
    """The runs of one trial.

    Args:
        folder: the trial's folder, WANDB_DIR of its program.
        run_id: the id that was handed out, WANDB_RUN_ID.
        output: what the program prints.
        earlier: for a trial whose program has ended.
    """

    folder: Path
    run_id: str
    output: Path
    earlier: bool = False  # whether the run files that are there already count
    _before: set[Path] = field(default_factory=set)
    _elsewhere: set[Path] = field(default_factory=set)
    _said: set[Path] = field(default_factory=set)  # the run folders that the client has named
    _read_bytes: int = 0

    def __post_init__(self) -> None:
        if not self.earlier:
            self._before = {path.resolve() for path in self.files()}  # where a trial is run again, those of the time before

    def files(self) -> list[Path]:
        """Return the run files, the oldest first, without those from before the program was started."""
        inside = [path for pattern in PATTERNS for path in self.folder.glob(pattern)]
        by_target = {path.resolve(): path for path in (*self._elsewhere, *inside)}
        new = [path for target, path in by_target.items() if target not in self._before]
        return sorted(new, key=lambda path: (path.parent.name, str(path)))

    def read(self) -> list[RunFile]:
        """Return the runs as far as they can be read."""
        runs = []
        for path in self.files():
            with contextlib.suppress(OSError):  # a program may delete its own files
                runs.append(read_run(path))
        return merge_run_files(run for run in runs if run is not None)

    def own(self, runs: Sequence[RunFile], goals: Collection[str]) -> RunFile | None:
        """Return the trial's own run among its runs, None where none can be told to be it."""
        metrics = {run.run_id: _metrics_of(run, goals) if len(runs) > 1 else () for run in runs}
        run_id = own_run(metrics, self.run_id, goals)
        return next((run for run in runs if run.run_id == run_id), None)

    def look(self, process: int | None) -> None:
        """Look for run files outside of the trial's folder; `process` is the program's number while it lives."""
        found = set(self._named_by_client())
        if process is not None:
            found |= set(_open_run_files(process))
        elif not self.files() and not found:
            found |= set(_files_of(self.run_id, Path.cwd()))
        for path in sorted(found - self._elsewhere):
            if not path.is_relative_to(self.folder) and path.is_file():
                self._elsewhere.add(path)
                self._link(path.parent)

    def _named_by_client(self) -> Iterator[Path]:
        """Yield the run files that the client says it writes, in what the program has printed so far."""
        with contextlib.suppress(OSError), self.output.open("rb") as file:
            file.seek(self._read_bytes)
            text = file.read()
            whole = text[: text.rfind(b"\n") + 1]
            self._read_bytes += len(whole)
            self._said |= {Path.cwd() / name for name in SAID.findall(COLOURS.sub("", whole.decode("utf-8", errors="replace")))}
        for run_folder in self._said:
            if RUN_FOLDER.match(run_folder.name):
                yield from (path.resolve() for path in run_folder.glob("run-*.wandb"))

    def _link(self, run_folder: Path) -> None:
        link = self.folder / "wandb" / run_folder.name
        with contextlib.suppress(OSError):
            link.parent.mkdir(exist_ok=True)
            link.symlink_to(run_folder, target_is_directory=True)


def _metrics_of(run: RunFile, goals: Collection[str]) -> set[str]:
    """Return which of the objectives a run holds."""
    logged = {name for row in run.rows for name in goals if name in row}
    flat = {name for row in (*run.rows, run.summary) for name in numbers(row)} if len(logged) < len(goals) else set[str]()
    return logged | flat


def _open_run_files(process: int) -> Iterator[Path]:
    """Yield the run files that a process or one of its descendants holds open; none where there is no /proc."""
    for one in _descendants(process):
        with contextlib.suppress(OSError):
            for entry in (PROC / str(one) / "fd").iterdir():
                with contextlib.suppress(OSError):
                    target = os.readlink(entry)
                    if target.endswith(".wandb") and RUN_FOLDER.match(Path(target).parent.name):
                        yield Path(target)


def _descendants(process: int) -> Iterator[int]:
    yield process
    with contextlib.suppress(OSError):
        for children in (PROC / str(process) / "task").glob("*/children"):
            with contextlib.suppress(OSError):
                for child in children.read_text(encoding="ascii").split():
                    yield from _descendants(int(child))


def _files_of(run_id: str, folder: Path, depth: int = MAX_DEPTH) -> Iterator[Path]:
    """Yield the files of a run by its id below a folder."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                continue
            name = RUN_FOLDER.match(entry.name)
            if name is not None:
                if name[1] == run_id:
                    yield Path(entry.path, f"run-{run_id}.wandb").resolve()
            elif depth > 0:
                yield from _files_of(run_id, Path(entry.path), depth - 1)
