"""Folders of pictures in both layouts, with what systems leave in them, become parts and labels, or one sentence."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from paretune.core.errors import UsageError
from paretune.data.dataset import Data, load_data
from paretune.data.images import Samples
from paretune.data.options import DataOptions
from paretune.data.picture_folders import part_folders, pictures_below, read_folder, read_parts

SIDE = 4
FOREIGN = [
    "._a.png",
    ".a.png",
    "Thumbs.db",
    "desktop.ini",
    "__MACOSX/a.png",
    ".ipynb_checkpoints/a.png",
    ".git/x/a.png",
    "@eaDir/a.png",
]


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA_ROOT", str(tmp_path / "root"))


def write(path: Path, level: int, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (SIDE, SIDE), level).save(path, **options)
    return path


def layout(folder: Path, **parts: int) -> Path:
    """Write parts of two classes, so many pictures each; the levels tell part, class and number."""
    for place, (part, count) in enumerate(parts.items()):
        for label, name in enumerate(("cat", "dog")):
            for i in range(count):
                write(folder / part / name / f"{i}.png", 80 * place + 40 * label + i)
    return folder


def loaded(folder: Path, **options: Any) -> Data:
    return load_data(DataOptions.from_dict({"data": f"folder:{folder}", "image_size": SIDE, **options}))


def levels(samples: Samples | None) -> list[int]:
    assert samples is not None
    return sorted(np.rint(255 * samples.x[:, 0, 0, 0].numpy()).astype(int).tolist())


def of_part(place: int, count: int) -> list[int]:
    return [80 * place + 40 * label + i for label in range(2) for i in range(count)]


# The 60 folders

MODES = ["1", "L", "I;16", "I", "F", "LA", "P", "RGB", "RGBA", "CMYK"]
LAYOUTS = ["flat", "nested", "parts"]
DAMAGES = ["none", "text beside"]


def picture_of(mode: str, chance: np.random.Generator) -> tuple[Image.Image, str, np.ndarray]:
    """A picture of a mode, the suffix to save it with, and its pixels (height, width, 1 or 3), computed from the array."""
    grey, colour = chance.integers(0, 256, (SIDE, SIDE)), chance.integers(0, 256, (SIDE, SIDE, 3))
    alpha = chance.integers(0, 256, (SIDE, SIDE, 1))
    grey[0, 0] = 255  # the top of the range of pictures that do not declare theirs
    white = np.rint(grey[..., None] * (alpha / 255) + 255 - alpha)
    as_bytes = grey.astype(np.uint8)
    if mode == "1":
        return Image.fromarray(grey > 127), "png", 255 * (grey > 127)[..., None]
    if mode == "L":
        return Image.fromarray(as_bytes), "png", grey[..., None]
    if mode == "I;16":
        return Image.fromarray((257 * grey).astype(np.uint16)), "png", grey[..., None]
    if mode == "I":
        return Image.fromarray((65537 * grey).astype(np.int32)), "tif", np.rint(255 * (65537 * grey) / (2**24 - 1))[..., None]
    if mode == "F":
        return Image.fromarray((grey / 255).astype(np.float32)), "tiff", grey[..., None]
    if mode == "LA":
        return Image.fromarray(np.dstack([as_bytes, alpha]).astype(np.uint8)), "png", white
    if mode == "P":
        picture = Image.fromarray(as_bytes, "P")
        picture.putpalette(np.dstack([np.arange(256)] * 3).astype(np.uint8).tobytes())
        return picture, "png", np.dstack([grey] * 3)
    if mode == "RGB":
        return Image.fromarray(colour.astype(np.uint8)), "bmp", colour
    if mode == "RGBA":
        whitened = np.rint(colour * (alpha / 255) + 255 - alpha)
        return Image.fromarray(np.dstack([colour, alpha]).astype(np.uint8)), "webp", whitened
    return Image.fromarray(np.dstack([colour, 0 * grey]).astype(np.uint8), "CMYK"), "tif", 255 - colour


def write_folder(folder: Path, mode: str, arrangement: str, chance: np.random.Generator) -> list[tuple[int, np.ndarray]]:
    """Write a set and return the label and pixels of each picture that must be read."""
    expected = []
    for part in ("train", "test") if arrangement == "parts" else (".",):
        for label, name in enumerate(("a class", "ß")):
            for i in range(6):
                picture, suffix, pixels = picture_of(mode, chance)
                path = folder / part / name / ("deeper/still" if arrangement == "nested" and i % 2 else ".") / f"{i}.{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                picture.save(path, **({"lossless": True, "exact": True} if suffix == "webp" else {}))
                expected.append((label, pixels))
    return expected


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("arrangement", LAYOUTS)
@pytest.mark.parametrize("damage", DAMAGES)
def test_labels_and_pixels_of_sixty_folders_are_those_of_their_source(
    mode: str, arrangement: str, damage: str, tmp_path: Path
) -> None:
    chance = np.random.default_rng(MODES.index(mode))
    expected = write_folder(tmp_path / "set", mode, arrangement, chance)
    if damage != "none":
        for name in FOREIGN:
            for folder in (tmp_path / "set", tmp_path / "set" / ("train/a class" if arrangement == "parts" else "a class")):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(b"no picture")
    parts = read_parts(tmp_path / "set", SIDE, cache=tmp_path / "cache").parts
    labels = np.concatenate([y for _, y in parts.values()])
    pixels = np.concatenate([x for x, _ in parts.values()]).transpose(0, 2, 3, 1)
    found = sorted((int(label), image.astype(int).tolist()) for label, image in zip(labels, pixels, strict=True))
    assert found == sorted((label, image.astype(int).tolist()) for label, image in expected)


# Damage


def test_every_unreadable_file_of_every_part_is_listed_at_once(tmp_path: Path) -> None:
    layout(tmp_path, train=4, val=3, test=3)
    broken = [tmp_path / name for name in ("train/cat/1.png", "train/dog/0.png", "val/cat/2.png", "test/dog/2.png")]
    for path in broken:
        path.write_bytes(path.read_bytes()[:40])
    (tmp_path / "test" / "dog" / "linked.png").symlink_to(tmp_path / "nothing.png")
    (tmp_path / "train" / "dog" / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic")
    with pytest.raises(UsageError) as error:
        loaded(tmp_path)
    message = str(error.value)
    assert message.startswith("6 files are not readable pictures: ")
    assert all(str(path) in message for path in broken)
    assert "linked.png" in message
    assert "phone.heic (it is in no format that Pillow reads)" in message


def test_hidden_and_foreign_files_are_no_pictures_at_any_depth(tmp_path: Path) -> None:
    wanted = [write(tmp_path / name, 3) for name in ("a.png", "deep/er/B.JPG", "deep/c.jfif")]
    for name in FOREIGN:
        for place in (".", "deep", "deep/er"):
            path = tmp_path / place / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(wanted[0].read_bytes())
    assert pictures_below(tmp_path) == sorted(wanted)


def test_a_set_below_a_hidden_folder_is_read(tmp_path: Path) -> None:
    layout(tmp_path / ".sets", one=3)
    names, x, y = read_folder(tmp_path / ".sets" / "one", SIDE)
    assert (names, len(x), y.tolist()) == (["cat", "dog"], 6, [0, 0, 0, 1, 1, 1])


def test_a_damaged_cache_is_read_anew(tmp_path: Path) -> None:
    layout(tmp_path / "set", one=3)
    first = read_folder(tmp_path / "set" / "one", SIDE, cache=tmp_path / "cache")[1]
    (cached,) = (tmp_path / "cache").iterdir()
    for content in (b"", cached.read_bytes()[:60], b"text"):
        cached.write_bytes(content)
        np.testing.assert_array_equal(read_folder(tmp_path / "set" / "one", SIDE, cache=tmp_path / "cache")[1], first)


def test_a_folder_that_cannot_be_listed_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout(tmp_path, train=3)

    def refuse(*_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(tmp_path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(UsageError, match=r"cannot be listed \(Permission denied\): grant the right to read it, or remove it"):
        loaded(tmp_path)


# train, val, test


def test_test_is_locked_and_val_held_out_whatever_the_shares(tmp_path: Path) -> None:
    layout(tmp_path, train=8, val=3, test=4)
    for options in ({}, {"holdout": 0.5, "split_seed": 3}):
        data = loaded(tmp_path, **options)
        assert data.class_names == ["cat", "dog"]
        assert [levels(part) for part in (data.train, data.holdout, data.test)] == [of_part(0, 8), of_part(1, 3), of_part(2, 4)]


def test_without_a_hold_out_val_is_trained_on(tmp_path: Path) -> None:
    data = loaded(layout(tmp_path, train=8, val=3, test=4), holdout=0)
    assert (levels(data.train), data.holdout, levels(data.test)) == (of_part(0, 8) + of_part(1, 3), None, of_part(2, 4))


def test_folds_are_drawn_of_train_and_val(tmp_path: Path) -> None:
    layout(tmp_path, train=6, val=3, test=4)
    held = [levels(loaded(tmp_path, n_folds=3, fold=fold).holdout) for fold in range(3)]
    assert sorted(level for fold in held for level in fold) == sorted(of_part(0, 6) + of_part(1, 3))


def test_without_val_the_hold_out_is_drawn_of_train(tmp_path: Path) -> None:
    data = loaded(layout(tmp_path, train=8, test=4), holdout=0.25)
    assert sorted(levels(data.train) + levels(data.holdout)) == of_part(0, 8)
    assert (len(data.holdout or ()), levels(data.test)) == (4, of_part(1, 4))


def test_without_test_a_fifth_of_train_is_locked(tmp_path: Path) -> None:
    data = loaded(layout(tmp_path, train=10, val=3))
    assert (len(data.train), len(data.test), levels(data.holdout)) == (16, 4, of_part(1, 3))
    assert sorted(levels(data.train) + levels(data.test)) == of_part(0, 10)


def test_chosen_classes_are_those_of_every_part(tmp_path: Path) -> None:
    layout(tmp_path, train=8, val=3, test=4)
    for part in ("train", "val", "test"):
        for i in range(3):
            write(tmp_path / part / "bird" / f"{i}.png", 250 - i)
    data = loaded(tmp_path, classes=["cat", "dog"])
    assert [levels(part) for part in (data.train, data.holdout, data.test)] == [of_part(0, 8), of_part(1, 3), of_part(2, 4)]


@pytest.mark.parametrize("names", [("Train", "Valid", "Test"), ("training", "validation", "testing")])
def test_parts_go_by_their_usual_names(tmp_path: Path, names: tuple[str, str, str]) -> None:
    layout(tmp_path, **dict.fromkeys(names, 2))
    assert {part: folder.name for part, folder in part_folders(tmp_path).items()} == dict(
        zip(("train", "val", "test"), names, strict=True)
    )


def test_the_classes_are_printed_once_and_not_among_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layout(tmp_path, train=8, val=3, test=4)
    for _ in range(2):
        loaded(tmp_path)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("2 classes (cat, dog); pictures: 16 in train, 6 in val, 8 in test") == 1


def test_a_class_may_be_named_train(tmp_path: Path) -> None:
    for name in ("train", "bus", "test"):
        write(tmp_path / name / "a.png", 1)
        write(tmp_path / name / "from the side" / "b.png", 2)
    assert read_parts(tmp_path, SIDE).class_names == ["bus", "test", "train"]
    (tmp_path / "train" / "a.png").unlink()
    (tmp_path / "test" / "a.png").unlink()
    (tmp_path / "test" / "from the side" / "b.png").unlink()
    (tmp_path / "test" / "from the side").rmdir()
    (tmp_path / "test").rmdir()
    assert read_parts(tmp_path, SIDE).class_names == ["bus", "train"]


def change(folder: Path, kind: str) -> None:
    if kind == "a class is missing":
        (folder / "test" / "dog").rename(folder / "test" / "bird")
    elif kind == "unsorted":
        write(folder / "test" / "loose.png", 1)
    elif kind == "empty":
        (folder / "test").rename(folder.parent / "away")
        (folder / "test").mkdir()
    elif kind == "no train":
        (folder / "train").rename(folder.parent / "away")
    elif kind == "twice":
        (folder / "test").rename(folder / "valid")
    elif kind == "beside":
        write(folder / "more" / "a.png", 1)
    else:
        for picture in (folder / "val" / "cat").iterdir():
            picture.unlink()


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("a class is missing", r"set/train and .*set/test must hold the same classes. Got bird, dog in one of them alone"),
        (
            "unsorted",
            r"set/test must hold one sub-folder of pictures per class, as train and val: sort its pictures, or remove it.",
        ),
        ("empty", r"set/test must hold one sub-folder of pictures per class"),
        ("no train", r"set holds test and val, but no train: add .*set/train."),
        ("twice", r"set must hold one val part. Got val and valid: remove one."),
        ("beside", r"set must hold parts or classes. Got test and train and val, and more beside: move it away."),
        ("an empty class", r"set/val/cat holds no picture"),
    ],
)
def test_parts_that_do_not_fit_are_one_sentence(tmp_path: Path, kind: str, sentence: str) -> None:
    layout(tmp_path / "set", train=8, val=3, test=4)
    change(tmp_path / "set", kind)
    with pytest.raises(UsageError, match=sentence) as error:
        loaded(tmp_path / "set")
    assert "\n" not in str(error.value)


def test_grey_and_colour_parts_are_brought_together(tmp_path: Path) -> None:
    layout(tmp_path, train=8, val=3, test=4)
    buffer = io.BytesIO()
    Image.new("RGB", (SIDE, SIDE), (255, 0, 0)).save(buffer, "PNG")
    (tmp_path / "test" / "cat" / "0.png").write_bytes(buffer.getvalue())
    data = loaded(tmp_path)
    assert {part.x.shape[1] for part in (data.train, data.test)} == {3}
