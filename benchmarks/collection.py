"""Train one of a published collection's eight models, rebuilt, and measure it as limner measures its own.

    python -m benchmarks.collection MODEL --data DATASET --kimg K --width N --latent-dim Z --out FOLDER
    python -m benchmarks.collection --measure FOLDER …    # again, with the metrics there are now
    python -m benchmarks.collection --table OURS THEIRS    # folders of runs; prints a Markdown table

The budget is counted as limner counts it: every image of a batch that some network is trained on, once. The number of
images measured, the split, the seeds and the networks that look are those of `limner evaluate RUN` without flags; so
limner's runs and these can be compared card by card. FOLDER gets the cards (`metrics/`), 64 faces (`samples.png`), the
losses (`log.jsonl`), the weights and `facts.json`: sizes, CPU seconds, peak memory.
"""

from __future__ import annotations

import argparse
import inspect
import json
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from benchmarks.collection_models import COLLECTION, Collected, Size
from benchmarks.collection_table import table
from safetensors.torch import load_file, save_file

from limner.data.dataset import Dataset, open_dataset
from limner.data.loader import Loader
from limner.errors import DataError, DivergedError, LimnerError
from limner.explore.pictures import save_picture, sheet
from limner.metrics.evaluate import evaluate_model
from limner.metrics.subject import generate_fakes
from limner.training.evaluate import evaluate
from limner.training.instruments import AUTO, choose_instruments

FACES = 64
EVALUATE = {name: option.default for name, option in inspect.signature(evaluate).parameters.items()}
"""the defaults of `limner evaluate`"""


def build(name: str, dataset: Dataset, *, width: int, latent_dim: int, seed: int) -> tuple[Collected, Loader]:
    """A model for a dataset's largest images and all its attributes, and the batches to train it on.

    Raises:
        DataError: the dataset has no attributes.
    """
    torch.manual_seed(seed)
    if dataset.attributes() is None or not dataset.attribute_names:
        raise DataError(f"{dataset.folder}: no attributes, and all models here are told some; take a labelled dataset")
    names = dataset.attribute_names
    loader = Loader(dataset, seed=seed, device=torch.device("cpu"), mirror=False, attributes=names)
    rows = torch.from_numpy(dataset.attributes()[loader.rows]).float()
    size = Size(width, latent_dim, len(names), dataset.resolutions[-1])
    return COLLECTION[name](size, rows, loader.labels), loader


def train(model: Collected, loader: Loader, *, images: int, batch_size: int, log: Path) -> int:
    """Whole rounds until `images` have been seen; returns how many were. A line of mean losses per thousand."""
    seen, logged = 0, 0
    sums: dict[str, list[float]] = {}
    model.train()
    with log.open("w", encoding="utf-8") as file:
        while seen < images:
            for _ in range(model.batches):
                reals, attributes = loader.batch(seen, seen + batch_size, model.resolution)
                for name, value in model.step((reals + 1) / 2, attributes).items():
                    sums.setdefault(name, []).append(value)
                seen += batch_size
            if seen // 1000 > logged or seen >= images:
                logged = seen // 1000
                means = {name: sum(values) / len(values) for name, values in sums.items()}
                file.write(json.dumps({"images_seen": seen, **means}) + "\n")
                file.flush()
                sums.clear()
    return seen


def measure(model: Collected, dataset: Dataset, images_seen: int, folder: Path) -> list[str]:
    """Cards of all metrics that `limner evaluate` would choose; returns what there is to say about the choice."""
    split, seed = EVALUATE["split"], EVALUATE["seed"]
    count = min(EVALUATE["count"], len(dataset.indices(split)))
    found = choose_instruments(
        model,  # type: ignore[arg-type]
        dataset,
        metrics=(AUTO,),
        extractor=AUTO,
        weights=None,
        resize=None,
        count=count,
        own_data=True,
        reference=None,
        device="cpu",
    )
    cards = evaluate_model(
        model,
        dataset,
        metrics=found.metrics,
        count=EVALUATE["count"],
        split=split,
        seed=seed,
        weights_name="raw",
        images_seen=images_seen,
        model_name=f"rebuilt {model.name}",
        extractor=found.extractor,
        probe=found.probe,
    )
    folder.mkdir(exist_ok=True)
    for card in cards:
        card.write(folder / card.file_name)
    return list(found.notes)


