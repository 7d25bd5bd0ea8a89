"""Hair, hats, glasses, brows, clothes and backdrops of the built-in heads: where they belong, and labelled truly."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest

from limner.heads.backdrop import KINDS, Backdrop, paint_backdrop, sample_backdrop
from limner.heads.brows import brow_opacity
from limner.heads.clothes import LOW, cut_out
from limner.heads.dress import Outfit, dress
from limner.heads.eyewear import SHAPES, Eyewear
from limner.heads.fitting import LOWEST_BARE, above_skull, average_head, shown_skin
from limner.heads.geometry import Camera, aim_camera
from limner.heads.glasses import OUTLINES, Seat, layout_of
from limner.heads.hair import BAND_FRONT, cut_hair, fringe
from limner.heads.hats import hat
from limner.heads.looks import BUSHY_BROWS, FRINGE_HAIR, HATS, RECEDING_HAIR, THIN_BROWS, WAVY_HAIR, Cut
from limner.heads.pack import Part, load_pack
from limner.heads.person import Person, sample_person
from limner.heads.scene import paint
from limner.heads.surfaces import Surface

SAMPLES = 96


@lru_cache(maxsize=1)
def _people(count: int = 240) -> list[Person]:
    return [sample_person(load_pack(), 0, index, 0, math.radians(45)) for index in range(count)]


def _dressed(person: Person) -> tuple[Outfit, Camera]:
    outfit = dress(load_pack(), person, person.shot)
    return outfit, aim_camera(person.shot, outfit.eye_centre, outfit.head_height, SAMPLES)


def _on_average_head(part: Part) -> np.ndarray:
    return part.place(average_head(), load_pack().scale(average_head()))


def _eyeballs(head: np.ndarray) -> np.ndarray:
    return head[:, np.unique(load_pack().parts["eyes"].anchors)]


@pytest.mark.parametrize("shape", SHAPES)
def test_glasses_sit_before_the_eyes_clear_of_the_skin(shape: str):
    layout = layout_of(shape)
    assert len(layout.near) > 20
    for person in _people()[:60]:
        head = load_pack().morph(person.weights)
        seat = Seat.on(head, layout)
        frame, lenses = seat.frame(layout, 0.07), seat.lenses(layout)
        eyes = _eyeballs(head)
        for side in (1, -1):
            eye, lens = eyes[:, side * eyes[0] > 0], lenses[:, side * lenses[0] > 0]
            assert lens[2].min() > eye[2].max()
            reach = np.abs(lens[:2].mean(1) - eye[:2].mean(1))
            assert reach.max() < 0.08  # the eye is in the middle of its lens
        rims = frame[:, : 2 * 4 * layout.outline.shape[1]]
        for skin in head[:, layout.near].T:
            nearest = ((rims[:2] - skin[:2, None]) ** 2).sum(0).argmin()
            assert rims[2, nearest] > skin[2] - 0.03
        assert np.abs(frame[0]).max() < np.abs(head[0, shown_skin().triangles][:, :]).max()
        assert frame[2].min() > head[2].min() + 0.5  # temples end at the ears


def test_temples_reach_from_rims_to_ears():
    layout = layout_of("round")
    for person in _people()[:30]:
        head = load_pack().morph(person.weights)
        left, right = Seat.on(head, layout).temples
        assert (np.diff(left[2]) < 0).all()
        assert (np.diff(right[2]) < 0).all()
        assert left[0].min() > 0 > right[0].max()
        ears = head[:, np.abs(head[0]) > np.quantile(np.abs(head[0][head[1] > 6.5]), 0.98)]
        assert abs(left[2, -1] - ears[2].mean()) < 0.6


@pytest.mark.parametrize("name", HATS)
def test_hats_are_inside_the_picture_and_hair_inside_the_hats(name: str):
    wearers = [p for p in _people() if p.looks.hat == name][:6]
    assert len(wearers) == 6
    for person in wearers:
        outfit, camera = _dressed(person)
        triangles = hat(name).part.mesh.triangles.shape
        (worn,) = [s for s in outfit.surfaces if s.mesh.triangles.shape == triangles]
        assert camera.project(worn.vertices)[1].min() > 0
    hair = cut_hair("hair:long01", Cut(waves=True), under_hat=True)
    vertices = _on_average_head(hair.part)[:, np.unique(hair.part.mesh.triangles)]
    inside = vertices[:, vertices[1] > BAND_FRONT]
    assert above_skull(inside)[1].max() < 0.03


def test_own_hats_stand_off_the_skull():
    for name in ("hat:knitted", "hat:visor"):
        height = above_skull(_on_average_head(hat(name).part))[1]
        assert height.min() > 0
        assert np.median(height) > 0.05


def _glowing(surface: Surface, eyes: Surface) -> Surface:
    """The surface in black, but eyes: the left red, the right green."""
    lighting = np.zeros_like(surface.lighting)
    if surface is eyes:
        lighting[0], lighting[1] = surface.vertices[0] > 0, surface.vertices[0] <= 0
    return replace(surface, lighting=lighting, tint=np.ones((3, 1), np.float32), textures=(), detail=None)


def _eye_areas(surfaces: list[Surface], eyes: Surface, camera: Camera) -> np.ndarray:
    light = np.zeros((3, SAMPLES * SAMPLES), np.float32)
    paint(light, [_glowing(surface, eyes) for surface in surfaces], camera, SAMPLES)
    return light[:2].sum(1)


def test_hair_and_rims_seldom_hide_an_eye():
    people = _people()[:60]
    hidden = np.zeros(2)
    for person in people:
        outfit, camera = _dressed(person)
        solid = [surface for surface in outfit.surfaces if not surface.decal]
        triangles = load_pack().parts["eyes"].mesh.triangles.shape
        (eyes,) = [surface for surface in solid if surface.mesh.triangles.shape == triangles]
        bare = _eye_areas([outfit.surfaces[0], eyes], eyes, camera)
        seen = _eye_areas(solid, eyes, camera)
        near = int(bare.argmax())
        for rank, side in enumerate((near, 1 - near)):
            hidden[rank] += bare[side] > 2 and seen[side] < 0.4 * bare[side]
    assert hidden[0] <= 0.02 * len(people)
    assert hidden[1] <= 0.10 * len(people)


def test_forehead_is_covered_by_a_fringe_and_free_without():
    pack = load_pack()
    for name in pack.names("hair:"):
        if name in pack.parts and name != "hair:afro01":
            x, y, z = _on_average_head(cut_hair(name, Cut(), under_hat=False).part)
            assert not ((np.abs(x) < 0.3) & (y > 7.3) & (y < 7.8) & (z > 1.0)).any(), name
    x, y, z = _on_average_head(fringe().part)
    assert y[(np.abs(x) < 0.3)].min() < 7.65  # down to the brows, which begin at 7.5 …
    assert y[(np.abs(x) < 0.35)].min() > 7.47  # … and not before the eyes
    assert above_skull(np.stack([x, y, z]))[1].min() > 0


def test_cuts_keep_vertices_and_change_what_they_say():
    plain = cut_hair("hair:short01", Cut(), under_hat=False)
    receding = cut_hair("hair:short01", Cut(receding=True), under_hat=False)
    wavy = cut_hair("hair:long01", Cut(waves=True), under_hat=False)
    straight = cut_hair("hair:long01", Cut(), under_hat=False)
    assert plain.part.offsets.shape == receding.part.offsets.shape
    front = [
        (v := _on_average_head(hair.part))[1, (np.abs(v[0]) < 0.1) & (v[2] > 0.8)].min() for hair in (plain, receding)
    ]
    assert front[1] > front[0] + 0.1
    moved = np.abs(_on_average_head(wavy.part) - _on_average_head(straight.part)).max(0)
    assert 0.04 < moved[_on_average_head(straight.part)[1] < 7].mean() < 0.1
    assert (wavy.relief / straight.relief).std() > 0.1


def test_labels_follow_looks():
    for person in _people():
        looks, labels = person.looks, person.attributes
        hair = "" if looks.hair is None else looks.hair.removeprefix("hair:")
        assert labels["Bangs"] == looks.cut.fringe
        assert not labels["Bangs"] or (hair in FRINGE_HAIR and looks.hat is None and not looks.cut.receding)
        assert labels["Wavy_Hair"] == looks.cut.waves
        assert (labels["Wavy_Hair"] or labels["Straight_Hair"]) == (hair in WAVY_HAIR)
        assert not (labels["Wavy_Hair"] and labels["Straight_Hair"])
        assert not labels["Receding_Hairline"] or (hair in RECEDING_HAIR and labels["Male"])
        assert labels["Eyeglasses"] == (looks.eyewear is not None)
        assert labels["Bushy_Eyebrows"] == (looks.brow in BUSHY_BROWS)


def test_looks_are_the_persons_and_the_backdrop_the_views():
    first, second = (sample_person(load_pack(), 3, 5, view, 0.5) for view in (0, 1))
    assert first.looks.hair == second.looks.hair
    assert first.looks.brow == second.looks.brow
    np.testing.assert_array_equal(first.looks.attire.colour, second.looks.attire.colour)
    assert (first.shot.backdrop.palette != second.shot.backdrop.palette).any()


def test_bushy_brows_are_denser():
    bushy = min(brow_opacity(name, True).mean() for name in BUSHY_BROWS)
    thin = max(brow_opacity(name, False).mean() for name in THIN_BROWS)
    assert bushy > 1.8 * thin


@pytest.mark.parametrize("neckline", ["crew", "v", "scoop", "roll", "collar"])
def test_clothes_cover_all_that_the_skin_leaves_out(neckline: str):
    rows = cut_out(neckline)
    lowest_rows = int(len(rows) * (LOWEST_BARE - LOW) / 1.5)
    assert lowest_rows > 8
    assert rows[-lowest_rows:].min() == 1  # opaque up to where the skin begins
    assert rows[0].max() == 0  # and never over the chin


@pytest.mark.parametrize("kind", KINDS)
def test_backdrops_are_soft_repeatable_and_mirrored(kind: str):
    rng = np.random.default_rng(1)
    for _ in range(6):
        drawn = replace(sample_backdrop(rng), kind=kind)
        light = paint_backdrop(drawn, 64).reshape(3, 64, 64)
        np.testing.assert_array_equal(light, paint_backdrop(drawn, 64).reshape(3, 64, 64))
        mirrored = paint_backdrop(drawn.mirrored(), 64).reshape(3, 64, 64)
        np.testing.assert_allclose(mirrored, light[:, :, ::-1], atol=1e-5)
        assert 0 <= light.min() < light.max() <= 1.3
        assert np.abs(np.diff(np.sqrt(light), axis=2)).max() < 0.2
        larger = paint_backdrop(drawn, 128).reshape(3, 64, 2, 64, 2).mean((2, 4))
        assert np.abs(larger - light).max() < 0.05


def test_backdrops_are_of_every_kind():
    rng = np.random.default_rng(0)
    kinds = [sample_backdrop(rng).kind for _ in range(300)]
    for kind, share in KINDS.items():
        assert abs(kinds.count(kind) / 300 - share) < 0.1
    assert isinstance(Backdrop("wall", np.zeros((3, 3)), 0).mirrored().mirrored().flipped, bool)


def test_every_outline_holds_the_pupil():
    assert set(SHAPES) == set(OUTLINES)
    for shape in SHAPES:
        outline = layout_of(shape).outline
        assert np.sqrt((outline**2).sum(0)).min() > 0.12
    assert Eyewear("round", 0.05, np.zeros(3), False, 0.0).shape in SHAPES
