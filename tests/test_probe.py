"""The probe learns what there is to learn, says what it cannot, and its file is believed only whole."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from safetensors import safe_open

from limner.cli import main
from limner.data.dataset import Dataset, open_dataset
from limner.data.writer import DatasetWriter
from limner.errors import CheckpointError, DataError, LimnerError
from limner.metrics.extractors import open_extractor
from limner.metrics.extractors.probe import ProbeExtractor
from limner.metrics.probe import training
from limner.metrics.probe.figures import (
    Accuracy,
    AttributeFigure,
    PoseFigure,
    judge_attribute,
    judge_identity,
    judge_pose,
)
from limner.metrics.probe.file import load_probe, save_probe
from limner.metrics.probe.lessons import Truth, open_lessons
from limner.metrics.probe.network import new_network
from limner.metrics.probe.readers import identity_consistency, read_pose
from limner.metrics.probe.tables import warnings
from limner.metrics.probe.training import contrast
from limner.metrics.probe.verb import train_probe
from limner.pixels import to_floats

CPU = torch.device("cpu")
SIDE, COUNT, VIEWS = 16, 480, 4


def draw_squares(count: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Squares of a person's colours; brightness is an attribute, the place says yaw and pitch, a slope roll."""
    rng = np.random.default_rng(seed)
    identity = np.arange(count) // VIEWS
    colours = rng.uniform(0.6, 1.0, (count // VIEWS, 2, 3))[identity]
    bright, random = rng.integers(0, 2, (2, count)).astype(np.uint8)
    x, y = rng.integers(-4, 5, (2, count))
    slope = rng.uniform(-1, 1, count)
    down, across = np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij")
    inside = (abs(across - 7.5 - x[:, None, None]) < 3) & (abs(down - 7.5 - y[:, None, None]) < 3)
    ground = 0.3 + 0.2 * slope[:, None, None] * (across - 7.5) / 7.5
    shade = np.where(bright, 1.0, 0.4)[:, None, None, None]
    images = np.where(
        inside[..., None], shade * colours[:, None, None, 0], ground[..., None] * colours[:, None, None, 1]
    )
    return {
        "images": (images * 255).round().astype(np.uint8),
        "attributes": np.stack([bright, random], 1),
        "pose": (np.stack([x / 10, y / 20, slope / 10], 1)).astype(np.float32),
        "identity": identity,
    }


def write_dataset(folder: Path, drawn: dict[str, np.ndarray], splits: np.ndarray, **labels: np.ndarray) -> Dataset:
    with DatasetWriter(
        folder,
        name=folder.name,
        count=len(drawn["images"]),
        resolution=SIDE,
        crop="none",
        resize="none",
        source={"made by": "tests"},
        attribute_names=("Bright", "Random") if "attributes" in labels else (),
    ) as writer:
        writer.write(0, drawn["images"])
        writer.finish(splits=splits.astype(np.uint8), **labels)
    return open_dataset(folder)


def people_splits(identity: np.ndarray) -> np.ndarray:
    return np.where(identity % 4 == 3, 2, np.where(identity % 8 == 2, 1, 0))


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    drawn = draw_squares(COUNT)
    labels = {name: drawn[name] for name in ("attributes", "pose", "identity")}
    folder = tmp_path_factory.mktemp("squares") / "squares"
    return write_dataset(folder, drawn, people_splits(drawn["identity"]), **labels)


@pytest.fixture(scope="module")
def probe_path(squares: Dataset) -> Path:
    """Trained by the command, where it puts it."""
    assert main(["data", "probe", str(squares.folder), "--kimg", "4"]) == 0
    return squares.folder / "probe.safetensors"


@pytest.fixture(scope="module")
def probe(probe_path: Path) -> ProbeExtractor:
    found = open_extractor("probe", weights=probe_path)
    assert isinstance(found, ProbeExtractor)
    return found


def test_it_reads_what_can_be_read_and_says_what_cannot(probe: ProbeExtractor) -> None:
    accuracy = probe.accuracy
    bright, random = accuracy.of("Bright"), accuracy.of("Random")
    assert bright.accuracy > 0.95
    assert bright.reads_well
    assert abs(random.accuracy - 0.5) < 0.2
    assert not random.reads_well
    assert accuracy.pose is not None
    errors = zip(accuracy.pose.error_radians, accuracy.pose.guess_radians, strict=True)
    assert all(error < guess / 2 for error, guess in errors)
    assert accuracy.identity is not None
    assert accuracy.identity.auc > 0.85
    assert accuracy.identity.same_distance < accuracy.identity.threshold < accuracy.identity.different_distance
    (warning,) = warnings(accuracy)
    assert "(Random)" in warning


def test_fresh_pictures_are_read_as_well_as_the_figures_say(probe: ProbeExtractor) -> None:
    drawn = draw_squares(400, seed=1)
    said = probe.read(torch.from_numpy(drawn["images"]))
    right = (said.attributes[:, 0].numpy() > 0) == drawn["attributes"][:, 0]
    assert abs(right.mean() - probe.accuracy.of("Bright").accuracy) < 0.06
    pose = read_pose(probe, torch.from_numpy(drawn["images"]))
    found = (pose.radians - torch.from_numpy(drawn["pose"])).abs().mean(0)
    assert torch.allclose(found, torch.tensor(pose.figure.error_radians), atol=0.01)
    images = torch.from_numpy(drawn["images"])
    same = identity_consistency(probe, images[0::VIEWS], images[1::VIEWS])
    different = identity_consistency(probe, images[0::VIEWS], images[1::VIEWS].roll(1, 0))
    assert same.same.double().mean() > 0.7
    assert different.same.double().mean() < 0.35
    assert same.distance.mean() < different.distance.mean()


def test_mirrored_pictures_have_the_other_yaw_and_roll_and_the_same_pitch(probe: ProbeExtractor) -> None:
    images = torch.from_numpy(draw_squares(200, seed=2)["images"])
    pose, mirrored = read_pose(probe, images).radians, read_pose(probe, images.flip(2)).radians
    error = (mirrored - pose * torch.tensor([-1.0, 1.0, -1.0])).abs().mean(0)
    assert (error < pose.std(0) / 2).all()


def test_what_is_true_of_a_mirrored_picture() -> None:
    truth = Truth(torch.tensor([[1.0, 0.0]] * 2), torch.tensor([[0.1, 0.2, 0.3]] * 2), torch.tensor([4, 5]))
    found = truth.mirrored(torch.tensor([True, False]))
    assert found.pose is not None
    assert torch.equal(found.pose, torch.tensor([[-0.1, 0.2, -0.3], [0.1, 0.2, 0.3]]))
    assert torch.equal(found.attributes, truth.attributes)
    assert found.identity is truth.identity


def test_pictures_are_mirrored_exactly_where_their_truth_is(squares: Dataset) -> None:
    lessons = open_lessons(squares, None, 0)
    rows = lessons.rows["train"]
    images, truth = lessons.varied(rows, True, torch.Generator().manual_seed(0))
    plain = lessons.images(rows)
    assert lessons.truth.pose is not None
    assert truth.pose is not None
    mirrored = (truth.pose[:, 0] != lessons.truth.pose[rows, 0]) | (truth.pose[:, 2] != lessons.truth.pose[rows, 2])
    assert 0.3 < mirrored.double().mean() < 0.7
    straight = torch.where(mirrored[:, None, None, None], images.flip(2), images)
    assert torch.equal(straight, plain)  # at 16² no move is as much as a pixel
    unmirrored, same = lessons.varied(rows, False, torch.Generator().manual_seed(0))
    assert torch.equal(unmirrored, plain)
    assert same.pose is not None
    assert torch.equal(same.pose, lessons.truth.pose[rows])


def test_batches_change_nothing(probe: ProbeExtractor) -> None:
    images = torch.from_numpy(draw_squares(40, seed=3)["images"])
    whole = probe.read(images)
    for size in (1, 7):
        parts = [probe.read(part) for part in images.split(size)]
        for name in ("attributes", "pose", "identity", "features"):
            found = torch.cat([getattr(part, name) for part in parts])
            assert torch.allclose(found, getattr(whole, name), atol=1e-4), name


def test_features_of_bytes_and_floats_agree_and_gradients_flow(probe: ProbeExtractor) -> None:
    images = torch.from_numpy(draw_squares(8, seed=4)["images"])
    floats = to_floats(images).requires_grad_()
    features = probe.of_floats(floats)
    found = probe.of_bytes(images)
    assert found.logits is None
    assert found.features.shape == (8, probe.width)
    assert torch.allclose(features, found.features, atol=1e-5)
    features.sum().backward()
    assert floats.grad is not None
    assert (floats.grad.flatten(1).abs().sum(1) > 0).all()


def test_larger_pictures_are_read_as_their_box_means_and_others_refused(probe: ProbeExtractor) -> None:
    small = torch.from_numpy(draw_squares(8, seed=5)["images"])
    large = small.repeat_interleave(2, 1).repeat_interleave(2, 2)
    assert torch.allclose(probe.read(large).features, probe.read(small).features, atol=1e-5)
    noisy = torch.randint(0, 256, (2, 32, 32, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    mean = F.avg_pool2d(to_floats(noisy), 2)
    assert torch.allclose(probe.of_bytes(noisy).features, probe.of_floats(mean), atol=1e-5)
    with pytest.raises(LimnerError, match="reads 16² "):
        probe.of_floats(torch.zeros(1, 3, 8, 8))
    with pytest.raises(LimnerError, match="no images"):
        probe.read(small[:0])
    assert "16²" in probe.resize


def test_same_seed_same_bytes_and_another_seed_others(squares: Dataset, tmp_path: Path) -> None:
    files = []
    for number, seed in enumerate((3, 3, 4)):
        torch.rand(number)  # the process's own random numbers play no part
        path = tmp_path / f"{number}.safetensors"
        lessons = open_lessons(squares, None, seed)
        train_probe(lessons, path, kimg=0.5, mirror=True, seed=seed, device=CPU)
        files.append(path.read_bytes())
    assert files[0] == files[1]
    assert files[0] != files[2]


def test_loading_leaves_random_numbers_alone(probe_path: Path) -> None:
    state = torch.get_rng_state()
    load_probe(probe_path)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_file_round_trips(probe_path: Path, tmp_path: Path, squares: Dataset) -> None:
    network, record, sha256 = load_probe(probe_path)
    save_probe(tmp_path / "again.safetensors", network, record)
    assert (tmp_path / "again.safetensors").read_bytes() == probe_path.read_bytes()
    assert load_probe(tmp_path / "again.safetensors")[2] == sha256
    assert record.dataset_sha256 == squares.manifest_hash
    assert record.splits == {split: len(squares.indices(split)) for split in ("train", "valid", "test")}
    assert record.split_rule == "the dataset's"
    assert 0 < record.images_seen <= 4_032
    assert not list(probe_path.parent.glob("*.partial"))


def test_a_changed_byte_anywhere_is_refused(probe_path: Path, tmp_path: Path) -> None:
    data = probe_path.read_bytes()
    path = tmp_path / "damaged.safetensors"
    for place in [0, 9, 200, *np.linspace(300, len(data) - 1, 20).astype(int)]:
        damaged = bytearray(data)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"damaged\.safetensors: ") as caught:
            load_probe(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("keep", [0, 7, 100, 5000])
def test_a_file_cut_short_is_refused(probe_path: Path, tmp_path: Path, keep: int) -> None:
    path = tmp_path / "short.safetensors"
    path.write_bytes(probe_path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="not a readable probe"):
        load_probe(path)


def _forge(probe_path: Path, path: Path, change: object) -> None:
    """Write a probe with a changed record or tensor whose SHA-256 is right all the same."""
    from limner.metrics.probe import file

    with safe_open(str(probe_path), framework="pt") as opened:
        about = json.loads(opened.metadata()["limner"])
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    del about["sha256"]
    change(about, tensors)  # type: ignore[operator]
    about["sha256"] = file._digest(about, tensors)
    path.write_bytes(safetensors.torch.save(tensors, {"limner": json.dumps(about)}))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda about, tensors: about.update(format="limner-probe-2"), "format 'limner-probe-2'"),
        (lambda about, tensors: about.pop("seed"), "'seed' is missing"),
        (lambda about, tensors: about.update(more=1), "'more' is unknown"),
        (lambda about, tensors: about.update(resolution=24), "resolution 24"),
        (lambda about, tensors: about.update(resolution=True), "resolution is True"),
        (lambda about, tensors: about.update(kimg=math.nan), "kimg is nan"),
        (lambda about, tensors: about["accuracy"]["attributes"].pop(), "tensor 'attributes"),
        (lambda about, tensors: about["accuracy"].update(pose=None), "tensor 'pose"),
        (lambda about, tensors: about["accuracy"]["pose"]["error_radians"].pop(), "error_radians is"),
        (lambda about, tensors: tensors.update(extra=torch.zeros(1)), "tensor 'extra' is unknown"),
        (lambda about, tensors: tensors.update({"pose_mean": torch.zeros(4)}), "'pose_mean' is torch.float32"),
        (lambda about, tensors: tensors["pose_mean"].fill_(torch.inf), "'pose_mean' is not finite"),
    ],
)
def test_forged_files_are_refused(probe_path: Path, tmp_path: Path, change: object, why: str) -> None:
    path = tmp_path / "forged.safetensors"
    _forge(probe_path, path, change)
    with pytest.raises(CheckpointError, match=why):
        load_probe(path)


def test_foreign_and_missing_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such probe; train one with"):
        load_probe(tmp_path / "none.safetensors")
    safetensors.torch.save_file({"x": torch.zeros(3)}, str(tmp_path / "foreign.safetensors"))
    with pytest.raises(CheckpointError, match="no limner format"):
        load_probe(tmp_path / "foreign.safetensors")
    (tmp_path / "folder").mkdir()
    with pytest.raises(CheckpointError, match="not a readable probe"):
        load_probe(tmp_path / "folder")


def test_an_interrupted_training_leaves_no_file(
    squares: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*arguments: object) -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "_validation_loss", interrupt)
    out = tmp_path / "probe.safetensors"
    assert main(["data", "probe", str(squares.folder), "--kimg", "1", "--out", str(out)]) == 130
    assert list(tmp_path.iterdir()) == []


