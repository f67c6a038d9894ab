"""The parts of `make gpu` that measure: each is a process of its own, started by benchmarks/gpu.py.

python -m benchmarks._gpu_parts NAME --rows FILE --until MONOTONIC [--quick] [--simulated]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import _gpu_batched as batched
from benchmarks import _gpu_single as single
from benchmarks._gpu_pictures import has_mnist
from benchmarks._gpu_session import Session

NO_GPU = 3  # exit code


def device(session: Session) -> None:
    """Say what there is: the GPU, the processor, the packages, the pictures."""
    import numpy
    import sklearn
    import torch

    facts = torch.cuda.get_device_properties(session.device)
    session.write(
        "machine",
        device=torch.cuda.get_device_name(session.device),
        memory_gib=round(facts.total_memory / 2**30, 1),
        capability=".".join(map(str, torch.cuda.get_device_capability(session.device))),
        driver=_first_line("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
        cuda=torch.version.cuda,
        torch=torch.__version__,
        numpy=numpy.__version__,
        scikit_learn=sklearn.__version__,
        python=platform.python_version(),
        cpu=_processor(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        pictures="MNIST" if has_mnist() else "generated",
    )


PARTS: dict[str, Callable[[Session], None]] = {
    "device": device,
    "autoencoders": batched.autoencoders,
    "classifiers_128": batched.classifiers_128,
    "classifiers_1024": batched.classifiers_1024,
    "cnn": single.cnn,
    "svm": single.svm,
    "retrain_ann": single.retrain_ann,
    "retrain_svm": single.retrain_svm,
}


def main() -> int:
    """Measure one part."""
    parser = argparse.ArgumentParser(description="A part of `make gpu`.", allow_abbrev=False)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--until", type=float, required=True, help="by the system's monotonic clock")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--simulated", action="store_true")
    options = parser.parse_args()
    with _simulated() if options.simulated else contextlib.nullcontext():
        import torch

        if not torch.cuda.is_available():
            return NO_GPU
        cuda = torch.device("cuda", torch.cuda.current_device())
        PARTS[options.part](Session(options.rows, options.until, options.quick, cuda))
    return 0


def _simulated() -> Any:
    from tests.simulated_device import simulated_cuda

    return simulated_cuda()


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _first_line(*command: str) -> str | None:
    with contextlib.suppress(OSError, subprocess.SubprocessError, IndexError):
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.splitlines()[0].strip()
    return None


if __name__ == "__main__":
    sys.exit(main())
