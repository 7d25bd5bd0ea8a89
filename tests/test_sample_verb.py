"""`limner sample`: one seed is one face, whatever the others."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import limner
from limner.cli import main
from limner.errors import LimnerError
from limner.explore.pictures import read_provenance
from limner.explore.sample import asked_attributes, chosen_seeds, generate_faces, parse_seeds, sample, spell_seeds
from limner.latents import AttributeRows, Gaussian, Labels, LatentSpace


class FakeLatents:
    def sample(self, n: int, generator: torch.Generator) -> torch.Tensor:
        return torch.randn(n, 5, generator=generator)


class FakeModel(torch.nn.Module):
    """A face is its latents, spread over the pixels, and depends on nothing else."""

    def __init__(self, resolution: int = 8) -> None:
        super().__init__()
        self.name = "fake"
        self.resolution = resolution
        self.latents = FakeLatents()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.checkpoint = SimpleNamespace(sha256="cd" * 32, images_seen=12_345, path=Path("x"))

    def generate(self, latents: torch.Tensor) -> torch.Tensor:
        values = torch.tanh(latents[:, :3] * self.weight)
        return values[:, :, None, None].expand(-1, -1, self.resolution, self.resolution)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run; `.asked` on limner.load says how it was loaded."""
    folder = tmp_path / "run"
    folder.mkdir()

    def load(run: Path, weights: str = "ema", device: str = "cpu", model: object = None) -> FakeModel:
        load.asked = (run, weights, device)  # type: ignore[attr-defined]
        return FakeModel()

    monkeypatch.setattr(limner, "load", load, raising=False)
    return folder


def test_by_default_a_sheet_of_64_faces_in_the_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sample(run)
    path = run / "samples" / "seeds-0-63.png"
    with Image.open(path) as picture:
        assert picture.size == (8 * (96 + 2) + 2, 8 * (96 + 2) + 2)
    assert capsys.readouterr().out == f"64 faces: {path}\n"
    record = read_provenance(path)
    assert record is not None
    assert {name: record[name] for name in ("model", "weights", "checkpoint_sha256", "images_seen", "seeds")} == {
        "model": "fake",
        "weights": "ema",
        "checkpoint_sha256": "cd" * 32,
        "images_seen": 12_345,
        "seeds": "0-63",
    }
    assert limner.load.asked == (run, "ema", "auto")  # type: ignore[attr-defined]


def test_a_folder_gets_one_file_a_face_at_its_own_size(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "faces"
    sample(run, seeds="3,10-11", out=out, weights="raw", device="cpu")
    assert sorted(file.name for file in out.iterdir()) == ["seed0003.png", "seed0010.png", "seed0011.png"]
    with Image.open(out / "seed0010.png") as picture:
        assert picture.size == (8, 8)
    record = read_provenance(out / "seed0010.png")
    assert record is not None
    assert (record["seeds"], record["weights"]) == ("10", "raw")
    assert limner.load.asked == (run, "raw", "cpu")  # type: ignore[attr-defined]


def test_a_folder_whose_name_has_a_dot_is_a_folder(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "faces.v2"
    out.mkdir()
    sample(run, seeds="1", out=out)
    assert [file.name for file in out.iterdir()] == ["seed0001.png"]


def test_a_seed_is_the_same_face_alone_and_among_others() -> None:
    model = FakeModel()
    together = list(generate_faces(model, [5, 6, 7]))
    alone = list(generate_faces(model, [7]))
    assert (together[2] == alone[0]).all()
    assert not (together[0] == together[1]).all()
    expected = torch.tanh(torch.randn(1, 5, generator=torch.Generator().manual_seed(7))[0, :3])
    assert (alone[0][0, 0] == ((expected + 1) * 127.5).round().numpy()).all()
    assert alone[0].dtype == np.uint8
    assert alone[0].shape == (8, 8, 3)


def test_columns_shape_the_sheet(run: Path, tmp_path: Path) -> None:
    sample(run, seeds="0-5", out=tmp_path / "row.png", columns=6)
    with Image.open(tmp_path / "row.png") as picture:
        assert picture.size == (6 * 98 + 2, 98 + 2)


def test_a_checkpoint_file_puts_its_sheet_beside_it(run: Path) -> None:
    file = run / "images-000000000010.safetensors"
    file.touch()
    sample(file, seeds="1,2,9")
    assert (run / "samples" / "seeds-1-2,9.png").exists()


def test_a_long_list_of_seeds_still_makes_a_file_name(run: Path) -> None:
    sample(run, seeds=",".join(str(2 * n) for n in range(100)))
    (path,) = (run / "samples").iterdir()
    assert len(path.name) < 100
    assert path.name.endswith(",and-more.png")


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("0-3", [0, 1, 2, 3]), ("1,5,9-12", [1, 5, 9, 10, 11, 12]), (" 7 , 2 - 3", [7, 2, 3]), ("4,4,3-5", [4, 3, 5])],
)
def test_seeds_are_read(text: str, seeds: list[int]) -> None:
    assert parse_seeds(text) == seeds


@given(st.lists(st.integers(0, 50), unique=True, min_size=1))
def test_spelled_seeds_read_back(seeds: list[int]) -> None:
    assert parse_seeds(spell_seeds(seeds)) == seeds


