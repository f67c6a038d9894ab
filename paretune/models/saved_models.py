"""Saved models: a folder with config.json, weights.safetensors and metrics.json. Loading one never runs code from it."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paretune.core.errors import UsageError, first_line
from paretune.data.options import DataOptions
from paretune.models.contract import Classifier, Model
from paretune.models.programs import saved_class

if TYPE_CHECKING:
    import numpy as np

    from paretune.data.options import DataOptions

FORMAT = 1
LOCK = ".lock"  # of whoever changes a file of a saved model
FILES = {"config.json", "weights.safetensors", "metrics.json", "predictions.safetensors", "model.onnx", LOCK}  # of a saved model
LITTER = {".DS_Store", "Thumbs.db", "desktop.ini"}  # what file browsers leave


def save(
    classifier: Model,
    directory: Path | str,
    *,
    metrics: Mapping[str, Any],
    origin: Mapping[str, Any] | None = None,
    beside: Callable[[Path], Any] | None = None,
) -> Path:
    """Write a fitted classifier, whole or not at all; an earlier model in the folder is replaced, and no other file is touched.

    Args:
        metrics: what was measured, for metrics.json.
        origin: where the model came from (data, provenance, chosen run and rule), kept in config.json.
        beside: writes more files into the folder, before it is put in its place.

    Raises:
        UsageError: if the folder holds something that is not a saved model, or cannot be written, or weights are not finite.
    """
    from safetensors.numpy import save_file

    directory = Path(directory).resolve()  # of a link, the folder that it leads to
    check_destination(directory)
    state = classifier.state()
    check_finite(state, f"the {classifier.name} that was trained", classifier.parameter_names())
    description = {
        "format": FORMAT,
        "classifier": classifier.name,
        "config": classifier.config.to_dict(),
        "input_shape": list(classifier.input_shape),
        "class_names": classifier.class_names,
        **({} if classifier.source is None else {"program": classifier.source.to_dict()}),
        **(origin or {}),
    }
    partial = directory.with_name(f".{directory.name}.{secrets.token_hex(4)}.partial")
    try:
        partial.mkdir(parents=True)
        arrays = {name: array.copy(order="C") for name, array in state.items()}
        save_file(arrays, partial / "weights.safetensors")
        write_json(partial / "config.json", description)
        write_json(partial / "metrics.json", metrics)
        if beside is not None:
            beside(partial)
        _replace(directory, partial)
    except OSError as error:
        raise UsageError(f"{directory} cannot be written ({error.strerror}): free some space or choose another folder.") from None
    finally:
        if partial.exists():  # this call has made it, under a name that nobody else has
            shutil.rmtree(partial, ignore_errors=True)
    return directory


def _replace(directory: Path, partial: Path) -> None:
    """Put a new folder where an earlier model may be; what is no part of that model moves along into the new one."""
    if not directory.exists():
        partial.rename(directory)
        return
    earlier = partial.with_suffix(".earlier")
    directory.rename(earlier)
    try:
        partial.rename(directory)
    except OSError:
        earlier.rename(directory)
        raise
    for path in earlier.iterdir():
        if path.name in FILES:
            path.unlink()
        else:
            path.rename(directory / path.name)
    earlier.rmdir()


def check_destination(directory: Path) -> None:
    """Refuse a folder that a model cannot be saved in, before time is spent on training it.

    Raises:
        UsageError: if it holds something that is not a saved model, or its parent cannot be written.
    """
    try:
        if directory.exists():
            _check_holds_a_model_alone(directory)
        directory.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(directory.parent, os.W_OK):
            raise PermissionError(None, "no right to write there")
    except OSError as error:
        raise UsageError(f"{directory} cannot be written ({error.strerror}): choose another folder for the model.") from None


def _check_holds_a_model_alone(directory: Path) -> None:
    names = sorted(path.name for path in directory.iterdir() if path.name not in LITTER and not path.name.startswith("._"))
    others = [name for name in names if name not in FILES and not (name.startswith(".") and name.endswith(".partial"))]
    if not names:
        return
    shown = f"{', '.join(others[:3])}{' …' if len(others) > 3 else ''}"
    if others:
        raise UsageError(
            f"{directory} must be a new folder or one of a saved model alone. Got {shown} in it: choose another folder."
        )
    try:
        known = describe(directory)
    except UsageError:
        known = {}
    if not all(isinstance(known.get(key), kind) for key, kind in (("classifier", str), ("config", dict), ("class_names", list))):
        raise UsageError(
            f"{directory} must be a new folder or one of a saved model alone. Got files that are no model of format {FORMAT}: "
            "choose another folder."
        )


def load(directory: Path | str, *, device: str = "auto") -> Model:
    """Read a saved model, knowing only its folder.

    Raises:
        UsageError: if the folder is no saved model, a file in it is broken, its weights are not finite, or it is of a program that
            has not been loaded.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    directory = Path(directory)
    description = describe(directory)
    kind = saved_class(directory, description)
    try:
        classifier = kind(kind.Config.from_dict(description["config"]), device=device)
        channels, height, width = description["input_shape"]
        classifier.input_shape = (int(channels), int(height), int(width))
        classifier.class_names = [str(name) for name in description["class_names"]]
        state = load_file(directory / "weights.safetensors")
        classifier.load_state(state)
        check_finite(state, f"the model in {directory}", classifier.parameter_names())
    except UsageError:
        raise
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, RuntimeError, OverflowError) as error:
        raise UsageError(f"{directory} is a broken model ({_reason(error)}): train it anew or fetch it again.") from None
    return classifier


