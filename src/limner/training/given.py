"""What a Python caller gives `limner.train` and `limner.resume`, as a model's class and the settings of a run."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from limner.errors import LimnerError
from limner.models import Model, choose_model
from limner.training.config import TrainConfig, read_config


def settings_of(
    model: str | type[Model], config: TrainConfig[Any] | None, settings: Mapping[str, Any]
) -> tuple[type[Model], TrainConfig[Any]]:
    """Return the model's class and the settings to train it with.

    Args:
        model: its name, FILE.py:CLASS or its class.
        config: as given; None: the model's default settings.
        settings: single settings by name, of the run or of the model; `preset` names the ones to begin from.

    Raises:
        LimnerError: a name is not known, or `config` holds the settings of another model.
    """
    model_class = choose_model(model)
    settings = dict(settings)
    if config is None:
        config = _preset(model_class, settings.pop("preset", None))
    if not isinstance(config, TrainConfig):
        raise LimnerError(f"train: config is {type(config).__name__}, expected limner.TrainConfig or single settings")
    _refuse_another_models(model_class, config)
    return model_class, changed(config, settings, model_class.name)


def settings_to_resume(
    folder: Path, model: str | type[Model] | None, config: TrainConfig[Any] | None, settings: Mapping[str, Any]
) -> tuple[type[Model], TrainConfig[Any]]:
    """Return the model's class and the settings to go on with.

    Args:
        folder: of the run.
        model: named by a person; None: the one that the run names, which must be known.
        config: as given; None: the run's.
        settings: single settings to change.

    Raises:
        LimnerError: there is no run, or its model is not the one given.
    """
    model_class = None if model is None else choose_model(model)
    if config is None or model_class is None:
        model_class, kept = read_config(folder / "config.json", model_class)
        config = kept if config is None else config
    _refuse_another_models(model_class, config)
    return model_class, changed(config, settings, model_class.name)


def changed(config: TrainConfig[Any], settings: Mapping[str, Any], name: str) -> TrainConfig[Any]:
    """Return the settings with single ones changed, of the run or of the model."""
    own = {field.name for field in dataclasses.fields(config.model)}
    run = {field.name for field in dataclasses.fields(config)} - {"model"}
    for setting in settings:
        if setting not in own | run:
            near = difflib.get_close_matches(setting, own | run, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise LimnerError(
                f"{setting!r} is not a setting of {name} or of a run; {hint}`limner train {name} --help` lists them"
            )
    model = dataclasses.replace(config.model, **{key: value for key, value in settings.items() if key in own})
    return dataclasses.replace(config, model=model, **{key: settings[key] for key in settings if key not in own})


def _preset(model_class: type[Model], name: str | None) -> TrainConfig[Any]:
    if name is None:
        return TrainConfig(model=model_class.Config())
    if name not in model_class.presets:
        known = ", ".join(model_class.presets) or "none"
        raise LimnerError(f"preset {name!r}: {model_class.name} has {known}")
    preset = model_class.presets[name]
    return TrainConfig(model=model_class.Config(**preset.model), **preset.run)


def _refuse_another_models(model_class: type[Model], config: TrainConfig[Any]) -> None:
    if not isinstance(config.model, model_class.Config):
        raise LimnerError(
            f"config.model is {type(config.model).__name__}, but the settings of {model_class.name} are "
            f"{model_class.Config.__name__}; give TrainConfig(model={model_class.Config.__name__}(…))"
        )
