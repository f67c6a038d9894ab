"""What a GPU does with this project: tests that hold it beside the CPU, then speeds; at most eight minutes.

    make gpu                            # or: python benchmarks/gpu.py [--quick] [--simulated] [--to FOLDER]

Writes reports/gpu/gpu.json and gpu.md anew whenever something was measured; what a part that did not end well printed is beside
them, NAME.txt. Each part is a process of its own: a bound on its time can then be enforced whatever it is doing, its memory is free
afterwards, and an error of CUDA, which spoils its process for good, spoils no other part. That costs each part the start of torch
and of CUDA, which its bound includes. This command itself imports the standard library alone, so that it always answers to Ctrl-C.

Where pydantic is missing it is installed from the folder of wheels that `make gpu-wheels` fills, into a temporary folder.
Exit code 0: everything was measured, or ended at its bound; 1: a test or a part failed; 2: it cannot run here.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib.util
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # it runs from any folder

from benchmarks._gpu_process import run_bounded
from benchmarks._gpu_report import read_rows, write_report

ROOT = Path(__file__).resolve().parents[1]
# name -> (bound in seconds, what it measures); together with the start they stay below eight minutes
PARTS: dict[str, tuple[float, str]] = {
    "device": (40, "the machine"),
    "tests": (80, "the tests marked gpu: the GPU beside the CPU, in fp32, tf32 and bf16"),
    "autoencoders": (70, "study E2, 361 autoencoders 784-64-784, batch 1,000, 60,000 pictures, scored on 10,000"),
    "classifiers_128": (40, "784-32-10, batch 64, 60,000 pictures, scored on 10,000"),
    "classifiers_1024": (60, "784-32-10, batch 64, 60,000 pictures, scored on 10,000"),
    "cnn": (55, "the simple CNN of 813,802 parameters, batch 256, 60,000 pictures, unscored"),
    "svm": (50, "fit, and decisions of its own pictures, C=10"),
    "retrain_ann": (25, "an ANN trained on all pictures, saved by the GPU, loaded by the CPU"),
    "retrain_svm": (55, "an SVM fitted and calibrated on all pictures, saved by the GPU, loaded by the CPU"),
}
NEEDED = ("torch", "numpy", "sklearn", "safetensors", "pytest")
NO_GPU = 3  # exit code of a part
MEASURED = 0.9  # share of a part's bound in which it begins measurements
OUTCOME = re.compile(r"^tests/gpu/(\S+::.*) (PASSED|FAILED|ERROR|SKIPPED)\b")


class StopError(Exception):
    """A signal asks for the end: its number."""


class RefusedError(Exception):
    """The command cannot run here: a sentence that says why."""


def main() -> int:
    """Measure, and write down; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--quick", action="store_true", help="few pictures, small networks: a minute on a simulated device")
    parser.add_argument("--simulated", action="store_true", help="on a simulated device: tries the command, times mean nothing")
    parser.add_argument("--to", type=Path, default=ROOT / "reports" / "gpu", metavar="FOLDER", help="default: reports/gpu")
    parser.add_argument("--wheels", type=Path, default=ROOT / "wheels", metavar="FOLDER", help="default: wheels")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS)[1:], metavar="NAME", help=f"of {', '.join(list(PARTS)[1:])}")
    parser.add_argument("--bound", type=bound_of, action="append", default=[], metavar="NAME=SECONDS", help="another bound")
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
        if missing:
            raise RefusedError(f"make gpu needs {', '.join(missing)}, which {sys.executable} does not have.")
        with carried(options.wheels) as environment:
            return Command(options, environment).run()
    except RefusedError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except StopError as error:
        return 128 + int(str(error))


