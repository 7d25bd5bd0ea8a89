"""limner's formulas beside those of torch-fidelity, clean-fid, pytorch-fid, prdc, torchmetrics: on the same features.

    python -m benchmarks.metrics_parity [--out benchmarks/results/metrics_parity] [--quick]

Whatever of them can be imported is compared; the others are named as missing. Nothing is installed or downloaded.
Features: Gaussian ones, more and fewer images than features; those of 2 × 1000 built-in heads by EfficientNet-Lite0;
those of 2 × 100 heads by the FID network with random weights, which torch-fidelity computes with its own network and
resizing. Kernel distances are taken over one subset of everything, so that no random choice is compared.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.others_metrics import Numbers, find_packages, frechet_of, kernel_of, neighbours_of
from torch import Tensor

from limner.errors import LimnerError
from limner.metrics.frechet import frechet_distance_of_features, frechet_terms
from limner.metrics.inception_score import inception_score
from limner.metrics.kernel import kernel_distance
from limner.metrics.moments import Moments
from limner.metrics.neighbours import prdc

HEADS, INCEPTION_HEADS = 1000, 100
Row = dict[str, Any]


def normal(count: int, width: int, seed: int) -> Tensor:
    """float32 [count, width], correlated and shifted a little, as features are: non-negative, of unequal variances."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(width, width, generator=torch.Generator().manual_seed(width)) / width**0.5
    scales = torch.linspace(0.1, 1.5, width)
    return (torch.randn(count, width, generator=generator) @ mixing * scales + 0.05 * seed).clamp_min(-0.5)


# --- rows ---


def seconds(work: Callable[[], Numbers]) -> tuple[Numbers, float]:
    start = time.process_time()
    result = work()
    return result, time.process_time() - start


def own_numbers(a: Tensor, b: Tensor) -> tuple[Numbers, dict[str, float]]:
    """limner's values, and what they took."""

    def by_moments() -> Numbers:
        first, second = Moments.from_features(a), Moments.from_features(b)
        return {"frechet": sum(frechet_terms(first.mean, first.covariance, second.mean, second.covariance))}

    def by_neighbours() -> Numbers:
        found = {}
        for k in (3, 5):
            found |= {f"{name}, k {k}": value for name, value in prdc(a, b, k=k, density_k=k)._asdict().items()}
        return found

    values: Numbers = {}
    times = {}
    kernel = lambda: {"kernel": kernel_distance(a, b, subset_size=len(a))[0]}  # noqa: E731
    for name, work in (("frechet", by_moments), ("kernel", kernel), ("neighbours", by_neighbours)):
        found, times[name] = seconds(work)
        values |= found
    return values, times


def compare_features(case: str, a: Tensor, b: Tensor, packages: dict[str, list[Any]]) -> Iterator[Row]:
    """One row per metric and package; and one for limner's two ways to the Fréchet distance."""
    ours, times = own_numbers(a, b)
    by_features, taken = seconds(lambda: {"frechet": frechet_distance_of_features(a, b)})
    way = "limner, nuclear norm" if min(len(a), len(b)) <= a.shape[1] else "limner, of features"
    yield row(case, "frechet", way, by_features["frechet"], ours["frechet"], taken, times["frechet"])
    for name, modules in packages.items():
        for kind, make in (("frechet", frechet_of), ("kernel", kernel_of), ("neighbours", neighbours_of)):
            compute = make(name, modules)
            if compute is None:
                continue
            theirs, taken = seconds(lambda compute=compute: compute(a, b))  # type: ignore[misc]
            for metric, value in theirs.items():
                yield row(case, metric, name, value, ours[metric], taken, times[kind])


def compare_scores(case: str, logits: Tensor, packages: dict[str, list[Any]], splits: int) -> Iterator[Row]:
    """Inception score: the other's splits are of images in the order that limner's seed gives."""
    if "torch-fidelity" not in packages:
        return
    (mean, deviation), own_time = (inception_score(logits, splits=splits, seed=0), 0.0)
    order = torch.randperm(len(logits), generator=torch.Generator().manual_seed(0))
    theirs = packages["torch-fidelity"][2].isc_features_to_metric(logits[order], splits=splits, shuffle=False)
    for metric, value, other in (
        ("mean", mean, "inception_score_mean"),
        ("deviation", deviation, "inception_score_std"),
    ):
        label = f"inception score, {metric}, {splits} splits"
        yield row(case, label, "torch-fidelity", theirs[other], value, 0.0, own_time)


def row(case: str, metric: str, who: str, theirs: float, ours: float, their_time: float, our_time: float) -> Row:
    return {
        "features": case,
        "metric": metric,
        "who": who,
        "theirs": theirs,
        "limner": ours,
        "difference": abs(theirs - ours),
        "their_seconds": round(their_time, 2),
        "own_seconds": round(our_time, 2),
    }


# --- heads ---


def two_sets_of_heads(count: int) -> tuple[Tensor, Tensor]:
    """uint8 [count, 64, 64, 3] each: heads, and other heads at half the sharpness, so that they differ as fakes do."""
    from limner.data.dataset import open_dataset
    from limner.heads.make import default_heads

    dataset = open_dataset(default_heads(64, 2 * HEADS))
    images = torch.from_numpy(np.array(dataset.read(64, np.arange(2 * HEADS))))
    reals, others = images[:count], images[HEADS : HEADS + count]
    coarse = torch.nn.functional.avg_pool2d(others.permute(0, 3, 1, 2).float(), 2)
    fakes = torch.nn.functional.interpolate(coarse, scale_factor=2, mode="bilinear").round().clamp(0, 255).byte()
    return reals, fakes.permute(0, 2, 3, 1).contiguous()


