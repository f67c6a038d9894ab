"""How a set is split: the locked test part and the hold-out first, classes and sizes after; equal images stay on one side.

Every split is drawn on the whole set, so that a selection of classes has the same locked and held-out images as the set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from paretune.core.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from paretune.data.images import Images
    from paretune.data.options import DataOptions

LOCKED_SHARE = 0.2
MOST_NAMED = 3  # pairs of equal images that a note names
Part = tuple[np.ndarray, np.ndarray]  # images (n_samples, channels, height, width) and labels (n_samples,)


@dataclass(frozen=True)
class WholeSet:
    """All images of a set, of all parts that it was given in.

    Args:
        x: images (n_samples, channels, height, width).
        y: labels (n_samples,).
        given: the part that each was given in (n_samples,): train, holdout or test.
        groups: the first image that is equal to each (n_samples,).
    """

    x: np.ndarray
    y: np.ndarray
    given: np.ndarray
    groups: np.ndarray

    @classmethod
    def of(cls, images: Images) -> WholeSet:
        """Join the parts of a set."""
        given = {
            "train": (images.x, images.y),
            "holdout": (images.holdout_x, images.holdout_y),
            "test": (images.test_x, images.test_y),
        }
        parts = {name: (x, y) for name, (x, y) in given.items() if x is not None and y is not None}
        x = images.x if len(parts) == 1 else np.concatenate([x for x, _ in parts.values()])
        y = np.concatenate([y for _, y in parts.values()])
        return cls(x, y, np.concatenate([np.full(len(y), name) for name, (_, y) in parts.items()]), equal_groups(x))

    def of_part(self, name: str) -> np.ndarray:
        """Return the places of the images that were given in a part."""
        return np.flatnonzero(self.given == name)


def split_images(whole: WholeSet, class_names: Sequence[str], options: DataOptions, locked_split: int) -> dict[str, Part]:
    """Return the parts `train` and `test` of a set, and `holdout` where one is held out, of the chosen classes alone.

    Raises:
        UsageError: if the set cannot be split, or has no such class.
    """
    chosen = chosen_classes(class_names, options.classes, options.data)
    y, groups = whole.y, whole.groups
    wanted = np.isin(y, chosen)
    rest, test = whole.of_part("train"), whole.of_part("test")
    if not len(test):
        rest, test = _stratified(_splittable(rest, y, wanted), y, LOCKED_SHARE, locked_split, options.data)
        rest, test = together(rest, test, groups)
    else:
        rest = rest[~np.isin(groups[rest], groups[test])]  # their copies are in the locked part
    train, held = _hold_out(rest, test, whole, wanted, options)
    parts = {"train": train[wanted[train]], "test": test[wanted[test]]}
    if held is not None:
        parts["holdout"] = held[wanted[held]]
    if options.train_size is not None:
        parts["train"] = _subset(parts["train"], y, options.train_size, len(chosen), options)
    empty = np.setdiff1d(chosen, y[parts["train"]])
    if len(empty):
        raise UsageError(f"{options.data} has no image of {class_names[empty[0]]} left to train on: give the class more images.")
    return {name: (whole.x[indices], np.searchsorted(chosen, y[indices])) for name, indices in parts.items()}


def _hold_out(
    rest: np.ndarray, test: np.ndarray, whole: WholeSet, wanted: np.ndarray, options: DataOptions
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the images to train on and those held out (None: nothing is), of all classes."""
    y, groups, name = whole.y, whole.groups, options.data
    val = whole.of_part("holdout")
    val = val[~np.isin(groups[val], groups[test])]
    if options.n_folds is None and options.holdout == 0:
        return np.concatenate([rest, val]), None
    if options.n_folds is not None:
        pool = _splittable(np.concatenate([rest, val]), y, wanted)
        return together(*_fold(pool, y, options.n_folds, options.fold, options.split_seed, name), groups)
    if len(val):
        return rest[~np.isin(groups[rest], groups[val])], val
    return together(*_stratified(_splittable(rest, y, wanted), y, options.holdout, options.split_seed, name), groups)


def chosen_classes(class_names: Sequence[str], classes: Sequence[str] | None, name: str) -> np.ndarray:
    """Return the indices of some classes of a set, ascending; None takes all.

    Raises:
        UsageError: if the set has no such class, or one is named twice.
    """
    if classes is None:
        return np.arange(len(class_names))
    for wanted in classes:
        if wanted not in class_names:
            near = did_you_mean(wanted, class_names) or f"; there are {', '.join(class_names)}."
            raise UsageError(f"classes names {wanted!r}, which is not a class of {name}{near}")
    if len(set(classes)) < len(classes):
        raise UsageError(f"classes must name each class once. Got {list(classes)!r}.")
    return np.array([label for label, wanted in enumerate(class_names) if wanted in classes])


