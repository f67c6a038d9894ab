"""Data options of every trainer: the data set, its splits, classes and image size."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from paretune.core.config import ActiveWhen, Config

LOCKED_SPLIT = 20_240_501  # never changes: it decides which images of `digits` and `folder:` stay unseen


class DataOptions(Config):
    """Which images, split how, and how scores are averaged. These stand beside the Config in each run's config."""

    data: str = Field("digits", description="digits, mnist, fashion_mnist, cifar10 or folder:PATH (one sub-folder per class)")
    classes: list[str] | None = Field(None, min_length=2, description="only these classes of the set: [cat, dog]; None takes all")
    holdout: Annotated[float, ActiveWhen(lambda options: options.n_folds is None)] = Field(
        0.15, ge=0, lt=1, description="share of the training images held out to choose by; 0 trains on all"
    )
    n_folds: int | None = Field(None, ge=2, description="hold out one of this many stratified folds instead of a share")
    fold: Annotated[int, ActiveWhen(lambda options: options.n_folds is not None)] = Field(
        0, ge=0, description="with n_folds: which of the folds is held out, counted from 0"
    )
    split_seed: int = Field(0, ge=0, lt=2**32, description="seed that draws the hold-out or folds, and the train_size subset")
    train_size: int | None = Field(None, gt=0, description="train on at most this many images (stratified); None takes all")
    image_size: int | None = Field(None, gt=0, le=1024, description="side in pixels to which folder: images are resized (32)")
    average: Literal["macro", "weighted", "binary"] = Field(
        "macro", description="how precision, recall and F1 are averaged over the classes"
    )
    positive_class: str | None = Field(None, description="with average=binary: the class whose scores count")
    curves_on_test: bool = Field(
        False, description="log test curves of the locked part each epoch; such runs are refused by pareto and choose"
    )

    @model_validator(mode="after")
    def _check(self) -> DataOptions:
        if (self.average == "binary") != (self.positive_class is not None):
            raise ValueError("average='binary' and positive_class go together: give both or neither")
        if self.image_size is not None and not self.data.startswith("folder:"):
            raise ValueError(f"image_size is for folder: data; {self.data} has a size of its own")
        if self.n_folds is None and self.fold != 0:
            raise ValueError(f"fold is one of n_folds folds: give n_folds as well. Got fold={self.fold}.")
        if self.n_folds is not None and self.fold >= self.n_folds:
            raise ValueError(f"fold must be less than n_folds, {self.n_folds}: folds are counted from 0. Got {self.fold}.")
        if self.n_folds is not None and self.holdout == 0:
            raise ValueError("n_folds holds out a fold and holdout=0 holds out nothing: drop one of the two.")
        return self

    @property
    def evaluation_split(self) -> str:
        """`holdout` or `test`: the part that `test_*`, `precision`, `recall` and `f1` mean."""
        return "test" if self.curves_on_test or self.holdout == 0 else "holdout"

    @property
    def short_name(self) -> str:
        """A name for folders: `mnist`, or the folder's own name."""
        return Path(self.data.removeprefix("folder:")).name or "data"
