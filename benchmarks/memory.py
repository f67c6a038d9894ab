"""The most memory of a sweep on MNIST: of the command's own process and of its workers, as Linux counts it.

12 random trials of 784-32-10 over the learning rate, 2 epochs of 51,000 images, by `sweeps/offline.py` with 1, 2 and 4 workers.
Looked at ten times a second: PSS, in which a page that several processes map counts in parts, and what is a process's own.

    python benchmarks/memory.py [--json] [--workers 1 2 4] [--quick]

No goal but that workers do not copy the data set: 70,000 images of float32 are 220 MB, and those that are normalised as much again.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
import time
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # it runs from any folder

from benchmarks._result import Result, has_mnist, how_many, show
from benchmarks.replay import environment

ROOT = Path(__file__).resolve().parents[1]
SWEEP = f"""
name: memory
program: {ROOT / "trainers" / "ann.py"}
method: random
run_cap: 12
metric: {{name: f1, goal: maximize}}
parameters:
  data: {{value: mnist}}
  epochs: {{value: 2}}
  n_hidden: {{value: 1}}
  width: {{value: 32}}
  learning_rate: {{distribution: log_uniform_values, min: 0.0003, max: 0.03}}
"""
MB = 1e6
EVERY = 0.1  # seconds


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="The most memory of a sweep's processes.", allow_abbrev=False)
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    parser.add_argument("--workers", type=how_many, nargs="+", default=[1, 2, 4], metavar="N", help="default: 1 2 4")
    parser.add_argument("--quick", action="store_true", help="2 workers")
    options = parser.parse_args()
    if not has_mnist("benchmarks/memory.py", as_json=options.json):
        return 0
    if not Path("/proc/self/smaps_rollup").is_file():
        print("benchmarks/memory.py: skipped, as only Linux says what a process's memory is shared with.", file=sys.stderr)
        return 0
    results = [row for workers in ([2] if options.quick else options.workers) for row in measured(workers)]
    show(results, as_json=options.json)
    return 0


def measured(workers: int) -> list[Result]:
    """Return the most memory of a sweep with so many workers."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "sweep.yaml").write_text(SWEEP, encoding="utf-8")
        line = [
            sys.executable,
            str(ROOT / "sweeps" / "offline.py"),
            "sweep.yaml",
            "--runs",
            f"{folder}/runs",
            f"--workers={workers}",
        ]
        quiet = subprocess.DEVNULL
        with subprocess.Popen(line, cwd=folder, env=environment(Path(folder)), stdout=quiet, stderr=quiet) as command:
            own: dict[int, float] = {}
            shared: dict[int, float] = {}
            total = 0.0
            while command.poll() is None:
                looked = {pid: memory for pid in processes(command.pid) if (memory := memory_of(pid))}
                total = max(total, sum(pss for pss, _ in looked.values()))
                for pid, (pss, private) in looked.items():
                    shared[pid], own[pid] = max(shared.get(pid, 0.0), pss), max(own.get(pid, 0.0), private)
                time.sleep(EVERY)
            if command.returncode:
                raise SystemExit(f"the sweep ended with {command.returncode}: {' '.join(line)}")
    others = sorted((pid for pid in own if pid != command.pid), key=lambda pid: -own[pid])[: workers if workers > 1 else 0]
    named = {"the command": command.pid, **{f"worker {place}": pid for place, pid in enumerate(others, start=1)}}
    rows = [Result(f"{workers} workers, all processes together: most PSS", total / MB, None, "MB")]
    for name, pid in named.items():
        rows.append(Result(f"{workers} workers, {name}: most PSS", shared[pid] / MB, None, "MB"))
        rows.append(Result(f"{workers} workers, {name}: most of its own", own[pid] / MB, None, "MB"))
    return rows


def processes(pid: int) -> list[int]:
    """Return a process and all that it started, and those that these started."""
    found = [pid]
    for one in found:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{one}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
    return found


def memory_of(pid: int) -> tuple[float, float] | None:
    """Return the PSS and the private bytes of a process; None where it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return None
    sizes = {line.split(":")[0]: 1024.0 * int(line.split()[1]) for line in lines if line.endswith("kB")}
    return (sizes["Pss"], sizes["Private_Clean"] + sizes["Private_Dirty"]) if sizes else None


if __name__ == "__main__":
    sys.exit(main())
