"""Which image falls into which part, and what is said when a set cannot be read."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from paretune.core.errors import UsageError
from paretune.data import picture_folders, pictures
from paretune.data.dataset import Data, data_root, fingerprint, load_data
from paretune.data.images import Samples
from paretune.data.options import DataOptions


def digits(**options: Any) -> Data:
    return load_data(DataOptions.from_dict(options))


def rows(samples: Samples | None) -> list[bytes]:
    assert samples is not None
    return [image.tobytes() + bytes([int(label)]) for image, label in zip(samples.x.numpy(), samples.y, strict=True)]


def test_digits_are_scikit_learns_scaled_to_one() -> None:
    from sklearn.datasets import load_digits

    data = digits()
    assert data.class_names == [str(digit) for digit in range(10)]
    assert data.input_shape == (1, 8, 8)
    assert sum(map(len, (data.train, data.holdout, data.test))) == 1797  # type: ignore[arg-type]
    assert len(data.test) == 360
    assert float(data.train.x.min()) == 0.0
    assert float(data.train.x.max()) == 1.0
    every = sorted(rows(data.train) + rows(data.holdout) + rows(data.test))
    source = load_digits()
    images = (source.images / 16).astype(np.float32)
    assert every == sorted(image.tobytes() + bytes([label]) for image, label in zip(images, source.target, strict=True))


@pytest.mark.parametrize(
    "options",
    [
        {"split_seed": 1},
        {"split_seed": 2**32 - 1},
        {"holdout": 0},
        {"holdout": 0.4},
        {"train_size": 50},
        {"n_folds": 4, "fold": 3},
        {"curves_on_test": True},
        {"average": "weighted"},
    ],
)
def test_no_option_changes_the_locked_part(options: dict[str, Any]) -> None:
    plain, other = digits(), digits(**options)
    assert rows(other.test) == rows(plain.test)
    assert other.fingerprints["test"] == plain.fingerprints["test"]


def test_the_locked_part_of_digits_never_changes() -> None:
    assert digits().fingerprints["test"] == LOCKED_DIGITS


LOCKED_DIGITS = "901afd984812eb48"  # a saved model's figures mean these images


def test_the_hold_out_is_drawn_by_the_split_seed_alone() -> None:
    first, again, other = digits(split_seed=3), digits(split_seed=3), digits(split_seed=4)
    assert rows(first.holdout) == rows(again.holdout)
    assert sorted(rows(first.holdout)) != sorted(rows(other.holdout))


@pytest.mark.parametrize("options", [{}, {"holdout": 0.3, "split_seed": 5}, {"n_folds": 3, "fold": 1}, {"train_size": 200}])
def test_parts_keep_the_classes_in_proportion(options: dict[str, Any]) -> None:
    data = digits(**options)
    for part in (data.train, data.holdout, data.test):
        assert part is not None
        shares = np.array(part.class_counts(10)) / len(part)
        assert np.abs(shares - 0.1).max() < 0.02


def test_a_smaller_training_part_leaves_the_others_alone_and_is_part_of_the_whole() -> None:
    whole, small = digits(), digits(train_size=100)
    assert len(small.train) == 100
    assert rows(small.holdout) == rows(whole.holdout)
    assert set(rows(small.train)) <= set(rows(whole.train))


@pytest.mark.parametrize("size", [10, 1212, 1215, 1220, 1221, 1222, 10**6])
def test_train_size_is_an_upper_bound(size: int) -> None:
    assert len(digits(train_size=size).train) == min(size, 1221)


def test_a_training_part_smaller_than_the_classes_is_refused() -> None:
    with pytest.raises(UsageError, match=r"train_size must be at least the number of classes, 10. Got 9."):
        digits(train_size=9)


def test_without_a_hold_out_everything_is_trained_on_and_nothing_scored_meanwhile() -> None:
    data = digits(holdout=0)
    assert (len(data.train), data.holdout, data.evaluated, data.evaluation_split) == (1437, None, None, "test")
    assert "holdout" not in data.fingerprints


def test_with_a_hold_out_that_is_what_is_scored() -> None:
    data = digits()
    assert data.evaluated is data.holdout
    assert data.evaluation_split == "holdout"


def test_curves_on_test_score_the_locked_part() -> None:
    data = digits(curves_on_test=True)
    assert data.evaluated is data.test
    assert data.evaluation_split == "test"


def test_fingerprints_change_with_image_label_and_order() -> None:
    x, y = np.arange(8, dtype=np.uint8).reshape(2, 1, 2, 2), np.array([0, 1])
    changed = x.copy()
    changed[0, 0, 0, 0] = 9
    found = {
        fingerprint(x, y),
        fingerprint(changed, y),
        fingerprint(x, y[::-1]),
        fingerprint(x[::-1], y[::-1]),
        fingerprint(x[:1], y[:1]),
    }
    assert len(found) == 5


def test_a_hold_out_too_small_for_every_class_is_refused() -> None:
    with pytest.raises(UsageError, match="digits cannot be split with every class on both sides"):
        digits(holdout=0.001)


@pytest.mark.parametrize("n_folds", [2, 5])
def test_every_image_is_held_out_in_exactly_one_fold(n_folds: int) -> None:
    folds = [digits(n_folds=n_folds, fold=fold) for fold in range(n_folds)]
    every = sorted(rows(digits(holdout=0).train))
    assert sorted(row for data in folds for row in rows(data.holdout)) == every
    for data in folds:
        assert sorted(rows(data.train) + rows(data.holdout)) == every
        assert abs(len(data.holdout or ()) - len(every) / n_folds) < 1
        assert (data.evaluated, data.evaluation_split) == (data.holdout, "holdout")


def test_folds_are_scikit_learns() -> None:
    from sklearn.model_selection import StratifiedKFold

    whole, data = digits(holdout=0).train, digits(n_folds=5, fold=2, split_seed=7)
    rest, held = list(StratifiedKFold(5, shuffle=True, random_state=7).split(whole.x, whole.y))[2]
    assert rows(data.holdout) == rows(Samples(whole.x[held], whole.y[held]))
    assert rows(data.train) == rows(Samples(whole.x[rest], whole.y[rest]))


def test_folds_are_drawn_by_the_split_seed_alone() -> None:
    first, other = digits(n_folds=5, split_seed=3), digits(n_folds=5, split_seed=4)
    assert rows(first.holdout) == rows(digits(n_folds=5, split_seed=3, holdout=0.4).holdout)
    assert sorted(rows(first.holdout)) != sorted(rows(other.holdout))


def test_a_smaller_training_part_leaves_the_fold_alone() -> None:
    whole, small = digits(n_folds=5, fold=4), digits(n_folds=5, fold=4, train_size=100)
    assert len(small.train) == 100
    assert rows(small.holdout) == rows(whole.holdout)
    assert set(rows(small.train)) <= set(rows(whole.train))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"fold": 2}, "fold is one of n_folds folds: give n_folds as well. Got fold=2."),
        ({"n_folds": 5, "fold": 5}, "fold must be less than n_folds, 5: folds are counted from 0. Got 5."),
        ({"n_folds": 5, "holdout": 0}, "n_folds holds out a fold and holdout=0 holds out nothing: drop one of the two."),
        ({"n_folds": 1}, "n_folds must be greater than or equal to 2. Got 1."),
        ({"n_folds": 5, "fold": -1}, "fold must be greater than or equal to 0. Got -1."),
    ],
)
def test_folds_that_are_none_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError) as refusal:
        DataOptions.from_dict(options)
    assert str(refusal.value) == sentence


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("mnits", "data 'mnits' is not a set; did you mean 'mnist'?"),
        ("zzz", "data 'zzz' is not a set; there are digits, mnist, fashion_mnist, cifar10 and folder:PATH."),
    ],
)
def test_an_unknown_set_is_refused(name: str, sentence: str) -> None:
    with pytest.raises(UsageError) as refusal:
        digits(data=name)
    assert sentence in str(refusal.value)


def test_data_root_is_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA_ROOT", "/somewhere")
    assert data_root() == Path("/somewhere")
    monkeypatch.delenv("DATA_ROOT")
    assert data_root().name == "data"


# Folders of pictures


def picture(path: Path, value: int | tuple[int, ...], *, size: tuple[int, int] = (5, 4), mode: str = "L") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two classes of ten grey pictures, dark and light."""
    monkeypatch.setenv("DATA_ROOT", str(tmp_path / "root"))
    for i in range(10):
        picture(tmp_path / "set" / "dark" / f"{i}.png", 10 + i)
        picture(tmp_path / "set" / "light" / f"{i}.jpg", 200 + i)
    return tmp_path / "set"


