"""Volumes turned, scaled and moved: signs, places, derivatives."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from limner.heads.geometry import head_rotation
from limner.layers import weighted_rows
from limner.layers.rigid import placed, rotation
from limner.layers.weighted_rows import Rows, gathered

HEAD_AXES = np.diag([-1.0, 1.0, -1.0])
"""the built-in heads' frame has x to the picture's right and z towards the viewer"""
QUARTER = math.pi / 2
AROUND = torch.tensor([[0.4, -0.3, 0.2], [-1.1, 0.25, -0.6]], dtype=torch.float64)


def angles(yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0) -> Tensor:
    return torch.tensor([[yaw, pitch, roll]], dtype=torch.float64)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def mark(side: int, d: int, h: int, w: int) -> Tensor:
    """Nothing but a 1 at one voxel."""
    volume = torch.zeros(1, 1, side, side, side, dtype=torch.float64)
    volume[0, 0, d, h, w] = 1
    return volume


def where(volume: Tensor) -> list[float]:
    """Centre of mass along d, h and w, voxels."""
    found = volume[0, 0] / volume.sum()
    steps = torch.arange(volume.shape[-1], dtype=volume.dtype)
    return [float((found.sum(dim=others) * steps).sum()) for others in ((1, 2), (0, 2), (0, 1))]


def blob(side: int, width: float = 0.35, centre: tuple[float, float, float] = (0.2, -0.1, 0.15)) -> Tensor:
    """A smooth lopsided hump that ends well before the faces."""
    along = (2 * torch.arange(side, dtype=torch.float64) + 1) / side - 1
    d, h, w = (torch.exp(-(((along - at) / width) ** 2)) for at in centre)
    return (d[:, None, None] * (1 + 0.5 * along[:, None, None]) * h[:, None] * w)[None, None]


# --- rotations ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("angle", [-1.0, 0.3, QUARTER])
def test_signs_of_yaw_pitch_and_roll_are_those_of_the_poses_of_the_datasets(axis: int, angle: float) -> None:
    pose = [angle if place == axis else 0.0 for place in range(3)]
    theirs = HEAD_AXES @ head_rotation(*pose) @ HEAD_AXES
    np.testing.assert_allclose(rotation(angles(*pose))[0].numpy(), theirs, atol=1e-7)


def test_a_rotation_is_one_about_x_then_y_then_z() -> None:
    yaw, pitch, roll = AROUND.unbind(1)
    nothing = torch.zeros_like(yaw)
    about_z = rotation(torch.stack([nothing, nothing, roll], 1))
    about_y = rotation(torch.stack([yaw, nothing, nothing], 1))
    about_x = rotation(torch.stack([nothing, pitch, nothing], 1))
    turn = rotation(AROUND)
    torch.testing.assert_close(turn, about_z @ about_y @ about_x)
    torch.testing.assert_close(turn @ turn.transpose(1, 2), torch.eye(3, dtype=turn.dtype).expand(2, 3, 3))
    x, y, z = turn.unbind(2)
    torch.testing.assert_close(torch.linalg.cross(x, y), z)  # and no mirror
    c, s = pitch[0].cos(), pitch[0].sin()
    torch.testing.assert_close(about_x[0, 1:, 1:], torch.stack([c, -s, s, c]).view(2, 2))  # right-handed


# --- where things go ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2, 3, 4, 4, 4), (2, 5, 16, 16, 16), (1, 2, 3, 5, 7), (1, 1, 6, 6, 6)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_not_turned_it_is_the_same_bit_for_bit(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    volume = draw(*shape).to(dtype)
    still = rotation(torch.zeros(shape[0], 3, dtype=dtype))
    assert torch.equal(placed(volume, still), volume)
    unmoved = placed(volume, still, torch.ones(shape[0], dtype=dtype), torch.zeros(shape[0], 3, dtype=dtype))
    assert torch.equal(unmoved, volume)
    assert torch.equal(placed(volume, still, doubled=True), F.interpolate(volume, scale_factor=2.0))


@pytest.mark.parametrize(
    ("pose", "start", "end"),
    [
        # [d, h, w]: d away from the viewer, h downwards, w to the picture's right.
        (angles(yaw=QUARTER), (0, 2, 2), (2, 2, 4)),  # the face comes to look to the picture's right
        (angles(yaw=QUARTER), (2, 2, 0), (0, 2, 2)),  # and the ear that was on the left comes to the front
        (angles(yaw=QUARTER), (1, 3, 4), (4, 3, 3)),
        (angles(pitch=QUARTER), (0, 2, 2), (2, 0, 2)),  # the face looks up
        (angles(pitch=QUARTER), (2, 0, 2), (4, 2, 2)),  # and the crown goes back
        (angles(roll=QUARTER), (2, 0, 2), (2, 2, 4)),  # the crown tips to the picture's right: clockwise
        (angles(roll=QUARTER), (2, 2, 4), (2, 4, 2)),
    ],
)
def test_a_quarter_turn_moves_one_axis_onto_another(
    pose: Tensor, start: tuple[int, int, int], end: tuple[int, int, int]
) -> None:
    torch.testing.assert_close(placed(mark(5, *start), rotation(pose)), mark(5, *end))


def test_a_quarter_turn_of_even_sides_is_a_permutation_of_voxels() -> None:
    volume = draw(1, 3, 4, 4, 4)
    turned = placed(volume, rotation(angles(yaw=QUARTER)))
    torch.testing.assert_close(turned, volume.transpose(2, 4).flip(4))  # the first in depth is the last in width


def test_a_small_yaw_turns_the_face_to_the_right_of_the_picture() -> None:
    face = placed(mark(17, 2, 8, 8), rotation(angles(yaw=0.3)))
    d, h, w = where(face)
    assert w == pytest.approx(8 + 6 * math.sin(0.3), abs=0.1)
    assert d == pytest.approx(8 - 6 * math.cos(0.3), abs=0.1)
    assert h == pytest.approx(8)


def test_to_turn_twice_is_to_turn_once_by_the_product() -> None:
    first, second = rotation(AROUND)
    volume = blob(32)
    twice = placed(placed(volume, first[None]), second[None])
    once = placed(volume, (second @ first)[None])
    other_order = placed(volume, (first @ second)[None])
    assert (twice - once).abs().max() < 0.04 < 0.2 < (twice - other_order).abs().max()


def test_scale_and_shift_act_after_the_turn_in_the_sitter_s_axes() -> None:
    still, turned = rotation(angles()), rotation(angles(yaw=QUARTER))
    volume = mark(9, 4, 4, 5)  # one to the picture's right: at x = -1
    assert where(placed(volume, still, torch.tensor([2.0]))) == pytest.approx([4, 4, 6])
    two = torch.tensor(2 * 2 / 9, dtype=torch.float64)  # two voxels, in halves of the side
    for axis, (d, h, w) in enumerate([(4, 4, 3), (4, 2, 5), (6, 4, 5)]):  # x: left, y: up, z: away
        shift = torch.zeros(1, 3, dtype=torch.float64)
        shift[0, axis] = two
        torch.testing.assert_close(placed(volume, still, shift=shift), mark(9, d, h, w))
    # Turned, what was on the right is behind; scaled, twice as far; then moved.
    found = placed(volume, turned, torch.tensor([2.0]), torch.stack([two, two * 0, two * 0])[None])
    assert where(found) == pytest.approx([6, 4, 2])


def test_there_is_nothing_outside() -> None:
    full = torch.ones(1, 2, 8, 8, 8)
    away = placed(full, rotation(angles().float()), shift=torch.tensor([[2.5, 0.0, 0.0]]))
    assert away.count_nonzero() == 0
    tipped = placed(full, rotation(angles(roll=QUARTER / 2).float()))
    assert tipped[..., 0, 0].count_nonzero() == 0  # the corners of the picture
    assert (tipped[:, :, :, 2:6, 2:6] > 0.999).all()
    half_out = placed(full, rotation(angles().float()), shift=torch.tensor([[-1 / 8, 0.0, 0.0]]))  # half a voxel
    torch.testing.assert_close(half_out[..., 0], torch.full((1, 2, 8, 8), 0.5))
    torch.testing.assert_close(half_out[..., 1:], torch.ones(1, 2, 8, 8, 7))


def by_hand(volume: Tensor, turn: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Voxel by voxel, from the definition, in plain Python."""
    result = torch.zeros_like(volume)
    (n, _, *sides), signs = volume.shape, (-1, -1, 1)
    for image, d, h, w in np.ndindex(n, *sides):
        centre = [(2 * at + 1) / side - 1 for at, side in zip((w, h, d), sides[::-1], strict=True)]
        here = torch.tensor([sign * at for sign, at in zip(signs, centre, strict=True)], dtype=volume.dtype)
        there = torch.linalg.inv(turn[image]) @ ((here - shift[image]) / scale[image])
        at = [(sign * float(x) + 1) * side / 2 - 0.5 for sign, x, side in zip(signs, there, sides[::-1], strict=True)]
        low = [math.floor(x) for x in at]
        for corner in np.ndindex(2, 2, 2):
            x, y, z = (int(a + b) for a, b in zip(low, corner, strict=True))
            if 0 <= z < sides[0] and 0 <= y < sides[1] and 0 <= x < sides[2]:
                weight = math.prod(1 - abs(a - b) for a, b in zip(at, (x, y, z), strict=True))
                result[image, :, d, h, w] += weight * volume[image, :, z, y, x]
    return result


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last_3d])
def test_it_is_a_trilinear_interpolation_of_cells(memory: torch.memory_format) -> None:
    volume = draw(2, 3, 4, 4, 4).contiguous(memory_format=memory)
    scale, shift = torch.tensor([0.8, 1.3], dtype=torch.float64), 0.2 * draw(2, 3)
    wanted = by_hand(volume, rotation(AROUND), scale, shift)
    torch.testing.assert_close(placed(volume, rotation(AROUND), scale, shift), wanted)
    large = F.interpolate(volume, scale_factor=2.0)
    torch.testing.assert_close(
        placed(volume, rotation(AROUND), scale, shift, doubled=True), placed(large, rotation(AROUND), scale, shift)
    )