def test_the_best_moment_on_the_validation_split_is_kept(squares: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = iter([3.0, 1.0, 2.0, 5.0, 5.0, 5.0, 5.0, 5.0])
    states = []

    def given(network: torch.nn.Module, *arguments: object) -> float:
        states.append({name: tensor.clone() for name, tensor in network.state_dict().items()})
        return next(losses)

    monkeypatch.setattr(training, "_validation_loss", given)
    lessons = open_lessons(squares, None, 0)
    network, seen = training.train_network(
        lessons, images=1500, mirror=True, seed=0, device=CPU, told=lambda images, loss: None
    )
    assert len(states) > 2
    assert seen == 2 * (len(lessons.rows["train"]) // 64) * 64
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in network.state_dict().items())
    assert not network.training


def test_the_command_prints_the_figures(
    squares: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str], probe_path: Path
) -> None:
    out = tmp_path / "own.safetensors"
    words = ["data", "probe", str(squares.folder), "--kimg", "0.2", "--out", str(out), "--resolution", "16"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    for word in ("Bright", "majority", "balanced", "yaw", "area under the ROC curve", "held out", str(out)):
        assert word in printed
    warned = [line for line in printed.splitlines() if line.startswith("warning: ")]
    assert any("attributes are read less than half of the way" in line and "Random" in line for line in warned)
    assert load_probe(out)[1].kimg == 0.2


def test_what_cannot_be_read_is_said_in_one_line_for_all() -> None:
    """Of 40 attributes read badly, 40 warnings would hide every other line."""
    badly = [AttributeFigure(f"bad{k}", 0.6, 0.6, 0.5) for k in range(30)]
    alike = [AttributeFigure(f"alike{k}", 1.0, 1.0, None) for k in range(5)]
    well = [AttributeFigure("Good", 0.99, 0.6, 0.99)]
    pose = PoseFigure((0.3, 0.3, 0.01), (0.3, 0.3, 0.3))
    lines = warnings(Accuracy(attributes=tuple(badly + alike + well), pose=pose, identity=None), held_out=20)
    assert len(lines) == 3
    assert lines[0].startswith("30 of 36 attributes are read less than half of the way")
    assert all(figure.name in lines[0] for figure in badly)
    assert "20 held-out images are few" in lines[0]
    assert "Good" not in "".join(lines)
    assert all(figure.name in lines[1] for figure in alike)
    assert "yaw" in lines[2]
    assert "pitch" in lines[2]
    assert "roll" not in lines[2]
    assert "few" not in warnings(Accuracy(attributes=tuple(badly), pose=None, identity=None), held_out=5000)[0]


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (["--kimg", "0"], 2, "kimg 0.0: must be more than 0"),
        (["--resolution", "64"], 2, "resolution 64: "),
        (["--resolution", "8"], 2, "resolution 8: "),
        (["--seed", "-1"], 2, "seed -1"),
        (["--device", "abacus"], 2, "device 'abacus'"),
        (["--out", "/nowhere/at/all.safetensors"], 2, "a file in a folder that exists"),
    ],
)
def test_wrong_settings_are_one_line(
    squares: Dataset, capsys: pytest.CaptureFixture[str], words: list[str], code: int, why: str
) -> None:
    assert main(["data", "probe", str(squares.folder), *words]) == code
    error = capsys.readouterr().err.strip()
    assert why in error
    assert "\n" not in error