def equal_groups(x: np.ndarray) -> np.ndarray:
    """Return for each image (n_samples, …) the index of the first one that is equal to it (n_samples,)."""
    seen: dict[int, list[int]] = {}
    groups = np.arange(len(x))
    for index, row in enumerate(x):
        key = hash(row.tobytes())
        for other in seen.setdefault(key, []):
            if np.array_equal(x[other], row):
                groups[index] = other
                break
        else:
            seen[key].append(index)
    return groups


def together(first: np.ndarray, second: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return two sides of a split with equal images on one side, that of the first of them."""
    side = np.full(len(groups), -1)
    side[first], side[second] = 0, 1
    for group in np.intersect1d(groups[first], groups[second]):
        members = np.flatnonzero((groups == group) & (side >= 0))
        side[members] = side[members[0]]
    if np.array_equal(np.flatnonzero(side == 0), np.sort(first)):
        return first, second
    both = np.concatenate([first, second])
    return both[side[both] == 0], both[side[both] == 1]


def _splittable(indices: np.ndarray, y: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Leave out the images of classes of which there is one, unless they are wanted: nothing can be split of them."""
    counts = np.bincount(y[indices], minlength=int(y.max()) + 1)
    return indices[(counts[y[indices]] > 1) | wanted[indices]]


def _subset(indices: np.ndarray, y: np.ndarray, size: int, n_classes: int, options: DataOptions) -> np.ndarray:
    """Return so many of the images, the classes in proportion."""
    if size >= len(indices):
        return indices
    if size < n_classes:
        raise UsageError(f"train_size must be at least the number of classes, {n_classes}. Got {size}.")
    spare = len(indices) - size
    if spare < n_classes:  # too few to leave out one of each class
        return np.random.default_rng(options.split_seed).permutation(indices)[spare:]
    return _stratified(indices, y, spare, options.split_seed, options.data)[0]


def _stratified(indices: np.ndarray, y: np.ndarray, share: float | int, seed: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Split `indices` in two with the classes in proportion; the second holds `share` (a fraction or a count) of them."""
    from sklearn.model_selection import train_test_split

    try:
        first, second = train_test_split(indices, test_size=share, stratify=y[indices], random_state=seed)
    except ValueError as error:
        raise UsageError(
            f"{name} cannot be split with every class on both sides ({str(error).rstrip('.')}): give each class more images."
        ) from None
    return first, second


def _fold(indices: np.ndarray, y: np.ndarray, n_folds: int, fold: int, seed: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the images of all folds but one, and of that one; each fold holds the classes in proportion."""
    from sklearn.model_selection import StratifiedKFold

    smallest = int(np.unique(y[indices], return_counts=True)[1].min())
    if smallest < n_folds:
        raise UsageError(
            f"{name} cannot be split into {n_folds} folds with every class in each (the smallest class has {smallest} images "
            "to train on): give each class more images or lower n_folds."
        )
    folds = list(StratifiedKFold(n_folds, shuffle=True, random_state=seed).split(indices, y[indices]))
    kept, held = folds[fold]
    return indices[kept], indices[held]


def equal_images_note(whole: WholeSet, images: Images, name: str) -> str | None:
    """Return a sentence on exact copies in a set and between its parts; None where there are none."""
    y, groups = whole.y, whole.groups
    copies = np.flatnonzero(groups != np.arange(len(groups)))
    if not len(copies):
        return None
    across = int((y[copies] != y[groups[copies]]).sum())

    def shown(place: Any) -> str:
        if images.files is not None:
            return images.files[place]
        part = whole.given[place]
        return f"{part} image {place - whole.of_part(part)[0]} ({images.class_names[y[place]]})"

    pairs = [f"{shown(groups[place])} = {shown(place)}" for place in copies[:MOST_NAMED]]
    more = f" and {len(copies) - MOST_NAMED} more" if len(copies) > MOST_NAMED else ""
    return (
        f"{name}: {len(copies)} of {len(y):,} images are exact copies of others, {across} of them of another class "
        f"({', '.join(pairs)}{more}); equal images are on one side of every split"
    )
