"""A model of a person's own whose training ends the process that it is in."""

from __future__ import annotations

ENDING = """\
import os, sys

from paretune.trainers.softmax import Softmax, SoftmaxConfig


class EndingConfig(SoftmaxConfig):
    pass


class Ending(Softmax):
    name = "ending"
    Config = EndingConfig

    def fit_epochs(self, data):
        if self.config.seed == 0:
            {end}
        yield from super().fit_epochs(data)


if __name__ == "__main__":
    from paretune.models.train_command import main

    sys.exit(main(__file__))
"""
