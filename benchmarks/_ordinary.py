"""A trial as one ordinarily writes it for `wandb agent`: a process, torchvision, DataLoader, autograd, a row an epoch.

benchmarks/replay.py starts it with the values of a configuration as flags; MNIST is read from DATA_ROOT.
"""

from __future__ import annotations

import argparse
import os

import torch
import wandb
from sklearn.metrics import precision_recall_fscore_support
from torch import nn
from torch.utils.data import DataLoader, random_split
from torchvision import datasets, transforms

ACTIVATIONS = {"sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "relu": nn.ReLU}
HOLDOUT = 0.15


def main() -> None:
    """Train one configuration, and log it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--activation", default="sigmoid")
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--learning_rate", type=float, default=0.01)
    parser.add_argument("--momentum", type=float, default=0.0)
    parser.add_argument("--epochs", type=int, default=5)
    with wandb.init(config=vars(parser.parse_args())) as run:
        train(run)


def train(run: wandb.Run) -> None:
    """Train for some epochs; after each, score the hold-out and log."""
    config = run.config
    torch.manual_seed(55)
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,), (0.5,))])
    whole = datasets.MNIST(root=os.environ["DATA_ROOT"], train=True, download=False, transform=transform)
    n_holdout = round(HOLDOUT * len(whole))
    parts = random_split(whole, [len(whole) - n_holdout, n_holdout], torch.Generator().manual_seed(55))
    loaders = [DataLoader(part, batch_size=config.batch_size, shuffle=part is parts[0]) for part in parts]
    layers = [nn.Flatten(), nn.Linear(28 * 28, config.width), ACTIVATIONS[config.activation](), nn.Linear(config.width, 10)]
    net = nn.Sequential(*layers)
    optimizer = torch.optim.SGD(net.parameters(), lr=config.learning_rate, momentum=config.momentum)
    loss_fn = nn.CrossEntropyLoss()
    for _ in range(config.epochs):
        net.train()
        train_loss = 0.0
        for images, labels in loaders[0]:
            loss = loss_fn(net(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            train_loss += loss.item() / len(loaders[0])
        net.eval()
        true, predicted = [], []
        with torch.inference_mode():
            for images, labels in loaders[1]:
                true += labels.tolist()
                predicted += net(images).argmax(dim=1).tolist()
        precision, recall, f1, _ = precision_recall_fscore_support(true, predicted, average="macro", zero_division=0)
        run.log({"train_loss": train_loss, "precision": precision, "recall": recall, "f1": f1})


if __name__ == "__main__":
    main()
