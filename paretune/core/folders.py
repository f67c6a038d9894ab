"""The checkout's folder; results are written below it, or below the working directory where there is no checkout."""

from __future__ import annotations

from pathlib import Path


def _checkout() -> Path | None:
    folder = Path(__file__).resolve().parents[2]
    return folder if (folder / "pyproject.toml").is_file() and (folder / "trainers").is_dir() else None


CHECKOUT = _checkout()
ROOT = CHECKOUT or Path.cwd()
