"""The saved models that the painter shows: every folder of one below the given paths, with what of a drawing it reads.

A model that cannot read drawings of digits is listed with the reason; a broken one does not keep the others from answering.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from paretune.core.errors import UsageError, first_line
from paretune.data.digit_form import digits_form, mnist_form
from paretune.models.saved_models import describe, load_classifier

if TYPE_CHECKING:
    from paretune.models.contract import Classifier

DIGITS = {str(digit) for digit in range(10)}


@dataclass
class Shown:
    """A saved model on the page: its name and kind, and either what reads drawings or why it does not."""

    name: str
    folder: Path
    kind: str = ""
    problem: str = ""
    model: Classifier | None = None
    shape: tuple[int, int, int] = (0, 0, 0)
    form: str = ""  # mnist or digits: to what a drawing is brought first
    milliseconds: float = 0.0  # of its latest answer
    lock: threading.Lock = field(default_factory=threading.Lock)

    def to_dict(self) -> dict[str, Any]:
        """Return what the page shows before anything is drawn."""
        channels, height, width = self.shape
        shape = "" if self.model is None else f"{width}×{height}" + (f"×{channels}" if channels > 1 else "")
        return {"name": self.name, "kind": self.kind, "shape": shape, "problem": self.problem}


class Models:
    """The models of some paths, read once each; `refresh` finds what has been added, changed or removed since.

    Args:
        paths: folders of models, or folders that hold such folders.
        device: as the trainers take it.
    """

    def __init__(self, paths: Sequence[Path], *, device: str = "auto") -> None:
        self.paths, self.device = list(paths), device
        self.shown: list[Shown] = []
        self._known: dict[Path, tuple[float, Shown]] = {}
        self._lock = threading.Lock()

    def refresh(self) -> list[Shown]:
        """Read the folders anew and return all models, in the order of the paths and of their names."""
        with self._lock:
            known: dict[Path, tuple[float, Shown]] = {}
            names: dict[str, int] = {}
            for folder in model_folders(self.paths):
                changed = _changed(folder)
                before = self._known.get(folder)
                shown = before[1] if before is not None and before[0] == changed else read_model(folder, device=self.device)
                if shown.problem and not (folder / "config.json").exists():
                    continue  # it was removed, or is being replaced, this very moment
                names[folder.name] = names.get(folder.name, 0) + 1
                shown.name = folder.name if names[folder.name] == 1 else str(folder)
                known[folder] = (changed, shown)
            self._known = known
            self.shown = [shown for _, shown in known.values()]
            return self.shown

    @property
    def readers(self) -> list[Shown]:
        """Those that read drawings, those that answered fastest first."""
        return sorted((shown for shown in self.shown if shown.model is not None), key=lambda shown: shown.milliseconds)

    def answers(self, forms: Mapping[str, np.ndarray]) -> Iterator[dict[str, Any]]:
        """Yield what each model makes of a drawing, brought to the forms that `forms_of` returned.

        Each answer has model, label, probabilities (by class name; None of a model without them), saw (the form), and ms;
        or model and problem.
        """
        for shown in self.readers:
            try:
                yield answer(shown, forms)
            except Exception as error:  # whatever one model meets, the others still answer
                yield {"model": shown.name, "problem": _cannot(shown, error)}


def model_folders(paths: Sequence[Path]) -> list[Path]:
    """Return the folders of saved models at or directly below each path, in order, each once."""
    found: list[Path] = []
    for path in paths:
        if (path / "config.json").exists():
            found.append(path)
        elif path.is_dir():
            found += sorted(child.parent for child in path.glob("[!.]*/config.json"))
    return list(dict.fromkeys(found))


def read_model(folder: Path, *, device: str = "auto") -> Shown:
    """Load a model and find out how it is shown a drawing."""
    shown = Shown(folder.name, folder)
    try:
        description = describe(folder)
        shown.kind = str(description.get("classifier", ""))
        model = load_classifier(folder, device=device)
    except UsageError as error:
        shown.problem = str(error)
        return shown
    except Exception as error:  # whatever is in the folder: the page and the other models must not suffer
        shown.problem = _cannot(shown, error)
        return shown
    shown.shape = model.input_shape
    if not set(model.class_names) <= DIGITS:
        shown.problem = f"{folder} tells {', '.join(model.class_names[:3])} … apart, not digits."
        return shown
    options = description.get("data_options")
    set_read = options.get("data") if isinstance(options, dict) else None
    shown.form = "digits" if set_read == "digits" and shown.shape == (1, 8, 8) else "mnist"
    shown.model = model
    try:
        for _ in range(2):  # the first one pays for what the others find ready
            answer(shown, {shown.form: np.zeros(shown.shape[1:], dtype=np.float32)})
    except Exception as error:  # weights of another form, say: the other models shall answer all the same
        shown.model, shown.problem = None, _cannot(shown, error)
    return shown


def _cannot(shown: Shown, error: Exception) -> str:
    reason = first_line(error)
    return f"{shown.folder} cannot answer ({reason}): train it anew."


def forms_of(drawing: np.ndarray) -> dict[str, np.ndarray]:
    """Return a drawing (height, width), ink from 0 to 1, in each form: (28, 28) as `mnist`, (8, 8) as `digits`.

    Raises:
        UsageError: if it is blank.
    """
    return {"mnist": mnist_form(drawing), "digits": digits_form(drawing)}


def answer(shown: Shown, forms: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return a model's answer, as `Models.answers` yields it."""
    assert shown.model is not None
    x = as_read(forms[shown.form], shown.shape)
    begin = time.perf_counter()
    with shown.lock:
        labels, probabilities = shown.model.predict_with_proba(x)
    shown.milliseconds = 1000 * (time.perf_counter() - begin)
    if probabilities is not None and not np.isfinite(probabilities).all():
        raise ValueError("its probabilities are not numbers, as after a training that diverged")
    names = shown.model.class_names
    by_class = None if probabilities is None else dict(zip(names, (round(float(p), 6) for p in probabilities[0]), strict=True))
    label = names[int(labels[0])]
    return {
        "model": shown.name,
        "label": label,
        "probabilities": by_class,
        "saw": shown.form,
        "ms": round(shown.milliseconds, 2),
    }


def as_read(form: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Return a form (height, width) as one image (1, channels, height, width) of a model's shape, resized as `folder:` does."""
    from PIL import Image

    channels, height, width = shape
    if form.shape != (height, width):
        form = np.asarray(Image.fromarray(form).resize((width, height), Image.Resampling.BILINEAR), dtype=np.float32)
    return np.broadcast_to(form, (1, channels, height, width)).copy()


def _changed(folder: Path) -> float:
    """Return when a model's files were last written; 0 where they are gone."""
    latest = 0.0
    for name in ("config.json", "weights.safetensors"):
        with contextlib.suppress(OSError):
            latest = max(latest, (folder / name).stat().st_mtime)
    return latest
