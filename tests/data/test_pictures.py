"""Every form of picture becomes the pixels that are computed here from the array it was made of, or one sentence."""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from paretune.core.errors import UsageError
from paretune.data.pictures import UnreadablePictureError, read_grey, read_picture, read_pictures

CHANCE = np.random.default_rng(0)
GREY = CHANCE.integers(0, 256, (6, 9)).astype(np.uint8)
COLOUR = CHANCE.integers(0, 256, (6, 9, 3)).astype(np.uint8)
ALPHA = CHANCE.integers(0, 256, (6, 9)).astype(np.uint8)
ALPHA[0, :3] = 0, 255, 128
DEEP = CHANCE.integers(0, 65536, (6, 9)).astype(np.uint16)
DEEP[0, :2] = 0, 65535


def content(picture: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def on_white(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    alpha = alpha.astype(np.float64) / 255
    return np.rint(
        pixels * (alpha if pixels.ndim == 2 else alpha[..., None])
        + 255 * (1 - alpha.reshape(alpha.shape + (1,) * (pixels.ndim - 2)))
    )


def stacked(*planes: np.ndarray) -> np.ndarray:
    return np.dstack(planes)


def png(header: tuple[int, int], rows: bytes, width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG written by hand: (bits, colour type), the filtered rows, and chunks before them."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, *header, 0, 0, 0)),
        *chunks,
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def white_is_zero(deep: np.ndarray) -> bytes:
    """A TIFF of 16 bits whose zero is white."""
    raw = content(Image.fromarray(deep), "TIFF")
    entry = struct.pack("<HHI", 262, 3, 1)
    return raw.replace(entry + struct.pack("<H", 1), entry + struct.pack("<H", 0))


PALETTE = Image.fromarray(GREY // 64, "P")
PALETTE.putpalette([250, 10, 20, 30, 240, 50, 60, 70, 230, 0, 0, 0])
PALETTE_COLOURS = np.array([[250, 10, 20], [30, 240, 50], [60, 70, 230], [0, 0, 0]])[GREY // 64]
FLOATS = (DEEP / 65535).astype(np.float32)
INTEGERS = DEEP.astype(np.int32)
CLEARED = np.where((GREY // 64 == 1)[..., None], 255, PALETTE_COLOURS)

FORMS: dict[str, tuple[bytes, np.ndarray]] = {
    "L, PNG": (content(Image.fromarray(GREY), "PNG"), GREY),
    "L, BMP": (content(Image.fromarray(GREY), "BMP"), GREY),
    "RGB, WebP": (content(Image.fromarray(COLOUR), "WEBP", lossless=True), COLOUR),
    "P of greys, GIF": (content(Image.fromarray(GREY), "GIF"), stacked(GREY, GREY, GREY)),
    "L, PGM": (content(Image.fromarray(GREY), "PPM"), GREY),
    "L, JPEG 2000": (content(Image.fromarray(GREY), "JPEG2000"), GREY),
    "1": (content(Image.fromarray(GREY > 99), "PNG"), 255 * (GREY > 99)),
    "1, TIFF": (content(Image.fromarray(GREY > 99), "TIFF", compression="group4"), 255 * (GREY > 99)),
    "LA": (content(Image.fromarray(stacked(GREY, ALPHA)), "PNG"), on_white(GREY, ALPHA)),
    "RGB": (content(Image.fromarray(COLOUR), "PNG"), COLOUR),
    "RGB, TGA": (content(Image.fromarray(COLOUR), "TGA"), COLOUR),
    "RGBA": (content(Image.fromarray(stacked(COLOUR, ALPHA)), "PNG"), on_white(COLOUR, ALPHA)),
    "RGBA, TIFF": (content(Image.fromarray(stacked(COLOUR, ALPHA)), "TIFF"), on_white(COLOUR, ALPHA)),
    "RGBA, opaque": (content(Image.fromarray(stacked(COLOUR, np.full_like(ALPHA, 255))), "PNG"), COLOUR),
    "RGB with a transparent colour": (
        content(Image.fromarray(COLOUR), "PNG", transparency=tuple(map(int, COLOUR[2, 3]))),
        np.where((COLOUR[2, 3] == COLOUR).all(axis=-1, keepdims=True), 255, COLOUR),
    ),
    "L with a transparent level": (
        content(Image.fromarray(GREY), "PNG", transparency=int(GREY[1, 1])), np.where(GREY[1, 1] == GREY, 255, GREY),
    ),
    "I;16 with a transparent level": (
        content(Image.fromarray(DEEP), "PNG", transparency=int(DEEP[1, 1])),
        np.where(DEEP[1, 1] == DEEP, 255, np.rint(DEEP / 257.0)),
    ),
    "2 bits with a transparent level": (
        png((2, 0), bytes([0, 0b00011011]), 4, 1, (b"tRNS", b"\0\1")), np.array([[0, 255, 170, 255]]),
    ),
    "16 bits of grey and alpha": (
        png((16, 4), b"\0" + struct.pack(">4H", 0x8080, 0xFFFF, 0x4040, 0), 2, 1), np.array([[128, 255]]),
    ),
    "P": (content(PALETTE, "PNG"), PALETTE_COLOURS),
    "P with a transparent entry": (content(PALETTE, "PNG", transparency=1), CLEARED),
    "P with levels of alpha": (
        content(PALETTE, "PNG", transparency=bytes([255, 0, 100, 200])),
        on_white(PALETTE_COLOURS, np.array([255, 0, 100, 200])[GREY // 64]),
    ),
    "P, GIF with a transparent entry": (content(PALETTE, "GIF", transparency=1), CLEARED),
    "CMYK": (
        content(Image.fromarray(stacked(COLOUR, np.zeros_like(GREY)), "CMYK"), "TIFF"), 255 - COLOUR,
    ),
    "I;16": (content(Image.fromarray(DEEP), "PNG"), np.rint(DEEP / 257.0)),
    "I;16, TIFF": (content(Image.fromarray(DEEP), "TIFF"), np.rint(DEEP / 257.0)),
    "I;16B, TIFF": (content(Image.fromarray(DEEP.astype(">u2")), "TIFF"), np.rint(DEEP / 257.0)),
    "I;16, white is zero": (white_is_zero(DEEP), np.rint(255 - DEEP / 257.0)),
    "I of 8 bits": (content(Image.fromarray(GREY.astype(np.int32)), "TIFF"), GREY),
    "I of 16 bits": (content(Image.fromarray(INTEGERS), "TIFF"), np.rint(DEEP / 257.0)),
    "I of 31 bits": (content(Image.fromarray(INTEGERS << 15), "TIFF"), np.rint(255.0 * (INTEGERS << 15) / (2.0**31 - 1))),
    "I with negative levels": (content(Image.fromarray(INTEGERS - 32768), "TIFF"), np.rint(DEEP / 257.0)),
    "I, PGM of 10 bits": (
        b"P5 2 1 1023\n" + struct.pack(">2H", 1023, 300), np.array([[255, round(255 * 300 / 1023)]]),
    ),
    "I, dark PGM of 16 bits": (b"P5 2 1 65535\n" + struct.pack(">2H", 250, 200), np.array([[1, 1]])),
    "F of 0 to 1": (content(Image.fromarray(FLOATS), "TIFF"), np.rint(255 * FLOATS.astype(float))),
    "F of 0 to 255": (content(Image.fromarray(GREY.astype(np.float32)), "TIFF"), GREY),
    "F of -1 to 1": (content(Image.fromarray((2 * FLOATS - 1).astype(np.float32)), "TIFF"), np.rint(255 * FLOATS.astype(float))),
    "F of one level": (content(Image.fromarray(np.zeros((2, 3), np.float32)), "TIFF"), np.zeros((2, 3))),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_a_picture_of_any_mode_and_depth_has_the_pixels_of_its_source(form: str, tmp_path: Path) -> None:
    raw, expected = FORMS[form]
    (tmp_path / "picture.png").write_bytes(raw)
    for pixels in (read_picture(tmp_path / "picture.png"), read_picture(raw)):
        assert pixels.dtype == np.uint8
        assert pixels.shape == expected.shape
        np.testing.assert_allclose(pixels.astype(int), expected, atol=1 if form.startswith(("I with", "F of -1")) else 0)


def test_lab_and_ycbcr_are_converted_to_rgb() -> None:
    to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    smooth = np.asarray(Image.new("RGB", (8, 8), (200, 90, 40)))
    lab = ImageCms.applyTransform(Image.fromarray(smooth), to_lab)
    assert lab is not None
    np.testing.assert_allclose(read_picture(content(lab, "TIFF")).astype(int), smooth, atol=3)
    np.testing.assert_allclose(read_picture(content(Image.fromarray(smooth), "JPEG", quality=95)).astype(int), smooth, atol=3)


def test_black_strokes_on_transparent_stay_strokes() -> None:
    alpha = np.zeros((20, 20), np.uint8)
    alpha[5:15, 9:11] = 255
    pixels = read_grey(content(Image.fromarray(stacked(np.zeros((20, 20, 3), np.uint8), alpha)), "PNG"))
    np.testing.assert_array_equal(pixels, 255 - alpha)


UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {  # what undoes each orientation
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exifs_orientation_is_applied(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    blocks = np.kron(np.array([[0, 60, 120], [255, 180, 30]], np.uint8), np.ones((8, 8), np.uint8))
    every: dict[str, dict[str, Any]] = {"JPEG": {"quality": 100}, "WEBP": {"lossless": True}}
    options = every.get(kind, {})
    pixels = read_grey(content(Image.fromarray(blocks), kind, exif=exif, **options))
    expected = UPRIGHT[orientation](blocks)
    assert pixels.shape == expected.shape
    np.testing.assert_allclose(pixels.astype(int), expected, atol=2)


def test_a_damaged_orientation_leaves_the_pixels() -> None:
    raw = content(Image.fromarray(GREY), "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    np.testing.assert_array_equal(read_picture(raw), GREY)


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG"])
def test_the_first_frame_is_read(kind: str) -> None:
    first, second = Image.new("RGB", (5, 4), (255, 0, 0)), Image.new("RGB", (5, 4), (0, 0, 255))
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    raw = content(first, kind, save_all=True, append_images=[second], **options)
    with Image.open(io.BytesIO(raw)) as opened:
        assert getattr(opened, "n_frames", 1) == 2
    assert read_picture(raw).reshape(-1, 3).tolist() == [[255, 0, 0]] * 20


def test_a_picture_beyond_pillows_limit_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Image.new("1", (20, 20)).save(tmp_path / "large.png")
    Image.new("1", (10, 15)).save(tmp_path / "within.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert read_picture(tmp_path / "within.png").shape == (15, 10), "Pillow warns of it and reads it"
    sentence = "large.png is not a readable picture (it has more pixels than Pillow reads safely, 200); remove it or save it anew."
    with pytest.raises(UsageError, match=re.escape(sentence)):
        read_picture(tmp_path / "large.png")


@pytest.mark.parametrize(
    "error",
    [ValueError("x"), KeyError(3), struct.error("short"), IndexError(), MemoryError(), ZeroDivisionError("by 0"), RecursionError()],
)
def test_whatever_pillow_raises_is_one_sentence(error: Exception, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "a.png")

    def fail(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", fail)
    with pytest.raises(UnreadablePictureError, match=r"a.png is not a readable picture \(.+\); remove it or save it anew."):
        read_picture(tmp_path / "a.png")


def test_levels_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(UsageError, match=r"the picture is not a readable picture \(it has levels that are not finite numbers"):
        read_picture(content(Image.fromarray(np.array([[0, np.nan]], np.float32)), "TIFF"))


def test_no_other_program_is_started_for_a_picture(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    with pytest.raises(UsageError, match="it is in no format that Pillow reads"):
        read_picture(tmp_path / "a.png")


def test_every_unreadable_file_is_named_at_once(tmp_path: Path) -> None:
    files = [tmp_path / f"{i}.png" for i in range(6)]
    for i, path in enumerate(files):
        Image.new("L", (4, 4), i).save(path)
    files[1].write_bytes(b"text")
    files[3].write_bytes(files[3].read_bytes()[:-30])
    files[5].unlink()
    with pytest.raises(UnreadablePictureError) as error:
        read_pictures(files, 4)
    assert list(error.value.reasons) == [str(files[i]) for i in (1, 3, 5)]
    message = str(error.value)
    assert message.startswith(f"3 files are not readable pictures: {files[1]} (it is in no format that Pillow reads), {files[3]} (")
    assert message.endswith("; remove them or save them anew.")
    assert f"{files[5]} (No such file or directory)" in message
