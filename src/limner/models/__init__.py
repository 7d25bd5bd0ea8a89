"""The list of models. A new one is a file beside this and a line in MODELS."""

from __future__ import annotations

import difflib
from pathlib import Path

from limner.errors import CheckpointError, LimnerError
from limner.models.base import Encodes, Model, Phase, Preset, Stage
from limner.models.began import BEGAN
from limner.models.dcgan import DCGAN
from limner.models.hologan import HoloGAN
from limner.models.infogan import InfoGAN
from limner.models.lsgan import LSGAN
from limner.models.outside import (
    check_model_class,
    how_to_name,
    import_installed,
    import_model_file,
    installed_models,
    is_file_spec,
)
from limner.models.progan import ProGAN
from limner.models.vae import VAE
from limner.models.vae_gan import VAEGAN
from limner.models.wgan import WGAN
from limner.models.wgan_gp import WGANGP

MODELS: dict[str, type[Model]] = {
    model.name: model
    for model in (
        DCGAN,
        LSGAN,
        WGAN,
        WGANGP,
        InfoGAN,
        BEGAN,
        VAE,
        VAEGAN,
        ProGAN,
        HoloGAN,
    )
}


def find_model(name: str) -> type[Model]:
    """Return the class of that name: one of MODELS, or one that an installed package registers (`limner.models`).

    Raises:
        LimnerError: there is none, or the package's model cannot be used.
    """
    if name in MODELS:
        return MODELS[name]
    installed = installed_models()
    if name in installed:
        return import_installed(installed[name])
    known = [*MODELS, *installed]
    near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise LimnerError(
        f"model {name!r} is not known; {hint}there are: {', '.join(known)} (see `limner models`); one of your own is "
        "named path/to/file.py:CLASS"
    )


def choose_model(model: str | type[Model]) -> type[Model]:
    """Return the class that a person named: a name, FILE.py:CLASS (that file is run), or the class itself.

    Never call this with what a run's folder says, since naming a file runs it.

    Raises:
        LimnerError: there is no such model, it is not complete, or it has the name of one of MODELS.
    """
    if isinstance(model, str) and not is_file_spec(model):
        return find_model(model)
    where = model if isinstance(model, str) else getattr(model, "__qualname__", repr(model))
    found = import_model_file(model) if isinstance(model, str) else check_model_class(model, where)
    if MODELS.get(found.name, found) is not found:
        raise LimnerError(
            f"{where}: its name is {found.name!r}, which is one of limner's own models; give the class another `name`"
        )
    return found


def model_of_run(name: str, source: object, given: type[Model] | None, where: Path) -> type[Model]:
    """Return the class of a run's model, without importing anything that only the run's folder names.

    Args:
        name: the model's, as the run has it.
        source: where the run says that the class was defined; only shown.
        given: the class that a person named for this run.
        where: the file that says so.

    Raises:
        LimnerError: the model is not known and none was given.
        CheckpointError: another one was given.
    """
    if given is not None:
        if given.name != name:
            raise CheckpointError(f"{where}: the run's model is {name!r}, not {given.name!r}; give the class it is of")
        return given
    if source is not None and name not in MODELS and name not in installed_models():
        raise LimnerError(how_to_name(name, source, where))
    return find_model(name)


__all__ = ["MODELS", "Encodes", "Model", "Phase", "Preset", "Stage", "choose_model", "find_model", "model_of_run"]
