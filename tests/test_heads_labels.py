"""Labels of the built-in heads follow from what is drawn, and what is drawn can be seen where it should be."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from limner.heads.complexion import cheeks, eye_bags
from limner.heads.face_map import face_points, face_uv, lips, neutral_normals, noise, rising
from limner.heads.facial_hair import REGIONS, STYLES, FacialHair, hair_on_vertices, label_facial_hair, shells
from limner.heads.features import PLAIN_FEATURES
from limner.heads.identity import ORIGINS, sample_identity
from limner.heads.make_up import MakeUp, lids
from limner.heads.pack import load_pack
from limner.heads.person import Person, sample_person
from limner.heads.render import draw

PEOPLE = 500
OWN_LABELS = (
    "5_o_Clock_Shadow",
    "Big_Lips",
    "Chubby",
    "Goatee",
    "Heavy_Makeup",
    "Male",
    "Mouth_Slightly_Open",
    "Mustache",
    "Narrow_Eyes",
    "No_Beard",
    "Pale_Skin",
    "Rosy_Cheeks",
    "Sideburns",
    "Smiling",
    "Wearing_Lipstick",
    "Young",
)


@cache
def _people() -> tuple[Person, ...]:
    return tuple(sample_person(load_pack(), 0, index, 0, math.radians(45)) for index in range(PEOPLE))


def _labels(name: str) -> np.ndarray:
    return np.array([person.attributes[name] for person in _people()])


def _facing(person: Person) -> Person:
    """The same person looking straight into the camera, in even light."""
    shot = replace(person.shot, yaw=0.0, pitch=0.0, roll=0.0, light_direction=np.array([0.0, 0.3, 0.954]))
    return replace(person, shot=shot)


def _where(person: Person, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of a picture of 96² under the vertices of the front of the head that `mask` (n,) covers."""
    drawing = draw(person, 96)
    shown = np.flatnonzero((mask > 0.9) & (neutral_normals()[2] > 0.3))
    places = drawing.locate(drawing.outfit.head[:, shown])
    columns, rows = np.clip((places * 96).astype(int), 0, 95).T
    return rows, columns