def test_it_is_torch_s_where_that_is_right() -> None:
    volume, turn = draw(2, 3, 8, 8, 8), rotation(AROUND)
    signs = torch.tensor([-1.0, -1.0, 1.0], dtype=torch.float64)
    back = torch.cat([signs[:, None] * turn.transpose(1, 2) * signs, torch.zeros(2, 3, 1)], dim=2)
    grid = F.affine_grid(back, list(volume.shape), align_corners=False)
    torch.testing.assert_close(placed(volume, turn), F.grid_sample(volume, grid, align_corners=False))


# --- derivatives --------------------------------------------------------------------------------------------------


def turned_by_angles(volume: Tensor, pose: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return placed(volume, rotation(pose), scale, shift)


@pytest.mark.parametrize("check", [gradcheck, gradgradcheck])
@pytest.mark.parametrize("learned", [(True, False), (False, True), (True, True)])
def test_derivatives_in_volume_and_placement(check: object, learned: tuple[bool, bool]) -> None:
    volume = draw(2, 1, 2, 2, 2).requires_grad_(learned[0])
    placement = [AROUND, torch.tensor([0.9, 1.2]).double(), 0.1 * draw(2, 3, seed=1)]
    inputs = (volume, *(value.clone().requires_grad_(learned[1]) for value in placement))
    assert check(turned_by_angles, inputs, fast_mode=True)  # type: ignore[operator]
    assert gradcheck(lambda v: placed(v, rotation(AROUND), doubled=True), (draw(2, 1, 1, 2, 1).requires_grad_(),))


def test_rows_that_are_asked_for_often_or_never_have_their_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    index = torch.tensor([[[0, 0, 2], [2, 0, 2]], [[3, 1, 1], [1, 1, 1]]])
    x, weights = draw(8, 5).requires_grad_(), draw(4, 3, seed=1).requires_grad_()
    flat = torch.tensor([[0, 0, 2], [2, 0, 2], [7, 5, 5], [5, 5, 5]])
    found = []
    for radix_rows in (weighted_rows.RADIX_ROWS, 0):
        monkeypatch.setattr(weighted_rows, "RADIX_ROWS", radix_rows)
        y = gathered(x, weights, Rows(index, 4))
        torch.testing.assert_close(y, (weights[..., None] * x[flat]).sum(dim=1))
        found.append(torch.autograd.grad(y.square().sum(), (x, weights)))
    wanted = torch.autograd.grad((weights[..., None] * x[flat]).sum(dim=1).square().sum(), (x, weights))
    for gradients in found:
        torch.testing.assert_close(gradients, wanted)
    assert found[0][0][[1, 3, 4, 6]].count_nonzero() == 0


def test_it_repeats_exactly_and_needs_no_gradient_of_the_turn() -> None:
    volume, turn = draw(2, 8, 8, 8, 8).float().requires_grad_(), rotation(AROUND).float()
    gradients = []
    for _ in range(2):
        y = placed(volume, turn)
        gradients.append(torch.autograd.grad(y.square().sum(), volume)[0])
    assert torch.equal(*gradients)
    assert y.is_contiguous(memory_format=torch.channels_last_3d)


def test_in_bfloat16_places_are_not_rounded() -> None:
    volume = blob(16).expand(2, 4, -1, -1, -1)
    with torch.autocast("cpu", torch.bfloat16):
        coarse = placed(volume.bfloat16(), rotation(AROUND.float()))
    assert coarse.dtype == torch.bfloat16
    assert (coarse.double() - placed(volume, rotation(AROUND))).abs().max() < 0.01