def draw(model: Collected, path: Path) -> None:
    """The faces of seeds 0 … 63."""
    faces = generate_fakes(model, model.latents.sample_seeds(range(FACES)))
    scale = max(96 // model.resolution, 1)
    origin = {"model": f"rebuilt {model.name}", "seeds": f"0-{FACES - 1}"}
    save_picture(sheet(faces.numpy(), scale=scale), path, origin)


def run(
    name: str,
    data: Path,
    out: Path,
    *,
    kimg: float,
    batch_size: int,
    seed: int,
    width: int,
    latent_dim: int,
    learning_rate: float,
) -> dict[str, Any]:
    """Train, draw, measure; returns what `facts.json` holds."""
    dataset = open_dataset(data)
    model, loader = build(name, dataset, width=width, latent_dim=latent_dim, seed=seed)
    model.set_learning_rate(learning_rate)
    out.mkdir(parents=True, exist_ok=True)
    started = time.process_time()
    seen = train(model, loader, images=round(kimg * 1000), batch_size=batch_size, log=out / "log.jsonl")
    facts = {
        "model": name,
        "data": str(data),
        "dataset_sha256": dataset.manifest_hash,
        "seed": seed,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        **asdict(model.size),
        "images_seen": seen,
        "parameters": {part: _count(module) for part, module in model.named_children()},
        "parameters_in_all": _count(model),
        "training_cpu_seconds": round(time.process_time() - started, 1),
        "peak_memory_mib": _peak_memory_mib(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    save_file(model.state_dict(), out / "weights.safetensors")
    return finish(model, dataset, facts, out)


def measure_again(out: Path) -> dict[str, Any]:
    """Draw and measure a trained model of this command; its old cards go."""
    try:
        facts = json.loads((out / "facts.json").read_text(encoding="utf-8"))
        dataset = open_dataset(Path(facts["data"]))
        sizes = {name: facts[name] for name in ("width", "latent_dim", "seed")}
        model, _ = build(facts["model"], dataset, **sizes)
        model.load_state_dict(load_file(out / "weights.safetensors"))
    except (OSError, KeyError, RuntimeError) as error:
        raise DataError(f"{out}: holds no run of this command ({error}); train one there") from error
    for card in (out / "metrics").glob("*.json"):
        card.unlink()
    return finish(model, dataset, facts, out)


def finish(model: Collected, dataset: Dataset, facts: dict[str, Any], out: Path) -> dict[str, Any]:
    """Draw, measure, and write down what is known."""
    model.eval().requires_grad_(False)
    started = time.process_time()
    try:
        draw(model, out / "samples.png")
        facts |= {"diverged": False, "notes": measure(model, dataset, facts["images_seen"], out / "metrics")}
    except DivergedError as error:  # a result like any other
        facts |= {"diverged": True, "notes": [str(error)]}
    facts["measuring_cpu_seconds"] = round(time.process_time() - started, 1)
    (out / "facts.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return facts


def _count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _peak_memory_mib() -> float:
    unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, KiB elsewhere
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", choices=tuple(COLLECTION))
    parser.add_argument("--data", type=Path, help="a limner dataset with attributes")
    parser.add_argument("--out", type=Path, help="folder of the results")
    parser.add_argument("--kimg", type=float, default=24.0, help="thousands of images to show (24)")
    parser.add_argument("--width", type=int, default=64, help="n (64)")
    parser.add_argument("--latent-dim", type=int, default=128, help="size of z (128)")
    parser.add_argument("--batch-size", type=int, default=64, help="images per update (64)")
    parser.add_argument("--seed", type=int, default=0, help="of weights, order, z (0)")
    parser.add_argument("--learning-rate", type=float, default=1e-4, help="of every network (1e-4, the collection's)")
    parser.add_argument("--table", type=Path, nargs=2, metavar=("OURS", "THEIRS"), help="folders of runs to compare")
    parser.add_argument("--measure", type=Path, nargs="+", metavar="FOLDER", help="measure trained ones again")
    flags = parser.parse_args(words)
    try:
        if flags.table:
            print(table(*flags.table))
            return 0
        if flags.measure:
            facts = [measure_again(folder) for folder in flags.measure]
        elif flags.model and flags.data and flags.out:
            facts = [_run(flags)]
        else:
            parser.error("MODEL, --data and --out are needed, or --measure, or --table")
    except LimnerError as error:
        print(f"collection: {error}", file=sys.stderr)
        return 2
    print("\n".join(json.dumps(found, indent=2) for found in facts))
    return 0


def _run(flags: argparse.Namespace) -> dict[str, Any]:
    return run(
        flags.model,
        flags.data,
        flags.out,
        kimg=flags.kimg,
        batch_size=flags.batch_size,
        seed=flags.seed,
        width=flags.width,
        latent_dim=flags.latent_dim,
        learning_rate=flags.learning_rate,
    )


if __name__ == "__main__":
    sys.exit(main())
