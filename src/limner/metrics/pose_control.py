"""Does it really turn? Asked angles against those that a probe reads of a model's faces.

Every face is asked for K evenly spaced angles a_1 … a_K; the probe reads r_i1 … r_iK of face i, in degrees. A model
that was told no angles may turn the other way, all faces alike: one sign s for all, that of the mean slope, is put
before the readings. The value is the concordance of all N K pairs (Lin, Biometrics 45, 1989),

    value = 2 cov(a, s r) / (var a + var r + (mean a - mean s r)²)

which is 1 only where every face is read at the angle asked for, 0 where readings have nothing to do with what was
asked, and 2 b / (1 + b²) where every face turns evenly, but b times as far. So neither a turn of a few degrees, however
orderly, nor a wide one back and forth gets far.

How often a face goes back: the steps from frame to frame make a path, whose swings of no more than a dead band are left
out, smallest first (each is merged with its neighbours, so the ends stay where they are): the probe errs, and what it
errs is no movement. Then

    turning_back = degrees gone against the way the face goes on the whole / degrees gone

over all faces together: 0 for turns in one direction, 1/2 for back and forth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from limner.errors import LimnerError
from limner.metrics.card import Measurement, Setting
from limner.metrics.probe.readers import Reads
from limner.metrics.turns import TurnReadings

BAND = 1.0
"""dead band, in the probe's mean errors on images it has never seen: real heads that turn never go back so far"""
SHUFFLES = 20
"""orders of the frames over which what chance gives is averaged"""
ROUNDED = 2
"""decimals of a degree that count: below them is the arithmetic's rounding, which is no order of readings"""
_SLOPE_DECIMALS = 6
"""likewise of a slope: what is less is a face that does not turn, and neither the right way nor the wrong"""


def pose_control(readings: TurnReadings, probe: Reads, seed: int = 0) -> Measurement:
    """Of all axes that were turned; the value is yaw's.

    `values` holds `chance` (the value where a face's frames are in another order), the figures of `figures` for yaw,
    `probe_error_degrees` (the probe's own on real images it has never seen), `guess_error_degrees` (of always reading
    the middle of what was asked), and for pitch and roll, where they were turned, their value as `pitch` and `roll`
    and the same figures after `pitch_` and `roll_`.

    Raises:
        LimnerError: the probe reads no pose, or frames are missing.
    """
    figure = probe.accuracy.pose
    if figure is None:
        raise LimnerError("pose_control: this probe reads no pose; train one on a dataset with pose.npy")
    values: dict[str, float] = {}
    settings: dict[str, Setting] = {"band": f"{BAND:g} × the probe's error", "shuffles": SHUFFLES}
    for axis in readings.turns.axes:
        error = math.degrees(figure.error_radians[axis.column])
        found = _of_axis(axis.degrees, readings.degrees(axis), error, seed)
        settings[axis.name] = f"{axis.degrees[0]:g} to {axis.degrees[-1]:g} degrees, {len(axis.degrees)} frames"
        if axis.name == "yaw":
            value, values = found.pop("value"), {**found, **values}
        else:
            values |= {axis.name if key == "value" else f"{axis.name}_{key}": x for key, x in found.items()}
    count = readings.turns.count
    return Measurement(
        value=value,
        values=values,
        settings=settings,
        extractor=probe.name,
        extractor_sha256=probe.sha256,
        count_reals=0,
        count_fakes=count,
    )


def _of_axis(asked: Float[Tensor, "k"], read: Float[Tensor, "n k"], error: float, seed: int) -> dict[str, float]:
    found = figures(asked, read, BAND * error)
    guess = float((asked - asked.mean()).abs().mean())
    levels = {"chance": chance(asked, read, seed), "probe_error_degrees": error, "guess_error_degrees": guess}
    return {"value": found.pop("value"), **levels, **found}