def test_datasets_that_teach_nothing_are_refused(tmp_path: Path) -> None:
    drawn = draw_squares(40)
    splits = people_splits(drawn["identity"])
    with pytest.raises(DataError, match="nothing to learn"):
        open_lessons(write_dataset(tmp_path / "bare", drawn, splits), None, 0)
    alone = write_dataset(tmp_path / "alone", drawn, splits, identity=np.arange(40))
    with pytest.raises(DataError, match="nothing to learn"):
        open_lessons(alone, None, 0)
    few = {name: values[:12] for name, values in drawn.items()}
    with pytest.raises(DataError, match="at least 20"):
        open_lessons(write_dataset(tmp_path / "few", few, splits[:12], pose=few["pose"]), None, 0)
    drawn["pose"][3, 1] = np.nan
    with pytest.raises((DataError, LimnerError), match="finite"):
        open_lessons(write_dataset(tmp_path / "nan", drawn, splits, pose=drawn["pose"]), None, 0)


@pytest.mark.parametrize("known", [True, False])
def test_splits_that_are_lacking_are_drawn_whole_people_at_a_time(tmp_path: Path, known: bool) -> None:
    drawn = draw_squares(400)
    labels = {name: drawn[name] for name in ("pose", "identity") if known or name == "pose"}
    data = write_dataset(tmp_path / "unsplit", drawn, np.zeros(400), **labels)
    lessons = open_lessons(data, None, 0)
    rows = {split: part.numpy() for split, part in lessons.rows.items()}
    assert sorted(np.concatenate(list(rows.values()))) == list(range(400))
    assert {split: len(part) for split, part in rows.items()} == {"train": 320, "valid": 20, "test": 60}
    if known:
        people = [set(drawn["identity"][part]) for part in rows.values()]
        assert not (people[0] & people[1] | people[0] & people[2] | people[1] & people[2])
        assert "by person" in lessons.rule
    else:
        assert "by image" in lessons.rule
    again, other = open_lessons(data, None, 0), open_lessons(data, None, 1)
    assert torch.equal(again.rows["test"], lessons.rows["test"])
    assert not torch.equal(other.rows["test"], lessons.rows["test"])


