"""A probe's figures on the pictures of a dataset that had no part in its training."""

from __future__ import annotations

import torch

from limner.metrics.probe.figures import Accuracy, IdentityFigure, judge_attribute, judge_identity, judge_pose
from limner.metrics.probe.lessons import Lessons
from limner.metrics.probe.network import ProbeNetwork
from limner.metrics.probe.training import read_rows


def judge(network: ProbeNetwork, lessons: Lessons, seed: int, device: torch.device) -> Accuracy:
    """Figures on the test split; only the threshold of identity comes from the validation split."""
    said = read_rows(network, lessons, lessons.rows["test"], device)
    truth = lessons.truth.of(lessons.rows["test"])
    attributes = tuple(
        judge_attribute(name, said.attributes[:, column] > 0, truth.attributes[:, column] > 0.5)
        for column, name in enumerate(lessons.names)
    )
    pose = None
    if said.pose is not None and truth.pose is not None and lessons.truth.pose is not None:
        pose = judge_pose(said.pose, truth.pose, lessons.truth.pose[lessons.rows["train"]].mean(0))
    return Accuracy(attributes, pose, _judge_identity(network, lessons, seed, device))


def _judge_identity(network: ProbeNetwork, lessons: Lessons, seed: int, device: torch.device) -> IdentityFigure | None:
    if lessons.truth.identity is None:
        return None
    sets = []
    for split in ("valid", "test"):
        embedding = read_rows(network, lessons, lessons.rows[split], device).identity
        if embedding is not None:
            sets.append((embedding, lessons.truth.identity[lessons.rows[split]]))
    chosen_on, held_out = sets
    return judge_identity(chosen_on, *held_out, torch.Generator().manual_seed(seed))
