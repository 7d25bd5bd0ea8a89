"""How the heads get into pictures: coverage without gaps, depth, textures at the right size, the same bytes always."""

from __future__ import annotations

import gc
import hashlib
import math
import os
import subprocess
import sys
import weakref
from dataclasses import replace

import numpy as np
import pytest

from limner.heads.depth import DepthBuffer
from limner.heads.fitting import average_head, shown_skin
from limner.heads.geometry import Camera, Rings, aim_camera, head_rotation, vertex_normals
from limner.heads.pack import Mesh, load_pack
from limner.heads.person import sample_person
from limner.heads.raster import rasterise
from limner.heads.render import draw
from limner.heads.scene import paint
from limner.heads.surfaces import Surface
from limner.heads.textures import level, look_up, look_up_sum


def _inside(corners: np.ndarray, size: int) -> tuple[np.ndarray, float]:
    """Least distance (size²,) of each sample centre to the edges of a triangle (2, 3), below 0 outside; its area."""
    column, row = np.meshgrid(np.arange(size) + 0.5, np.arange(size) + 0.5)
    x, y = corners.astype(float)
    area = (x[1] - x[0]) * (y[2] - y[0]) - (x[2] - x[0]) * (y[1] - y[0])
    distances = []
    for a, b in ((0, 1), (1, 2), (2, 0)):
        length = math.hypot(x[b] - x[a], y[b] - y[a])
        distances.append(((x[b] - x[a]) * (row - y[a]) - (y[b] - y[a]) * (column - x[a])) / length * np.sign(area))
    return np.min(distances, 0).ravel(), area


@pytest.mark.parametrize("cull", [False, True])
def test_rasteriser_agrees_with_testing_every_sample(cull: bool):
    rng, size = np.random.default_rng(0), 20
    screen = np.stack([*rng.uniform(-6, 26, (2, 90)), rng.uniform(5, 9, 90)]).astype(np.float32)
    triangles = rng.integers(0, 90, (3, 250))
    triangles = triangles[:, (np.diff(np.sort(triangles, 0), axis=0) > 0).all(0)]
    fragments = rasterise(screen, triangles, size, cull=cull)
    drawn = np.zeros((triangles.shape[1], size * size), int)
    np.add.at(drawn, (fragments.triangle, fragments.sample), 1)
    assert drawn.max() == 1
    for triangle, covered in zip(triangles.T, drawn, strict=True):
        distance, area = _inside(screen[:2, triangle], size)
        shown = area < 0 or not cull
        assert covered[distance > 1e-3].all() == shown or not (distance > 1e-3).any()
        assert not covered[distance < -1e-3].any()
        assert shown or not covered.any()