def test_pairs_of_a_person_stand_together_and_every_picture_comes_once_an_epoch() -> None:
    identity = torch.arange(60) // 3
    rows = torch.randperm(60, generator=torch.Generator().manual_seed(1))[:50]
    order = training._paired(rows, identity, torch.Generator().manual_seed(0))
    assert sorted(order.tolist()) == sorted(rows.tolist())
    neighbours = (identity[order][1:] == identity[order][:-1]).sum()
    assert neighbours >= sum(int((identity[rows] == who).sum()) // 2 for who in range(20))


def test_contrast_in_closed_form() -> None:
    identity = torch.tensor([0, 0, 1, 1])
    apart = F.one_hot(identity, 3).float()  # each person a direction of its own
    # of a picture's three others one is its own at cos 1, two are strangers at cos 0; temperature 0.1
    assert contrast(apart, identity).item() == pytest.approx(math.log(1 + 2 * math.exp(-10)), rel=1e-3)
    alike = torch.ones(4, 1)
    assert contrast(alike, identity).item() == pytest.approx(math.log(3), rel=1e-6)
    assert contrast(alike, torch.arange(4)).item() == 0
    # the one without company is left out of the mean
    assert contrast(alike[:3], torch.tensor([0, 0, 1])).item() == pytest.approx(math.log(2), rel=1e-6)


def test_figures_in_closed_form() -> None:
    said, truth = torch.tensor([1, 1, 0, 0, 0]) > 0, torch.tensor([1, 0, 0, 0, 0]) > 0
    found = judge_attribute("A", said, truth)
    assert (found.accuracy, found.majority, found.balanced) == pytest.approx((0.8, 0.8, (1 + 3 / 4) / 2))
    assert found.way == pytest.approx(0)
    assert judge_attribute("A", said, said | True).balanced is None
    assert not AttributeFigure("A", 1.0, 1.0, None).reads_well
    assert AttributeFigure("A", 0.75, 0.5, 0.75).reads_well
    assert not AttributeFigure("A", 0.74, 0.5, 0.74).reads_well
    pose = judge_pose(torch.tensor([[0.1, 0.0, 0.0], [0.3, 0.0, -0.4]]), torch.zeros(2, 3), torch.tensor([0.5, 0, 1]))
    assert pose.error_radians == pytest.approx((0.2, 0.0, 0.2))
    assert pose.guess_radians == pytest.approx((0.5, 0.0, 1.0))


def test_identity_figures_of_perfect_and_of_useless_embeddings() -> None:
    identity = torch.arange(200) // 2
    generator = torch.Generator().manual_seed(0)
    perfect = F.one_hot(identity).float()
    found = judge_identity((perfect, identity), perfect, identity, generator)
    assert (found.accuracy, found.auc, found.pairs) == (1.0, 1.0, 100)
    assert (found.same_distance, found.different_distance) == (0.0, 1.0)
    assert found.threshold == pytest.approx(0.5)
    random = F.normalize(torch.randn(200, 8, generator=generator))
    useless = judge_identity((random, identity), random, identity, generator)
    assert abs(useless.auc - 0.5) < 0.12
    constant = torch.ones(200, 1)
    assert judge_identity((constant, identity), constant, identity, generator).auc == 0.5


def test_a_network_fits_every_resolution() -> None:
    for resolution in (16, 32, 128):
        network = new_network(resolution, 3, True, True, torch.Generator().manual_seed(0)).eval()
        generator = torch.Generator().manual_seed(1)
        said = network(torch.randn(2, 3, resolution, resolution, generator=generator))
        assert said.attributes.shape == (2, 3)
        assert (said.attributes == 0).all()
        assert said.identity is not None
        assert torch.allclose(said.identity.norm(dim=1), torch.ones(2))