def figures(asked: Float[Tensor, "k"], read: Float[Tensor, "n k"], band: float) -> dict[str, float]:
    """All of one axis, from angles in degrees.

    `value`; `rank_correlation` (Spearman's, mean over faces; 0 for a face whose readings are all equal); `slope` (read
    degrees per degree asked, least squares; with as many frames of every face the mean of their slopes is that of all
    together) and `slope_deviation` (over faces); `range` (mean over faces of the read range, over the asked one);
    `error_degrees` (mean |s r - a|) and `error_of_line_degrees` (of readings about the best line for all);
    `turning_back`, and without the dead band `turning_back_without_band`; `monotone` (share of faces that turn only one
    way, the model's, and further than the band); `wrong_way` (share of faces whose slope has the other sign); `sign`
    (-1 for a model that turns the other way); `band_degrees`; and for every angle asked, such as -45, the mean of s r
    as `at_-45`.
    """
    asked, read = asked.double(), read.double().round(decimals=ROUNDED)
    sign = -1.0 if float(_slopes(asked, read).mean()) < 0 else 1.0
    turned = sign * read
    slopes = _slopes(asked, turned)
    line = turned.mean() + slopes.mean() * (asked - asked.mean())
    paths = [swings(path, band) for path in turned.tolist()]
    return {
        "value": concordance(asked.expand_as(turned), turned),
        "rank_correlation": float(_rank_correlations(asked, turned).mean()),
        "slope": float(slopes.mean()),
        "slope_deviation": float(slopes.std(correction=0)),
        "range": float((turned.amax(1) - turned.amin(1)).mean() / (asked.amax() - asked.amin())),
        "error_degrees": float((turned - asked).abs().mean()),
        "error_of_line_degrees": float((turned - line).abs().mean()),
        "turning_back": _back(paths),
        "turning_back_without_band": _back([swings(path, 0.0) for path in turned.tolist()]),
        "monotone": sum(len(legs) == 1 and legs[0] > band for legs in paths) / len(paths),
        "wrong_way": float((slopes < 0).double().mean()),
        "sign": sign,
        "band_degrees": band,
        **{
            f"at_{round(angle, 2) + 0.0:+g}": mean
            for angle, mean in zip(asked.tolist(), turned.mean(0).tolist(), strict=True)
        },
    }


def concordance(a: Float[Tensor, "*n"], b: Float[Tensor, "*n"]) -> float:
    """Lin's coefficient of two equally large sets of numbers: 1 where they are equal, not only in line."""
    a, b = a.double(), b.double()
    apart = (a.mean() - b.mean()) ** 2
    both = ((a - a.mean()) * (b - b.mean())).mean()
    return float(2 * both / (a.var(correction=0) + b.var(correction=0) + apart))


def swings(path: Sequence[float], band: float) -> list[float]:
    """Signed lengths of the ways between a path's turning points, without swings no longer than the band.

    The smallest goes first and is merged with its neighbours, until all are longer than the band or one is left, which
    is as long as the path's ends are apart. A path that never moves has none.
    """
    legs: list[float] = []
    for before, after in pairwise(path):
        step = after - before
        if legs and step * legs[-1] > 0:
            legs[-1] += step
        elif step:
            legs.append(step)
    while len(legs) > 1:
        least = min(range(len(legs)), key=lambda place: abs(legs[place]))
        if abs(legs[least]) > band:
            break
        around = slice(max(least - 1, 0), least + 2)
        legs[around] = [math.fsum(legs[around])]
    return legs


def chance(asked: Float[Tensor, "k"], read: Float[Tensor, "n k"], seed: int) -> float:
    """The value's mean where the frames of every face are in a random order, and the sign is chosen again."""
    generator = torch.Generator().manual_seed(seed)
    levels = []
    for _ in range(SHUFFLES):
        mixed = read.double().gather(1, torch.rand(read.shape, generator=generator).argsort(1))
        sign = -1.0 if float(_slopes(asked, mixed).mean()) < 0 else 1.0
        levels.append(concordance(asked.expand_as(mixed), sign * mixed))
    return math.fsum(levels) / SHUFFLES


def _slopes(asked: Float[Tensor, "k"], read: Float[Tensor, "n k"]) -> Float[Tensor, "n"]:
    centred = asked.double() - asked.double().mean()
    return ((read * centred).sum(1) / centred.square().sum()).round(decimals=_SLOPE_DECIMALS)


def _rank_correlations(asked: Float[Tensor, "k"], read: Float[Tensor, "n k"]) -> Float[Tensor, "n"]:
    a, b = ranks(asked[None]), ranks(read)
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    spread = (a.square().sum(1) * b.square().sum(1)).sqrt()
    return torch.where(spread > 0, (a * b).sum(1) / spread.clamp_min(1e-300), 0.0)


def ranks(rows: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
    """Of each number in its row, counted from 0; equal ones share the mean of theirs."""
    below = (rows[:, None, :] < rows[:, :, None]).sum(2).double()
    equal = (rows[:, None, :] == rows[:, :, None]).sum(2).double()
    return below + (equal - 1) / 2


def _back(paths: Sequence[Sequence[float]]) -> float:
    """Degrees gone against the way that each path goes on the whole, over all degrees gone; 0 where none are."""
    gone = [(sum(leg for leg in legs if leg > 0), -sum(leg for leg in legs if leg < 0)) for legs in paths]
    every = math.fsum(up + down for up, down in gone)
    return math.fsum(min(up, down) for up, down in gone) / every if every else 0.0
