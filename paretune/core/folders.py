"""Where the checkout is, if there is one: results go below it, else below the folder that a command is started from."""

from __future__ import annotations

from pathlib import Path


def _checkout() -> Path | None:
    folder = Path(__file__).resolve().parents[2]
    return folder if (folder / "pyproject.toml").is_file() and (folder / "trainers").is_dir() else None


CHECKOUT = _checkout()
ROOT = CHECKOUT or Path.cwd()