def of_folder(folder: Path, **options: Any) -> Data:
    return digits(data=f"folder:{folder}", **options)


def test_a_folder_of_grey_pictures_is_read_resized_and_split(folder: Path) -> None:
    data = of_folder(folder, image_size=7, holdout=0.25)
    assert data.class_names == ["dark", "light"]
    assert data.input_shape == (1, 7, 7)
    assert (len(data.train), len(data.holdout or ()), len(data.test)) == (12, 4, 4)
    bright = data.train.x.mean(dim=(1, 2, 3)) > 0.5
    assert (bright == data.train.y.bool()).all()


def test_pictures_are_resized_to_32_pixels_where_nothing_is_said(folder: Path) -> None:
    assert of_folder(folder, holdout=0.2).input_shape == (1, 32, 32)


def test_one_colour_picture_makes_the_set_colour(folder: Path) -> None:
    picture(folder / "light" / "0.jpg", (255, 0, 0), mode="RGB", size=(30, 3))
    data = of_folder(folder, image_size=4, holdout=0.2)
    assert data.input_shape == (3, 4, 4)
    assert [float(x) for x in data.test.x[data.test.y == 0][0].mean(dim=(1, 2))] == pytest.approx([0.05] * 3, abs=0.03)


@pytest.mark.parametrize(
    ("mode", "value"), [("RGBA", (9, 9, 9, 255)), ("P", 3), ("1", 1), ("LA", (9, 255)), ("CMYK", (0, 0, 0, 9))]
)
def test_pictures_of_any_mode_are_read(folder: Path, mode: str, value: Any) -> None:
    suffix = "tiff" if mode == "CMYK" else "png"
    picture(folder / "dark" / f"other.{suffix}", value, mode=mode)
    data = of_folder(folder, image_size=4, holdout=0.2)
    assert data.input_shape[0] == (1 if mode in {"1", "LA"} else 3)


