"""Saved models: a folder with config.json, weights.safetensors and metrics.json. Loading one never runs code from it."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from trainers import model_class
from trainers.base import Classifier, Model
from trainers.errors import UsageError

FORMAT = 1


def save(
    classifier: Model,
    directory: Path | str,
    *,
    metrics: Mapping[str, Any],
    origin: Mapping[str, Any] | None = None,
    beside: Callable[[Path], Any] | None = None,
) -> Path:
    """Write a fitted classifier, whole or not at all; an earlier model in the folder is replaced.

    Args:
        metrics: what was measured, for metrics.json.
        origin: where the model came from (data, provenance, chosen run and rule), kept in config.json.
        beside: writes more files into the folder, before it is put in its place.

    Raises:
        UsageError: if the folder holds something that is not a saved model, or cannot be written.
    """
    from safetensors.numpy import save_file

    directory = Path(directory)
    check_destination(directory)
    description = {
        "format": FORMAT,
        "classifier": classifier.name,
        "config": classifier.config.to_dict(),
        "input_shape": list(classifier.input_shape),
        "class_names": classifier.class_names,
        **(origin or {}),
    }
    partial = directory.with_name(f".{directory.name}.{os.getpid()}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        arrays = {name: array.copy(order="C") for name, array in classifier.state().items()}
        save_file(arrays, partial / "weights.safetensors")
        write_json(partial / "config.json", description)
        write_json(partial / "metrics.json", metrics)
        if beside is not None:
            beside(partial)
        if directory.exists():
            shutil.rmtree(directory)
        partial.rename(directory)
    except OSError as error:
        raise UsageError(f"{directory} cannot be written ({error.strerror}): free some space or choose another folder.") from None
    return directory


def check_destination(directory: Path) -> None:
    """Refuse a folder that a model cannot be saved in, before time is spent on training it.

    Raises:
        UsageError: if it holds something that is not a saved model, or its parent cannot be written.
    """
    try:
        if directory.exists() and not (directory / "config.json").exists() and any(directory.iterdir()):
            raise UsageError(f"{directory} holds files that are not a saved model: choose another folder for the model.")
        directory.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(directory.parent, os.W_OK):
            raise PermissionError(None, "no right to write there")
    except OSError as error:
        raise UsageError(f"{directory} cannot be written ({error.strerror}): choose another folder for the model.") from None


def load(directory: Path | str, *, device: str = "auto") -> Model:
    """Read a saved model, knowing only its folder.

    Raises:
        UsageError: if the folder is no saved model, or a file in it is broken.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    directory = Path(directory)
    description = describe(directory)
    kind = model_class(str(description.get("classifier")))
    try:
        classifier = kind(kind.Config.from_dict(description["config"]), device=device)
        channels, height, width = description["input_shape"]
        classifier.input_shape = (int(channels), int(height), int(width))
        classifier.class_names = [str(name) for name in description["class_names"]]
        classifier.load_state(load_file(directory / "weights.safetensors"))
    except UsageError:
        raise
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, RuntimeError, OverflowError) as error:
        raise UsageError(f"{directory} is a broken model ({_reason(error)}): train it anew or fetch it again.") from None
    return classifier


def _reason(error: Exception) -> str:
    """Say why a model cannot be loaded; of weights that do not fit, which."""
    text = str(error)
    if isinstance(error, KeyError):
        return f"it has no {error.args[0]}"
    if not text.startswith("Error(s) in loading state_dict"):
        return text.splitlines()[0].rstrip(".:") if text else type(error).__name__
    missing, unexpected = (re.search(rf"{kind} key\(s\) in state_dict: ([^\n]*)", text) for kind in ("Missing", "Unexpected"))
    parts = {
        "of another shape": re.findall(r"size mismatch for ([^:\n]+):", text),
        "missing": re.findall(r'"([^"]+)"', missing[1]) if missing else [],
        "unknown": re.findall(r'"([^"]+)"', unexpected[1]) if unexpected else [],
    }
    words = [f"{what}: {', '.join(names[:3])}{' …' if len(names) > 3 else ''}" for what, names in parts.items() if names]
    return "; ".join(["its weights do not fit its config.json", *words])


def load_classifier(directory: Path | str, *, device: str = "auto") -> Classifier:
    """Read a saved classifier.

    Raises:
        UsageError: as `load`, or if the model tells no classes apart.
    """
    model = load(directory, device=device)
    if not isinstance(model, Classifier):
        raise UsageError(f"{directory} is an {model.name}, which tells no classes apart: give the folder of a classifier.")
    return model


def describe(directory: Path | str) -> dict[str, Any]:
    """Return config.json of a saved model."""
    path = Path(directory) / "config.json"
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{directory} is not a saved model (it has no config.json); models are folders below models/.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} cannot be read ({error}): train the model anew or fetch it again.") from None
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise UsageError(f"{path} is not a model of format {FORMAT}: train the model anew with this version.")
    return description


def read_metrics(directory: Path | str) -> dict[str, Any]:
    """Return metrics.json of a saved model."""
    path = Path(directory) / "metrics.json"
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read ({error}): train the model anew.") from None
    if not isinstance(metrics, dict):
        raise UsageError(f"{path} is not a mapping of metrics: train the model anew.")
    return metrics


def write_json(path: Path, values: Any) -> None:
    """Write indented JSON."""
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
