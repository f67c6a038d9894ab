"""The config of a run: hyper-parameters, data options and run options."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from paretune.core.config import ActiveWhen, Config
from paretune.core.errors import UsageError, did_you_mean
from paretune.data.options import DataOptions
from paretune.models.registry import TRAINERS, program_of

if TYPE_CHECKING:
    from paretune.models.contract import Model, ModelConfig

# what a run's config says of a run, beside the values that it was given
NOT_GIVEN = {"provenance", "evaluation_split", "classifier", "repeats", "repeats_over"}


class RunOptions(Config):
    """What a run's config holds beside the classifier's values and the data options."""

    preset: Annotated[str | None, ActiveWhen(lambda options: False)] = Field(  # a run's config holds its values themselves
        None, description="values to start from: a name below trainers/presets/ or a YAML file"
    )
    best_metric: str = Field(
        "f1", description="the hold-out metric by which a run's best epoch is picked; of an autoencoder test_loss"
    )


def read_preset(preset: str) -> dict[str, Any]:
    """Return the values of a preset: a name below trainers/presets/, or a path to a YAML file."""
    import yaml

    folder = TRAINERS / "presets"
    path = Path(preset) if preset.endswith((".yaml", ".yml")) else folder / f"{preset}.yaml"
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        names = sorted(file.stem for file in folder.glob("*.yaml"))
        near = did_you_mean(preset, names) or f"; there are {', '.join(names)}, or give a YAML file."
        raise UsageError(f"preset {preset!r} is not known{near}") from None
    except (OSError, yaml.YAMLError) as error:
        raise UsageError(f"preset {path} cannot be read ({' '.join(str(error).split())}).") from None
    if not isinstance(values, dict):
        raise UsageError(f"preset {path} must be a mapping of hyper-parameters to values.")
    return values


def configure(kind: type[Model], values: Mapping[str, Any]) -> tuple[ModelConfig, DataOptions, RunOptions]:
    """Sort flat values into the classifier's Config, the data options and the run options, all checked.

    Raises:
        UsageError: naming an unknown key, or every unfit value.
    """
    if values.get("preset") is not None:
        values = {**read_preset(str(values["preset"])), **values}
    rest = {"best_metric": kind.BEST_METRIC, **{key: value for key, value in values.items() if key not in NOT_GIVEN}}
    data = {key: rest.pop(key) for key in list(rest) if key in DataOptions.model_fields}
    run = {key: rest.pop(key) for key in list(rest) if key in RunOptions.model_fields}
    for key in rest:
        if key not in kind.Config.model_fields:
            names = [*kind.Config.model_fields, *DataOptions.model_fields, *RunOptions.model_fields]
            raise UsageError(f"{key} is not a hyper-parameter of {program_of(kind)}{did_you_mean(key, names) or '.'}")
    config, data_options, run_options = kind.Config.from_dict(rest), DataOptions.from_dict(data), RunOptions.from_dict(run)
    if data_options.evaluation_split == "holdout":
        names = kind.metric_names(config)
        if run_options.best_metric not in names:
            near = did_you_mean(run_options.best_metric, names) or f"; there are {', '.join(names)}."
            raise UsageError(f"best_metric {run_options.best_metric!r} is not logged by {program_of(kind)}{near}")
    elif getattr(config, "early_stopping", None) is not None:
        raise UsageError("early_stopping needs a hold-out to watch. Got holdout=0 or curves_on_test: drop one of the two.")
    return config, data_options, run_options


def run_values(kind: type[Model], config: ModelConfig, data: DataOptions, run: RunOptions) -> dict[str, Any]:
    """Return what stands at the top level of a run's config."""
    values = {**config.to_dict(), **data.to_dict(), **run.to_dict()}
    return {**values, "classifier": kind.name, "evaluation_split": data.evaluation_split}


def inactive_in(*configs: Config) -> list[str]:
    """Return the inactive parameters of a run's Config and options, as its provenance names them."""
    return [name for config in configs for name in config.inactive_parameters()]
