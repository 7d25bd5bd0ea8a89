"""Networks whose features are compared, chosen by name.

A distance between features means nothing without the network, its weights and the way images were resized for it, so
all three are part of an extractor (`limner.metrics.extractors.base`) and go on every card.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from limner.errors import LimnerError

if TYPE_CHECKING:
    from limner.metrics.extractors.base import Extractor

EXTRACTORS: Mapping[str, str] = {
    "inception": "the FID network of 2015; its weights are a file of yours",
    "efficientnet-lite0": "a small ImageNet classifier; installed by the extra `efficientnet`",
    "probe": "limner's own network, trained on a labelled dataset by `limner data probe`",
    "torchscript": "any network in a TorchScript file of yours, which is a program and is run",
}
"""name → what it is"""


def open_extractor(
    name: str, *, weights: Path | None = None, resize: str | None = None, device: str = "cpu"
) -> Extractor:
    """The extractor of that name, on `device`, ready to use. Nothing is downloaded.

    Args:
        name: in EXTRACTORS.
        weights: its file. Not needed for inception where `available` lists it, nor for efficientnet-lite0.
        resize: a name in `limner.metrics.extractors.resize.RESIZE_RULES`, for torchscript with a side such as
            "clean:224"; each extractor's own choice by default. The probe has one way only.
        device: as torch names it, such as cpu, cuda, cuda:1.

    Raises:
        LimnerError: no such name or rule, or a file that is needed was not given or is not there.
        CheckpointError: the file is damaged or another one.
        ResourceError: no such device here.
    """
    if name not in EXTRACTORS:
        near = difflib.get_close_matches(name.lower().replace("_", "-"), EXTRACTORS, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise LimnerError(f"extractor: {name!r} is none; {hint}there are {', '.join(EXTRACTORS)}")
    if name in ("probe", "torchscript") and weights is None:
        raise LimnerError(f"extractor {name}: no file of weights given; it is {EXTRACTORS[name]}")
    return _open(name, weights, resize, device)


def _open(name: str, weights: Path | None, resize: str | None, device: str) -> Extractor:
    # each module imports torch and networks, which `limner --help` must not
    if name == "inception":
        from limner.metrics.extractors.inception import InceptionExtractor

        return InceptionExtractor(weights, resize, device)
    if name == "efficientnet-lite0":
        from limner.metrics.extractors.efficientnet_lite0 import EfficientNetLite0Extractor

        return EfficientNetLite0Extractor(weights, resize, device)
    assert weights is not None, name
    if name == "torchscript":
        from limner.metrics.extractors.torchscript import TorchScriptExtractor

        return TorchScriptExtractor(weights, resize, device)
    if resize is not None:
        raise LimnerError(f"resize: {resize!r}, but the probe has its own way only; leave it out")
    from limner.metrics.extractors.probe import ProbeExtractor

    return ProbeExtractor(weights, device)


def available() -> tuple[str, ...]:
    """Names that can be opened on this machine without naming a file, the most comparable first.

    By a file's being there with the right size; its SHA-256 is checked when it is opened.
    """
    from limner.metrics.extractors import efficientnet_lite0, inception

    folder = inception.inception_folder()
    names = []
    if any(_is_there(folder / file.name, file.size) for file in inception.KNOWN_FILES.values()):
        names.append("inception")
    if efficientnet_lite0.installed_weights() is not None:
        names.append("efficientnet-lite0")
    return tuple(names)


def _is_there(path: Path, size: int) -> bool:
    try:
        return path.is_file() and path.stat().st_size == size
    except OSError:
        return False
