"""Seconds of a model-epoch where many models train at once, on 60,000 MNIST images and scored on 10,000 after each epoch.

Two sets of configurations: 32 of 784-32-10 (preset sigmoid_32, batch 64) that differ in their learning rate, and those of
study E2 (784-64-784, batch 1000, learning rate and momentum on a grid of 19 x 19). Each is timed at once (`fit_population`),
one by one in memory by autograd (the loop that trains what is not written out), one by one written out (as `fit_epochs` trains
them now), and with torchvision and DataLoader as the source documents write it. All in one process, in turn; what a run does
once (build the nets, normalise the images) is in our times, reading the files in none.

    python benchmarks/population.py [--json] [--rounds 3] [--quick]

One by one and with DataLoader a part is timed: 4 of the 32 and 2 of the 361 networks, one network. At once, all 32 are timed
and 24 of the 361. Stated are means over the epochs of the networks; the totals of E2's 1,805 epochs are extrapolated from them.
Goals: the 32 at least 6 times faster than one by one by autograd and 100 times faster than DataLoader; the 361 no slower than
one by one by autograd and at least 20 times faster than DataLoader.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # it runs from any folder

from benchmarks._result import Result, has_mnist, how_many, medians_in_turn, show, times

N_CLASSIFIERS, N_AUTOENCODERS, E2_EPOCHS = 32, 361, 1805


def main() -> int:
    """Measure both sets and print."""
    parser = argparse.ArgumentParser(description="Seconds of a model-epoch, many models at once.", allow_abbrev=False)
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    parser.add_argument(
        "--rounds", type=how_many, default=3, metavar="N", help="times each side is measured; the median counts (default: 3)"
    )
    parser.add_argument("--quick", action="store_true", help="one round of one epoch, 8 autoencoders instead of 24")
    options = parser.parse_args()
    if not has_mnist("benchmarks/population.py", as_json=options.json):
        return 0

    import torch  # after `trainers`, which says how its threads wait

    rounds, n_epochs = (1, 1) if options.quick else (options.rounds, 2)
    results = classifiers(rounds, n_epochs) + autoencoders(rounds, n_epochs, 8 if options.quick else 24)
    show(
        results, as_json=options.json, notes=[f"{torch.get_num_threads()} threads; seconds of a model-epoch unless said otherwise"]
    )
    return 0


def classifiers(rounds: int, n_epochs: int) -> list[Result]:
    """Measure 32 classifiers at once, 4 one by one, and one with DataLoader."""
    from benchmarks.epoch import their_side
    from paretune.trainers.ann import Ann

    rates = [0.01 * 1.1**number for number in range(N_CLASSIFIERS)]
    sides = sides_of(Ann, "sigmoid_32", [{"learning_rate": rate} for rate in rates], n_epochs, one_by_one=4)
    medians = medians_in_turn({**sides, "loader": their_side()}, rounds)
    name = f"{N_CLASSIFIERS} classifiers at once"
    return [
        times(f"{name}, against one by one by autograd", medians["at once"], medians["autograd"], goal=">= 6x"),
        times(f"{name}, against one by one written out", medians["at once"], medians["written out"]),
        times(f"{name}, against DataLoader", medians["at once"], medians["loader"], goal=">= 100x"),
    ]


def autoencoders(rounds: int, n_epochs: int, n_at_once: int) -> list[Result]:
    """Measure autoencoders of study E2 at once, 2 one by one, and one with DataLoader."""
    from paretune.trainers.autoencoder import Autoencoder

    values = [number * 0.05 for number in range(1, 20)]
    grid = [{"learning_rate": rate, "momentum": momentum} for rate in values for momentum in values]
    chosen = grid[:: len(grid) // n_at_once][:n_at_once]
    sides = sides_of(Autoencoder, "autoencoder_64", chosen, n_epochs, one_by_one=2)
    medians = medians_in_turn({**sides, "loader": their_autoencoder()}, rounds)
    name = f"{n_at_once} of {N_AUTOENCODERS} autoencoders at once"
    total = {side: seconds * E2_EPOCHS for side, seconds in medians.items()}
    return [
        times(f"{name}, against one by one by autograd", medians["at once"], medians["autograd"], goal=">= 1x"),
        times(f"{name}, against one by one written out", medians["at once"], medians["written out"]),
        times(f"{name}, against DataLoader", medians["at once"], medians["loader"], goal=">= 20x"),
        times("all of E2, extrapolated, against DataLoader", total["at once"], total["loader"]),
    ]


def sides_of(
    kind: Any, preset: str, configurations: Sequence[dict[str, Any]], n_epochs: int, *, one_by_one: int
) -> dict[str, Callable[[], float]]:
    """Return functions that measure a mean model-epoch of ours: at once, and one by one in both ways."""
    from paretune.batched import training
    from paretune.data.dataset import load_data
    from paretune.models.run_config import configure

    common = {"preset": preset, "data": "mnist", "holdout": 0.0, "curves_on_test": True, "epochs": n_epochs}
    configs = [configure(kind, {**common, **values})[0] for values in configurations]
    data = load_data(configure(kind, common)[1])

    def at_once() -> float:
        begin = time.perf_counter()
        for _ in kind.fit_population(configs, data, device="cpu"):
            pass
        return (time.perf_counter() - begin) / (len(configs) * n_epochs)

    def alone() -> float:
        begin = time.perf_counter()
        for config in configs[:one_by_one]:
            kind(config, device="cpu").fit(data)
        return (time.perf_counter() - begin) / (one_by_one * n_epochs)

    def autograd() -> float:
        written_out = training.is_written_out
        training.is_written_out = lambda model: False
        try:
            return alone()
        finally:
            training.is_written_out = written_out

    return {"at once": at_once, "autograd": autograd, "written out": alone}


def their_autoencoder() -> Callable[[], float]:
    """Return a function that measures an epoch of an autoencoder as the source document trains it."""
    import torch
    from torchvision import datasets, transforms

    from paretune.data.dataset import data_root

    transform = transforms.ToTensor()
    parts = [datasets.MNIST(root=str(data_root()), train=train, download=False, transform=transform) for train in (True, False)]
    train, test = (torch.utils.data.DataLoader(part, batch_size=1000, shuffle=part is parts[0]) for part in parts)
    loss_fn = torch.nn.MSELoss()

    def measure() -> float:
        torch.manual_seed(55)
        layers = [torch.nn.Linear(28 * 28, 64), torch.nn.Sigmoid(), torch.nn.Dropout(0.1), torch.nn.Linear(64, 28 * 28)]
        model = torch.nn.Sequential(torch.nn.Flatten(), *layers, torch.nn.Sigmoid(), torch.nn.Unflatten(1, (1, 28, 28)))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.95, momentum=0.95)
        begin = time.perf_counter()
        model.train()
        for images, _ in train:
            loss = loss_fn(model(images), images)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.inference_mode():
            for images, _ in test:
                loss_fn(model(images), images).item()
        return time.perf_counter() - begin

    return measure


if __name__ == "__main__":
    sys.exit(main())