def test_weights_and_depth_are_those_of_the_sample():
    rng, size = np.random.default_rng(1), 24
    screen = np.stack([*rng.uniform(-4, 28, (2, 40)), rng.uniform(5, 9, 40)]).astype(np.float32)
    triangles = rng.integers(0, 40, (3, 60))
    fragments = rasterise(screen, triangles, size, cull=False)
    places = fragments.interpolate(screen, triangles)
    centres = np.stack([fragments.sample % size, fragments.sample // size]) + 0.5
    sound = fragments.facets.areas[fragments.facet] > 0.05  # slivers leave float32 no digits
    np.testing.assert_allclose(places[:2, sound], centres[:, sound], atol=1e-3)
    np.testing.assert_allclose(fragments.depth[sound], places[2, sound], atol=1e-3)
    np.testing.assert_allclose(fragments.weights.sum(0), 1, atol=1e-5)


@pytest.mark.parametrize(("seed", "cells"), [(0, 9), (1, 30), (2, 77), (3, 150)])
def test_surface_covers_every_sample_exactly_once(seed: int, cells: int):
    """A jittered grid over the picture and beyond, its diagonals either way: no gap, nothing twice."""
    rng, size = np.random.default_rng(seed), 48
    step = (size + 8) / cells
    x, y = np.meshgrid(np.arange(cells + 1) * step - 4, np.arange(cells + 1) * step - 4)
    x, y = (axis + rng.uniform(-0.2, 0.2, axis.shape) * step for axis in (x, y))
    number = np.arange((cells + 1) ** 2).reshape(cells + 1, cells + 1)
    a, b, c, d = (corner.ravel() for corner in (number[:-1, :-1], number[:-1, 1:], number[1:, 1:], number[1:, :-1]))
    turned = rng.random(len(a)) < 0.5
    a, b, c, d = (np.where(turned, after, own) for own, after in ((a, b), (b, c), (c, d), (d, a)))
    triangles = np.concatenate([np.stack([a, b, c]), np.stack([a, c, d])], 1)
    screen = np.stack([x.ravel(), y.ravel(), np.full(x.size, 5)]).astype(np.float32)
    if seed == 2:
        screen[:2] = np.round(screen[:2] * 2) / 2  # corners and edges on sample centres
    fragments = rasterise(screen, triangles, size, cull=False)
    np.testing.assert_array_equal(np.bincount(fragments.sample, minlength=size * size), 1)


@pytest.mark.parametrize("degrees", [-90, -60, 0, 35, 90])
def test_skin_has_no_holes_from_any_side(degrees: int):
    size = 160
    camera = Camera(
        rotation=head_rotation(math.radians(degrees), 0.0, 0.0),
        pivot=np.array([0, 7.2, 0.5], np.float32),
        magnification=1.0,
        distance=9.0,
        focal_length=size / 2 / 0.15,
        centre=(size / 2, size / 2),
    )
    fragments = rasterise(camera.project(average_head()), shown_skin().triangles, size, cull=True)
    covered = np.zeros(size * size, bool)
    covered[fragments.sample] = True
    covered = covered.reshape(size, size)
    around = covered[:-2, 1:-1] & covered[2:, 1:-1] & covered[1:-1, :-2] & covered[1:-1, 2:]
    assert covered.mean() > 0.3
    assert not (around & ~covered[1:-1, 1:-1]).any()


def test_depth_buffer_keeps_the_nearest():
    rng, size = np.random.default_rng(4), 16
    screen = np.stack([*rng.uniform(-8, 24, (2, 60)), rng.uniform(5, 9, 60)]).astype(np.float32)
    fragments = rasterise(screen, rng.integers(0, 60, (3, 40)), size, cull=False)
    buffer = DepthBuffer(size, len(fragments))
    half = len(fragments) // 2
    for part in (slice(half, None), slice(half)):
        buffer.offer(fragments.select(part), np.arange(len(fragments))[part])
    kept = fragments.select(buffer.kept())
    nearest = np.full(size * size, np.inf)
    np.minimum.at(nearest, fragments.sample, fragments.depth)
    assert len(np.unique(kept.sample)) == len(kept) == np.isfinite(nearest).sum()
    np.testing.assert_array_equal(kept.depth, nearest[kept.sample])
    np.testing.assert_array_equal(buffer.depths(kept.sample), kept.depth)
    assert not len(buffer.passes(fragments.select(fragments.depth > nearest[fragments.sample])))


def _square(share: float, opacity: np.ndarray | None, decal: bool = False) -> tuple[Surface, Camera, int]:
    """A white square that fills `share` of a picture's side, its camera, and the picture's samples along a side."""
    corners = np.array([[-1, 1, 1, -1], [-1, -1, 1, 1], [0, 0, 0, 0]], np.float32) * np.float32(share)
    triangles = np.array([[0, 0], [1, 2], [2, 3]], np.int32)
    mesh = Mesh(triangles, triangles, np.array([[0, 1, 1, 0], [0, 0, 1, 1]], np.float32))
    lighting = np.concatenate([np.ones((3, 4)), np.zeros((1, 4))]).astype(np.float32)
    surface = Surface(corners, mesh, lighting, np.ones((3, 1), np.float32), opacity=opacity, decal=decal)
    size = 32
    camera = Camera(np.eye(3, dtype=np.float32), np.zeros(3, np.float32), 1.0, 10.0, 5.0 * size, (size / 2, size / 2))
    return surface, camera, size


@pytest.mark.parametrize(("opacity", "shares"), [(0.1, 0), (0.25, 1), (0.5, 2), (0.7, 3), (0.95, 4)])
def test_opacity_is_the_share_of_a_pixels_samples(opacity: float, shares: int):
    surface, camera, size = _square(1.0, np.full((8, 8), opacity, np.float32))
    light = np.zeros((3, size * size), np.float32)
    paint(light, [surface], camera, size)
    pixels = light[0].reshape(size // 2, 2, size // 2, 2).sum((1, 3))
    np.testing.assert_array_equal(pixels, shares)


def test_decal_is_blended_by_its_opacity():
    surface, camera, size = _square(1.0, None)
    decal, _, _ = _square(0.5, np.full((8, 8), 0.25, np.float32), decal=True)
    light = np.zeros((3, size * size), np.float32)
    dark = replace(decal, tint=np.zeros((3, 1), np.float32))
    paint(light, [dark, surface], camera, size)
    middle = light.reshape(3, size, size)[:, 10:22, 10:22]
    np.testing.assert_allclose(middle, 0.75, atol=1e-5)
    np.testing.assert_allclose(light.reshape(3, size, size)[:, :6], 1, atol=1e-6)


def test_texture_levels_are_means():
    planes = np.random.default_rng(5).random((3, 64, 32)).astype(np.float32)
    assert level(planes, 0.2) is planes
    assert level(planes, 1.0) is planes
    for halvings in (1, 2, 3):
        smaller = level(planes, float(2**halvings))
        side = 2**halvings
        expected = planes.reshape(3, 64 // side, side, 32 // side, side).mean((2, 4))
        np.testing.assert_allclose(smaller, expected, atol=1e-6)
    assert level(planes, 1e6).shape[-1] >= 4
    shares = np.array([[0.2], [0.5], [1.0]], np.float32)
    uv = np.random.default_rng(8).random((2, 3000)).astype(np.float32)
    textures = ((shares, planes), (np.full((3, 1), 0.3, np.float32), planes[:, ::-1].copy()))
    for texels_per_sample in (0.4, 2.0):  # mixed before it is read, and after
        seen = [look_up(plane, uv, texels_per_sample) for _, plane in textures]
        expected = shares * seen[0] + np.float32(0.3) * seen[1]
        np.testing.assert_allclose(look_up_sum(textures, uv, texels_per_sample), expected, atol=1e-5)


def test_smaller_levels_go_with_their_texture():
    planes = np.random.default_rng(6).random((1, 32, 32)).astype(np.float32)
    smaller = weakref.ref(level(planes, 2.0))
    assert level(planes, 2.0) is smaller()
    del planes
    gc.collect()
    assert smaller() is None


def test_texels_are_read_at_their_centres():
    planes = np.arange(12, dtype=np.float32).reshape(1, 3, 4)
    uv = np.array([[0.125, 0.375, 0.25, 0.0, 0.999], [5 / 6, 0.5, 5 / 6, 1.0, 0.001]], np.float32)
    np.testing.assert_allclose(look_up(planes, uv, 0.5), [[0, 5, 0.5, 0, 11]], atol=0.02)
    np.testing.assert_allclose(look_up(planes[0], uv, 0.5), look_up(planes, uv, 0.5))
    uv[0, 2] = 0.26
    np.testing.assert_array_equal(look_up(planes, uv, 1.0), [[0, 5, 1, 0, 11]])


def test_a_ramp_is_read_as_a_ramp_at_every_level():
    ramp = np.tile((np.arange(64, dtype=np.float32) + 0.5) / 64, (64, 1))
    uv = np.stack([np.linspace(0.1, 0.9, 50), np.full(50, 0.3)]).astype(np.float32)
    for texels_per_sample in (0.3, 1.5, 3.0, 7.0):
        step = max(texels_per_sample, 1) / 64
        np.testing.assert_allclose(look_up(ramp, uv, texels_per_sample)[0], uv[0], atol=step / 2 + 1e-5)


def test_sparse_targets_add_up_to_the_dense_sum():
    pack = load_pack()
    weights = np.random.default_rng(7).normal(0, 0.3, len(pack.targets)).astype(np.float32)
    weights[::3] = 0
    expected = pack.vertices + np.einsum("t,tcn->cn", weights.astype(float), pack.targets)
    np.testing.assert_allclose(pack.morph(weights), expected, atol=2e-5)


def test_normals_from_rings_are_nearly_the_exact_ones():
    pack, triangles = load_pack(), shown_skin().triangles
    rings, shown = Rings.of(average_head(), triangles), np.unique(triangles)
    for index in range(3):
        head = pack.morph(sample_person(pack, 0, index, 0, 0.5).weights)
        exact, quick = (normals[:, shown] for normals in (vertex_normals(head, triangles), rings.normals(head)))
        cosine = (exact * quick).sum(0)
        np.testing.assert_allclose(np.square(quick).sum(0), 1, atol=1e-4)
        assert np.quantile(cosine, [0.5, 0.1]) == pytest.approx([1, 1], abs=0.02)
        assert (cosine < 0.7).mean() < 0.005


def test_vertex_normals_of_a_corner():
    corner = np.array([[0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], np.float32)
    triangles = np.array([[0, 0, 0], [2, 3, 1], [1, 2, 3]])
    normals = vertex_normals(corner, triangles)
    np.testing.assert_allclose(normals[:, 0], -np.ones(3) / math.sqrt(3), atol=1e-6)
    np.testing.assert_allclose(normals[:, 1], np.array([0, -1, -1]) / math.sqrt(2), atol=1e-6)


def test_wider_frame_shows_the_same_head_in_its_middle():
    person = sample_person(load_pack(), 0, 3, 0, 0.6)
    narrow, wide = draw(person, 32), draw(person, 64, frame=2.0)
    middle = wide.image[16:48, 16:48].astype(int)
    difference = np.abs(middle - narrow.image).max(2)
    face = slice(8, 24)
    assert (difference[face, face] <= 2).mean() > 0.9
    points = load_pack().morph(person.weights)[:, ::500]
    np.testing.assert_allclose(wide.locate(points) * 2 - 0.5, narrow.locate(points), atol=1e-5)


def test_camera_frames_the_eyes_wherever_the_frame_ends():
    shot = replace(sample_person(load_pack(), 0, 0, 0, 0.0).shot, yaw=0.0, pitch=0.0, roll=0.0, shift=(0.0, 0.0))
    eyes = np.array([[0.0], [7.3], [1.2]], np.float32)
    for frame in (1.0, 1.5):
        camera = aim_camera(shot, eyes[:, 0], 2.3542, 100, frame)
        column, row, _ = camera.project(eyes)[:, 0]
        assert column == pytest.approx(50, abs=1e-3)
        assert (50 - row) * frame == pytest.approx(50 - aim_camera(shot, eyes[:, 0], 2.3542, 100).project(eyes)[1, 0])


_HASH = """
import hashlib
from limner.heads import render_head
print(hashlib.sha256(render_head(0, 0, 128, 90.0).image.tobytes()).hexdigest())
"""


def test_pictures_do_not_depend_on_the_number_of_threads():
    digests = []  # of 128², where arrays are long enough to be shared out
    for threads in ("1", "2"):
        environment = os.environ | {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
        done = subprocess.run(
            [sys.executable, "-c", _HASH], env=environment, capture_output=True, text=True, check=True
        )
        digests.append(done.stdout.strip())
    assert len(digests[0]) == 2 * hashlib.sha256().digest_size
    assert digests[0] == digests[1]