def bound_of(text: str) -> tuple[str, float]:
    """Read NAME=SECONDS."""
    name, _, seconds = text.partition("=")
    if name not in PARTS:
        raise argparse.ArgumentTypeError(f"must name one of {', '.join(PARTS)}. Got {text!r}.")
    with contextlib.suppress(ValueError):
        return name, float(seconds)
    raise argparse.ArgumentTypeError(f"must be NAME=SECONDS. Got {text!r}.")


@contextlib.contextmanager
def carried(wheels: Path) -> Iterator[dict[str, str]]:
    """Give the environment of the parts: with pydantic from wheels where this Python has none.

    Raises:
        RefusedError: if it cannot be had.
    """
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    if importlib.util.find_spec("pydantic") is not None:
        yield environment
        return
    with tempfile.TemporaryDirectory(prefix="gpu-wheels-") as folder:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
        where = ["--find-links", str(wheels), "--target", folder, "pydantic"]
        done = subprocess.run([*pip, *where], capture_output=True, text=True, env={**environment, "PIP_NO_INDEX": "1"})
        if done.returncode != 0:
            lines = [line for line in done.stderr.splitlines() if "rror" in line or "No module" in line]
            reason = lines[-1].removeprefix("ERROR: ").rstrip(".") if lines and wheels.is_dir() else "no such folder"
            version = ".".join(map(str, sys.version_info[:2]))
            raise RefusedError(
                f"pydantic is missing and cannot be installed from {wheels} ({reason}): run `make gpu-wheels FOR={version}` "
                "where there is a network, and bring the folder along."
            )
        paths = [folder, *filter(None, [environment.get("PYTHONPATH")])]
        yield {**environment, "PYTHONPATH": os.pathsep.join(paths)}


