"""Drawings are kept once each, with what was meant, in folders that `folder:` reads; merged and packed."""

from __future__ import annotations

import io
import json
import random
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from paretune.core.errors import UsageError
from paretune.data.digit_form import mnist_form
from paretune.data.picture_folders import read_folder
from paretune.painter.drawings import Drawings, DuplicateError, main, read_drawing
from tests.painter.strokes import Drawing, drawings
from tests.painter.writing import ink_of, png_of


def add(store: Drawings, drawing: Drawing, **values: Any) -> str:
    return store.add(str(drawing.digit), png_of(drawing), **{"strokes": drawing.strokes, "painter": 7, **values})


def png(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_drawing_is_kept_whole(tmp_path: Path) -> None:
    store = Drawings(tmp_path / "drawings")
    three = drawings()[3]
    name = add(store, three)
    record = json.loads((tmp_path / "drawings" / "strokes" / f"{name}.json").read_text(encoding="utf-8"))
    assert (record["label"], record["painter"], record["size"]) == ("3", 7, [280, 280])
    assert record["strokes"] == [[list(point) for point in stroke] for stroke in three.strokes]
    assert record["time"].endswith("+00:00")
    with Image.open(tmp_path / "drawings" / "full" / "3" / f"{name}.png") as full:
        np.testing.assert_array_equal(np.asarray(full), np.round(255 * ink_of(three)))
    assert store.label_of(name) == "3"


def test_the_folder_is_data(tmp_path: Path) -> None:
    store = Drawings(tmp_path)
    for drawing in drawings()[:20]:
        add(store, drawing)
    names, x, y = read_folder(tmp_path / "28x28", 28)
    assert names == [str(digit) for digit in range(10)]
    assert x.shape == (20, 1, 28, 28)
    wanted = {np.round(255 * mnist_form(ink_of(drawing))).astype(np.uint8).tobytes(): drawing.digit for drawing in drawings()[:20]}
    assert {image.tobytes(): int(label) for image, label in zip(x, y, strict=True)} == wanted


def test_the_same_drawing_is_refused_under_any_label(tmp_path: Path) -> None:
    store = Drawings(tmp_path)
    one = drawings()[1]
    add(store, one)
    for label in ("1", "7"):
        with pytest.raises(DuplicateError, match="this very drawing is there already, as a 1: draw another one"):
            store.add(label, png_of(one))
    assert sum(store.counts().values()) == 1


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"label": "12"}, "label must be a digit from 0 to 9. Got '12'"),
        ({"label": None}, "label must be a digit"),
        ({"picture": b"GIF89a"}, "the drawing must be a PNG"),
        ({"picture": b""}, "the drawing must be a PNG"),
        ({"picture": png(np.zeros((28, 28), np.uint8))}, "the drawing is blank"),
        (
            {"picture": png(np.pad(np.full((1, 1), 255, np.uint8), ((0, 2000), (0, 2000))) | np.eye(2001, dtype=np.uint8) * 30)},
            "too thin",
        ),
        ({"picture": png(np.zeros((3000, 10), np.uint8))}, "at most 2048 pixels a side. Got 10x3000"),
        ({"picture": png_of(drawings()[0])[:200]}, "the drawing must be a PNG"),
        ({"strokes": 5}, "strokes must be lists of points"),
        ({"strokes": [[1, 2]]}, "strokes must be lists of points"),
        ({"strokes": [[[1, 2]]]}, "strokes must be lists of points"),
        ({"strokes": [[[1, 2, float("nan")]]]}, "strokes must be lists of points"),
        ({"strokes": [[]] * 1000}, "strokes must be lists of points"),
        ({"strokes": [[[1, True, 3]]]}, "strokes must be lists of points"),
        ({"strokes": [[["1", "2", "3"]]]}, "strokes must be lists of points"),
        ({"strokes": [[[1, 2, 3]] * 30_000]}, "at most 20,000 points. Got 30,000"),
        ({"painter": "me"}, "the painter's number must be a whole number"),
        ({"painter": -1}, "the painter's number must be a whole number"),
        ({"time": "yesterday"}, "time must be as in"),
    ],
)
def test_what_is_no_drawing_is_refused_and_nothing_is_kept(values: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    given: dict[str, Any] = {"label": "0", "picture": png_of(drawings()[0]), **values}
    with pytest.raises(UsageError, match=sentence):
        Drawings(tmp_path / "new").add(given.pop("label"), given.pop("picture"), **given)
    assert not (tmp_path / "new").exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(UsageError, match=r"file cannot be written .*: choose another folder"):
        add(Drawings(tmp_path / "file"), drawings()[0])
    with pytest.raises(UsageError, match="file must be a folder that drawings can be saved in"):
        Drawings(tmp_path / "file").check()
    Drawings(tmp_path / "not" / "yet").check()


def test_colour_and_alpha_are_read_as_ink() -> None:
    ink = np.zeros((40, 30, 4), np.uint8)
    ink[..., 3] = 255
    ink[10:20, 10:20, :3] = 255
    found = read_drawing(png(ink))
    assert found.shape == (40, 30)
    assert found.max() == 1.0
    assert found.mean() == pytest.approx(100 / 1200)


def test_the_page_asks_for_what_is_drawn_least(tmp_path: Path) -> None:
    store = Drawings(tmp_path)
    assert {store.wanted(random.Random(seed)) for seed in range(60)} == {str(digit) for digit in range(10)}
    for drawing in drawings()[:10]:
        if drawing.digit not in (4, 8):
            add(store, drawing)
    assert {store.wanted(random.Random(seed)) for seed in range(30)} == {"4", "8"}


def test_sets_are_merged_from_folders_and_zips(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours, theirs, third = (Drawings(tmp_path / name) for name in ("ours", "theirs", "third"))
    for drawing in drawings()[:12]:
        add(ours, drawing)
    for drawing in drawings()[8:20]:
        add(theirs, drawing, painter=9)
    for drawing in drawings()[18:22]:
        add(third, drawing)
    assert main(["pack", str(tmp_path / "third"), "--to", str(tmp_path / "third.zip")]) == 0
    (tmp_path / "theirs" / "full" / "5" / "bad.png").write_bytes(b"no picture")
    assert main(["merge", str(tmp_path / "theirs"), str(tmp_path / "third.zip"), "--to", str(tmp_path / "ours")]) == 0
    printed = capsys.readouterr()
    assert f"{tmp_path / 'theirs'}: 8 added, 4 known already, 1 passed over" in printed.out
    assert "third.zip: 2 added, 2 known already, 0 passed over" in printed.out
    assert "passed over: full/5/bad.png: the drawing must be a PNG" in printed.err
    assert ours.counts() == {str(digit): 3 if digit < 2 else 2 for digit in range(10)}
    name = add(Drawings(tmp_path / "alone"), drawings()[15])
    record = json.loads((tmp_path / "ours" / "strokes" / f"{name}.json").read_text(encoding="utf-8"))
    assert record["painter"] == 9, "whose hand it was is kept"
    assert main(["merge", str(tmp_path / "ours"), "--to", str(tmp_path / "ours")]) == 0
    assert "0 added, 22 known already" in capsys.readouterr().out


def test_a_zip_holds_all_of_it_and_nothing_else(tmp_path: Path) -> None:
    store = Drawings(tmp_path)
    with pytest.raises(UsageError, match="holds no drawing yet"):
        store.packed()
    names = [add(store, drawing) for drawing in drawings()[:3]]
    (tmp_path / "28x28" / "0" / ".half.png.partial").write_bytes(b"")
    with zipfile.ZipFile(io.BytesIO(store.packed())) as archive:
        assert archive.testzip() is None
        wanted = {f"drawings/{part}/{label}/{name}.png" for label, name in enumerate(names) for part in ("28x28", "full")}
        assert set(archive.namelist()) == wanted | {f"drawings/strokes/{name}.json" for name in names}


@pytest.mark.parametrize("content", [None, b"no zip"])
def test_a_source_without_drawings_is_refused(content: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "source"
    if content is None:
        source.mkdir()
    else:
        source.write_bytes(content)
    with pytest.raises(SystemExit, match="2"):
        main(["merge", str(source), "--to", str(tmp_path / "to")])
    assert "error: " in capsys.readouterr().err
    assert not (tmp_path / "to").exists()


def test_the_same_drawing_under_another_label_is_named(tmp_path: Path) -> None:
    ours, theirs = Drawings(tmp_path / "ours"), Drawings(tmp_path / "theirs")
    add(ours, drawings()[1])
    theirs.add("7", png_of(drawings()[1]))
    merged = ours.merge(tmp_path / "theirs")
    assert (merged.added, merged.known) == (0, 0)
    assert "it is there already as a 1, not as a 7" in merged.refused[0]


def test_entries_that_cannot_be_read_are_named_and_the_others_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Drawings(tmp_path / "whole")
    names = [add(whole, drawing) for drawing in drawings()[:4]]
    (tmp_path / "whole" / "strokes" / f"{names[0]}.json").write_text("[" * 100_000, encoding="utf-8")
    content = bytearray(whole.packed())
    place = content.find(b"drawings/full/1/") + len(f"drawings/full/1/{names[1]}.png") + 40
    content[place : place + 4] = b"\0\0\0\0"
    (tmp_path / "cut.zip").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "cut.zip", "a") as archive:
        archive.writestr("__MACOSX/full/3/._x.png", b"")
        archive.writestr("drawings/full/9/large.png", b"0" * 4_100_000)
    merged = Drawings(tmp_path / "ours").merge(tmp_path / "cut.zip")
    assert merged.added == 2
    assert len(merged.refused) == 3
    assert all("cannot be read" in line or "at most 4,000,000 bytes" in line for line in merged.refused)


@pytest.mark.parametrize(
    ("to", "sentence"), [("", "--to must name the folder"), ("file", "must be a folder that drawings can be saved in")]
)
def test_a_place_that_cannot_be_merged_into_is_said_once(
    to: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("", encoding="utf-8")
    add(Drawings(tmp_path / "from"), drawings()[0])
    with pytest.raises(SystemExit, match="2"):
        main(["merge", "from", "--to", to])
    assert sentence in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "from"]


def test_the_folder_here_can_be_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(Drawings(tmp_path / "here"), drawings()[0])
    monkeypatch.chdir(tmp_path / "here")
    assert main(["pack", "."]) == 0
    assert (tmp_path / "here.zip").exists()
