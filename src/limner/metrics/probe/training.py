"""How a probe is trained: all it reads at once, the weights chosen on the validation split."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from limner.errors import DivergedError
from limner.metrics.probe.lessons import Lessons, Truth
from limner.metrics.probe.network import DROPPED, PLACES, ProbeNetwork, Reading, join_readings, new_network
from limner.pixels import to_floats
from limner.types import Scalar

_BATCH = 64
_LEARNING_RATE = 2e-3
_WEIGHT_DECAY = 0.05
_WARM_UP = 0.1
"""share of the training in which the learning rate rises; then it falls to 0 along a cosine"""
_LOOKS = 20
"""times the validation split is looked at, if there are as many epochs"""
_TEMPERATURE = 0.1
_ATTRIBUTES_WEIGHT, _IDENTITY_WEIGHT = 5.0, 0.25
"""beside pose, whose loss is large at first: without it attributes that are hard to see are never learnt"""


@dataclass
class _Best:
    """The weights that were best on the validation split so far."""

    loss: float = math.inf
    images_seen: int = 0
    weights: dict[str, Tensor] | None = None

    def offer(self, loss: float, images_seen: int, network: ProbeNetwork) -> None:
        if not math.isfinite(loss):
            raise DivergedError(f"the probe's loss is {loss} after {images_seen:,} images; try another --seed")
        if loss < self.loss:
            self.loss, self.images_seen = loss, images_seen
            self.weights = copy.deepcopy(network.state_dict())


def train_network(
    lessons: Lessons,
    *,
    images: int,
    mirror: bool,
    seed: int,
    device: torch.device,
    told: Callable[[int, float], None],
) -> tuple[ProbeNetwork, int]:
    """Train on `images` pictures, counting repeats; on a CPU the result depends on the arguments alone.

    Args:
        lessons: what there is to learn.
        images: length of the training, rounded up to whole batches.
        mirror: show half of the pictures mirrored.
        seed: of weights, order and variations.
        device: where to train.
        told: called after each batch with the images seen and the lowest validation loss (infinity before the first).

    Returns:
        The network in eval mode, and the images it had seen when it was best on the validation split.

    Raises:
        DivergedError: the loss is not finite.
    """
    generator = torch.Generator().manual_seed(seed)
    network = _begin(lessons, generator).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY, fused=True)
    size = min(_BATCH, len(lessons.rows["train"]))
    steps = math.ceil(images / size)
    between_looks = max(len(lessons.rows["train"]) // size, steps // _LOOKS)
    best = _Best()
    batches = _batches(lessons.rows["train"], lessons.truth.identity, size, generator)
    for step, rows in enumerate(itertools.islice(batches, steps)):
        pictures, truth = lessons.varied(rows, mirror, generator)
        kept = (torch.rand(size, PLACES, generator=generator) >= DROPPED).float() / (1 - DROPPED)
        said = network.train()(to_floats(pictures.to(device)), kept.to(device))
        optimizer.param_groups[0]["lr"] = _LEARNING_RATE * _pace((step + 0.5) / steps)
        optimizer.zero_grad(set_to_none=True)
        _loss(said, truth.to(device)).backward()
        optimizer.step()
        if (step + 1) % between_looks == 0 or step + 1 == steps:
            best.offer(_validation_loss(network, lessons, device), (step + 1) * size, network)
        told((step + 1) * size, best.loss)
    network.load_state_dict(best.weights or {})
    return network.eval(), best.images_seen


def read_rows(network: ProbeNetwork, lessons: Lessons, rows: Int64[Tensor, "k"], device: torch.device) -> Reading:
    """What a network in eval mode says of some rows, on the CPU."""
    with torch.no_grad():
        parts = [network(to_floats(lessons.images(part).to(device))) for part in rows.split(256)]
    return join_readings(parts)


def contrast(embedding: Float[Tensor, "n e"], identity: Int64[Tensor, "n"]) -> Scalar:
    """Cross-entropy of finding a picture's own kind among all others of the batch, by cosine over a temperature.

    The mean over pictures with company of -log softmax(cos / t), averaged over their company; 0 where nobody has any.
    """
    alone = torch.eye(len(identity), dtype=torch.bool, device=embedding.device)
    likely = (embedding @ embedding.T / _TEMPERATURE).masked_fill(alone, -torch.inf).log_softmax(1)
    company = (identity[:, None] == identity) & ~alone
    surprise = -likely.masked_fill(~company, 0).sum(1) / company.sum(1).clamp(min=1)
    return surprise.sum() / company.any(1).sum().clamp(min=1)


def _begin(lessons: Lessons, generator: torch.Generator) -> ProbeNetwork:
    """A network that begins with the answers that are right most often."""
    truth = lessons.truth.of(lessons.rows["train"])
    network = new_network(
        lessons.resolution,
        truth.attributes.shape[1],
        truth.pose is not None,
        truth.identity is not None,
        generator,
    )
    if network.attributes is not None:
        network.attributes.bias.data = truth.attributes.mean(0).clamp(0.01, 0.99).logit()
    if truth.pose is not None:
        network.pose_mean.copy_(truth.pose.mean(0))
        network.pose_scale.copy_(truth.pose.std(0).clamp(min=0.01))
    return network


def _loss(said: Reading, truth: Truth) -> Scalar:
    """The sum over what is read: cross-entropy of the attributes, squared error of the pose, contrast of identities."""
    loss = said.features.new_zeros(())
    if said.attributes.shape[1]:
        surprise = F.binary_cross_entropy_with_logits(said.attributes, truth.attributes)
        loss = loss + _ATTRIBUTES_WEIGHT * surprise
    if said.pose is not None and truth.pose is not None:
        scale = truth.pose.new_tensor(0.1)  # radians: about the spread of a face's pitch
        loss = loss + F.smooth_l1_loss(said.pose / scale, truth.pose / scale)
    if said.identity is not None and truth.identity is not None:
        loss = loss + _IDENTITY_WEIGHT * contrast(said.identity, truth.identity)
    return loss


def _pace(done: float) -> float:
    """The learning rate's share at a share of the training."""
    if done < _WARM_UP:
        return done / _WARM_UP
    return 0.5 + 0.5 * math.cos(math.pi * (done - _WARM_UP) / (1 - _WARM_UP))


