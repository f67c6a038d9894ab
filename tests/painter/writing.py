"""The scripted drawings as pictures, drawn without a browser."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageDraw

from tests.painter.strokes import Drawing

SIDE, PEN = 280, 22


def ink_of(drawing: Drawing) -> np.ndarray:
    """Return ink (280, 280) from 0 to 1, with a round pen about as thick as the page's."""
    large = Image.new("L", (2 * SIDE, 2 * SIDE), 0)
    pen = ImageDraw.Draw(large)
    for stroke in drawing.strokes:
        points = [(x * SIDE / 50, y * SIDE / 50) for x, y, _ in stroke]
        pen.line(points, fill=255, width=2 * PEN, joint="curve")
        for x, y in (points[0], points[-1]):
            pen.ellipse([x - PEN, y - PEN, x + PEN, y + PEN], fill=255)
    return np.asarray(large.resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.float32) / 255


def png_of(drawing: Drawing) -> bytes:
    """Return the drawing as a PNG."""
    buffer = io.BytesIO()
    Image.fromarray(np.round(255 * ink_of(drawing)).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()
