"""K5 to K7: softmax regression by hand, any optimizer, two convolutions (the document 000, part 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from paretune.analysis.figures.curve_grids import curve_grid_figure
from paretune.analysis.figures.models import class_scores_figure
from paretune.analysis.figures.runs import COLORS, new_figure, styled
from paretune.core.metrics import class_scores
from paretune.core.step import seeded
from paretune.data.dataset import load_data
from paretune.data.options import DataOptions
from paretune.trainers.softmax import Softmax, SoftmaxConfig
from studies.base import Study, last, mean_with_interval
from studies.feed_forward import SMALLER, by_value

if TYPE_CHECKING:
    import torch

    from paretune.analysis.sources.run_record import RunRecord
    from paretune.data.dataset import Data
    from paretune.trainers.softmax import Softmax

RATE, BATCH = 0.05, 64


@styled
def k5(study: Study) -> None:
    """Train softmax regression on plain tensors, and hold it against the product's softmax with plain SGD."""
    from matplotlib.ticker import MaxNLocator

    smaller = study.less({"epochs": 3, "train_size": 6000})
    epochs = int(smaller.get("epochs", 10))
    data = load_data(DataOptions.from_dict({"data": "fashion_mnist", "holdout": 0.0, "train_size": smaller.get("train_size")}))
    config = SoftmaxConfig(optimizer="sgd", learning_rate=RATE, batch_size=BATCH, epochs=epochs, normalize="none")
    start = Softmax(config, device="cpu").initialize(data)
    weights, bias, losses = by_hand(start, data, epochs)
    model = Softmax(config, device="cpu")
    ours = [epoch.metrics["train_loss"] for epoch in model.fit_epochs(data)]
    difference = max(abs(a - b) / b for a, b in zip(losses, ours, strict=True))
    study.line(
        "loss by epoch, by hand", "falls", ", ".join(f"{loss:.4f}" for loss in losses), reached=losses == sorted(losses)[::-1]
    )
    study.line("largest relative difference to the product's softmax with SGD", "-", f"{difference:.1e}", reached=difference < 1e-4)
    labels = data.test.y.numpy()
    predicted = (data.test.x.flatten(1) @ weights.T + bias).argmax(dim=1).numpy()
    study.line("test accuracy, by hand", "-", f"{(predicted == labels).mean():.4f}")
    n = len(data.class_names)
    scores = class_scores(np.bincount(labels * n + predicted, minlength=n * n).reshape(n, n))["f1"]
    order = np.argsort(scores)
    study.line(
        "easiest and hardest class by F1",
        "-",
        f"{data.class_names[order[-1]]} {scores[order[-1]]:.2f}, {data.class_names[order[0]]} {scores[order[0]]:.2f}",
    )
    figure, (axes,) = new_figure(4.6, 3.0)
    numbers = np.arange(1, epochs + 1)
    axes.plot(numbers, losses, "-o", color=COLORS[0], label="by hand")
    axes.plot(numbers, ours, "x", color=COLORS[1], ms=8, label="trainers/softmax.py")
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel("training loss")
    axes.legend(fontsize=8)
    study.draw(
        figure,
        "loss",
        "Mean cross-entropy of each epoch, by hand and by the product, from the same weights and in the same order.",
        width="60%",
    )
    study.draw(class_scores_figure(labels, predicted, data.class_names), "classes", "Scores of each class on the test images.")


def by_hand(start: Softmax, data: Data, epochs: int) -> tuple[torch.Tensor, torch.Tensor, list[float]]:
    """Minimise the cross-entropy by mini-batch gradient descent on plain tensors: no optimizer, no module.

    Args:
        start: an untrained softmax, whose weights and whose order of images are taken.

    Returns:
        The weights (n_classes, n_pixels), the bias (n_classes,) and the mean loss of each epoch.
    """
    import torch

    state = start.state()
    weights = torch.from_numpy(state["net.output.weight"].copy()).requires_grad_()
    bias = torch.from_numpy(state["net.output.bias"].copy()).requires_grad_()
    x, y = data.train.x.flatten(1), data.train.y
    losses = []
    for epoch in range(1, epochs + 1):
        with seeded(x.device, start.config.seed, epoch):
            order = torch.randperm(len(x))
        total = 0.0
        for batch in order.split(BATCH):
            logits = x[batch] @ weights.T + bias
            loss = (logits.logsumexp(dim=1) - logits.gather(1, y[batch, None])[:, 0]).mean()
            loss.backward()
            with torch.no_grad():
                for parameter in (weights, bias):
                    parameter -= RATE * parameter.grad  # type: ignore[operator]
                    parameter.grad = None
            total += loss.item() * len(batch)
        losses.append(total / len(x))
    return weights.detach(), bias.detach(), losses


def k6(study: Study) -> None:
    """Train softmax regression by four optimizers."""
    runs = by_value(study.sweep("k6", **SMALLER), "optimizer")
    accuracy_by_rate(study, runs)
    figure = curve_grid_figure(
        [
            {f"{name}, learning rate {rate}": own for rate, own in by_value(group, "learning_rate").items()}
            for name, group in runs.items()
        ],
        "loss",
        part="test",
        log=True,
    )
    study.draw(figure, "loss", "Loss over the epochs: each row an optimizer, each column a learning rate.")


def k7(study: Study) -> None:
    """Train the net of two convolutions, beside the softmax regressions of K5 and K6."""
    runs = study.sweep("k7", epochs=2, train_size=6000)
    softmax = by_value(study.sweep("k6", **SMALLER), "optimizer")
    accuracy = last(runs, "test_accuracy")
    others = {
        f"{name} at {rate}": last(own, "test_accuracy").mean()
        for name, group in softmax.items()
        for rate, own in by_value(group, "learning_rate").items()
    }
    name = max(others, key=lambda key: others[key])
    study.line(
        "test accuracy of the convolutional net, last epoch, seeds 0 to 2",
        "better than K5 and K6",
        mean_with_interval(accuracy),
        reached=bool(accuracy.mean() > others[name]),
    )
    study.line("softmax regression: the highest of K6", "-", f"{others[name]:.4f} ({name})")
    panels = {
        "two convolutions": runs,
        f"softmax, {name}": [
            run
            for group in softmax.values()
            for run in group
            if f"{run.config['optimizer']} at {run.config['learning_rate']}" == name
        ],
    }
    for metric in ("loss", "accuracy"):
        study.draw(
            curve_grid_figure([panels], metric, part="test"),
            metric,
            f"{metric.capitalize()} of the convolutional net beside softmax regression.",
        )


def accuracy_by_rate(study: Study, runs: dict[Any, list[RunRecord]]) -> None:
    """Add the accuracy of each optimizer at each learning rate."""
    for name, group in runs.items():
        values = ", ".join(
            f"{last(own, 'test_accuracy').mean():.4f} at {rate}" for rate, own in by_value(group, "learning_rate").items()
        )
        study.line(f"{name}: test accuracy, last epoch", "-", values)
