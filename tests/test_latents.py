"""Latent spaces: priors, parts, and walks along geodesics."""

import numpy as np
import pytest
import torch

from limner.errors import LimnerError
from limner.latents import AttributeRows, Gaussian, Labels, LatentSpace, Sphere, Uniform, lerp, slerp


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def column(t: float, n: int) -> torch.Tensor:
    return torch.full((n, 1), t, dtype=torch.float64)


def test_slerp_of_perpendicular_unit_vectors_is_the_circle():
    a, b = torch.tensor([[1.0, 0.0]]).double(), torch.tensor([[0.0, 1.0]]).double()
    for t in (0.0, 0.25, 0.5, 0.9, 1.0):
        expected = torch.tensor([[np.cos(t * np.pi / 2), np.sin(t * np.pi / 2)]])
        torch.testing.assert_close(slerp(a, b, column(t, 1)), expected, rtol=0, atol=1e-15)


def test_slerp_keeps_the_norm_and_makes_equal_steps():
    a, b = (torch.randn(5, 16, generator=generator(s), dtype=torch.float64) for s in (1, 2))
    a, b = a / a.norm(dim=1, keepdim=True) * 4, b / b.norm(dim=1, keepdim=True) * 4
    walk = torch.stack([slerp(a, b, column(t, 5)) for t in np.linspace(0, 1, 9)])
    torch.testing.assert_close(walk.norm(dim=2), torch.full((9, 5), 4.0, dtype=torch.float64))
    steps = (walk[1:] - walk[:-1]).norm(dim=2)
    torch.testing.assert_close(steps, steps[:1].expand_as(steps))


def test_slerp_of_nearly_parallel_rows_is_the_line_between_them():
    a = torch.randn(3, 8, generator=generator(), dtype=torch.float64)
    torch.testing.assert_close(slerp(a, a, column(0.3, 3)), a)
    near = a + 1e-9 * torch.randn(3, 8, generator=generator(1), dtype=torch.float64)
    torch.testing.assert_close(slerp(a, near, column(0.5, 3)), (a + near) / 2, rtol=0, atol=1e-15)


def test_slerp_of_a_zero_row_is_finite():
    a, b = torch.zeros(1, 4), torch.ones(1, 4)
    assert bool(slerp(a, b, column(0.5, 1)).isfinite().all())


def test_slerp_refuses_opposite_directions():
    with pytest.raises(LimnerError, match="opposite"):
        slerp(torch.tensor([[1.0, 0.0]]), torch.tensor([[-2.0, 0.0]]), column(0.5, 1))


def test_lerp_is_the_straight_line():
    a, b = torch.tensor([[0.0, 2.0]]), torch.tensor([[4.0, 4.0]])
    torch.testing.assert_close(lerp(a, b, column(0.25, 1)), torch.tensor([[1.0, 2.5]]))


def test_priors_have_their_moments():
    n = 20000
    gaussian = Gaussian("z", 3).sample(n, generator())
    assert gaussian.mean().abs() < 0.02
    assert (gaussian.var() - 1).abs() < 0.02
    sphere = Sphere("z", 5).sample(n, generator())
    torch.testing.assert_close(sphere.norm(dim=1), torch.full((n,), 5**0.5))
    assert sphere.mean(dim=0).abs().max() < 0.03
    uniform = Uniform("z", 2, -2.0, 1.0).sample(n, generator())
    assert -2 <= uniform.min() < -1.99
    assert 0.99 < uniform.max() <= 1
    assert (uniform.mean() + 0.5).abs() < 0.02


def space() -> LatentSpace:
    rows = np.array([[1, 0, 1], [0, 0, 1]], dtype=bool)
    labels = Labels(("Male", "Bald", "Young"), rows)
    return LatentSpace(Gaussian("z", 4), Uniform("pose", 2), AttributeRows("attributes", 3, labels=labels))


def test_a_seed_names_a_face_whatever_else_is_drawn():
    latents = space()
    together = latents.sample_seeds([5, 6, 7])
    torch.testing.assert_close(latents.sample_seeds([6]), together[1:2], rtol=0, atol=0)
    assert not torch.equal(together[0], together[1])


def test_split_join_and_replace_are_inverse():
    latents = space()
    drawn = latents.sample(6, generator())
    parts = latents.split(drawn)
    assert {name: tuple(part.shape) for name, part in parts.items()} == {
        "z": (6, 4),
        "pose": (6, 2),
        "attributes": (6, 3),
    }
    assert torch.equal(latents.join(parts), drawn)
    changed = latents.replace(drawn, pose=torch.zeros(6, 2))
    assert torch.equal(latents.split(changed)["pose"], torch.zeros(6, 2))
    assert torch.equal(latents.split(changed)["z"], parts["z"])
    assert torch.equal(latents.split(drawn)["pose"], parts["pose"])


def test_attributes_are_rows_of_the_data():
    drawn = space().split(space().sample(200, generator()))["attributes"]
    assert {tuple(row) for row in drawn.tolist()} == {(1.0, 0.0, 1.0), (0.0, 0.0, 1.0)}


def test_interpolation_walks_each_part_its_own_way():
    latents = space()
    a, b = latents.sample(3, generator(1)), latents.sample(3, generator(2))
    assert torch.equal(latents.interpolate(a, b, 0.0), a)
    torch.testing.assert_close(latents.interpolate(a, b, 1.0), b)
    middle = latents.split(latents.interpolate(a, b, 0.5))
    torch.testing.assert_close(middle["pose"], (a[:, 4:6] + b[:, 4:6]) / 2)
    torch.testing.assert_close(middle["z"], slerp(a[:, :4], b[:, :4], column(0.5, 3)))
    assert (middle["z"] - (a[:, :4] + b[:, :4]) / 2).abs().max() > 1e-3
    per_row = latents.interpolate(a, b, torch.tensor([0.0, 0.5, 1.0]))
    assert torch.equal(per_row[0], a[0])
    torch.testing.assert_close(per_row[2], b[2])


def test_labels_survive_json():
    rng = np.random.default_rng(0)
    labels = Labels(tuple(f"a{i}" for i in range(11)), rng.random((37, 11)) < 0.3)
    back = Labels.from_json(labels.to_json())
    assert back.names == labels.names
    np.testing.assert_array_equal(back.rows, labels.rows)
    assert Labels.from_json(Labels().to_json()) == Labels()


@pytest.mark.parametrize(
    "mistake",
    [
        lambda: space().split(torch.zeros(2, 5)),
        lambda: space().part("age"),
        lambda: space().replace(torch.zeros(2, 9), age=torch.zeros(2, 1)),
        lambda: LatentSpace(Gaussian("z", 2), Uniform("z", 3)),
        lambda: Labels(("Male",), np.zeros((4, 2), dtype=bool)),
    ],
)
def test_mistakes_are_one_line(mistake):
    with pytest.raises(LimnerError) as caught:
        mistake()
    assert "\n" not in str(caught.value)
