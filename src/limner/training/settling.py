"""What a run's settings mean here: every "auto" and "by default" replaced, so that its record says what was done."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch

from limner.data.dataset import Dataset, open_dataset
from limner.data.loader import choose_labels
from limner.errors import DataError, LimnerError
from limner.heads import default_heads
from limner.latents import NO_LABELS, Labels
from limner.models import Model
from limner.training.config import DEFAULT_KIMG, TrainConfig

HEADS_RESOLUTION = 32


def open_data(config: TrainConfig[Any]) -> Dataset:
    """The run's dataset; without one named, the built-in heads, rendered where they are not kept from before."""
    if config.data is not None:
        return open_dataset(config.data)
    return open_dataset(default_heads(config.resolution or HEADS_RESOLUTION, config.heads))


def settle(
    model_class: type[Model], config: TrainConfig[Any], dataset: Dataset | None, device: torch.device
) -> TrainConfig[Any]:
    """The settings with every "auto" and "by default" replaced by what it means here.

    Args:
        model_class: what is trained.
        config: as given.
        dataset: what it is trained on; None, to plan without: the attributes are then none.
        device: where.
    """
    resolution = config.resolution
    if resolution is None and dataset is None:
        resolution = HEADS_RESOLUTION
    elif resolution is None and dataset is not None:
        possible = [r for r in dataset.resolutions if r in model_class.resolutions]
        if not possible:
            raise LimnerError(
                f"{dataset.folder}: no side that {model_class.name} can make; prepare one of {model_class.resolutions}"
            )
        resolution = HEADS_RESOLUTION if config.data is None else max(possible)
    precision = config.precision
    if precision == "auto":
        precision = "bf16" if fast_bf16(device) else "fp32"
    if config.batch_size is not None:
        config = dataclasses.replace(config, model=model_class.with_batch_size(config.model, config.batch_size))
    attributes = "none" if dataset is None else settle_attributes(model_class, config, dataset)
    config = dataclasses.replace(config, resolution=resolution, attributes=attributes, precision=precision)
    model = outline(model_class, config, labels_of(config, dataset))
    if dataset is not None:
        _refuse_missing_sides(model, dataset)
    needed = model.images_needed()
    return dataclasses.replace(
        config,
        batch_size=config.batch_size or model.stage(0).batch_size or model.batch_size,
        kimg=config.kimg or (DEFAULT_KIMG if needed is None else needed / 1000),
        data=None if config.data is None else Path(config.data).resolve(),
    )


def _refuse_missing_sides(model: Model, dataset: Dataset) -> None:
    """At once, and not where the model has grown so far."""
    for side in sorted({model.stage(images).resolution for images in model.milestones()}):
        if side not in dataset.resolutions:
            have = ", ".join(map(str, dataset.resolutions))
            raise DataError(f"{dataset.folder}: no images of {side}²; it has {have}; prepare it again larger")


def labels_of(config: TrainConfig[Any], dataset: Dataset | None) -> Labels:
    """What the model is told of its data, once the attributes are settled."""
    if dataset is None:
        return NO_LABELS
    return choose_labels(dataset, chosen_attributes(config.attributes, dataset), dataset.indices("train"))


def outline(model_class: type[Model], config: TrainConfig[Any], labels: Labels) -> Model:
    """The model with its schedule and without its weights."""
    if config.resolution is None:
        raise LimnerError("resolution must be settled before a model is made")
    with torch.device("meta"):
        return model_class(config.model, config.resolution, labels)


def settle_attributes(model_class: type[Model], config: TrainConfig[Any], dataset: Dataset) -> str:
    """`all`, `none` or names, in place of `auto`.

    Raises:
        LimnerError: some are asked for, and the model takes none.
    """
    takes = model_class.takes_attributes(config.model)
    if config.attributes == "auto":
        return "all" if takes and dataset.attribute_names else "none"
    if chosen_attributes(config.attributes, dataset) and not takes:
        raise LimnerError(
            f"attributes is {config.attributes}, but {model_class.name} with these settings takes none; "
            f"leave --attributes out (see `limner train {model_class.name} --help`)"
        )
    return config.attributes


def fast_bf16(device: torch.device) -> bool:
    """Whether the hardware computes in bfloat16 itself; emulated, it is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        try:
            flags = Path("/proc/cpuinfo").read_text()
        except OSError:
            return False
        return "avx512_bf16" in flags or "amx_bf16" in flags
    return False


def chosen_attributes(text: str, dataset: Dataset) -> tuple[str, ...]:
    """`none`, `all`, or names with commas between them."""
    if text == "none":
        return ()
    if text == "all":
        return dataset.attribute_names
    return tuple(name.strip() for name in text.split(",") if name.strip())
