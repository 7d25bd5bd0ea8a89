"""A run that grows, stopped before, in or after a fade or across a growth step, ends with the same bits."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kill_harness import KNOWN, digest_of, make_dataset, tiny_config
from limner.checkpoint import Facts, checkpoint_name, read_checkpoint, write_checkpoint
from limner.data.dataset import open_dataset
from limner.models.progan import ProGAN
from limner.training import run
from limner.training.distributed import World
from limner.training.trainer import Trainer
from tiny import tiny_config as tiny_settings

END = 112
MOMENTS: dict[str, tuple[int, tuple[int, int, int], float]] = {
    "before the first iteration": (0, (4, 4, 1), 1.0),
    "before the last iteration of 4²": (12, (4, 4, 1), 1.0),
    "where 8² begins to fade in, with batches of another size": (16, (8, 8, 2), 0.0),
    "in the fade, its share held for a second batch": (24, (8, 8, 2), 0.0),
    "in the fade, where its share moves on": (32, (8, 8, 2), 0.5),
    "before the last iteration of the fade": (40, (8, 8, 2), 0.5),
    "where 8² begins to stand alone": (48, (8, 8, 3), 1.0),
    "while 8² stands alone": (56, (8, 8, 3), 1.0),
    "across the next growth step, where batches are smaller again": (64, (16, 4, 4), 0.0),
    "in the second fade, its share held": (76, (16, 4, 4), 0.25),
    "before the last iteration of the second fade": (92, (16, 4, 4), 0.75),
    "where 16² begins to stand alone": (96, (16, 4, 5), 1.0),
    "at the very end": (END, (16, 4, 5), 1.0),
}
"""images seen; side, batch size and era of what is trained next; the newest level's share of the picture"""
FORGETFUL = {16, 48, 64, 96}
"""images seen at which Adam has just forgotten all moments"""

VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "as the paper": ({}, {}),
    "in micro-batches": ({}, {"micro_batch": 4}),
    "with moments kept": ({"reset_optimizers": False}, {}),
    "by a table of learning rates": ({"learning_rates": (0.001, 0.002, 0.0005)}, {}),
}
"""settings of the model, and of the run"""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("data") / "dataset")


def make(dataset: Path, variant: str) -> Trainer:
    """4² to 16², batches of 4, 8 and 4; every fade takes 32 images, and two batches between its steps."""
    own, others = VARIANTS[variant]
    model = tiny_settings(
        "progan",
        batch_sizes=(4, 8, 4),
        stable_kimg=0.016,
        fade_kimg=0.032,
        minibatch_repeats=2,
        beta1=0.1,  # not the paper's 0, with which first moments play no part
        **own,
    )
    config = tiny_config("progan", dataset, model=model, kimg=END / 1000, **others)
    return run._make_trainer(KNOWN["progan"], config, open_dataset(dataset), World())


def digest(one: Trainer) -> str:
    return digest_of(*one.state())


def shapes(tensors: dict[str, Tensor]) -> dict[str, tuple[torch.Size, torch.dtype]]:
    """Of the weights and their average."""
    return {
        name: (tensor.shape, tensor.dtype)
        for name, tensor in tensors.items()
        if name.startswith(("model.", "average."))
    }


class Whole:
    """A run that is never stopped, with a file and a digest of every moment."""

    def __init__(self, dataset: Path, folder: Path, variant: str) -> None:
        one = make(dataset, variant)
        wanted = {images for images, _, _ in MOMENTS.values()}
        self.folder, self.digests, self.seen = folder, dict[int, str](), [0]
        while True:
            if one.images_seen in wanted:
                tensors, facts = one.state()
                write_checkpoint(folder / checkpoint_name(one.images_seen), tensors, facts)
                self.digests[one.images_seen] = digest_of(tensors, facts)
            if one.images_seen >= END:
                break
            one.iteration()
            self.seen.append(one.images_seen)

    def load(self, images: int) -> tuple[dict[str, Tensor], Facts]:
        found = read_checkpoint(self.folder / checkpoint_name(images))
        return dict(found.tensors), dict(found.facts)


@pytest.fixture(scope="module")
def whole(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Whole]:
    class Made(dict[str, Whole]):
        def __missing__(self, variant: str) -> Whole:
            self[variant] = Whole(dataset, tmp_path_factory.mktemp("whole"), variant)
            return self[variant]

    return Made()


def go_on(dataset: Path, variant: str, tensors: dict[str, Tensor], facts: Facts, until: int = END) -> Trainer:
    """A new trainer, from a state on; the process has drawn other random numbers meanwhile."""
    one = make(dataset, variant)
    random.seed(99)
    np.random.seed(99)
    torch.manual_seed(99)
    one.load_state(tensors, facts)
    one.fit(until, lambda logs: None)
    return one


TELLING = [moment for moment, (images, _, _) in MOMENTS.items() if images in (24, 48, 64, 92)]
"""for the variants: in a fade, at its end, across a growth step, before the end of a fade"""


