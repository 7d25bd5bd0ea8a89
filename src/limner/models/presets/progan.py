"""ProGAN's named settings: the authors' tables, three re-implementations, and two of limner's own.

Tables by level run from 4² on: 4², 8², 16², 32², 64², 128², 256², 512², 1024². The half-life of the average of weights
is that of a factor of 0.999 per update at the preset's smallest usual batch: batch size x ln 0.5 / ln 0.999 images.
What a re-implementation does that is not a setting here is in `docs/reproduce.md`.
"""

from __future__ import annotations

import math

from limner.models.base import Preset


def half_life_kimg(batch_size: int, decay: float = 0.999) -> float:
    """Of an average that keeps `decay` of itself at every update, thousands of images."""
    return round(batch_size * math.log(0.5) / math.log(decay) / 1000, 2)


def _second_version(base: int, batch_sizes: tuple[int, ...], rates: tuple[float, ...], for_whom: str) -> Preset:
    """The authors' presets of 2018, after the paper: larger batches where images are small, shorter phases."""
    return Preset(
        summary=f"the authors' second version, for {for_whom}",
        model={
            "batch_sizes": batch_sizes,
            "learning_rates": rates,
            "stable_kimg": 600.0,
            "fade_kimg": 600.0,
        },
        run={"kimg": 12000.0, "ema_half_life_kimg": half_life_kimg(base), "ema_rampup": 0.0},
    )


_NO_AVERAGE = {"ema_half_life_kimg": 0.0}

PRESETS = {
    "paper-1gpu": Preset(
        summary="the paper's run at 1024², as the authors' first version did it on one GPU",
        model={"minibatch_std_group": 16},
        run={"kimg": 19000.0, "ema_half_life_kimg": half_life_kimg(16), "ema_rampup": 0.0},
    ),
    "v2-1gpu": _second_version(
        4, (128, 128, 128, 64, 32, 16, 8, 4, 4), (0.001,) * 8 + (0.0015,), "one GPU, their default"
    ),
    "v2-2gpus": _second_version(8, (256, 256, 128, 64, 32, 16, 8, 8, 8), (0.001,) * 7 + (0.0015, 0.002), "two GPUs"),
    "v2-4gpus": _second_version(
        16, (512, 256, 128, 64, 32, 16, 16, 16, 16), (0.001,) * 6 + (0.0015, 0.002, 0.003), "four GPUs"
    ),
    "v2-8gpus": _second_version(
        32, (512, 256, 128, 64, 32, 32, 32, 32, 32), (0.001,) * 5 + (0.0015, 0.002, 0.003, 0.003), "eight GPUs"
    ),
    "s1": Preset(
        summary="nvnbny's on CelebA to 256²: noisy least squares, Gaussian latents, reals not faded",
        model={
            "game": "least-squares",
            "latents": "gaussian",
            "batch_sizes": (16, 16, 16, 16, 8, 4, 4),
            "stable_kimg": 600.0,
            "fade_kimg": 600.0,
            "fade_reals": False,
            "fused_scale": False,
            "minibatch_repeats": 1,
            "reset_optimizers": False,
        },
        run={**_NO_AVERAGE, "mirror": False},
    ),
    "s2": Preset(
        summary="ProGAN for Humans, to 1024²: the paper's loss, normalization before the leaky ReLU",
        model={
            "batch_sizes": (64, 64, 32, 32, 16, 16, 8, 8, 4),
            "stable_kimg": 810.0,
            "fade_kimg": 810.0,
            "pixel_norm": "before",
            "minibatch_std_group": 0,
            "from_rgb_activation": False,
            "narrow_first": True,
            "minibatch_repeats": 1,
            "reset_optimizers": False,
        },
        run={"ema_half_life_kimg": half_life_kimg(16), "ema_rampup": 0.0},
    ),
    "s3": Preset(
        summary="Growing GANs for Face Generation, CelebA-HQ to 128²: logistic, plain weights, no minibatch std",
        model={
            "fmap_base": 2048,
            "game": "logistic",
            "latents": "unit-sphere",
            "latent_batches": 2,
            "learning_rate": 1e-4,
            "beta1": 0.5,
            "beta2": 0.999,
            "batch_sizes": (128,),
            "first_kimg": 1200.0,
            "stable_kimg": 750.0,
            "fade_kimg": 450.0,
            "fade_steps": 15,
            "fade_reals": False,
            "equalized": False,
            "minibatch_std": False,
            "from_rgb_activation": False,
            "fused_scale": False,
            "minibatch_repeats": 1,
            "reset_optimizers": False,
        },
        run={**_NO_AVERAGE, "mirror": False},
    ),
    "modern": Preset(
        summary="the paper's networks with a relativistic game and zero-centred penalties, for high resolutions",
        model={"game": "relativistic", "r1_weight": 2.0, "batch_sizes": (32, 32, 32, 32, 32, 32, 16, 8, 4)},
    ),
    "laptop": Preset(
        summary="narrow networks that reach 32² within half an hour on two cores",
        model={
            "fmap_base": 1024,
            "fmap_max": 64,
            "latent_dim": 64,
            "learning_rate": 0.005,
            "batch_sizes": (16,),
            "stable_kimg": 8.0,
            "fade_kimg": 6.0,
        },
        run={
            "kimg": 64.0,
            "sample_kimg": 2.0,
            "checkpoint_kimg": 16.0,
            "metrics_kimg": 64.0,
            "ema_half_life_kimg": 2.0,
        },
    ),
}