@pytest.mark.parametrize("text", ["", "a", "1,", "-3", "1-2-3", "1.5", "0x3", "1;2", "½", "٣", "9" * 30])
def test_bad_seeds_name_the_text_and_the_form(text: str) -> None:
    with pytest.raises(LimnerError) as caught:
        parse_seeds(text)
    message = str(caught.value)
    assert repr(text) in message
    assert "write 0-63 or 1,5,9-12" in message
    assert caught.value.exit_code == 2


def test_impossible_ranges_are_refused_before_they_are_made() -> None:
    with pytest.raises(LimnerError, match="'9-5' runs backwards"):
        parse_seeds("1,9-5")
    with pytest.raises(LimnerError, match="more than 100000 seeds"):
        parse_seeds("0-999999999999")
    with pytest.raises(LimnerError, match="above 2"):
        parse_seeds(str(2**63))
    assert parse_seeds(str(2**63 - 1)) == [2**63 - 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"out": Path("faces.bmp")}, r"use \.png, \.webp or \.jpg"),
        ({"columns": 0}, "--columns 0"),
        ({"seeds": "x"}, "'x' is not a seed"),
    ],
)
def test_usage_errors_come_before_the_model_is_loaded(
    run: Path, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, object], message: str
) -> None:
    monkeypatch.setattr(limner, "load", None, raising=False)
    with pytest.raises(LimnerError, match=message):
        sample(run, **arguments)  # type: ignore[arg-type]


def test_a_missing_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(LimnerError, match="nowhere: no such run"):
        sample(tmp_path / "nowhere")


# --- attributes asked for -----------------------------------------------------------------------------------------


class Conditional(FakeModel):
    """A face's red is whether it is Male, its green Smiling, its blue the first number of z."""

    def __init__(self) -> None:
        super().__init__()
        self.labels = Labels(("Male", "Smiling"), np.array([[1, 0], [0, 1]], dtype=bool))
        parts = Gaussian("z", 3), AttributeRows("attributes", 2, labels=self.labels)
        self.latents = LatentSpace(*parts)  # type: ignore[assignment]

    def generate(self, latents: torch.Tensor) -> torch.Tensor:
        colours = torch.cat([latents[:, 3:] * 2 - 1, torch.tanh(latents[:, :1] * self.weight)], dim=1)
        return colours[:, :, None, None].expand(-1, -1, 8, 8)


def test_every_face_has_the_attributes_asked_for_and_stays_the_seeds_own_otherwise() -> None:
    model = Conditional()
    free = list(generate_faces(model, range(20)))
    asked = list(generate_faces(model, range(20), asked_attributes(model, "Male", "")))
    assert {int(face[0, 0, 0]) for face in free} == {0, 255}
    assert {int(face[0, 0, 0]) for face in asked} == {255}
    assert [face[0, 0, 1:].tolist() for face in asked] == [face[0, 0, 1:].tolist() for face in free]
    neither = list(generate_faces(model, range(5), asked_attributes(model, "", "Male, Smiling")))
    assert {tuple(face[0, 0, :2]) for face in neither} == {(0, 0)}


@pytest.mark.parametrize(
    ("wanted", "unwanted", "says"),
    [("Mael", "", "did you mean 'Male'"), ("Male", "Male", "in both"), ("Zzz", "", "it has Male, Smiling")],
)
def test_attributes_that_cannot_be_asked_for_are_named(wanted: str, unwanted: str, says: str) -> None:
    with pytest.raises(LimnerError, match=says):
        asked_attributes(Conditional(), wanted, unwanted)


def test_a_model_without_attributes_says_so(run: Path) -> None:
    with pytest.raises(LimnerError, match="fake takes no attributes"):
        sample(run, wanted="Male")


def test_a_picture_says_what_was_asked(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limner, "load", lambda *ignored, **also: Conditional(), raising=False)
    sample(run, seeds="0-3", out=run / "men.png", wanted="Male", unwanted="Smiling")
    told = read_provenance(run / "men.png")
    assert told
    assert told["attributes"] == "Male=1,Smiling=0"


def test_a_run_trained_without_attributes_says_so_and_what_to_do(tiny_dataset_folder: Path, tmp_path: Path) -> None:
    """README's quick start is such a run: its model takes attributes, and it was given none."""
    words = [
        "train",
        "dcgan",
        "--data",
        str(tiny_dataset_folder),
        "--out",
        str(tmp_path / "run"),
        "--attributes",
        "none",
    ]
    words += ["--width", "8", "--latent-dim", "4", "--kimg", "0.008", "--batch-size", "8", "--metrics"]
    words += ["--attributes", "none"]
    assert main(words) == 0
    with pytest.raises(LimnerError) as caught:
        sample(tmp_path / "run", wanted="Male,Smiling")
    said = str(caught.value)
    assert "this dcgan was trained without attributes" in said
    assert "train dcgan --attributes all" in said
    assert "takes no attributes" not in said


def test_seeds_and_names_are_lists_in_python(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen_seeds([3, 1, 3]) == chosen_seeds("3,1") == [3, 1]
    assert asked_attributes(Conditional(), ["Male"], ["Smiling"]) == asked_attributes(Conditional(), "Male", "Smiling")
    for wrong in ([], [-1], range(100_001)):
        with pytest.raises(LimnerError, match="seeds"):
            chosen_seeds(wrong)