@pytest.mark.parametrize(
    ("variant", "moment"),
    [("as the paper", moment) for moment in MOMENTS]
    + [(variant, moment) for variant in list(VARIANTS)[1:] for moment in TELLING],
)
def test_stopped_at_a_growth_moment_it_ends_with_the_same_bits(
    dataset: Path, whole: dict[str, Whole], moment: str, variant: str
) -> None:
    images = MOMENTS[moment][0]
    tensors, facts = whole[variant].load(images)
    assert facts["images_seen"] == images
    later = [END] if variant == "as the paper" else [at for at in whole[variant].digests if at >= images + 20]
    assert digest(go_on(dataset, variant, tensors, facts, later[0])) == whole[variant].digests[later[0]]


def test_the_moments_are_what_they_are_called(dataset: Path, whole: dict[str, Whole]) -> None:
    one = make(dataset, "as the paper")
    model = one.model
    assert isinstance(model, ProGAN)
    assert model.images_needed() == END
    assert set(model.milestones()) == {0, *FORGETFUL}
    for moment, (images, expected, alpha) in MOMENTS.items():
        model.set_images_seen(images)
        stage = model.stage(images)
        assert (stage.resolution, stage.batch_size, stage.era) == expected, moment
        assert model.depth.alpha == alpha, moment
    seen = whole["as the paper"].seen
    assert seen == [*range(0, 16, 4), *range(16, 64, 8), *range(64, END + 1, 4)], "batches of 4, 8 and 4"


@pytest.mark.parametrize("variant", VARIANTS)
def test_moments_are_forgotten_at_a_new_level_and_nowhere_else(whole: dict[str, Whole], variant: str) -> None:
    for images in whole[variant].digests:
        tensors, _ = whole[variant].load(images)
        gathered = any(name.startswith("optimizer.") for name in tensors)
        kept = not VARIANTS[variant][0].get("reset_optimizers", True)
        assert gathered == (images > 0 and (kept or images not in FORGETFUL)), images


def test_variants_are_not_the_same_run(whole: dict[str, Whole]) -> None:
    """Micro-batches train the same model to rounding; the others another one."""
    ends = [whole[variant].digests[END] for variant in VARIANTS]
    assert len(set(ends)) == len(ends)
    plain, parts = (whole[variant].load(END)[0] for variant in ("as the paper", "in micro-batches"))
    for name in shapes(plain):
        assert torch.allclose(plain[name], parts[name], rtol=0.02, atol=0.005), name


def test_what_is_lost_in_a_fade_is_noticed(dataset: Path, whole: dict[str, Whole]) -> None:
    """The test of the test: a place in the schedule, moments and weights of a level yet to come all matter."""
    images, one = 24, whole["as the paper"]
    tensors, facts = one.load(images)
    fresh, _ = make(dataset, "as the paper").state()
    without = {name: tensor for name, tensor in tensors.items() if not name.startswith("optimizer.")}
    later = {name: tensor + 0.01 for name, tensor in tensors.items() if name.startswith("model.generator.blocks.2")}
    average = {name: tensor for name, tensor in fresh.items() if name.startswith("average.")}
    lost: dict[str, tuple[dict[str, Tensor], Facts]] = {
        "one batch early": (tensors, {**facts, "images_seen": images - 8}),
        "one batch late": (tensors, {**facts, "images_seen": images + 8}),
        "moments": (without, facts),
        "weights that have not been trained yet": ({**tensors, **later}, facts),
        "the average": ({**tensors, **average}, facts),
    }
    assert len(later) >= 4
    for what, state in lost.items():
        assert digest(go_on(dataset, "as the paper", *state, until=64)) != one.digests[64], what


def test_growing_allocates_nothing_that_a_resume_could_not_rebuild(dataset: Path, whole: dict[str, Whole]) -> None:
    """Every weight of every level is there at 4², in every checkpoint, and stays where it is while the run grows."""
    one = make(dataset, "as the paper")
    wanted = shapes(one.state()[0])
    assert {f"model.{name}" for name in one.model.state_dict()} <= wanted.keys()
    assert any("blocks.2" in name for name in wanted), "the level of 16²"
    for images in whole["as the paper"].digests:
        assert shapes(whole["as the paper"].load(images)[0]) == wanted, images
    before = {name: (id(weight), weight.data_ptr()) for name, weight in one.model.named_parameters()}
    groups = {name: [id(p) for p in o.param_groups[0]["params"]] for name, o in one.optimizers.items()}
    one.fit(END, lambda logs: None)
    assert {name: (id(weight), weight.data_ptr()) for name, weight in one.model.named_parameters()} == before
    assert {name: [id(p) for p in o.param_groups[0]["params"]] for name, o in one.optimizers.items()} == groups


def test_a_level_without_a_part_is_neither_trained_nor_counted(dataset: Path, whole: dict[str, Whole]) -> None:
    """Until it fades in its weights stay as they were drawn; then Adam counts its steps from 1."""
    drawn, _ = make(dataset, "with moments kept").state()
    kept = whole["with moments kept"]
    weights = [name for name in drawn if name.startswith(("model.generator.blocks.2", "model.discriminator.blocks.2"))]
    assert len(weights) >= 8
    at_growth, _ = kept.load(64)
    in_fade, _ = kept.load(76)
    for name in weights:
        assert torch.equal(at_growth[name], drawn[name]), name
        phase = name.split(".")[1]
        step = f"optimizer.{phase}.{name.removeprefix('model.')}.step"
        assert step not in at_growth
        assert float(in_fade[step]) == 3, "three batches of 4"
    assert any(not torch.equal(in_fade[name], drawn[name]) for name in weights)
