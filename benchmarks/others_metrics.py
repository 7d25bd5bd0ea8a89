"""Other people's metrics of two sets of features, where their packages can be imported; each by its own code alone."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

MODULES = {
    "torch-fidelity": (
        "torch_fidelity.metric_fid",
        "torch_fidelity.metric_kid",
        "torch_fidelity.metric_isc",
        "torch_fidelity.metric_prc",
        "torch_fidelity.feature_extractor_inceptionv3",
    ),
    "clean-fid": ("cleanfid.fid",),
    "pytorch-fid": ("pytorch_fid.fid_score",),
    "prdc": ("prdc",),
    "torchmetrics": ("torchmetrics.image.fid", "torchmetrics.image.kid"),
}
Numbers = dict[str, float]


def find_packages() -> tuple[dict[str, list[Any]], dict[str, str]]:
    """Modules of those that can be imported, and why the others cannot."""
    found, missing = {}, {}
    for name, modules in MODULES.items():
        try:
            found[name] = [importlib.import_module(module) for module in modules]
        except (ImportError, RuntimeError, AttributeError) as error:
            missing[name] = str(error).splitlines()[0]
    return found, missing


def frechet_of(name: str, modules: list[Any]) -> Callable[[Tensor, Tensor], Numbers] | None:
    """By the package's own statistics and its own formula."""

    def torch_fidelity(a: Tensor, b: Tensor) -> float:
        first, second = (modules[0].fid_features_to_statistics(x) for x in (a, b))
        return float(modules[0].fid_statistics_to_metric(first, second, False)["frechet_inception_distance"])

    def clean_fid(a: Tensor, b: Tensor) -> float:
        first, second = ((x.mean(axis=0), np.cov(x, rowvar=False)) for x in (a.numpy(), b.numpy()))
        return float(modules[0].frechet_distance(*first, *second))

    def pytorch_fid(a: Tensor, b: Tensor) -> float:
        first, second = ((x.mean(axis=0), np.cov(x, rowvar=False)) for x in (a.double().numpy(), b.double().numpy()))
        return float(modules[0].calculate_frechet_distance(*first, *second))

    def torchmetrics(a: Tensor, b: Tensor) -> float:
        metric = modules[0].FrechetInceptionDistance(feature=_Given(a.shape[1]), input_img_size=(3, 1, 1))
        metric.update(a, real=True)
        metric.update(b, real=False)
        return float(metric.compute())

    functions = {
        "torch-fidelity": torch_fidelity,
        "clean-fid": clean_fid,
        "pytorch-fid": pytorch_fid,
        "torchmetrics": torchmetrics,
    }
    function = functions.get(name)
    return None if function is None else lambda a, b: {"frechet": function(a, b)}


class _Given(torch.nn.Module):
    """Stands for an extractor where features are at hand already: what it is given is what it returns."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width

    def forward(self, x: Tensor) -> Tensor:
        # torchmetrics asks how many features there are by an empty picture
        return x if x.ndim == 2 else torch.zeros(len(x), self.num_features)


def kernel_of(name: str, modules: list[Any]) -> Callable[[Tensor, Tensor], Numbers] | None:
    """One subset of everything."""
    if name == "torch-fidelity":

        def compute(a: Tensor, b: Tensor) -> float:
            options = {"kid_subsets": 1, "kid_subset_size": len(a), "verbose": False}
            return float(modules[1].kid_features_to_metric(a, b, **options)["kernel_inception_distance_mean"])

    elif name == "clean-fid":

        def compute(a: Tensor, b: Tensor) -> float:
            return float(modules[0].kernel_distance(a.numpy(), b.numpy(), num_subsets=1, max_subset_size=len(a)))

    elif name == "torchmetrics":

        def compute(a: Tensor, b: Tensor) -> float:
            return float(modules[1].poly_mmd(a, b))

    else:
        return None
    return lambda a, b: {"kernel": compute(a, b)}


def neighbours_of(name: str, modules: list[Any]) -> Callable[[Tensor, Tensor], Numbers] | None:
    """Five neighbours for all, and three for torch-fidelity, which has but two of the four."""
    if name == "prdc":
        return lambda a, b: {
            f"{key}, k 5": float(value)
            for key, value in modules[0]
            .compute_prdc(real_features=a.numpy(), fake_features=b.numpy(), nearest_k=5)
            .items()
        }
    if name == "torch-fidelity":
        return lambda a, b: {
            f"{key}, k 3": float(value)
            for key, value in modules[3].prc_features_to_metric(b, a, prc_neighborhood=3, verbose=False).items()
            if key != "f_score"
        }
    return None
