"""What can go wrong in training without a number ceasing to be finite: one class per way, judged on what is logged.

A watch goes by the names in the log (`discriminator/real`, `critic/distance`, `generator/k`, `…/kl`), never by the
model's, so a new model that logs the same names is watched as well; where they are missing it says nothing. One reading
alone raises no alarm: `limner.training.alarms` waits until it has been bad for `readings` readings in a row and
`images` images. The bounds rest on short runs of every model on the built-in heads, 32²; each stands well beyond what
any of them showed (`python benchmarks/alarms.py RUNS` says how near yours came).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any, ClassVar

from limner.training.bounds import LOSSES_SUSPECT, WEIGHTS_SUSPECT, losses_bound, weights_bound
from limner.training.log import number

RESOLUTION, WEIGHTS = "resolution", "weights/"
"""where a tick's values have the side of the pictures, pixels, and what is said of the weights"""


@dataclass(frozen=True)
class Reading:
    """What a watch saw in one line of the log."""

    metric: str
    """as in the log"""
    value: float
    threshold: float
    bound: str
    """what the value is when it is bad: "below" or "above" the threshold, or "at" it: the same again"""
    bad: bool


class Watch(ABC):
    """One way to go wrong. It may remember earlier readings, and nothing else."""

    alarm: ClassVar[str]
    """its name in the log, two or three words"""
    what: ClassVar[str]
    """what is the matter, in words"""
    advice: ClassVar[str]
    """what to try"""
    event: ClassVar[str] = "tick"
    """the kind of line it reads"""
    readings: ClassVar[int] = 10
    """so many bad ones in a row …"""
    images: ClassVar[int] = 10_000
    """… over so many images make an alarm"""

    @abstractmethod
    def read(self, images: int, values: Mapping[str, Any]) -> Reading | None:
        """A judgement of the values logged at `images` images seen; None where there is nothing to judge."""


