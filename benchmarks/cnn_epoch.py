"""Seconds of one epoch of two convolutional nets at batch 256, scored on the test images after it.

The simple CNN on 60,000 MNIST images and AlexNet on CIFAR-10, its 50,000 and whatever test images lie under DATA_ROOT. Ours:
`Ann.fit_epochs` with every metric it logs, in fp32 and in bf16, scored in fp32. Theirs: the same network with torchvision and
DataLoader as the source documents train it (benchmarks/epoch.py), in a process of its own, as ours changes how its process keeps
memory. All on the CPU, in turn; reading the files is in nobody's time.

The fraction of the machine's peak: the operations of the training (torch's own count, forward and backward, of the epoch's images)
and of the scoring, a second, against those of a product of two 4096 x 4096 matrices in the same precision, timed in the same run.

    python benchmarks/cnn_epoch.py [--json] [--rounds 3] [--nets simple_cnn alexnet] [--accuracy SEED ...] [--quick]

Goals: fp32 at least 1.3 times faster, bf16 at least 2.8 times. `--accuracy 0 1 2` trains 10 epochs from these seeds in both
precisions instead, and prints the test accuracy after the last (about 12 minutes a seed of the simple CNN).
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # it runs from any folder

from benchmarks._result import Result, has_mnist, how_many, medians_in_turn, show, times

if TYPE_CHECKING:
    from paretune.data.dataset import Data
    from paretune.data.images import Samples

NETS = {"simple_cnn": "mnist", "alexnet": "cifar10"}
BATCH, EPOCHS, SIDE = 256, 10, 4096
GOALS = {"fp32": ">= 1.3x", "bf16": ">= 2.8x"}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Seconds of a convolutional net's epoch against DataLoader.", allow_abbrev=False)
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    parser.add_argument(
        "--rounds", type=how_many, default=3, metavar="N", help="times each side is measured; the median counts (default: 3)"
    )
    parser.add_argument("--nets", nargs="+", choices=list(NETS), default=list(NETS), help="default: both")
    parser.add_argument("--accuracy", type=int, nargs="+", metavar="SEED", help="train 10 epochs in both precisions instead")
    parser.add_argument("--quick", action="store_true", help="one round of the simple CNN")
    options = parser.parse_args()
    if options.quick:
        options.nets, options.rounds = ["simple_cnn"], 1
    if not has_mnist("benchmarks/cnn_epoch.py", as_json=options.json):
        return 0

    from benchmarks.cnn import train
    from paretune.data.dataset import data_root

    folders = [data_root() / "cifar10", data_root() / "cifar-10-batches-py"]
    nets = [net for net in options.nets if NETS[net] != "cifar10" or any(folder.is_dir() for folder in folders)]
    skipped = [f"{net}: skipped, as CIFAR-10 is not in {data_root()}" for net in options.nets if net not in nets]
    if options.accuracy:
        results = [row for net in nets for row in accuracies(net, options.accuracy, train)]
    else:
        results = [row for net in nets for row in epochs(net, options.rounds)]
    show(results, as_json=options.json, notes=skipped)
    return 0


def epochs(net: str, rounds: int) -> list[Result]:
    """Measure an epoch of a net on all sides."""
    from paretune.trainers.ann import Ann

    config, data = configured(net)
    precisions = ("fp32", "bf16") if has_bf16() else ("fp32",)

    def ours(precision: str) -> Callable[[], float]:
        def measure() -> float:
            begin = time.perf_counter()
            Ann(config, device="cpu", precision=precision).fit(data)
            return time.perf_counter() - begin

        return measure

    sides: dict[str, Callable[[], float]] = {precision: ours(precision) for precision in precisions}
    model = Ann(config, device="cpu")
    model.start(data)
    sides["theirs"] = their_side(net)
    sides |= {f"peak {precision}": lambda precision=precision: seconds_of_product(precision) for precision in precisions}
    medians = medians_in_turn(sides, rounds)
    training, scoring = operations(model, data.train.x[:BATCH], data.train.y[:BATCH])
    work = training * len(data.train) + scoring * len(data.test)
    results = [
        times(f"epoch of {net}, {precision}", medians[precision], medians["theirs"], goal=GOALS[precision])
        for precision in precisions
    ]
    for precision in precisions:
        peak = 2 * SIDE**3 / medians[f"peak {precision}"]
        results.append(Result(f"{net}, {precision}: operations a second", work / medians[precision] / 1e9, peak / 1e9, "GFLOP/s"))
        results.append(Result(f"{net}, {precision}: fraction of the peak", work / medians[precision] / peak, None, ""))
    if "bf16" not in precisions:
        results.append(Result(f"epoch of {net}, bf16: this CPU has none, not measured", None, None, "s"))
    return results


def configured(net: str) -> tuple[Any, Data]:
    """Return the Config of a net's epoch, and its data."""
    from paretune.data.dataset import load_data
    from paretune.models.run_config import configure
    from paretune.trainers.ann import Ann

    values = {"preset": net, "data": NETS[net], "holdout": 0.0, "curves_on_test": True, "batch_size": BATCH, "epochs": 1}
    config, data_options, _ = configure(Ann, values)
    return config, load_data(data_options)


