"""The list of models. A new one is a file beside this and a line in MODELS."""

from __future__ import annotations

import difflib

from limner.errors import LimnerError
from limner.models.base import Encodes, Model, Phase, Preset, Stage
from limner.models.began import BEGAN
from limner.models.dcgan import DCGAN
from limner.models.hologan import HoloGAN
from limner.models.infogan import InfoGAN
from limner.models.lsgan import LSGAN
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
    """The class of that name, as on the command line."""
    if name in MODELS:
        return MODELS[name]
    near = difflib.get_close_matches(name.lower(), MODELS, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise LimnerError(f"model {name!r} is not known; {hint}there are: {', '.join(MODELS)} (see `limner models`)")


__all__ = ["MODELS", "Encodes", "Model", "Phase", "Preset", "Stage", "find_model"]