def test_pictures_of_16_bits_keep_their_grey(folder: Path) -> None:
    path = folder / "dark" / "deep.png"
    Image.fromarray(np.full((4, 4), 128 * 257, dtype=np.uint16)).save(path)
    x = pictures.read_pictures([path], 4)
    assert x.shape == (1, 1, 4, 4)
    assert np.abs(x.astype(int) - 128).max() <= 1


def test_pictures_of_sub_folders_count_and_other_files_do_not(folder: Path) -> None:
    picture(folder / "dark" / "more" / "a.PNG", 3)
    (folder / "dark" / "notes.txt").write_text("no picture")
    (folder / ".hidden").mkdir()
    _, x, y = picture_folders.read_folder(folder, 4)
    assert (len(x), y.tolist().count(0)) == (21, 11)


def test_decoded_pictures_are_kept_and_read_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = of_folder(folder, holdout=0.2)

    def unread(*_: Any, **__: Any) -> Any:
        raise AssertionError("decoded again")

    monkeypatch.setattr(picture_folders, "read_pictures", unread)
    second = of_folder(folder, holdout=0.2)
    assert rows(second.train) == rows(first.train)
    assert second.fingerprints == first.fingerprints


def test_a_changed_picture_is_decoded_anew(folder: Path) -> None:
    before = of_folder(folder, holdout=0.2).fingerprints
    path = picture(folder / "dark" / "3.png", 99)
    os.utime(path, ns=(1, 1))
    assert of_folder(folder, holdout=0.2).fingerprints != before


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder.parent / "file").write_text("")
    monkeypatch.setenv("DATA_ROOT", str(folder.parent / "file"))
    assert len(of_folder(folder, holdout=0.2).test) == 4