class Command:
    """One run: which parts, and what they have measured so far."""

    def __init__(self, options: argparse.Namespace, environment: dict[str, str]) -> None:
        self.options, self.environment = options, environment
        self.bounds = {**{name: bound for name, (bound, _) in PARTS.items()}, **dict(options.bound)}
        self.begin = time.monotonic()
        self.report: dict[str, Any] = {
            "state": "running",
            "seconds": 0.0,
            "simulated": options.simulated,
            "quick": options.quick,
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "commit": commit(),
            "machine": {},
            "parts": [],
        }

    def run(self) -> int:
        """Do the parts one after the other; return the exit code."""
        try:
            return self._parts()
        except StopError:
            self.report["state"] = "stopped"
            self.write()
            print("stopped" + (f": what was measured is in {self.options.to}" if self.report["parts"] else ""), flush=True)
            raise

    def _parts(self) -> int:
        code, machine = self._measure("device")
        if code == NO_GPU:
            raise RefusedError("torch finds no CUDA device here: make gpu needs one (SIMULATED=1 tries the command without).")
        if not machine["rows"]:
            raise RefusedError(
                f"torch cannot use the CUDA device: {machine['notes'][0] if machine['notes'] else machine['state']}."
            )
        facts = machine["rows"][0].items()
        self.report["machine"] = {name: value for name, value in facts if name not in ("name", "figures", "peak_gpu_mib")}
        self.report["parts"].clear()  # the machine stands at the top
        failed = False
        for name in self.options.parts or list(PARTS)[1:]:
            _, part = self._measure(name)
            failed |= part["state"] == "failed"
        self.report["state"] = "failed" if failed else "done"
        self.write()
        print(f"wrote {self.options.to / 'gpu.json'} and {self.options.to / 'gpu.md'}", flush=True)
        return 1 if failed else 0

    def _measure(self, name: str) -> tuple[int | None, dict[str, Any]]:
        """Run one part to its end or its bound; return its exit code and what it measured."""
        bound, what = self.bounds[name], PARTS[name][1]
        part: dict[str, Any] = {"name": name, "what": what, "state": "running", "bound_seconds": bound, "seconds": 0.0}
        part |= {"rows": [], "notes": []}
        self.report["parts"].append(part)
        print(f"{name}: {what} (at most {bound:g} s)", flush=True)
        begin = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="gpu-part-") as folder:
            rows, log = Path(folder) / "rows", Path(folder) / "log"

            def take() -> None:
                found = tests_row(log) if name == "tests" else read_rows(rows)
                part["seconds"] = round(time.monotonic() - begin, 1)
                if found != part["rows"]:
                    part["rows"] = found
                    self.write()

            code: int | None = None
            part["state"] = "stopped"  # unless it ends
            try:
                command = self._command(name, rows)
                environment = {**self.environment, "GPU_TESTS": "simulated" if self.options.simulated else ""}
                code = run_bounded(command, folder=ROOT, environment=environment, log=log, seconds=bound, look=take)
                part["state"] = "ended at its bound" if code is None else "failed" if code else "done"
            finally:
                take()
                self._keep_log(name, part, log)
        self.write()
        if code != NO_GPU:
            print(f"{name}: {part['state']} after {part['seconds']:.1f} s{brief(part)}", flush=True)
        return code, part

    def _command(self, name: str, rows: Path) -> list[str]:
        if name == "tests":
            # `-W default`: other versions than the pinned ones may warn
            flags = ["-m", "gpu", "-vv", "--tb=short", "-W", "default", "-p", "no:cacheprovider"]
            return [sys.executable, "-m", "pytest", *flags, "tests/gpu"]
        flags = ["--rows", str(rows), "--until", str(time.monotonic() + MEASURED * self.bounds[name])]
        flags += [f"--{flag}" for flag in ("quick", "simulated") if getattr(self.options, flag)]
        return [sys.executable, "-m", "benchmarks._gpu_parts", name, *flags]

    def _keep_log(self, name: str, part: dict[str, Any], log: Path) -> None:
        """Keep what a part that has not ended well printed, and its last line as a note."""
        if name == "device" or part["state"] == "done" or not log.exists():
            return
        text = log.read_text(encoding="utf-8", errors="replace")
        if lines := text.strip().splitlines():
            part["notes"].append(f"its last line: {lines[-1].strip()}; all of them are in {name}.txt")
            self.options.to.mkdir(parents=True, exist_ok=True)
            (self.options.to / f"{name}.txt").write_text(text, encoding="utf-8")

    def write(self) -> None:
        """Write down what was measured so far, once the device is known."""
        self.report["seconds"] = round(time.monotonic() - self.begin, 1)
        if self.report["machine"]:
            write_report(self.options.to, self.report)


def tests_row(log: Path) -> list[dict[str, Any]]:
    """Return how many tests ended how, read from what pytest prints while it runs."""
    outcomes: dict[str, list[str]] = {}
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []:
        if found := OUTCOME.match(line):
            outcomes.setdefault(found[2].lower(), []).append(found[1])
    if not outcomes:
        return []
    broken = [*outcomes.get("failed", []), *outcomes.get("error", [])]
    figures: dict[str, Any] = {outcome: len(names) for outcome, names in outcomes.items()}
    return [{"name": "tests", "figures": {**figures, **({"which": ", ".join(broken)} if broken else {})}}]


def brief(part: dict[str, Any]) -> str:
    """Say in a few words what a part measured."""
    texts = []
    for row in part["rows"]:
        times = [f"{side.upper()} {row[f'{side}_seconds']:.3g} s" for side in ("gpu", "cpu") if f"{side}_seconds" in row]
        texts.append(
            f"{row['name']}: {', '.join(times)}"
            if times
            else ", ".join(f"{value} {name}" for name, value in row["figures"].items())
        )
    return "".join(f"\n  {text}" for text in [*texts, *part["notes"]]) if part["name"] != "device" else ""


def commit() -> str | None:
    """Return the commit of this checkout, None where git or the history is missing."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    return None


def _stop(number: int, frame: Any) -> NoReturn:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # one is enough: what follows takes a moment
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise StopError(str(number))


if __name__ == "__main__":
    sys.exit(main())