def has_bf16() -> bool:
    """Whether this CPU calculates with bf16 itself; without, torch imitates it."""
    import torch

    return bool(torch.cpu._is_avx512_bf16_supported())


def seconds_of_product(precision: str) -> float:
    """Return the seconds of a product of two large square matrices, the fastest of three."""
    import torch

    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    left, right = (torch.randn(SIDE, SIDE, dtype=dtype) for _ in range(2))
    seconds = []
    for _ in range(3):
        begin = time.perf_counter()
        left @ right
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


def operations(model: Any, x: Any, y: Any) -> tuple[float, float]:
    """Return the operations of training on an image, and of scoring one."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    net = model.network()
    with FlopCounterMode(display=False) as training:
        torch.nn.functional.cross_entropy(net(x), y).backward()
    with FlopCounterMode(display=False) as scoring, torch.no_grad():
        net(x)
    return training.get_total_flops() / len(x), scoring.get_total_flops() / len(x)


def their_side(net: str) -> Callable[[], float]:
    """Return a function that measures an epoch as the source documents write it, in a process that has run nothing of ours."""
    pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
    return lambda: pool.submit(their_epoch, net).result()


def their_epoch(net: str) -> float:
    """Measure an epoch as the source documents write it."""
    return their_measure(net)()


@functools.cache
def their_measure(net: str) -> Callable[[], float]:
    """Return what measures an epoch as the source documents write it."""
    import torch
    from torchvision import transforms

    from benchmarks.epoch import by_dataloader
    from paretune.networks.cpu_convolutions import Dropout
    from paretune.trainers.ann import Ann

    config, data = configured(net)
    model = Ann(config, device="cpu")
    model.start(data)

    def build() -> torch.nn.Module:
        network = model.network()
        for name, layer in list(network.named_modules()):
            if isinstance(layer, Dropout):
                network.set_submodule(name, torch.nn.Dropout(layer.p))
        return network

    n_channels = data.train.x.shape[1]
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,) * n_channels, (0.5,) * n_channels)])
    parts = [as_torchvision(part, transform) for part in (data.train, data.test)]
    return by_dataloader(*parts, BATCH, build, lambda net: torch.optim.Adam(net.parameters(), lr=0.001))


def as_torchvision(samples: Samples, transform: Any) -> Any:
    """Return images as torchvision's own data set of them, wherever they were read from: MNIST, CIFAR10 where they have colours."""
    from torchvision import datasets

    images = (samples.x * 255).round().byte()
    colours = images.shape[1] == 3
    found = object.__new__(datasets.CIFAR10 if colours else datasets.MNIST)
    found.data = images.permute(0, 2, 3, 1).numpy() if colours else images[:, 0]
    found.targets = samples.y.tolist() if colours else samples.y
    found.transform, found.target_transform = transform, None
    return found


def accuracies(net: str, seeds: list[int], train: Callable[..., tuple[float, float, int]]) -> list[Result]:
    """Train in both precisions from each seed; return the accuracies, their means and the spread over the seeds."""
    found: dict[str, list[float]] = {}
    rows = []
    for seed in seeds:
        for precision in ("fp32", "bf16"):
            accuracy, seconds, _ = train(
                seed, EPOCHS, "cpu", quiet=True, precision=precision, preset=net, data=NETS[net], batch_size=BATCH
            )
            found.setdefault(precision, []).append(accuracy)
            rows.append(Result(f"{net}, {precision}, seed {seed}: test accuracy", accuracy, None, "accuracy"))
            rows.append(Result(f"{net}, {precision}, seed {seed}: training, per epoch", seconds / EPOCHS, None, "s"))
            print(f"{net}, {precision}, seed {seed}: {accuracy:.4f}", file=sys.stderr, flush=True)
    for precision, values in found.items():
        rows.append(Result(f"{net}, {precision}: mean of {len(values)}", statistics.mean(values), None, "accuracy"))
        if len(values) > 1:
            rows.append(Result(f"{net}, {precision}: standard deviation", statistics.stdev(values), None, "accuracy"))
    return rows


if __name__ == "__main__":
    sys.exit(main())