def _change(before: Person, after: Person, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean colours (3,) before and after where the mask is."""
    rows, columns = _where(before, mask)
    return tuple(draw(person, 96).image[rows, columns].astype(float).mean(0) for person in (before, after))  # type: ignore[return-value]


def _bare_woman() -> Person:
    chosen = next(p for p in _people() if not p.attributes["Male"])
    return _facing(replace(chosen, make_up=MakeUp(None, None)))


def test_own_labels_are_published_and_in_range():
    for name in OWN_LABELS:
        assert 0.05 < _labels(name).mean() < 0.95, name


def test_sexes_and_origins_come_evenly_and_ages_are_spread():
    people = [sample_identity(np.random.default_rng([7, i])) for i in range(1500)]
    assert 0.46 < np.mean([p.male for p in people]) < 0.54
    np.testing.assert_allclose(np.mean([p.origin for p in people], 0), 1 / len(ORIGINS), atol=0.03)
    foremost = np.bincount([int(p.origin.argmax()) for p in people], minlength=3) / len(people)
    np.testing.assert_allclose(foremost, 1 / 3, atol=0.05)
    ages = np.array([p.age_years for p in people])
    assert ages.min() < 20
    assert ages.max() > 80
    assert not ((ages > 37) & (ages < 53)).any()  # nobody is neither young nor old


def test_sex_does_not_decide_what_it_should_not():
    male = _labels("Male")
    for name in ("Smiling", "Mouth_Slightly_Open", "Young", "Big_Lips", "Chubby", "Pale_Skin", "Narrow_Eyes"):
        assert abs(_labels(name)[male].mean() - _labels(name)[~male].mean()) < 0.12, name


def test_tones_reach_from_very_dark_to_very_pale():
    lightness = np.array([person.complexion.tone.mean() for person in _people()])
    assert lightness.min() < 0.24
    assert lightness.max() > 0.72
    pale = _labels("Pale_Skin")
    assert lightness[pale].min() > lightness[~pale].max()


def test_only_men_have_facial_hair_and_only_women_make_up():
    male = _labels("Male")
    for name in ("Mustache", "Goatee", "Sideburns", "5_o_Clock_Shadow"):
        assert not _labels(name)[~male].any()
    for name in ("Wearing_Lipstick", "Heavy_Makeup"):
        assert not _labels(name)[male].any()
    assert (_labels("Wearing_Lipstick") >= _labels("Heavy_Makeup")).all()


@pytest.mark.parametrize("style", STYLES)
def test_labels_of_facial_hair_follow_from_its_style(style: str):
    labels = label_facial_hair(FacialHair(style, style == "full", 0.8))
    assert labels["No_Beard"] == (style == "none")
    assert labels["5_o_Clock_Shadow"] == (style == "stubble")
    assert labels["Mustache"] == (style in ("moustache", "circle", "full"))
    assert labels["Goatee"] == (style in ("goatee", "circle"))
    assert labels["Sideburns"] == (style == "full")


def test_labels_of_features_follow_from_the_shape():
    index = load_pack().target_index
    for name, feature in PLAIN_FEATURES.items():
        marker = max(feature.present, key=lambda target: feature.present[target])
        weights = np.array([person.weights[index[marker]] for person in _people()])
        shown = _labels(name)
        assert weights[shown].min() > weights[~shown].max(), name


def test_smiles_are_plain_and_plainly_not():
    index = load_pack().target_index["fu/mouthSmileLeft"]
    smile = np.array([person.weights[index] for person in _people()])
    shown = _labels("Smiling")
    assert smile[shown].min() > 0.6
    assert smile[~shown].max() < 0.25
    assert [person.shows_teeth for person in _people()] == list(_labels("Mouth_Slightly_Open"))


def test_lipstick_reddens_the_lips_and_nothing_else():
    woman = _bare_woman()
    painted = replace(woman, make_up=MakeUp(np.array([0.64, 0.1, 0.13]), None))
    before, after = _change(woman, painted, lips())
    assert after[1] / after[0] < 0.75 * before[1] / before[0]  # green against red
    before, after = _change(woman, painted, cheeks())
    np.testing.assert_array_equal(before, after)


def test_heavy_make_up_darkens_the_lids():
    woman = _bare_woman()
    painted = replace(woman, make_up=MakeUp(np.array([0.64, 0.1, 0.13]), np.array([0.3, 0.2, 0.3])))
    before, after = _change(woman, painted, lids())
    assert after.mean() < 0.9 * before.mean()


@pytest.mark.parametrize(("field", "mask"), [("rosy", cheeks), ("bags", eye_bags)])
def test_skin_changes_where_it_is_flushed_or_tired(field: str, mask):  # type: ignore[no-untyped-def]
    person = _bare_woman()
    bare = replace(person, complexion=replace(person.complexion, rosy=0.0, bags=0.0))
    shown = replace(bare, complexion=replace(bare.complexion, **{field: 1.0}))
    before, after = _change(bare, shown, mask())
    assert after[1] < 0.93 * before[1]
    before, after = _change(bare, shown, lips())
    np.testing.assert_allclose(before, after, atol=1)


def test_wrinkles_are_drawn_in_old_faces_only():
    for person in _people():
        assert (person.complexion.wrinkles > 0) != person.attributes["Young"]
    person = _facing(next(p for p in _people() if not p.attributes["Young"]))
    smooth = replace(person, complexion=replace(person.complexion, wrinkles=0.0))
    assert draw(smooth, 64).image.astype(float).mean() > draw(person, 64).image.astype(float).mean() + 0.2


@pytest.mark.parametrize(
    ("style", "region"), [("moustache", "moustache"), ("goatee", "goatee"), ("full", "beard"), ("stubble", "beard")]
)
def test_facial_hair_is_dark_where_it_grows(style: str, region: str):
    pale = next(p for p in _people() if p.attributes["Male"] and p.attributes["Pale_Skin"])
    dark_haired = replace(_facing(pale), looks=replace(pale.looks, hair_colour=np.array([0.1, 0.08, 0.08])))
    shaved = replace(dark_haired, facial_hair=FacialHair("none", False, 0.8))
    bearded = replace(dark_haired, facial_hair=FacialHair(style, style == "full", 0.8))
    before, after = _change(shaved, bearded, hair_on_vertices((region,)))
    assert after.mean() < (0.85 if style == "stubble" else 0.6) * before.mean()


def test_shells_lie_in_layers_of_falling_density_over_what_grows():
    for regions in {FacialHair(style, False, 1.0).regions for style in STYLES} - {()}:
        worn = shells(regions)
        heights = [height for height, _ in worn.layers]
        covered = [float(opacity.mean()) for _, opacity in worn.layers]
        assert heights == sorted(heights)
        assert covered == sorted(covered, reverse=True)
        assert worn.mesh.triangles.max() + 1 == len(worn.vertices)
        assert hair_on_vertices(regions)[lips() > 0.9].max() <= 0.1


def test_face_map_puts_texels_where_vertices_are():
    vertices, uv = load_pack().vertices, face_uv()
    front = np.flatnonzero((neutral_normals()[2] > 0.8) & (vertices[2] > 1.3) & (np.abs(vertices[1] - 7.0) < 0.9))
    side = face_points().shape[1]
    columns, rows = np.round(uv[0] * (side - 1)).astype(int), np.round((1 - uv[1]) * (side - 1)).astype(int)
    away = np.abs(face_points()[:, rows[front], columns[front]] - vertices[:, front]).max(0)
    assert np.median(away) < 0.02  # decimetres
    assert np.quantile(away, 0.98) < 0.06


def test_noise_is_the_same_on_every_call_and_standard():
    plane = noise(6, 2, 3)
    noise.cache_clear()
    np.testing.assert_array_equal(plane, noise(6, 2, 3))
    assert abs(float(plane.mean())) < 1e-3
    assert float(plane.std()) == pytest.approx(1, abs=1e-3)


def test_rising_is_a_smooth_step_either_way():
    np.testing.assert_allclose(rising(np.array([0.0, 1, 1.5, 2, 3]), 1.0, 2.0), [0, 0, 0.5, 1, 1])
    np.testing.assert_allclose(rising(np.array([0.0, 1, 1.5, 2, 3]), 2.0, 1.0), [1, 1, 0.5, 0, 0])


def test_views_of_a_person_share_skin_make_up_and_beard_but_not_expression():
    views = [sample_person(load_pack(), 0, 11, view, math.radians(45)) for view in range(8)]
    first = views[0]
    for view in views[1:]:
        np.testing.assert_array_equal(view.complexion.tone, first.complexion.tone)
        assert view.facial_hair == first.facial_hair
        assert {n: view.attributes[n] for n in ("Male", "Young", "Big_Lips", "Mustache")} == {
            n: first.attributes[n] for n in ("Male", "Young", "Big_Lips", "Mustache")
        }
    assert len({view.attributes["Smiling"] for view in views}) == 2


def test_a_person_and_their_first_view_draw_from_different_streams():
    male, smiling = _labels("Male"), _labels("Smiling")
    assert 0.4 < (male == smiling).mean() < 0.6


def test_stubble_covers_where_beards_grow():
    assert set(REGIONS["full"]) == set(REGIONS["stubble"])