def compare_lite(packages: dict[str, list[Any]], count: int) -> Iterator[Row]:
    """Features and logits of a small network whose weights can be installed."""
    from limner.metrics.extractors import open_extractor

    try:
        extractor = open_extractor("efficientnet-lite0")
    except LimnerError as error:
        print(f"efficientnet-lite0: {error}", file=sys.stderr)
        return
    reals, fakes = (extractor.of_bytes(images) for images in two_sets_of_heads(count))
    case = f"2 × {count:,} heads, efficientnet-lite0, d 1280"
    yield from compare_features(case, reals.features, fakes.features, packages)
    if fakes.logits is not None:
        for splits in (1, 10):
            yield from compare_scores(case, fakes.logits, packages, splits)


def compare_inception(packages: dict[str, list[Any]], count: int) -> Iterator[Row]:
    """Each with its own FID network and its own resizing, from the same bytes and the same random weights."""
    if "torch-fidelity" not in packages:
        return
    from limner.metrics.extractors.fid_network import FIDNetwork
    from limner.metrics.extractors.resize import bytes_to_pixels, find_rule

    reals, fakes = two_sets_of_heads(count)
    rule = find_rule("torch-fidelity")

    def inputs(images: Tensor) -> Tensor:
        return rule.to_inception_range(rule.resize(bytes_to_pixels(images), 299))

    network = random_weights(FIDNetwork(), inputs(reals[:32]))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "random.pth"
        torch.save(network.state_dict(), path)
        other = packages["torch-fidelity"][4].FeatureExtractorInceptionV3(
            "random", ["2048"], feature_extractor_weights_path=str(path)
        )
    with torch.no_grad():
        ours = [torch.cat([network(inputs(some)) for some in images.split(20)]) for images in (reals, fakes)]
        theirs = [
            torch.cat([other(some.permute(0, 3, 1, 2))[0] for some in images.split(20)]) for images in (reals, fakes)
        ]
    case = f"2 × {count} heads, FID network of random weights, d 2048"
    gap = max(float((x - y).abs().max()) for x, y in zip(ours, theirs, strict=True))
    print(f"largest feature {float(ours[0].abs().max()):.3g}, largest difference {gap:.2g}", file=sys.stderr)
    by_them = frechet_of("torch-fidelity", packages["torch-fidelity"])
    assert by_them is not None
    value, taken = seconds(lambda: by_them(*theirs))
    own, own_time = seconds(lambda: {"frechet": frechet_distance_of_features(*ours)})
    yield row(case, "frechet, from bytes", "torch-fidelity", value["frechet"], own["frechet"], taken, own_time)


@torch.no_grad()
def random_weights(network: torch.nn.Module, images: Tensor) -> torch.nn.Module:
    """Random weights whose batch norms fit these images, so that the features are neither 0 nor huge."""
    torch.manual_seed(0)
    for parameter in network.parameters():
        if parameter.ndim > 1:
            torch.nn.init.kaiming_normal_(parameter)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    network.train()(images)
    return network.eval()


# --- all ---


def measure(quick: bool = False) -> dict[str, Any]:
    """{"rows", "packages", "missing", "environment"}."""
    packages, missing = find_packages()
    sizes = [(64, 1000), (64, 50)] if quick else [(64, 1000), (64, 50), (2048, 1000), (2048, 2500)]
    rows = []
    for width, count in sizes:
        case = f"2 × {count:,} Gaussian, d {width}"
        rows += compare_features(case, normal(count, width, 1), normal(count, width, 2), packages)
    logits = 3 * torch.randn(1000, 1008, generator=torch.Generator().manual_seed(3))
    for splits in (1, 10):
        rows += compare_scores("1,000 Gaussian logits of 1008 classes", logits, packages, splits)
    if not quick:
        rows += compare_lite(packages, HEADS)
        rows += compare_inception(packages, INCEPTION_HEADS)
    return {
        "rows": rows,
        "packages": {name: metadata.version(name) for name in packages},
        "missing": missing,
        "environment": {
            "python": platform.python_version(),
            "threads": torch.get_num_threads(),
            "torchvision": str(getattr(sys.modules.get("torchvision"), "__version__", "none")),
            **{name: metadata.version(name) for name in ("limner", "torch", "numpy")},
        },
    }


def table(found: dict[str, Any]) -> str:
    """Markdown."""
    versions = ", ".join(f"{name} {version}" for name, version in found["packages"].items())
    rows = found["rows"]
    worst = max(row["difference"] for row in rows)
    lines = [
        "# limner's metrics beside others'",
        "",
        "`python -m benchmarks.metrics_parity --out benchmarks/results/metrics_parity`, where others can be imported.",
        f"Others: {versions or 'none could be imported'}. "
        + " ".join(f"{name} could not be imported ({why})." for name, why in found["missing"].items()),
        f"The largest of {len(rows)} differences is {worst:.1e}. torchvision, which some of them import and none of "
        f"these formulas calls: {found['environment']['torchvision']}.",
        "",
        "| features | metric | who | theirs | limner | difference | their CPU s | limner's |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        values = f"{r['theirs']:.7g} | {r['limner']:.7g} | {r['difference']:.1e}"
        lines.append(
            f"| {r['features']} | {r['metric']} | {r['who']} | {values} | {r['their_seconds']} | {r['own_seconds']} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write OUT.json and OUT.md")
    parser.add_argument("--quick", action="store_true", help="64 features only")
    options = parser.parse_args()
    found = measure(options.quick)
    print(table(found), end="")
    if options.out is not None:
        options.out.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        options.out.with_suffix(".md").write_text(table(found), encoding="utf-8")
