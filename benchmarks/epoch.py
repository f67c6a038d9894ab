"""Seconds of one epoch of 784-32-10 (preset sigmoid_32, batch 64) on 60,000 MNIST images, scored on 10,000 after it.

Ours: `Ann.fit_epochs` with every metric it logs, over the preset's 10 epochs; what a run does once (build the net,
normalise the images) is in the first. Theirs: torchvision and DataLoader as the source document writes them
(001_ce39a89f0c13c4ca, sections 3.2 and 3.3): ToTensor and Normalize for every image anew, `train_step`, `test_step`.
Both on the CPU, in the same process, in turn (ours written out, theirs in eager mode); reading the files is in neither side's time.

    python benchmarks/epoch.py [--json] [--rounds 3] [--quick]

Goal: an epoch of the run is at least 35 times faster.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # it runs from any folder

from benchmarks._result import has_mnist, how_many, medians_in_turn, show, times

if TYPE_CHECKING:
    import torch

RATIO_GOAL = 35


def main() -> int:
    """Measure both sides and print."""
    parser = argparse.ArgumentParser(description="Seconds of one epoch against torchvision + DataLoader.", allow_abbrev=False)
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    parser.add_argument(
        "--rounds", type=how_many, default=3, metavar="N", help="times each side is measured; the median counts (default: 3)"
    )
    parser.add_argument("--quick", action="store_true", help="one round")
    options = parser.parse_args()
    if not has_mnist("benchmarks/epoch.py", as_json=options.json):
        return 0

    import torch  # after `trainers`, which says how its threads wait

    runs: list[list[float]] = []
    sides = {"ours": our_side(runs), "theirs": their_side()}
    medians = medians_in_turn(sides, 1 if options.quick else options.rounds)
    theirs = medians["theirs"]
    results = [
        times(f"epoch of 784-32-10, mean of a run of {len(runs[0])}", medians["ours"], theirs, goal=f">= {RATIO_GOAL}x"),
        times("the run's first epoch", statistics.median(run[0] for run in runs), theirs),
        times("its later epochs", statistics.median(seconds for run in runs for seconds in run[1:]), theirs),
    ]
    note = f"{torch.get_num_threads()} threads; ours includes normalising the images and every metric of the README"
    show(results, as_json=options.json, notes=[note])
    return 0


def our_side(runs: list[list[float]]) -> Callable[[], float]:
    """Return a function that measures a run and returns its mean epoch; it notes the seconds of each epoch in `runs`."""
    from paretune.data.dataset import load_data
    from paretune.models.run_config import configure
    from paretune.trainers.ann import Ann

    values = {"preset": "sigmoid_32", "data": "mnist", "holdout": 0.0, "curves_on_test": True}
    config, data_options, _ = configure(Ann, values)
    data = load_data(data_options)

    def measure() -> float:
        seconds = []
        begin = time.perf_counter()
        for _ in Ann(config, device="cpu").fit_epochs(data):
            now = time.perf_counter()
            seconds.append(now - begin)
            begin = now
        runs.append(seconds)
        return statistics.mean(seconds)

    return measure


def their_side() -> Callable[[], float]:
    """Return a function that measures an epoch as the source document writes it."""
    import torch
    from torchvision import datasets, transforms

    from paretune.data.dataset import data_root

    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,), (0.5,))])
    train_data = datasets.MNIST(root=str(data_root()), train=True, download=False, transform=transform)
    test_data = datasets.MNIST(root=str(data_root()), train=False, download=False, transform=transform)

    def build() -> torch.nn.Module:
        layers = [torch.nn.Flatten(), torch.nn.Linear(28 * 28, 32), torch.nn.Sigmoid(), torch.nn.Linear(32, 10)]
        return torch.nn.Sequential(*layers)

    return by_dataloader(train_data, test_data, 64, build, lambda model: torch.optim.SGD(model.parameters(), lr=0.01))


def by_dataloader(
    train_data: torch.utils.data.Dataset[Any],
    test_data: torch.utils.data.Dataset[Any],
    batch_size: int,
    build: Callable[[], torch.nn.Module],
    optimizer_of: Callable[[torch.nn.Module], torch.optim.Optimizer],
) -> Callable[[], float]:
    """Return a function that measures the first epoch of a new classifier as the source document trains and scores it."""
    import torch

    train_dataloader = torch.utils.data.DataLoader(train_data, batch_size=batch_size, shuffle=True)
    test_dataloader = torch.utils.data.DataLoader(test_data, batch_size=batch_size, shuffle=False)
    loss_fn = torch.nn.CrossEntropyLoss()

    def measure() -> float:
        torch.manual_seed(55)
        model = build()
        optimizer = optimizer_of(model)
        begin = time.perf_counter()
        train_step(model, train_dataloader, loss_fn, optimizer)
        test_step(model, test_dataloader, loss_fn)
        return time.perf_counter() - begin

    return measure


def train_step(
    model: torch.nn.Module, dataloader: torch.utils.data.DataLoader, loss_fn: torch.nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[torch.Tensor, float]:
    """Train for one epoch, line by line as in the source document."""
    import torch

    model.train()
    train_loss, train_acc = torch.zeros(()), 0.0
    for images, labels in dataloader:
        outputs = model(images)
        loss = loss_fn(outputs, labels)
        train_loss = train_loss + loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        predictions = outputs.argmax(dim=1)
        train_acc += ((predictions == labels).sum().item() / len(labels)) * 100
    return train_loss / len(dataloader), train_acc / len(dataloader)


def test_step(
    model: torch.nn.Module, dataloader: torch.utils.data.DataLoader, loss_fn: torch.nn.Module
) -> tuple[torch.Tensor, float]:
    """Score the test images, line by line as in the source document."""
    import torch

    model.eval()
    test_loss, test_acc = torch.zeros(()), 0.0
    with torch.inference_mode():
        for images, labels in dataloader:
            outputs = model(images)
            test_loss = test_loss + loss_fn(outputs, labels)
            predictions = outputs.argmax(dim=1)
            test_acc += ((predictions == labels).sum().item() / len(labels)) * 100
    return test_loss / len(dataloader), test_acc / len(dataloader)


if __name__ == "__main__":
    sys.exit(main())
