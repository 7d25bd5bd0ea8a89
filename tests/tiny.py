"""Settings with which any model is small and quick."""

from __future__ import annotations

import dataclasses
from typing import Any

from limner.models import MODELS

QUICK_GROWTH: dict[str, Any] = {"stable_kimg": 0.016, "fade_kimg": 0.016, "minibatch_repeats": 1}
"""with batches of 8, a level stands alone for two updates and is faded in over two"""


def tiny_settings(name: str, *, width: int = 4, latent_dim: int = 6, batch_size: int = 8) -> dict[str, Any]:
    """Of a model's own: networks of about that width; one that grows has reached 16² after 64 to 80 images."""
    fields = {field.name for field in dataclasses.fields(MODELS[name].Config)}
    growing = {"fmap_base": 32 * width, "fmap_max": width, "batch_sizes": (batch_size,), **QUICK_GROWTH}
    settings = {"width": width, "discriminator_width": width, "latent_dim": latent_dim, **growing}
    return {key: value for key, value in settings.items() if key in fields}


def tiny_config(name: str, *, width: int = 4, latent_dim: int = 6, batch_size: int = 8, **settings: Any) -> Any:
    """A model's settings with `tiny_settings`, and others on top."""
    sizes = tiny_settings(name, width=width, latent_dim=latent_dim, batch_size=batch_size)
    return MODELS[name].Config(**{**sizes, **settings})


GROWN = 10**9
"""images after which every level is reached"""