class _Variety(Watch):
    """A number of the sheet, beside the same of as many reals, that is too small and does not grow."""

    event = "sample"
    name: ClassVar[str]
    readings, images = 3, 10_000
    threshold, growth = 0.03, 1.1

    def __init__(self) -> None:
        self._before: deque[tuple[int, float]] = deque(maxlen=64)

    def read(self, images: int, values: Mapping[str, Any]) -> Reading | None:
        value = number(values.get(self.name))
        if value is None:
            return None
        earlier = [old for at, old in self._before if at <= images - self.images // 2]
        grows = bool(earlier) and value > self.growth * earlier[-1]
        self._before.append((images, value))
        bad = value < self.threshold and not grows
        return Reading(self.name, value, self.threshold, "below", bad)


class SameFaces(_Variety):
    """The generator's pictures are one picture, or nearly.

    `diversity` is how far a face of the sheet is from the one most like it, beside the same among as many reals. In
    health it ends between 0.3 (VAE) and 1. An untrained generator has 0.007 (BEGAN's 0.15, falling to 0.06 while it
    first learns the mean), and gains half as much again in 2 kimg until it is past 0.1; so a small value that grows is
    no alarm.
    """

    alarm, name = "same faces", "diversity"
    what = "the faces on the sample sheet are nearly all the same"
    advice = "look at the newest sheet; go back to an older checkpoint, or start again with a lower --learning-rate"
    readings, images = 3, 10_000


class FlatFaces(_Variety):
    """Every picture of the sheet is of one colour, or nearly.

    `contrast` is the standard deviation within a face, on average, beside that within as many reals.
    """

    alarm, name = "flat faces", "contrast"
    what = "each picture on the sample sheet is nearly of one colour"
    advice = "look at the newest sheet; go back to an older checkpoint, or start again with a lower --learning-rate"
    readings, images = 3, 10_000


class Saturated(Watch):
    """Nearly every pixel of the sheet is black or white in each colour, where those of the reals are not.

    `saturation` is the share of the sheet's bytes that are 0 or 255, above that of as many reals and divided by the
    share of the reals' that are neither, so photos on a white ground are no alarm.
    Healthy runs stay below 0.01, an untrained ProGAN has 0.35.
    """

    alarm, event = "saturated faces", "sample"
    what = "nearly all pixels on the sample sheet are at the ends of their range"
    advice = "look at the newest sheet; go back to an older checkpoint, or start again with a lower --learning-rate"
    readings, images = 3, 2_000
    threshold = 0.9

    def read(self, images: int, values: Mapping[str, Any]) -> Reading | None:
        value = number(values.get("saturation"))
        return None if value is None else Reading("saturation", value, self.threshold, "above", value > self.threshold)


class LossesTooLarge(Watch):
    """Something that a phase logs (a loss, a margin, a distance) is beyond any range that training needs.

    A loss of any unit is judged by `LossGrows` beside what it was; this one judges runs that begin too large for that.
    """

    alarm = "losses too large"
    what = "what is logged is far beyond the range of a run in order: training diverges"
    advice = "go back to an older checkpoint, or start again with a lower --learning-rate"
    readings, images = 3, 2_000

    def read(self, images: int, values: Mapping[str, Any]) -> Reading | None:
        side = number(values.get(RESOLUTION))
        known = {name: number(value) for name, value in values.items() if not name.startswith((WEIGHTS, RESOLUTION))}
        sizes = {name: abs(value) for name, value in known.items() if value is not None}
        if not sizes:
            return None
        name = max(sizes, key=lambda name: sizes[name])
        bound = losses_bound(None if side is None else int(side), LOSSES_SUSPECT)
        return Reading(name, sizes[name], bound, "above", sizes[name] > bound)


class WeightsTooLarge(Watch):
    """A weight is a thousand times the largest that its phase started with, and more than a thousand.

    Healthy runs of 14 kimg at 32² stay below 1.4 times the largest at the start, or below 1.4.
    """

    alarm = "weights too large"
    what = "the weights are far beyond the range of a run in order: training diverges"
    advice = "go back to an older checkpoint, or start again with a lower --learning-rate"
    readings, images = 3, 2_000

    def read(self, images: int, values: Mapping[str, Any]) -> Reading | None:
        found: list[tuple[float, Reading]] = []
        for name in values:
            if name.startswith(WEIGHTS) and name.endswith("/largest"):
                value, start = number(values[name]), number(values.get(f"{name.removesuffix('largest')}at_start"))
                if value is not None:
                    bound = weights_bound(start or 0.0, WEIGHTS_SUSPECT)
                    found.append((value / bound, Reading(name, value, bound, "above", value > bound)))
        return max(found, key=lambda each: each[0])[1] if found else None


class AverageFar(Watch):
    """The averaged weights, which the pictures are made with, are of another order of size than the weights.

    In health the largest of both differ by less than a tenth.
    """

    alarm = "average far from weights"
    what = "the averaged weights are of another size than the weights: the weights have jumped"
    advice = "go back to an older checkpoint, or start again with a lower --learning-rate or --ema-half-life-kimg"
    readings, images = 3, 2_000
    threshold = 100.0

    def read(self, images: int, values: Mapping[str, Any]) -> Reading | None:
        names = [name for name in values if name.startswith(WEIGHTS) and name.endswith("/average_factor")]
        factors = {name: value for name in names if (value := number(values[name])) is not None}
        if not factors:
            return None
        name = max(factors, key=lambda name: factors[name])
        return Reading(name, factors[name], self.threshold, "above", factors[name] > self.threshold)


class _Verdicts(Watch):
    """What a discriminator says of reals and fakes, as shares of the way from its code for fakes to that for reals."""

    def __init__(self, fake_code: float = 0.0, real_code: float = 1.0) -> None:
        self.fake_code, self.real_code = fake_code, real_code

    def shares(self, values: Mapping[str, Any]) -> tuple[float, float] | None:
        real, fake = number(values.get("discriminator/real")), number(values.get("discriminator/fake"))
        if real is None or fake is None or "generator/k" in values:  # BEGAN logs distances by these names
            return None
        width = self.real_code - self.fake_code
        return (real - self.fake_code) / width, (fake - self.fake_code) / width


class DiscriminatorWins(_Verdicts):
    """It is sure of every picture, so its gradients teach the generator next to nothing.

    Healthy runs: reals at most 0.96 and fakes at least 0.03 of the way in any tick (LSGAN; the others 0.92 and 0.05).
    """

    alarm = "discriminator wins"
    what = "the discriminator tells reals from fakes without fail, and the generator learns little from it"
    advice = "try a lower --learning-rate, a larger --batch-size or more --generator-steps"
    margin = 0.01

    def read(self, images: int, values: Mapping[str, Any]) -> Reading | None:
        shares = self.shares(values)
        if shares is None:
            return None
        real, fake = shares
        threshold = self.fake_code + self.margin * (self.real_code - self.fake_code)
        bad = real > 1 - self.margin and fake < self.margin
        return Reading("discriminator/fake", values["discriminator/fake"], threshold, "below", bad)


class DiscriminatorBlind(_Verdicts):
    """It says the same of reals and fakes, so it teaches nothing. In health they are 0.07 of the way apart or more."""

    alarm = "discriminator blind"
    what = "the discriminator says the same of reals and fakes, and the generator learns nothing from it"
    advice = "go back to an older checkpoint, or start again with a lower --learning-rate or a larger --width"
    margin = 0.01

    def read(self, images: int, values: Mapping[str, Any]) -> Reading | None:
        shares = self.shares(values)
        if shares is None:
            return None
        real, fake = shares
        threshold = self.margin * abs(self.real_code - self.fake_code)
        apart = abs(values["discriminator/real"] - values["discriminator/fake"])
        return Reading(
            "discriminator/real - discriminator/fake", apart, threshold, "below", abs(real - fake) < self.margin
        )


class CriticBlind(Watch):
    """The Wasserstein distance is gone: the critic is dead, or cannot tell reals from fakes. ProGAN's is its margin.

    A thousandth of what it usually was, which has any unit: WGAN's is a multiple of the distance that depends on the
    network. In health it is largest early on and falls to a tenth or so.
    """

    alarm = "critic blind"
    what = "the critic says the same of reals and fakes, and the generator learns nothing from it"
    advice = "start again with a lower --learning-rate or more --critic-steps"
    share, least = 1e-3, 1e-6

    def __init__(self) -> None:
        self._before: deque[float] = deque(maxlen=400)

    def read(self, images: int, values: Mapping[str, Any]) -> Reading | None:
        name = "critic/distance" if "critic/distance" in values else "discriminator/margin"
        distance = number(values.get(name))
        if distance is None or "discriminator/real" in values:  # whose verdicts are judged by themselves
            return None
        # The lower quartile: what it was while it exploded is no measure.
        usual = sorted(self._before)[len(self._before) // 4] if self._before else 0.0
        threshold = max(self.share * usual, self.least)
        bad = abs(distance) < threshold
        if not bad:
            self._before.append(abs(distance))
        return Reading(name, abs(distance), threshold, "below", bad)


class BalanceLost(Watch):
    """BEGAN's k lies at an end of its range while the measure no longer falls."""

    alarm = "balance lost"
    what = "k has reached an end of its range and the measure does not fall: the two networks are out of balance"
    advice = "at 0 try more --generator-steps or a higher --gamma, at 1 a lower --gamma or --learning-rate"
    readings, images = 30, 30_000
    margin, fall = 1e-3, 0.99

    def __init__(self) -> None:
        self._best: float | None = None

    def read(self, images: int, values: Mapping[str, Any]) -> Reading | None:
        k, measure = number(values.get("generator/k")), number(values.get("generator/measure"))
        if k is None or measure is None:
            return None
        falls = self._best is None or measure < self.fall * self._best
        self._best = measure if self._best is None or falls else self._best
        if k > 0.5:
            return Reading("generator/k", k, 1 - self.margin, "above", k > 1 - self.margin and not falls)
        return Reading("generator/k", k, self.margin, "below", k < self.margin and not falls)


class CodesEmpty(Watch):
    """Posterior collapse: the encoder tells the decoder nothing, not even a nat a picture."""

    alarm = "codes empty"
    what = "the encoder's codes say nothing of the pictures (posterior collapse)"
    advice = "start again with a lower --learning-rate or a larger --width; for the vae, with a lower --kl-weight"
    threshold = 1.0

    def read(self, images: int, values: Mapping[str, Any]) -> Reading | None:
        name = next((name for name in values if name.endswith("/kl")), None)
        kl = number(values.get(name or ""))
        return None if name is None or kl is None else Reading(name, kl, self.threshold, "below", kl < self.threshold)


class CodesIgnored(Watch):
    """InfoGAN's reader finds nothing of the codes in the pictures. In health it is past 0.2 nats within 3 kimg."""

    alarm = "codes ignored"
    what = "the pictures tell nothing of their codes"
    advice = "start again with a higher --information-weight or a lower --learning-rate"
    readings, images = 20, 20_000
    threshold = 0.05

    def read(self, images: int, values: Mapping[str, Any]) -> Reading | None:
        value = number(values.get("generator/information"))
        if value is None:
            return None
        return Reading("generator/information", value, self.threshold, "below", value < self.threshold)


class NothingLearnt(Watch):
    """Reconstructions are no better than at the start of the run.

    A small fall is enough: most of a Bernoulli likelihood is the pictures' own entropy, and a healthy VAE takes off
    some 8 % in all, 4 % of it within 4 kimg.
    """

    alarm = "reconstruction does not fall"
    what = "the reconstructions are no better than at the start of the run"
    advice = "start again with another --learning-rate or a larger --width"
    readings, images = 20, 20_000
    share, first = 0.995, 3

    def __init__(self) -> None:
        self._start: list[float] = []

    def read(self, images: int, values: Mapping[str, Any]) -> Reading | None:
        name = next((name for name in values if name.endswith("/reconstruction")), None)
        value = number(values.get(name or ""))
        if name is None or value is None:
            return None
        if len(self._start) < self.first:
            self._start.append(value)
        start = sum(self._start) / len(self._start)
        threshold = start - (1 - self.share) * abs(start)  # a density's log may be negative
        return Reading(name, value, threshold, "above", value > threshold)


class LossStuck(Watch):
    """A loss that is the same number tick after tick: nothing in it depends on the pictures any more."""

    alarm = "loss stuck"
    what = "this loss is the same number in every tick"
    advice = "go back to an older checkpoint, or start again with a lower --learning-rate"

    def __init__(self, name: str) -> None:
        self.name = name
        self._before: float | None = None

    def read(self, images: int, values: Mapping[str, Any]) -> Reading | None:
        value = number(values.get(self.name))
        if value is None:
            return None
        before, self._before = self._before, value
        change = abs(value - before) if before is not None else 1.0
        return Reading(self.name, value, value, "at", change <= 1e-7 * abs(value))


class LossGrows(Watch):
    """A loss far above what it was: it is on its way to infinity.

    Beside the median of up to the last hundred ticks that were in order, and never less than 1, so that a loss that
    crosses 0 has a scale. Healthy runs stay below four times the median.
    """

    alarm = "loss grows"
    what = "this loss has grown out of all proportion: training diverges"
    advice = "go back to an older checkpoint and start from there with a lower --learning-rate, or --precision fp32"
    readings, images = 3, 2_000
    factor, least, first = 100.0, 1.0, 3

    def __init__(self, name: str) -> None:
        self.name = name
        self._before: deque[float] = deque(maxlen=100)

    def read(self, images: int, values: Mapping[str, Any]) -> Reading | None:
        value = number(values.get(self.name))
        if value is None:
            return None
        threshold = self.factor * max(median(self._before), self.least) if len(self._before) >= self.first else None
        if threshold is not None and abs(value) > threshold:
            return Reading(self.name, abs(value), threshold, "above", True)
        self._before.append(abs(value))
        return Reading(self.name, abs(value), threshold or abs(value), "above", False)
