"""`limner evaluate`, `compare` and `data statistics` from the command line: what is chosen, said, kept and refused."""

from __future__ import annotations

import io
import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from limner.cli import main
from limner.data.dataset import open_dataset
from limner.data.writer import DatasetWriter
from limner.explore.pictures import read_provenance
from limner.metrics.card import Card, read_card
from limner.metrics.evaluate import evaluate_model
from limner.metrics.extractors.probe import ProbeExtractor
from limner.metrics.probe.lessons import open_lessons
from limner.metrics.probe.verb import train_probe
from limner.metrics.statistics import read_statistics
from limner.training import evaluation_table, instruments
from limner.training.evaluation_record import unbroken
from limner.training.log import read_events
from test_card import card as make_card

Run = tuple[int, str, str]


def run(capsys: pytest.CaptureFixture[str], *words: object) -> Run:
    code = main([str(word) for word in words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def train(data: Path, out: Path, *more: str, model: str = "dcgan") -> None:
    small = ["--width", "4", "--latent-dim", "4", "--batch-size", "8", "--kimg", "0.016", "--metrics-count", "16"]
    assert main(["train", model, "--data", str(data), "--out", str(out), *small, *more]) == 0


@pytest.fixture(scope="module")
def trained(tiny_dataset_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    train(tiny_dataset_folder, folder)
    return folder


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of its own, so that a probe beside it is nobody else's, and that probe."""
    from conftest import ATTRIBUTE_NAMES, draw_blobs
    from limner.data.writer import DatasetWriter

    folder = tmp_path_factory.mktemp("labelled") / "blobs"
    images, attributes = draw_blobs(160, 16, seed=1)
    facts = {"name": "blobs", "crop": "none", "resize": "none", "source": {"made by": "tests"}}
    with DatasetWriter(folder, count=160, resolution=16, attribute_names=ATTRIBUTE_NAMES, **facts) as writer:
        writer.write(0, images)
        data = writer.finish(attributes=attributes, splits=np.repeat([0, 1, 2], [100, 30, 30]).astype(np.uint8))
    train_probe(
        open_lessons(data, 16, 0),
        folder / "probe.safetensors",
        kimg=2.0,
        mirror=False,
        seed=0,
        device=torch.device("cpu"),
    )
    return folder


@pytest.fixture(scope="module")
def conditional(labelled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "conditional"
    train(labelled, folder, "--attributes", "bright,left")
    return folder


@pytest.fixture(scope="module")
def coded(labelled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "coded"
    train(labelled, folder, "--codes", "attributes", model="infogan")
    return folder


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No extractor but those that a test provides."""
    monkeypatch.setenv("LIMNER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(instruments, "available", lambda: ())


def cards_of(folder: Path) -> dict[str, Card]:
    return {card.name: card for card in map(read_card, (folder / "metrics").glob("*.json"))}


def test_without_an_extractor_it_measures_the_rest_and_says_how_to_get_one(capsys, trained: Path) -> None:
    code, out, err = run(capsys, "evaluate", trained, "--count", "30")
    assert code == 0, err
    assert all(name in out for name in ("swd_30", "ms_ssim_30", "copy_rate_30"))
    assert "fd" not in out
    assert "limner data probe DATASET" in err
    assert "measured in" in err
    picture = trained / "metrics" / "images-000000000016-copy_rate_30-train-ema.png"
    with Image.open(picture) as image:
        assert image.width in {pairs * 2 * 98 + 2 for pairs in (1, 2, 3, 4)}  # each face once, however often copied
    record = read_provenance(picture)
    assert record is not None
    distances = [pair["distance"] for pair in record["pairs"]]
    assert distances == sorted(distances)
    assert f"data:image/png;base64,{encoded(picture)}" in (trained / "report.html").read_text()


@pytest.mark.parametrize("words", [("swd", "ms_ssim"), ("swd,ms_ssim",), ("swd,", "ms_ssim")])
def test_metrics_have_spaces_or_commas_between_them(capsys, trained: Path, words: tuple[str, ...]) -> None:
    code, out, err = run(capsys, "evaluate", trained, "--count", "24", "--metrics", *words)
    assert code == 0, err
    assert "swd_24" in out
    assert "ms_ssim_24" in out
    assert "copy_rate" not in out


def encoded(path: Path) -> str:
    import base64

    return base64.b64encode(path.read_bytes()).decode()


def test_a_probe_beside_the_dataset_is_found_and_reads_what_was_asked(capsys, conditional: Path) -> None:
    code, out, err = run(capsys, "evaluate", conditional, "--count", "40")
    assert code == 0, err
    names = ("fd", "kd", "precision", "recall", "density", "coverage", "attribute_accuracy")
    assert set(cards_of(conditional)) >= {f"{name}_probe_40" for name in names} | {"ppl_probe_8", "swd_40"}
    accuracy = cards_of(conditional)["attribute_accuracy_probe_40"]
    assert accuracy.attributes == "rows of the reals: bright left"
    assert "probe on real images" in out
    assert "inception_score" not in out
    events = [event["name"] for event in read_events(conditional / "log.jsonl") if event["event"] == "metric"]
    assert "fd_probe_40" in events
    again = {name: card for name, card in cards_of(conditional).items() if name.endswith("_40")}
    assert run(capsys, "evaluate", conditional, "--count", "40")[0] == 0
    assert {name: card for name, card in cards_of(conditional).items() if name.endswith("_40")} == again


def test_a_probe_of_another_dataset_or_size_is_passed_over_and_said(capsys, labelled: Path, trained: Path) -> None:
    code, _, err = run(capsys, "evaluate", trained, "--extractor", "probe")
    assert (code, "limner data probe" in err) == (2, True)
    code, out, err = run(capsys, "evaluate", trained, "--count", "20", "--data", labelled, "--metrics", "fd")
    assert code == 0, err
    assert "fd_probe_20" in out
    manifest = json.loads((labelled / "dataset.json").read_text())
    changed = labelled.parent / "changed"
    changed.mkdir()
    for file in labelled.iterdir():
        (changed / file.name).write_bytes(file.read_bytes())
    (changed / "dataset.json").write_text(json.dumps({**manifest, "name": "changed"}))
    code, out, err = run(capsys, "evaluate", trained, "--count", "20", "--data", changed)
    assert code == 0, err
    assert "trained on another dataset" in " ".join(err.split())
    assert "copy_rate" not in out, "of a model that was not trained on it"
    (changed / "probe.safetensors").write_bytes(b"no probe")
    code, out, err = run(capsys, "evaluate", trained, "--count", "20", "--data", changed)
    assert (code, "not a readable probe" in " ".join(err.split())) == (0, True), err
    assert "swd_20" in out


def test_codes_are_judged_where_there_are_codes_and_a_probe(capsys, coded: Path, trained: Path) -> None:
    code, out, err = run(capsys, "evaluate", coded, "--count", "100")
    assert code == 0, err
    card = cards_of(coded)["code_recovery_probe_100"]
    assert set(card.settings["attributes"].split(", ")) & {"bright", "warm", "left"}
    assert card.settings["value"] == "own names"
    assert all(word in out for word in ("code by code", "own name", "at best", "chance", "probe on real images"))
    assert "attribute_accuracy" not in out
    assert "reconstruction" not in out
    code, out, err = run(capsys, "evaluate", coded, "--metrics", "attribute_accuracy")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "attribute_accuracy is of conditional models" in err
    code, _, err = run(capsys, "evaluate", trained, "--metrics", "code_recovery")
    assert (code, err.count("\n")) == (2, 1)
    assert "code_recovery is of models with codes, such as infogan" in err


@pytest.fixture(scope="module")
def posed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset with poses and three views of everybody, and a probe that reads no more than these."""
    from conftest import draw_blobs

    folder = tmp_path_factory.mktemp("posed") / "blobs"
    images, _ = draw_blobs(180, 16, seed=2)
    people = np.repeat(np.arange(60), 3)
    pose = np.random.default_rng(0).uniform(-0.5, 0.5, (180, 3)).astype(np.float32)
    facts = {"name": "blobs", "crop": "none", "resize": "none", "source": {"made by": "tests"}}
    with DatasetWriter(folder, count=180, resolution=16, **facts) as writer:
        writer.write(0, images)
        splits = np.repeat([0, 1, 2], [120, 30, 30]).astype(np.uint8)
        data = writer.finish(pose=pose, identity=people, splits=splits)
    probe = folder / "probe.safetensors"
    train_probe(open_lessons(data, 16, 0), probe, kimg=0.5, mirror=False, seed=0, device=torch.device("cpu"))
    return folder


def test_turns_are_judged_where_a_model_turns_and_the_probe_reads(
    capsys, labelled: Path, posed: Path, trained: Path, tmp_path: Path
) -> None:
    turning = tmp_path / "turning"
    train(posed, turning, model="hologan")
    code, out, err = run(capsys, "evaluate", turning, "--count", "100", "--device", "cpu")
    assert code == 0, err
    found = cards_of(turning)
    control, constancy = found["pose_control_probe_8"], found["identity_constancy_probe_8"]
    assert (control.count_fakes, control.split, control.extractor_sha256) == (8, None, constancy.extractor_sha256)
    assert 0 <= control.value < 1
    assert all(word in out for word in ("axis by axis", "pose_control_probe_8", "correlation", "off", "chance"))
    code, out, err = run(capsys, "evaluate", turning, "--count", "100", "--data", labelled, "--extractor", "none")
    assert code == 0, err
    assert "pose_control, identity_constancy is left out" in " ".join(err.split())
    assert "pose_control" not in out
    code, _, err = run(capsys, "evaluate", turning, "--metrics", "identity_constancy", "--data", labelled)
    assert (code, err.strip().splitlines()[-1].split(" and this")[0]) == (
        2,
        "limner: metrics: identity_constancy needs a probe that reads identity,",
    )
    code, _, err = run(capsys, "evaluate", trained, "--metrics", "pose_control")
    assert (code, err.count("\n")) == (2, 1)
    assert "pose_control is of models that turn, such as hologan" in err


def test_photos_are_reconstructed_where_the_model_encodes(capsys, labelled: Path, coded: Path, tmp_path: Path) -> None:
    folder = tmp_path / "vae"
    train(labelled, folder, model="vae")
    code, out, err = run(capsys, "evaluate", folder, "--count", "30", "--split", "test")
    assert code == 0, err
    card = cards_of(folder)["reconstruction_30"]
    assert (card.split, card.count_reals) == ("test", 30)
    assert 5 < card.value < 30
    assert "mean face" in out
    assert "attribute by attribute" in out
    code, _, err = run(capsys, "evaluate", coded, "--metrics", "reconstruction")
    assert (code, err.count("\n")) == (2, 1)
    assert "reconstruction is of models that encode photos" in err
    words = ("--data", labelled, "--out", tmp_path / "x", "--metrics", "reconstruction")
    code, _, err = run(capsys, "train", "dcgan", *words)
    assert (code, (tmp_path / "x").exists()) == (2, False)
    assert "reconstruction is of models that encode photos" in err


def test_a_model_with_more_attributes_than_the_data_is_judged_by_those_it_shares(
    capsys, labelled: Path, conditional: Path, tmp_path: Path
) -> None:
    """The same pictures with one label less, and a probe of their own."""
    fewer, _ = relabelled(labelled, tmp_path / "fewer", ("left", "warm"))
    code, out, err = run(capsys, "evaluate", conditional, "--count", "40", "--data", fewer)
    assert code == 0, err
    card = cards_of(conditional)["attribute_accuracy_probe_40"]
    assert (card.settings["attributes"], card.settings["not_read"]) == ("left", "bright")
    assert card.attributes == "rows kept in the checkpoint: bright left"
    assert "the probe has learnt from fewer" in " ".join(err.split())
    assert "probe on real images" in out
    other, _ = relabelled(labelled, tmp_path / "other", ("up", "warm"))
    code, out, err = run(capsys, "evaluate", conditional, "--count", "40", "--data", other)
    assert code == 0, err
    assert "does not read what this model is to show, so attribute_accuracy is left out" in " ".join(err.split())
    assert "attribute_accuracy" not in out
    code, _, err = run(capsys, "evaluate", conditional, "--data", other, "--metrics", "attribute_accuracy")
    assert (code, "this probe does not read bright, left; it reads: up, warm" in " ".join(err.split())) == (2, True)


def relabelled(labelled: Path, folder: Path, names: tuple[str, ...]) -> tuple[Path, ProbeExtractor]:
    """The labelled pictures with the labels left and warm under these names, and a probe."""
    data = open_dataset(labelled)
    columns = [data.attribute_names.index(name) for name in ("left", "warm")]
    facts = {"name": folder.name, "crop": "none", "resize": "none", "source": {"made by": "tests"}}
    with DatasetWriter(folder, count=160, resolution=16, attribute_names=names, **facts) as writer:
        writer.write(0, data.read(16, np.arange(160)))
        splits = np.repeat([0, 1, 2], [100, 30, 30]).astype(np.uint8)
        attributes = np.ascontiguousarray(np.asarray(data.attributes())[:, columns])
        made = writer.finish(attributes=attributes, splits=splits)
    probe = folder / "probe.safetensors"
    train_probe(open_lessons(made, 16, 0), probe, kimg=2.0, mirror=False, seed=0, device=torch.device("cpu"))
    return folder, ProbeExtractor(probe)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--metrics", "fdi"), "did you mean fd"),
        (("--metrics", "auto", "swd"), "auto stands for all"),
        (("--metrics", "fid", "--extractor", "probe"), "ask for fd"),
        (("--metrics", "fd"), "no extractor is at hand"),
        (("--metrics", "fid"), "pt_inception-2015-12-05-6726825d.pth"),
        (("--metrics", "attribute_accuracy"), "limner data probe"),
        (("--count", "0"), "at least 1"),
        (("--metrics", "swd", "--reference", "x.npz"), "swd needs more of them"),
        (("--reference", "x.npz"), "x.npz: no feature extractor is at hand"),
    ],
)
def test_mistakes_are_one_line(capsys, conditional: Path, trained: Path, words: tuple[str, ...], says: str) -> None:
    of = conditional if "probe" in words else trained
    code, _, err = run(capsys, "evaluate", of, *words)
    assert code in (2, 3), err
    assert says in err
    assert len(err.strip().splitlines()) <= 2


def test_statistics_of_a_dataset_are_a_reference(capsys, conditional: Path, labelled: Path, tmp_path: Path) -> None:
    file = tmp_path / "blobs.npz"
    code, out, err = run(capsys, "data", "statistics", labelled, file, "--count", "60")
    assert code == 0, err
    assert "probe, 60 images of train at 16²" in out
    assert len(read_statistics(file).mean) == ProbeExtractor.width
    code, out, err = run(capsys, "evaluate", conditional, "--count", "60", "--reference", file)
    assert code == 0, err
    by_file = cards_of(conditional)["fd_probe_60"]
    assert run(capsys, "evaluate", conditional, "--count", "60", "--metrics", "fd")[0] == 0
    assert cards_of(conditional)["fd_probe_60"] == by_file
    code, _, err = run(capsys, "data", "statistics", labelled, tmp_path / "blobs.txt")
    assert (code, "blobs.txt.npz" in err) == (2, True)


def test_a_stop_before_the_end_leaves_nothing(capsys, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **named: object) -> list[Card]:
        evaluate_model(*_, **{**named, "poll": stop})  # type: ignore[arg-type]
        return []

    def stop() -> None:
        raise KeyboardInterrupt

    before = sorted(trained.rglob("*"))
    monkeypatch.setattr("limner.training.evaluate.evaluate_model", interrupted)
    code, out, _ = run(capsys, "evaluate", trained, "--count", "33")
    assert (code, out) == (130, "")
    assert sorted(trained.rglob("*")) == before


def test_ctrl_c_waits_until_all_is_kept() -> None:
    done = []

    def keep() -> None:
        with unbroken():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
            done.append(True)

    with pytest.raises(KeyboardInterrupt):
        keep()
    assert done == [True]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


# --- compare ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def two_runs(tmp_path: Path) -> tuple[Path, Path]:
    for name, factor in (("a", 1.0), ("b", 0.5)):
        (tmp_path / name / "metrics").mkdir(parents=True)
        for made in (
            make_card(value=9.0, images_seen=5, extractor=None),
            make_card(value=8.0 * factor, images_seen=6, extractor=None),
            make_card(metric="recall", value=0.25 / factor, values={}, images_seen=6),
            make_card(metric="kid", value=0.1, images_seen=6, seed=int(factor)),
        ):
            made.write(tmp_path / name / "metrics" / made.file_name)
    return tmp_path / "a", tmp_path / "b"


def test_two_runs_side_by_side(capsys, two_runs: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(two_runs[0].parent)
    extra = make_card(metric="coverage", value=1.0)
    extra.write(two_runs[0] / "metrics" / extra.file_name)
    code, out, err = run(capsys, "compare", "a", "b")
    assert code == 0, err
    rows = {line.split("│")[1].strip(): line for line in out.splitlines() if line.startswith("│")}
    assert [cell.strip() for cell in rows["swd_2k"].split("│")[2:7]] == ["↓", "8", "4", "-4", "b"]
    assert [cell.strip() for cell in rows["recall_2k"].split("│")[2:7]] == ["↑", "0.25", "0.5", "+0.25", "b"]
    assert "kid_2k" not in rows
    assert "kid_2k and kid_2k cannot be compared: seed 1 ≠ 0" in out
    assert "only a has coverage_2k" in out
    code, out, _ = run(capsys, "compare", "a", "b", "--ignore", "seed")
    assert "cannot be compared" not in out


def test_runs_that_have_nothing_in_common_are_refused(capsys, two_runs: tuple[Path, Path], tmp_path: Path) -> None:
    a, b = two_runs
    kid, swd = next((a / "metrics").glob("*kid*")), next((b / "metrics").glob("*6-swd*"))
    code, _, err = run(capsys, "compare", kid, swd)
    assert (code, "metric 'kid' ≠ 'swd'" in err) == (2, True)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "log.jsonl").touch()  # a run, but without numbers
    code, _, err = run(capsys, "compare", a, tmp_path / "empty")
    assert (code, "limner evaluate" in err) == (2, True)
    code, _, err = run(capsys, "compare", a, tmp_path / "nowhere")
    assert (code, "no such run" in err) == (2, True)


# --- the screen -------------------------------------------------------------------------------------------------------


def test_numbers_of_one_extractor_stand_together(monkeypatch: pytest.MonkeyPatch) -> None:
    made = [
        make_card(metric="swd", extractor=None),
        make_card(metric="ms_ssim", values={"reals": 0.25}, extractor=None),
        make_card(metric="kid", values={"deviation": 0.125}, settings={"subsets": 100}),
        make_card(metric="kid", values={"deviation": 0.0}, settings={"subsets": 1}),
    ]
    out = io.StringIO()
    monkeypatch.setattr(evaluation_table, "Console", lambda: Console(file=out, width=100))
    evaluation_table.show_cards(made)
    shown = out.getvalue()
    assert shown.index("pixels") < shown.index("ms_ssim_2k") < shown.index("inception (clean)") < shown.index("kid_2k")
    assert "reals 0.25" in shown
    assert shown.count("±") == 1
    assert "DCGAN, ema weights at 12,345 images: 2,000 fakes against 2,000 reals of faces (train)" in shown


def test_progress_is_a_bar_on_a_terminal_and_a_line_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for terminal in (True, False):
        out = io.StringIO()
        console = Console(file=out, force_terminal=terminal, width=80)
        monkeypatch.setattr(evaluation_table, "Console", lambda stderr, console=console: console)
        with evaluation_table.shown(first=True) as screen:
            screen.told("reals", 10, 40)
            screen.told("swd", 0, 2)
            screen.note("a [note]")
        assert ("measuring: swd" in out.getvalue()) is terminal
        assert "a [note]" in out.getvalue()
        assert "measured in 0 s" in out.getvalue()
    with evaluation_table.shown(first=False) as screen:
        screen.told("reals", 10, 40)
        screen.note("x")
    assert "x" not in out.getvalue()
