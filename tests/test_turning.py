"""Pose control and identity constancy: turns whose figures are known, rigged models, chance, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from limner.data.dataset import Dataset
from limner.errors import LimnerError
from limner.latents import Box, Gaussian, LatentSpace, Part, Pose
from limner.metrics.card import Card
from limner.metrics.choosing import applicable
from limner.metrics.evaluate import evaluate_model
from limner.metrics.extractors.probe import ProbeExtractor
from limner.metrics.identity_constancy import identity_constancy, likenesses
from limner.metrics.pose_control import chance, concordance, figures, pose_control, ranks, swings
from limner.metrics.probe.figures import Accuracy, IdentityFigure, PoseFigure
from limner.metrics.probe.network import Reading
from limner.metrics.subject import kinds_of
from limner.metrics.turns import TurnReadings, ask_turns, turns_for
from limner.pixels import to_floats

ASKED = torch.linspace(-40, 40, 11, dtype=torch.float64)
ERRORS = tuple(math.radians(error) for error in (2.0, 1.0, 1.0))
READS = Accuracy((), PoseFigure(ERRORS, ERRORS), IdentityFigure(0.9, 0.95, 0.45, 0.2, 0.9, 100))  # type: ignore[arg-type]


def of_all(*turns: Tensor, band: float = 4.0) -> dict[str, float]:
    return figures(ASKED, torch.stack([turn.double() for turn in turns]), band)


# --- figures in closed form ------------------------------------------------------------------------------------------


def test_a_perfect_turn() -> None:
    found = of_all(ASKED, ASKED)
    assert {"at_-40", "at_+0", "at_+8"} <= set(found)
    assert "at_+0" in figures(ASKED - 8.9e-16, ASKED[None], 1.0), "without the rounding of radians"
    curve = {float(key.removeprefix("at_")): found.pop(key) for key in list(found) if key.startswith("at_")}
    assert curve == pytest.approx({angle: angle for angle in (-40, -32, -24, -16, -8, 0, 8, 16, 24, 32, 40)})
    assert found == {
        "value": pytest.approx(1),
        "rank_correlation": pytest.approx(1),
        "slope": pytest.approx(1),
        "slope_deviation": pytest.approx(0),
        "range": pytest.approx(1),
        "error_degrees": pytest.approx(0),
        "error_of_line_degrees": pytest.approx(0, abs=1e-12),
        "turning_back": 0,
        "turning_back_without_band": 0,
        "monotone": 1,
        "wrong_way": 0,
        "sign": 1,
        "band_degrees": 4,
    }


@pytest.mark.parametrize("scale", [0.5, -0.5, 0.25, -1.0, 1.5])
def test_turning_so_many_times_as_far(scale: float) -> None:
    """One sign for all is allowed, a scale is not: 2 |b| / (1 + b²), and degrees of error."""
    size = abs(scale)
    found = of_all(scale * ASKED, scale * ASKED)
    assert found["value"] == pytest.approx(2 * size / (1 + size**2))
    assert (found["sign"], found["wrong_way"], found["monotone"]) == (math.copysign(1, scale), 0, 1)
    assert (found["slope"], found["range"]) == (pytest.approx(size), pytest.approx(size))
    assert found["rank_correlation"] == pytest.approx(1)
    assert found["error_degrees"] == pytest.approx(abs(1 - size) * float(ASKED.abs().mean()))
    assert found["error_of_line_degrees"] == pytest.approx(0, abs=1e-12)


def test_an_offset_is_an_error_but_not_of_the_line() -> None:
    found = of_all(ASKED + 10, ASKED + 10)
    spread = float(ASKED.var(correction=0))
    assert found["value"] == pytest.approx(2 * spread / (2 * spread + 100))
    assert found["error_degrees"] == pytest.approx(10)
    assert found["error_of_line_degrees"] == pytest.approx(0, abs=1e-12)
    turned = of_all(10 - ASKED, 10 - ASKED)
    assert (turned["sign"], turned["error_degrees"]) == (-1, pytest.approx(10))


def test_one_face_in_four_turns_the_wrong_way() -> None:
    found = of_all(ASKED, ASKED, ASKED, -ASKED)
    assert (found["wrong_way"], found["monotone"], found["sign"]) == (0.25, 0.75, 1)
    assert found["rank_correlation"] == pytest.approx(0.5)
    assert found["slope"] == pytest.approx(0.5)
    assert found["slope_deviation"] == pytest.approx(math.sqrt(0.75))
    assert found["value"] == pytest.approx(0.5)
    assert found["error_degrees"] == pytest.approx(2 * float(ASKED.abs().mean()) / 4)
    assert found["turning_back"] == 0, "the wrong way is not back and forth"
    assert of_all(-ASKED, -ASKED, -ASKED, ASKED)["wrong_way"] == 0.25


def test_a_model_that_ignores_the_pose() -> None:
    """Nothing, and not what the arithmetic's rounding would say."""
    noise = 1e-4 * torch.randn(2, 11, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = of_all(torch.zeros(11) + noise[0].abs(), 20.0 + torch.zeros(11) + noise[1].abs())
    assert all(found[name] == 0 for name in ("rank_correlation", "range", "monotone", "wrong_way", "turning_back"))
    assert (found["value"], found["slope"]) == (pytest.approx(0, abs=1e-12), pytest.approx(0, abs=1e-12))
    assert of_all(torch.zeros(11))["error_degrees"] == pytest.approx(float(ASKED.abs().mean()))


def test_who_does_not_turn_turns_neither_way() -> None:
    """Slopes of nothing but rounding, as 0.1 · Σ (a - mean a) leaves one, have no sign."""
    still = 0.1 + torch.arange(8, dtype=torch.float64)[:, None].expand(8, 11) / 7
    there_and_back = (ASKED.abs() - 13.7).expand(8, 11) * still
    for read in (still, there_and_back):
        found = figures(ASKED, read, band=1.0)
        assert (found["wrong_way"], found["sign"], found["slope"]) == (0, 1, 0)


def test_left_right_left_right() -> None:
    there_and_back = torch.tensor([-20, 0, 20, 0, -20, 0, 20, 0, -20, -20, -20])
    found = of_all(there_and_back)
    assert found["turning_back"] == pytest.approx(1 / 2)
    assert (found["monotone"], found["range"]) == (0, 0.5)
    once = of_all(torch.tensor([-30, -20, -10, 0, 10, 0, -10, 0, 10, 20, 30]))
    assert once["turning_back"] == pytest.approx(20 / 100)
    assert of_all(-torch.tensor([-30, -20, -10, 0, 10, 0, -10, 0, 10, 20, 30]))["turning_back"] == pytest.approx(0.2)
    both = of_all(ASKED, torch.tensor([-30, -20, -10, 0, 10, 0, -10, 0, 10, 20, 30]))
    assert both["turning_back"] == pytest.approx(20 / 180), "by degrees gone, not by faces"


def test_what_the_probe_errs_is_no_oscillation() -> None:
    generator = torch.Generator().manual_seed(1)
    even = torch.linspace(-10, 10, 11, dtype=torch.float64).expand(50, 11)
    noise = (torch.rand(50, 11, generator=generator, dtype=torch.float64) - 0.5) * 4  # swings of at most 4 less a step
    found = figures(ASKED, even + noise, band=4.0)
    assert found["turning_back"] == 0
    assert found["monotone"] == 1
    assert found["turning_back_without_band"] > 0.02
    still = figures(ASKED, noise, band=4.0)
    assert (still["turning_back"], still["monotone"]) == (0, 0), "noise is neither a turn nor oscillation"


def test_swings() -> None:
    assert swings([0.0, 1.0, 3.0, 3.0, 2.0, 5.0], 0.0) == [3, -1, 3]
    assert swings([0.0, 1.0, 3.0, 3.0, 2.0, 5.0], 1.0) == [5], "no longer than the band"
    assert swings([0.0, 10.0, 8.0, 20.0], 1.0) == [10, -2, 12]
    assert swings([0.0, 10.0, 8.0, 20.0], 2.0) == [20]
    assert swings([0.0, 2.0, -10.0], 3.0) == [-10], "the ends stay where they are"
    assert swings([0.0, 10.0, 0.0, 10.0, 0.0], 4.0) == [10, -10, 10, -10]
    assert swings([0.0, 1.0, 0.0, 1.0, 0.0], 4.0) == [0]
    assert swings([7.0, 7.0, 7.0], 0.0) == []
    path = torch.randn(40, generator=torch.Generator().manual_seed(0)).tolist()
    for band in (0.0, 0.5, 1.0, 2.0):
        legs = swings(path, band)
        assert math.fsum(legs) == pytest.approx(path[-1] - path[0])
        assert all(abs(leg) > band for leg in legs) or len(legs) == 1
        assert all(a * b < 0 for a, b in pairwise(legs))
        assert swings(path[::-1], band) == pytest.approx([-leg for leg in reversed(legs)])


def test_ranks_share_ties() -> None:
    assert ranks(torch.tensor([[3.0, 1.0, 3.0, 2.0], [5.0, 5.0, 5.0, 5.0]])).tolist() == [
        [2.5, 0, 2.5, 1],
        [1.5, 1.5, 1.5, 1.5],
    ]
    # Spearman by the formula for distinct ranks: 1 - 6 Σ d² / k (k² - 1).
    swapped = ASKED[[1, 0, 2, 3, 4, 5, 6, 7, 8, 10, 9]]
    assert of_all(swapped)["rank_correlation"] == pytest.approx(1 - 6 * 4 / (11 * 120))
    assert of_all(torch.exp(ASKED / 20))["rank_correlation"] == pytest.approx(1), "of ranks, not of degrees"


def test_concordance() -> None:
    a = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert concordance(a, a) == 1
    assert concordance(a, -a + 5) == -1
    assert concordance(a, a + 1) == pytest.approx(2 * 1.25 / (2 * 1.25 + 1))
    assert concordance(a, torch.zeros(4)) == 0


def test_chance_is_low_and_shrinks_with_the_faces() -> None:
    few, many = (chance(ASKED, ASKED.repeat(count, 1), seed=0) for count in (4, 400))
    assert 0.006 < many < 0.02, "E|N(0, 1/(N (K - 1)))| = 0.0126 for 400 faces of 11 frames"
    assert 3 * many < few < 0.4


# --- identity --------------------------------------------------------------------------------------------------------


def at(*degrees: float) -> Tensor:
    angles = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return torch.stack([angles.cos(), angles.sin()], dim=-1)


def test_likeness_of_faces_and_of_others() -> None:
    """Two faces, 90° apart as persons, each 30° further with every frame."""
    faces = torch.stack([at(0, 30, 60), at(90, 120, 150)])
    same, different = likenesses(faces)
    cosine = {angle: math.cos(math.radians(angle)) for angle in (30, 60, 120, 150, -30)}
    assert same.tolist() == pytest.approx([cosine[30], cosine[60], cosine[30]] * 2)
    assert different.tolist() == pytest.approx(
        [cosine[120], cosine[150], cosine[120], cosine[60], cosine[30], cosine[60]], abs=1e-12
    )


class Stub:
    """A probe that is only its figures."""

    name, sha256, accuracy = "probe", "7" * 64, READS

    def read(self, images: Tensor) -> Reading:
        raise AssertionError("read elsewhere")


def readings_of(identity: Tensor, degrees: Tensor | None = None) -> TurnReadings:
    """Of embeddings [n, 11, e], and yaws [n, 11]."""
    space = LatentSpace(Gaussian("z", 2), Pose("pose", 3, (-0.5, 0.0, 0.0), (0.5, 0.0, 0.0)))
    readings = TurnReadings(ask_turns(space, len(identity), 0))
    pose = torch.zeros(identity.shape[0] * 11, 3)
    if degrees is not None:
        pose[:, 0] = degrees.deg2rad().flatten()
    parts = zip(identity.flatten(0, 1).split(7), pose.split(7), strict=True)
    readings.feed([{"identity": some, "pose": rows} for some, rows in parts])
    return readings


def test_constant_faces_and_what_stands_beside() -> None:
    constant = at(0, 60, 120)[:, None].expand(3, 11, 2)
    found = identity_constancy(readings_of(constant, torch.linspace(-10, 20, 11).expand(3, 11)), Stub())
    assert found.value == pytest.approx(1)
    assert found.values["different"] == pytest.approx((0.5 + 0.5 - 0.5) / 3)
    assert (found.values["frontal"], found.values["ends"]) == (pytest.approx(1), pytest.approx(1))
    assert (found.values["probe_same"], found.values["probe_different"]) == (pytest.approx(0.8), pytest.approx(0.1))
    assert (found.values["same_person"], found.values["auc"], found.values["probe_auc"]) == (1, 1, 0.95)
    assert found.values["different_same_person"] == 0, "distances of 1/2 and 3/2 are above the threshold"
    assert found.values["turned_degrees"] == pytest.approx(30, abs=1e-4)
    assert (found.count_fakes, found.count_reals, found.settings["other_faces"]) == (3, 0, 2)


def test_another_person_in_every_frame() -> None:
    """Frame k shows person k, whoever is asked for: a face is no more like itself than like another."""
    people = torch.eye(11, dtype=torch.float64).expand(4, 11, 11)
    found = identity_constancy(readings_of(people), Stub())
    assert (found.value, found.values["frontal"], found.values["same_person"]) == (0, 0, 0)
    assert (found.values["different"], found.values["auc"]) == (0, 0.5)


def test_a_face_that_changes_with_the_angle() -> None:
    """6° further as a person with every frame: at the ends 60°."""
    found = identity_constancy(readings_of(at(*range(0, 66, 6)).expand(2, 11, 2)), Stub())
    steps = [6 * (later - k) for k in range(11) for later in range(k + 1, 11)]
    assert found.value == pytest.approx(sum(math.cos(math.radians(step)) for step in steps) / 55)
    assert found.values["ends"] == pytest.approx(0.5)
    frontal = [math.cos(math.radians(6 * abs(k - 5))) for k in range(11) if k != 5]
    assert found.values["frontal"] == pytest.approx(sum(frontal) / 10)
    assert found.values["same_person"] == pytest.approx(sum(step < 60 for step in steps) / 55)


# --- in an evaluation ------------------------------------------------------------------------------------------------


def upright(yaw: float = 45.0, pitch: float = 0.0, roll: float = 0.0) -> Pose:
    ends = tuple(math.radians(angle) for angle in (yaw, pitch, roll))
    return Pose("pose", 3, tuple(-end for end in ends), ends)


class Turner(nn.Module):
    """Writes the pose it shows, in quarter degrees, and who it is into pixels of a picture."""

    resolution = 16

    def __init__(self, *parts: Part, shows: Callable[[Tensor], Tensor] = lambda degrees: degrees) -> None:
        super().__init__()
        self.latents = LatentSpace(Gaussian("z", 2), *(parts or (upright(),)))
        self.shows = shows
        self.eval()

    def generate(self, latents: Tensor) -> Tensor:
        parts = self.latents.split(latents)
        quarters = (self.shows(parts["pose"].rad2deg()) * 4).round().long() + 512
        who = (parts["z"][:, 0] * 1000).round().long() % 200
        pixels = torch.zeros(len(latents), 16, 16, 3, dtype=torch.uint8)
        for axis in range(3):
            pixels[:, 0, axis, 0], pixels[:, 0, axis, 1] = quarters[:, axis] // 256, quarters[:, axis] % 256
        pixels[:, 1, 0, 0] = who
        return to_floats(pixels)


class Sight(ProbeExtractor):
    """Reads what `Turner` writes."""

    def __init__(self, accuracy: Accuracy = READS) -> None:
        self.name, self.sha256, self.resize, self._accuracy = "probe", "7" * 64, "none", accuracy

    @property
    def accuracy(self) -> Accuracy:
        return self._accuracy

    def read(self, images: Tensor) -> Reading:
        wide = images.long()
        quarters = wide[:, 0, :3, 0] * 256 + wide[:, 0, :3, 1] - 512
        who = torch.nn.functional.one_hot(wide[:, 1, 0, 0], 200).float()
        pose, identity = (quarters / 4).deg2rad(), who
        return Reading(
            torch.zeros(len(images), 0),
            pose if self.accuracy.pose else None,
            identity if self.accuracy.identity else None,
            identity,
        )


BOTH = ("pose_control", "identity_constancy")


def measure(model: nn.Module, data: Dataset, **changes: object) -> list[Card]:
    settings = {"metrics": BOTH, "probe": Sight(), "weights_name": "ema", "images_seen": 0} | changes
    return evaluate_model(model, data, count=200, split="all", **settings)  # type: ignore[arg-type]


def test_cards_of_a_model_that_turns(tiny_dataset: Dataset) -> None:
    model = Turner(upright(45, 20))
    control, constancy = measure(model, tiny_dataset)
    assert (control.name, constancy.name) == ("pose_control_probe_8", "identity_constancy_probe_8")
    assert (control.dataset, control.split, control.count_reals, control.extractor) == (None, None, 0, "probe")
    assert (control.value, control.values["pitch"]) == (pytest.approx(1, abs=1e-5), pytest.approx(1, abs=1e-3))
    assert "roll" not in control.values
    assert control.settings["yaw"] == "-45 to 45 degrees, 11 frames"
    assert control.settings["pitch"] == "-20 to 20 degrees, 7 frames"
    assert (control.values["probe_error_degrees"], control.values["pitch_probe_error_degrees"]) == (
        pytest.approx(2),
        pytest.approx(1),
    )
    assert control.values["guess_error_degrees"] == pytest.approx(45 * 30 / 55, abs=1e-6)
    assert (constancy.value, constancy.values["different"]) == (1, 0)
    assert constancy.values["turned_degrees"] == pytest.approx(90, abs=1e-3)
    assert measure(model, tiny_dataset, batch_size=7) == [control, constancy]
    assert measure(model, tiny_dataset, metrics=("identity_constancy",)) == [constancy], "whatever else is measured"


def test_a_mirrored_a_mixed_up_and_a_still_model(tiny_dataset: Dataset) -> None:
    (mirrored,) = measure(Turner(shows=torch.neg), tiny_dataset, metrics=BOTH[:1])
    assert (mirrored.value, mirrored.values["sign"]) == (pytest.approx(1, abs=1e-5), -1)
    (mixed,) = measure(Turner(upright(45, 45, 45), shows=lambda pose: pose.roll(1, 1)), tiny_dataset, metrics=BOTH[:1])
    assert [mixed.value, mixed.values["pitch"], mixed.values["roll"]] == [0, 0, 0], "each axis is read for itself"
    still, same = measure(Turner(shows=torch.zeros_like), tiny_dataset)
    assert (still.value, still.values["rank_correlation"], same.value) == (0, 0, 1)
    assert same.values["turned_degrees"] == 0


def test_only_the_pose_changes_and_all_of_its_range_is_asked_for() -> None:
    low, high = (math.radians(-10), math.radians(-5), 0.0), (math.radians(50), math.radians(15), 0.0)
    space = LatentSpace(Pose("pose", 3, low, high), Gaussian("z", 4), Box("placement", 1, (0.5,), (1.5,)))
    turns = ask_turns(space, 3, 5)
    parts = space.split(turns.latents)
    assert [(axis.name, len(axis.degrees)) for axis in turns.axes] == [("yaw", 11), ("pitch", 7)]
    assert (turns.frames, len(turns.latents)) == (18, 54)
    degrees = parts["pose"].double().rad2deg().unflatten(0, (3, 18))
    assert torch.allclose(degrees[:, :11, 0], torch.linspace(-10, 50, 11).double().expand(3, 11), atol=1e-4)
    assert torch.allclose(degrees[:, :11, 1], torch.tensor(5.0).double(), atol=1e-4), "pitch in the middle of its range"
    assert torch.allclose(degrees[:, 11:, 1], torch.linspace(-5, 15, 7).double().expand(3, 7), atol=1e-4)
    assert torch.allclose(degrees[:, 11:, 0], torch.tensor(20.0).double(), atol=1e-4)
    drawn = space.split(space.sample(3, torch.Generator().manual_seed(5)))
    for name in ("z", "placement"):
        assert torch.equal(parts[name], drawn[name].repeat_interleave(18, 0))
    assert [turns_for(count) for count in (1, 320, 5000)] == [8, 8, 125]


def test_what_cannot_be_judged_is_refused_in_one_line(tiny_dataset: Dataset) -> None:
    plain, fixed = Turner(Gaussian("pose", 3)), Turner(upright(0, 10))
    assert (kinds_of(Turner()), kinds_of(plain), kinds_of(fixed)) == ({"poses"}, frozenset(), frozenset())
    blind = Sight(Accuracy((), None, None))
    for name in BOTH:
        cases = (
            (plain, {}, f"{name} is of models that turn, such as hologan, and this one takes no yaw"),
            (fixed, {}, "takes no yaw"),
            (Turner(), {"probe": None}, f"{name} needs the dataset's probe"),
            (
                Turner(),
                {"probe": blind},
                f"{name} needs a probe that reads {'pose' if name == BOTH[0] else 'identity'}",
            ),
        )
        for model, changes, words in cases:
            with pytest.raises(LimnerError, match=words) as caught:
                measure(model, tiny_dataset, metrics=(name,), **changes)
            assert "\n" not in str(caught.value)
    with pytest.raises(LimnerError, match="no pose with a range of yaw"):
        ask_turns(plain.latents, 2, 0)
    readings = readings_of(torch.ones(1, 11, 1))
    with pytest.raises(LimnerError, match="at least two"):
        identity_constancy(readings, Stub())
    unread = TurnReadings(readings.turns)
    with pytest.raises(LimnerError, match="of 0 frames was read, not of 11"):
        pose_control(unread, Stub())


def test_they_apply_to_models_that_turn_where_a_probe_reads() -> None:
    found = applicable(None, count=100, probe=True, kinds={"poses"})
    assert set(BOTH) <= set(found)
    assert "attribute_accuracy" not in found
    assert not set(BOTH) & set(applicable(None, count=100, probe=True, kinds={"codes"}))
    assert not set(BOTH) & set(applicable(None, count=100, kinds={"poses"}))
    assert not set(BOTH) & set(applicable(None, count=99, probe=True, kinds={"poses"}))
