"""Splits are drawn before classes and sizes are chosen, and equal images are on one side of each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from paretune.core.errors import UsageError
from paretune.data.dataset import Data, load_data
from paretune.data.images import Images, Samples
from paretune.data.options import DataOptions
from paretune.data.splits import WholeSet, equal_groups, equal_images_note, split_images


def keys(samples: Samples | None) -> set[bytes]:
    return set() if samples is None else {row.tobytes() for row in samples.x.numpy()}


def noise(counts: list[int], *, seed: int = 0, **parts: tuple[np.ndarray, np.ndarray]) -> Images:
    random = np.random.default_rng(seed)
    y = np.repeat(np.arange(len(counts)), counts)
    x = random.integers(0, 256, (len(y), 1, 4, 4), dtype=np.uint8)
    given = {f"{name}_{axis}": array for name, pair in parts.items() for axis, array in zip("xy", pair, strict=True)}
    return Images([f"c{label}" for label in range(len(counts))], x, y, **given)


def split(images: Images, **values: Any) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return split_images(WholeSet.of(images), images.class_names, DataOptions.from_dict({"data": "digits", **values}), 1)


def rows(part: tuple[np.ndarray, np.ndarray]) -> set[bytes]:
    return {row.tobytes() for row in part[0]}


@pytest.mark.parametrize("chosen", [["3", "8"], ["0", "1", "9"], ["7", "2"]])
@pytest.mark.parametrize("values", [{}, {"split_seed": 4, "holdout": 0.3}, {"n_folds": 4, "fold": 2}, {"holdout": 0.0}], ids=str)
def test_some_classes_of_a_set_are_split_as_the_set_is(chosen: list[str], values: dict[str, Any]) -> None:
    whole, part = (load_data(DataOptions.from_dict({**values, "classes": classes})) for classes in (None, chosen))
    wanted = [whole.class_names.index(name) for name in part.class_names]
    for name in ("train", "holdout", "test"):
        samples: Samples | None = getattr(whole, name)
        own = set() if samples is None else {x.tobytes() for x, y in zip(samples.x.numpy(), samples.y, strict=True) if y in wanted}
        assert keys(getattr(part, name)) == own


def test_a_class_of_one_image_that_is_not_chosen_does_not_matter() -> None:
    images = noise([30, 1, 30])
    parts = split(images, classes=["c0", "c2"])
    assert {name: len(y) for name, (_, y) in parts.items()} == {"train": 40, "test": 12, "holdout": 8}
    assert set(parts["train"][1]) == {0, 1}
    with pytest.raises(UsageError, match="cannot be split with every class on both sides"):
        split(images)


@pytest.mark.parametrize("values", [{}, {"holdout": 0.0}, {"n_folds": 3, "fold": 1}, {"train_size": 30}], ids=str)
@pytest.mark.parametrize("across", [False, True])
def test_equal_images_are_on_one_side_of_every_split(values: dict[str, Any], across: bool) -> None:
    images = noise([40, 40])
    copies = np.arange(0, 80, 3)
    x = np.concatenate([images.x, images.x[copies], images.x[copies[:9]]])
    y = np.concatenate([images.y, (images.y[copies] + across) % 2, images.y[copies[:9]]])
    parts = split(Images(images.class_names, x, y), **values)
    for one in parts:
        for other in parts:
            assert one == other or not rows(parts[one]) & rows(parts[other])
    assert "train_size" in values or sum(len(part[1]) for part in parts.values()) == len(y)


def test_copies_of_given_test_and_hold_out_images_are_not_trained_on() -> None:
    images = noise([40, 40])
    test, val = (images.x[:6].copy(), images.y[:6]), (images.x[4:12].copy(), images.y[4:12])
    given = noise([40, 40], test=test, holdout=val)
    parts = split(given)
    assert rows(parts["test"]) == {row.tobytes() for row in test[0]}
    assert rows(parts["holdout"]) == {row.tobytes() for row in val[0][2:]}
    assert rows(parts["train"]) == {row.tobytes() for row in images.x[12:]}
    assert "holdout" not in split(given, holdout=0.0)
    assert rows(split(given, holdout=0.0)["train"]) == {row.tobytes() for row in images.x[6:]}


def test_copies_are_counted_and_named() -> None:
    images = noise([20, 20])
    x, y = np.concatenate([images.x, images.x[[3, 30]]]), np.concatenate([images.y, [0, 0]])
    copied = Images(images.class_names, x, y)
    assert equal_images_note(WholeSet.of(copied), copied, "set") == (
        "set: 2 of 42 images are exact copies of others, 1 of them of another class (train image 3 (c0) = train image 40 (c0), "
        "train image 30 (c1) = train image 41 (c0)); equal images are on one side of every split"
    )
    assert equal_images_note(WholeSet.of(images), images, "set") is None


def test_a_hash_that_is_equal_by_chance_makes_no_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paretune.data.splits.hash", lambda _: 1, raising=False)
    x = np.array([[1, 2], [3, 4], [1, 2], [5, 6], [3, 4]])
    assert equal_groups(x).tolist() == [0, 1, 0, 3, 1]


def test_a_class_whose_images_are_all_copies_of_locked_ones_is_refused() -> None:
    images = noise([30, 30])
    images.x[30:] = images.x[30]
    with pytest.raises(UsageError, match="digits has no image of c1 left to train on: give the class more images"):
        split(Images(images.class_names, images.x, images.y, test_x=images.x[29:31], test_y=images.y[29:31]))


def test_the_digits_are_split_as_ever() -> None:
    data: Data = load_data(DataOptions())
    assert data.fingerprints == {"test": "901afd984812eb48", "train": "0d16807f62db1ca5", "holdout": "5ce3726e63fedf1b"}