def test_a_set_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="must be a folder with one sub-folder per class; there is no such folder"):
        of_folder(tmp_path / "nothing")


def test_one_class_is_no_set(tmp_path: Path) -> None:
    picture(tmp_path / "only" / "a.png", 1)
    with pytest.raises(UsageError, match=r"must hold at least two sub-folders, one per class. Got 1."):
        of_folder(tmp_path)


def test_an_empty_class_is_named(folder: Path) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(UsageError, match=r"set/empty holds no picture \(.*\.png.*\): add some or remove it"):
        of_folder(folder)


@pytest.mark.parametrize("content", [b"", b"not a picture", None])
def test_an_unreadable_picture_is_named(folder: Path, content: bytes | None) -> None:
    path = folder / "dark" / "3.png"
    path.write_bytes(path.read_bytes()[:-30] if content is None else content)
    with pytest.raises(UsageError, match=r"dark/3.png is not a readable picture"):
        of_folder(folder, holdout=0.2)


def test_a_class_of_one_picture_cannot_be_split(folder: Path) -> None:
    picture(folder / "rare" / "a.png", 5)
    with pytest.raises(UsageError, match="cannot be split with every class on both sides"):
        of_folder(folder, holdout=0.2)


def test_more_folds_than_pictures_of_a_class_are_refused(folder: Path) -> None:
    assert of_folder(folder, n_folds=8).train.class_counts(2) == [7, 7]
    sentence = r"cannot be split into 9 folds with every class in each \(the smallest class has 8 images to train on\)"
    with pytest.raises(UsageError, match=sentence):
        of_folder(folder, n_folds=9)


def test_unbalanced_folders_keep_every_class_in_every_part(folder: Path) -> None:
    for i in range(90):
        picture(folder / "dark" / f"more{i}.png", 5)
    data = of_folder(folder, holdout=0.2)
    for part in (data.train, data.holdout, data.test):
        assert part is not None
        assert part.class_counts(2)[1] >= 1


def test_a_positive_class_is_one_of_the_classes(folder: Path) -> None:
    data = of_folder(folder, holdout=0.2, average="binary", positive_class="light")
    assert (data.average, data.positive) == ("binary", 1)
    with pytest.raises(UsageError, match=r"positive_class must be one of the classes dark, light. Got 'white'."):
        of_folder(folder, holdout=0.2, average="binary", positive_class="white")


# Files of the official sets


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, dtype=">i4").tobytes() + array.astype(np.uint8).tobytes()


