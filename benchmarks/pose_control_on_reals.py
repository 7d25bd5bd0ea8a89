"""What pose control and identity constancy say where the answer is known: heads drawn at the angles asked for.

    limner data heads heads32 --count 12000 --views 4 --resolution 32
    limner data probe heads32 --resolution 32
    python -m benchmarks.pose_control_on_reals heads32 [--out benchmarks/results/pose_control_on_reals_32.json]

The renderer of the built-in heads stands in for a model: its latents are a number of a person that the probe has never
met, and a pose; expression, lens, light and backdrop stay as they are. So the first line is the ceiling: what a model
that turns perfectly would get. The others have one fault each.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from limner.data.dataset import open_dataset
from limner.heads.pack import load_pack
from limner.heads.person import sample_person
from limner.heads.render import draw
from limner.latents import LatentSpace, Pose, Uniform
from limner.metrics.evaluate import evaluate_model
from limner.metrics.extractors.probe import ProbeExtractor
from limner.metrics.probe.file import FILE_NAME
from limner.metrics.turns import IMAGES_PER_TURN
from limner.pixels import to_floats

METRICS = ("pose_control", "identity_constancy")
STRANGERS = 1
"""seed of a set of heads that is not the one the probe learnt from"""
PEOPLE = 1_000_000
RANGES = (45.0, 10.0, 5.0)
"""degrees of yaw, pitch, roll to either side: the yaws of the set, two deviations of its pitches and rolls"""

Shown = Callable[[Tensor], Tensor]
FAULTS: dict[str, Shown] = {
    "as asked": lambda pose: pose,
    "the other way": torch.neg,
    "half as far": lambda pose: pose / 2,
    "a tenth as far": lambda pose: pose / 10,
    "there and back": lambda pose: pose.abs().sub(math.radians(RANGES[0] / 2)) * torch.tensor([2.0, 0.0, 0.0]),
    "not at all": torch.zeros_like,
}
"""name → what is shown, of the pose asked for"""


class Heads(nn.Module):
    """A model that draws built-in heads: person `who` at the pose that `shows` makes of the one asked for."""

    def __init__(self, resolution: int, shows: Shown, *, some_turn_wrong: bool = False, changing: bool = False) -> None:
        super().__init__()
        ends = tuple(math.radians(degrees) for degrees in RANGES)
        low = tuple(-end for end in ends)
        self.latents = LatentSpace(Uniform("who", 1, 0.0, 1.0), Pose("pose", 3, low, ends))
        self.resolution, self.shows = resolution, shows
        self.some_turn_wrong, self.changing = some_turn_wrong, changing
        self.eval()

    def generate(self, latents: Tensor) -> Tensor:
        """Images [n, 3, r, r] in [-1, 1]."""
        parts = self.latents.split(latents)
        who = (parts["who"][:, 0].double() * PEOPLE).long()
        pose = self.shows(parts["pose"])
        if self.some_turn_wrong:
            pose = torch.where((who % 4 == 0)[:, None], -pose, pose)
        if self.changing:  # somebody else in every frame
            who = who + (parts["pose"] * 1000).round().long().sum(1)
        pictures = [self._draw(int(w), p.tolist()) for w, p in zip(who, pose.double(), strict=True)]
        return to_floats(torch.from_numpy(np.stack(pictures)))

    def _draw(self, who: int, pose: list[float]) -> np.ndarray:
        person = sample_person(load_pack(), STRANGERS, who, 0, 0.0)
        yaw, pitch, roll = pose
        return draw(replace(person, shot=replace(person.shot, yaw=yaw, pitch=pitch, roll=roll)), self.resolution).image


def measure(folder: Path, people: int, faults: bool) -> dict[str, object]:
    """The cards' figures of every way of turning."""
    data, probe = open_dataset(folder), ProbeExtractor(folder / FILE_NAME)
    side = probe.record.resolution
    models = {name: Heads(side, shows) for name, shows in FAULTS.items()}
    models["some the other way"] = Heads(side, FAULTS["as asked"], some_turn_wrong=True)
    models["somebody else in every frame"] = Heads(side, FAULTS["as asked"], changing=True)
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name, model in models.items():
        if not faults and found:
            break
        cards = evaluate_model(
            model,
            data,
            metrics=METRICS,
            count=people * IMAGES_PER_TURN,
            split="train",
            weights_name="drawn",
            images_seen=None,
            probe=probe,
        )
        found[name] = {card.metric: _rounded({"value": card.value} | dict(card.values)) for card in cards}
        print(name, {card.metric: round(card.value, 3) for card in cards}, flush=True)
    return {"probe": data.name, "resolution": side, "people": people, "ranges_degrees": RANGES, "turns": found}


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in values.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path, help="built-in heads with several views, and their probe")
    parser.add_argument("--people", type=int, default=60, help="that are turned")
    parser.add_argument("--only-perfect", action="store_true", help="leave out the faults")
    parser.add_argument("--out", type=Path, help="write JSON there")
    options = parser.parse_args()
    measured = measure(options.dataset, options.people, not options.only_perfect)
    if options.out is not None:
        options.out.write_text(json.dumps(measured, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