def check_finite(state: Mapping[str, np.ndarray], whose: str, parameters: Collection[str] = ()) -> None:
    """Raises if an array holds NaN, or a learnt parameter infinity.

    Args:
        whose: the model, for the message.
        parameters: the names of the learnt arrays: a constant, such as the mask of an attention, may hold infinity.

    Raises:
        UsageError: that names the arrays.
    """
    import numpy as np

    floats = {name: array for name, array in state.items() if array.dtype.kind == "f"}
    infinite = [name for name in floats if name in parameters and np.isinf(floats[name]).any()]
    broken = {"NaN": [name for name in floats if np.isnan(floats[name]).any()], "infinity": infinite}
    got = [f"{what} in {', '.join(names[:3])}{' …' if len(names) > 3 else ''}" for what, names in broken.items() if names]
    if got:
        raise UsageError(
            f"{whose} must have weights that are finite numbers, and NaN nowhere. Got {' and '.join(got)}: its training diverged; "
            "train it with other values, such as a lower learning rate."
        )


def check_whole(directory: Path | str) -> None:
    """Refuse a model that cannot be loaded. Of one of a program, which is not imported for this, the files are read alone.

    Raises:
        UsageError: as `load`.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    if "program" not in describe(directory):
        load(directory, device="cpu")
        return
    try:
        check_finite(load_file(Path(directory) / "weights.safetensors"), f"the model in {directory}")
    except (OSError, SafetensorError) as error:
        raise UsageError(f"{directory} is a broken model ({_reason(error)}): train it anew or fetch it again.") from None


def _reason(error: Exception) -> str:
    """Say why a model cannot be loaded; of weights that do not fit, which."""
    text = str(error)
    if isinstance(error, KeyError):
        return f"it has no {error.args[0]}"
    if not text.startswith("Error(s) in loading state_dict"):
        return first_line(error)
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


def data_options_of(directory: Path | str, data: str | None = None) -> DataOptions:
    """Return which data a saved model is read with: those that it was trained on, or the set `data` split as they were.

    Raises:
        UsageError: if neither the model nor `data` says which set.
    """
    description = describe(directory)
    known = description.get("data_options")
    if known is None and data is None:
        raise UsageError(f"{directory} does not say which data it was trained on (unknown): name a set of its classes with --data.")
    options = DataOptions.from_dict(known or {})
    if data is None:
        return options
    return options.replace(data=data, image_size=description["input_shape"][1] if data.startswith("folder:") else None)


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