@pytest.fixture
def mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny MNIST: 60 training and 20 test images of 3x2 pixels, packed as torchvision keeps them."""
    monkeypatch.setenv("DATA_ROOT", str(tmp_path))
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part, count in (("train", 60), ("t10k", 20)):
        images = np.random.default_rng(count).integers(0, 256, (count, 3, 2))
        (raw / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
        (raw / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.arange(count) % 10)))
    return raw


def test_idx_files_are_read_plain_or_packed_and_the_official_test_part_is_locked(mnist: Path) -> None:
    data = digits(data="mnist", holdout=1 / 3)
    assert data.input_shape == (1, 3, 2)
    assert (len(data.train), len(data.holdout or ()), len(data.test)) == (40, 20, 20)
    wanted = np.random.default_rng(20).integers(0, 256, (20, 3, 2))[:, None] / 255
    np.testing.assert_allclose(data.test.x.numpy(), wanted, atol=1e-7)
    assert data.test.y.tolist() == list(range(10)) * 2


@pytest.mark.parametrize("cut", [0, 3, 10, -1])
def test_a_broken_idx_file_is_named(mnist: Path, cut: int) -> None:
    path = mnist / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(UsageError, match=r"train-images-idx3-ubyte is not a whole idx file of bytes; remove it"):
        digits(data="mnist")


@pytest.mark.parametrize("content", [b"no gzip", b"", None])
def test_a_broken_packed_file_is_named(mnist: Path, content: bytes | None) -> None:
    path = mnist / "train-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-12] if content is None else content)
    with pytest.raises(UsageError, match=r"train-labels-idx1-ubyte"):
        digits(data="mnist")


def test_as_many_labels_as_images_are_wanted(mnist: Path) -> None:
    (mnist / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.arange(59) % 10)))
    with pytest.raises(UsageError, match=r"60 images and 59 labels"):
        digits(data="mnist")


def test_a_missing_companion_is_named(mnist: Path) -> None:
    (mnist / "train-images-idx3-ubyte").unlink()
    with pytest.raises(UsageError, match="train-images-idx3-ubyte cannot be read"):
        digits(data="mnist")


@pytest.mark.parametrize(("name", "torchs"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST"), ("cifar10", "CIFAR10")])
def test_without_set_and_network_one_sentence_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, torchs: str
) -> None:
    import torchvision.datasets

    def no_network(*_: Any, **__: Any) -> None:
        (tmp_path / torchs / "raw").mkdir(parents=True)
        raise OSError("[Errno 101] Network is unreachable")

    monkeypatch.setenv("DATA_ROOT", str(tmp_path))
    monkeypatch.setattr(torchvision.datasets, torchs, no_network)
    with pytest.raises(UsageError) as refusal:
        digits(data=name)
    sentence = str(refusal.value)
    assert f"{torchs} is not under {tmp_path} and could not be downloaded" in sentence
    assert list(tmp_path.iterdir()) == [], "no empty folder that looks like the set"
    assert "set DATA_ROOT to the folder that holds the set" in sentence
    assert "\n" not in sentence


def test_cifar10_is_read_from_folders_of_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA_ROOT", str(tmp_path))
    for part, count in (("train", 5), ("test", 2)):
        for label in ("cat", "dog"):
            for i in range(count):
                path = tmp_path / "cifar10" / part / label / f"{i}.png"
                picture(path, (i, len(part), ord(label[0])), mode="RGB", size=(32, 32))
    data = digits(data="cifar10", holdout=0.4)
    assert data.input_shape == (3, 32, 32)
    assert (len(data.train), len(data.holdout or ()), len(data.test)) == (6, 4, 4)


@pytest.mark.needs_data
def test_the_real_mnist_has_its_official_sizes() -> None:
    if not list((data_root() / "MNIST" / "raw").glob("t10k-labels-idx1-ubyte*")):
        pytest.skip("needs MNIST under DATA_ROOT")
    data = digits(data="mnist", holdout=0)
    assert (len(data.train), len(data.test)) == (60_000, 10_000)
    assert data.input_shape == (1, 28, 28)
    assert data.test.class_counts(10) == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_some_classes_alone_are_a_set_of_their_own() -> None:
    some, every = load_data(DataOptions(classes=["7", "3"])), load_data(DataOptions())
    assert some.class_names == ["3", "7"]
    assert set(some.train.y.tolist()) == {0, 1}
    wanted = {3: 0, 7: 1}
    for label, place in wanted.items():
        counts = [int((data.y == digit).sum()) for data, digit in ((some.test, place), (every.test, label))]
        assert abs(counts[0] - counts[1]) <= 1, "a fifth of each class is locked"
    with pytest.raises(UsageError, match="classes names 'cat', which is not a class of digits; there are 0, 1, 2"):
        load_data(DataOptions(classes=["1", "cat"]))
    with pytest.raises(UsageError, match="classes must name each class once"):
        load_data(DataOptions(classes=["1", "1"]))