def _validation_loss(network: ProbeNetwork, lessons: Lessons, device: torch.device) -> float:
    """The training's loss on the validation split, in an order that is always the same."""
    rows = _paired(lessons.rows["valid"], lessons.truth.identity, torch.Generator().manual_seed(0))
    losses = []
    with torch.no_grad():
        for part in rows.split(256):
            said = network.eval()(to_floats(lessons.images(part).to(device)))
            losses.append(float(_loss(said, lessons.truth.of(part).to(device))) * len(part))
    return sum(losses) / len(rows)


def _batches(
    rows: Int64[Tensor, "k"], identity: Int64[Tensor, "n"] | None, size: int, generator: torch.Generator
) -> Iterator[Int64[Tensor, "b"]]:
    """Whole batches without end, each epoch in an order of its own."""
    while True:
        yield from _paired(rows, identity, generator)[: len(rows) // size * size].split(size)


def _paired(
    rows: Int64[Tensor, "k"], identity: Int64[Tensor, "n"] | None, generator: torch.Generator
) -> Int64[Tensor, "k"]:
    """The rows in random order; pictures of one person, where known, in twos, so that batches hold both."""
    rows = rows[torch.randperm(len(rows), generator=generator)]
    if identity is None:
        return rows
    rows = rows[identity[rows].argsort(stable=True)]
    _, counts = identity[rows].unique_consecutive(return_counts=True)
    place = torch.arange(len(rows))
    rank = place - (counts.cumsum(0) - counts).repeat_interleave(counts)
    turn = torch.randperm(len(rows), generator=generator)[place - rank % 2]
    return rows[turn.argsort(stable=True)]
