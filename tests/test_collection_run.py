"""The command that trains the rebuilt collection: its budget, what it leaves behind, and the table made of that."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from limner.data.dataset import Dataset

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import collection, collection_table
from benchmarks.collection_models import COLLECTION, Collected

from limner.errors import LimnerError
from limner.metrics.card import Card, read_card
from limner.models import Model


def weights(module: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


@pytest.mark.parametrize("name", COLLECTION)
def test_training_counts_images_and_logs(name: str, tiny_dataset: Dataset, tmp_path: Path) -> None:
    model, loader = collection.build(name, tiny_dataset, width=4, latent_dim=5, seed=0)
    seen = collection.train(model, loader, images=70, batch_size=8, log=tmp_path / "log.jsonl")
    assert seen == {"wgan": 80, "wgan-gp": 80, "vae": 72}.get(name, 80)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["images_seen"] == seen
    assert all(math.isfinite(value) for line in lines for value in line.values())
    faces = model.eval().generate(model.latents.sample_seeds(range(3)))
    assert faces.shape == (3, 3, 16, 16)
    assert -1 <= faces.min() <= faces.max() <= 1


def test_the_same_seed_gives_the_same_weights(tiny_dataset: Dataset, tmp_path: Path) -> None:
    found = []
    for seed in (0, 0, 1):
        model, loader = collection.build("vae-gan", tiny_dataset, width=4, latent_dim=5, seed=seed)
        collection.train(model, loader, images=32, batch_size=8, log=tmp_path / "log.jsonl")
        found.append(weights(model))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_from_the_command_to_cards_and_a_table(
    tiny_dataset_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With metrics of pixels only: the networks that look are chosen by what chooses them for `limner evaluate`."""
    Model.register(Collected)  # the tests' checks of types want one, where all that can generate can be measured
    monkeypatch.setattr("limner.training.instruments.available", lambda: ())
    words = ["--data", str(tiny_dataset_folder), "--kimg", "0.05", "--width", "4", "--latent-dim", "5"]
    for seed in ("0", "1"):
        out = tmp_path / "theirs" / f"dcgan-{seed}"
        assert collection.main(["dcgan", *words, "--batch-size", "8", "--seed", seed, "--out", str(out)]) == 0
    facts = json.loads((out / "facts.json").read_text())
    assert facts["parameters_in_all"] == sum(facts["parameters"].values())
    assert (out / "samples.png").stat().st_size > 0
    card = read_card(next((out / "metrics").glob("*swd*")))
    assert (card.model, card.weights, card.count_fakes, card.split) == ("rebuilt dcgan", "raw", 64, "train")
    assert card.attributes == "rows of the reals: bright warm left"
    before = {path.name: path.read_text() for path in (out / "metrics").iterdir()}
    assert collection.main(["--measure", str(out)]) == 0
    assert {path.name: path.read_text() for path in (out / "metrics").iterdir()} == before
    ours = tmp_path / "ours" / "run"
    _as_limners(out, ours, better=2.0)
    capsys.readouterr()
    assert collection.main(["--table", str(ours.parent), str(tmp_path / "theirs")]) == 0
    text = capsys.readouterr().out
    values = [read_card(next((tmp_path / "theirs" / f"dcgan-{s}" / "metrics").glob("*swd*"))).value for s in "01"]
    assert f"| **{values[1] / 2:.3g}** |" in text
    assert f"| {sum(values) / 2:.3g} ({min(values):.3g}–{max(values):.3g}) |" in text


def _as_limners(theirs: Path, ours: Path, better: float) -> None:
    (ours / "metrics").mkdir(parents=True)
    (ours / "config.json").write_text(json.dumps({"model_name": "dcgan", "model": {}}))
    for path in (theirs / "metrics").glob("*.json"):
        facts = json.loads(path.read_text())
        facts |= {"weights": "ema", "value": facts["value"] / better, "model": "dcgan"}
        (ours / "metrics" / path.name.replace("raw", "ema")).write_text(json.dumps(facts))


@pytest.mark.parametrize(("field", "value"), [("seed", 3), ("count_fakes", 10), ("images_seen", 100)])
def test_unlike_cards_are_not_set_beside_each_other(field: str, value: int) -> None:
    facts = {"metric": "swd", "value": 1.0, "count_requested": 64, "count_reals": 64, "count_fakes": 64, "seed": 0}
    facts |= {"resolution": 16, "quantisation": "nearest", "images_seen": 1000}
    theirs, ours = Card(**facts), Card(**{**facts, field: value})
    collection_table.check_alike("dcgan", [theirs], [theirs])
    with pytest.raises(LimnerError, match=field if field != "images_seen" else "train both as long"):
        collection_table.check_alike("dcgan", [ours], [theirs])


def test_a_dataset_without_attributes_is_refused() -> None:
    class Bare:
        folder, attribute_names, resolutions = Path("bare"), (), (16,)

        def attributes(self) -> None:
            return None

    with pytest.raises(LimnerError, match="bare: no attributes"):
        collection.build("dcgan", Bare(), width=4, latent_dim=5, seed=0)  # type: ignore[arg-type]
