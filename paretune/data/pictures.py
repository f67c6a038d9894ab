"""Reads one picture of any form that Pillow opens as 8-bit grey or RGB pixels; docs/pictures.md has the table of the forms.

`folder:`, `python -m trainers.predict` and the painter read every picture through this module.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paretune.core.errors import UsageError, first_line

# Raster formats alone: EPS and WMF start other programs. HEIC is named, so that its files are reported and not overlooked.
FORMATS = ("PNG", "JPEG", "MPO", "BMP", "DIB", "GIF", "WEBP", "TIFF", "PPM", "TGA", "JPEG2000", "AVIF")
SUFFIXES = {
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm"),
    *(".pbm", ".pnm", ".tga", ".jp2", ".avif", ".heic", ".heif"),
}
GREY_MODES = {"1", "L", "LA", "La"}
INTEGER_RANGES = (2**8 - 1, 2**16 - 1, 2**24 - 1, 2**31 - 1, 2**32 - 1)
ORIENTATION, PHOTOMETRIC = 0x0112, 262  # tags of EXIF and of TIFF
WHITE_IS_ZERO = 0


class UnreadablePictureError(UsageError):
    """One or more files are not readable pictures; `reasons` maps each name to why."""

    def __init__(self, reasons: dict[str, str]) -> None:
        self.reasons = reasons
        if len(reasons) == 1:
            ((name, reason),) = reasons.items()
            super().__init__(f"{name} is not a readable picture ({reason}); remove it or save it anew.")
        else:
            listed = ", ".join(f"{name} ({reason})" for name, reason in reasons.items())
            super().__init__(f"{len(reasons)} files are not readable pictures: {listed}; remove them or save them anew.")


def read_picture(source: Path | bytes) -> np.ndarray:
    """Decode a picture, upright, with transparency composited on white and every depth scaled to 0 to 255.

    Args:
        source: a file, or the content of one.

    Returns:
        (height, width) uint8 of a grey picture, (height, width, 3) of any other.

    Raises:
        UnreadablePictureError: if Pillow cannot read it, or refuses it as too large.
    """
    from PIL import Image

    name = str(source) if isinstance(source, Path) else "the picture"
    try:
        with warnings.catch_warnings():  # on damaged EXIF data, and on pictures of up to twice Pillow's limit
            warnings.simplefilter("ignore")
            with Image.open(source if isinstance(source, Path) else io.BytesIO(source), formats=_formats()) as opened:
                return _upright(_decoded(opened), opened)
    except Exception as error:  # Pillow's readers raise nearly any exception when a file is damaged
        raise UnreadablePictureError({name: _reason(error)}) from None


def read_grey(source: Path | bytes) -> np.ndarray:
    """Decode a picture as `read_picture`, into (height, width) uint8."""
    from PIL import Image

    return np.asarray(Image.fromarray(read_picture(source)).convert("L"), dtype=np.uint8)


def read_pictures(files: Sequence[Path], size: int | tuple[int, int] | None, channels: int | None = None) -> np.ndarray:
    """Decode pictures into (n_samples, channels, height, width) uint8.

    Args:
        files: at least one file.
        size: a side or (width, height) to resize to; None leaves them, and they must be equal.
        channels: 1 or 3; None is 1 where every picture is grey.

    Raises:
        UnreadablePictureError: naming every file that cannot be read.
        UsageError: if they differ in size and `size` is None.
    """
    from PIL import Image

    pictures: list[Image.Image] = []
    reasons: dict[str, str] = {}
    for path in files:
        try:
            picture = Image.fromarray(read_picture(path))
        except UnreadablePictureError as error:
            reasons |= error.reasons
            continue
        shape = picture.size if size is None else (size, size) if isinstance(size, int) else size
        pictures.append(picture if picture.size == shape else picture.resize(shape, Image.Resampling.BILINEAR))
    if reasons:
        raise UnreadablePictureError(reasons)
    if channels is None:
        channels = 1 if all(picture.mode == "L" for picture in pictures) else 3
    mode = "L" if channels == 1 else "RGB"
    arrays = [np.asarray(picture if picture.mode == mode else picture.convert(mode), dtype=np.uint8) for picture in pictures]
    if len({array.shape for array in arrays}) > 1:
        raise UsageError("pictures of different sizes need one size: give image_size.")
    stacked = np.stack(arrays)
    return stacked[:, None] if channels == 1 else np.ascontiguousarray(stacked.transpose(0, 3, 1, 2))


def _formats() -> list[str]:
    from PIL import Image

    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _decoded(opened: Any) -> np.ndarray:
    """Return the pixels of the first frame as they lie in the file."""
    raw_mode = _raw_mode(opened)
    opened.load()
    if opened.mode == "F" or opened.mode.startswith("I"):
        levels, transparent = _scaled(opened, raw_mode), opened.info.get("transparency")
        opaque = 255 if transparent is None else 255 * (np.asarray(opened) != transparent)
        return np.asarray(np.rint(levels * (opaque / 255) + (255 - opaque)), dtype=np.uint8)
    grey = opened.mode in GREY_MODES or raw_mode == "LA;16B"
    if not opened.has_transparency_data:
        return np.array(opened.convert("L" if grey else "RGB"), dtype=np.uint8)
    opened.info["transparency"] = _transparent_level(opened.info.get("transparency"), raw_mode)
    if opened.info["transparency"] is None:
        del opened.info["transparency"]
    straight = opened.convert("LA") if opened.mode == "La" else opened  # Pillow converts premultiplied grey to nothing else
    pixels = np.asarray(straight.convert("RGBA"), dtype=np.uint32)
    colour, alpha = (pixels[..., 0], pixels[..., 3]) if grey else (pixels[..., :3], pixels[..., 3:])
    return ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _raw_mode(opened: Any) -> str:
    """Return how a picture's samples lie in the file, in Pillow's words; empty where Pillow does not say."""
    arguments = opened.tile[0][3] if opened.tile else ""
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ""


def _transparent_level(level: Any, raw_mode: str) -> Any:
    """Bring PNG's transparent level, which is of the file's depth, to 8 bits, as Pillow brings the pixels alone."""
    if isinstance(level, int) and raw_mode in {"L;2", "L;4"}:
        return level * (85 if raw_mode == "L;2" else 17)
    if isinstance(level, tuple) and raw_mode == "RGB;16B":
        return tuple(part >> 8 for part in level)
    return level


def _scaled(opened: Any, raw_mode: str) -> np.ndarray:
    """Return the levels of a deep grey picture, float64 from 0 to 255.

    Pictures of 32 bits do not declare their range. It is the narrowest usual one that holds every level: 0 to 1 (floating
    point alone), 8, 16, 24, 31 or 32 bits; the picture's own where levels are negative or still larger.
    """
    values = np.asarray(opened)
    if raw_mode == "I;32N":  # TIFF's unsigned integers, which Pillow's signed mode wraps
        values = values.view(np.uint32)
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("it has levels that are not finite numbers")
    low, high = float(values.min()), float(values.max())
    if opened.mode.startswith("I;16") or (opened.format == "PPM" and opened.mode == "I"):
        low, high = 0.0, 4095.0 if raw_mode == "I;12" else 65535.0
    elif low >= 0:
        ranges = (1, *INTEGER_RANGES) if opened.mode == "F" else INTEGER_RANGES
        low, high = 0.0, float(next((end for end in ranges if high <= end), high))
    levels = 255 * (values - low) / ((high - low) or 1.0)
    inverted = getattr(opened, "tag_v2", {}).get(PHOTOMETRIC) == WHITE_IS_ZERO  # Pillow turns 8-bit pictures alone
    return 255 - levels if inverted else levels


def _upright(pixels: np.ndarray, opened: Any) -> np.ndarray:
    """Apply EXIF's orientation; damaged EXIF data leave the pixels as they are."""
    try:
        orientation = opened.getexif().get(ORIENTATION, 1)
    except Exception:  # as of reading: a fault beside the pixels does not make them unreadable
        orientation = 1
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _reason(error: Exception) -> str:
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "it is in no format that Pillow reads"
    if isinstance(error, Image.DecompressionBombError):
        return f"it has more pixels than Pillow reads safely, {2 * (Image.MAX_IMAGE_PIXELS or 0):,}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return first_line(error)
