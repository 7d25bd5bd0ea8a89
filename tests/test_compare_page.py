"""`limner compare` of real runs: the page and its faces."""

from __future__ import annotations

import base64
import io
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import limner
from limner.cli import main
from limner.compare.contenders import Group, group_runs, read_contender
from limner.compare.faces import choose_cast, faces_of, flips_of, latents_of, reconstructions_of, turns_of
from limner.data.dataset import open_dataset
from limner.errors import LimnerError
from limner.explore.pictures import DIGITAL_SOURCE_TYPE
from limner.metrics.card import read_card
from limner.pixels import to_floats
from test_report import Page, assert_sealed

SMALL = ("--width", "4", "--latent-dim", "4", "--batch-size", "8", "--kimg", "0.016", "--metrics-count", "16")
MADE = {
    "dcgan-0": ("dcgan",),
    "dcgan-1": ("dcgan", "--seed", "1"),
    "dcgan-two": ("dcgan", "--generator-steps", "2"),
    "infogan-0": ("infogan", "--categories", "1", "--ways", "3", "--continuous", "1", "--generator-steps", "2"),
    "vae-0": ("vae",),
}


@pytest.fixture(scope="module")
def runs(tiny_dataset_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of 16 images each, measured with one seed of measuring."""
    folder = tmp_path_factory.mktemp("compared")
    for name, (model, *more) in MADE.items():
        flags = [
            *SMALL,
            *more,
            "--metrics",
            "swd",
            "--metrics-kimg",
            "0.008",
            "--tick-kimg",
            "0.008",
            "--data",
            str(tiny_dataset_folder),
        ]
        assert main(["train", model, *flags, "--out", str(folder / name)]) == 0
        assert main(["evaluate", str(folder / name), "--count", "20", "--metrics", "swd", "ms_ssim"]) == 0
    return folder


def groups_of(folder: Path, *names: str) -> list[Group]:
    return group_runs([read_contender(folder / name) for name in names])


def compare(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = main(["compare", *map(str, words)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def pictures(page: Page) -> list[Image.Image]:
    uris = [value for value in page.values("src") if value.startswith("data:image/png;base64,")]
    return [Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) for uri in uris]


# --- the page ---------------------------------------------------------------------------------------------------------


def test_runs_on_one_page(capsys, runs: Path, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    code, said, err = compare(capsys, *(runs / name for name in MADE), "--out", out)
    assert code == 0, err
    assert "swd_20" in said
    assert str(out) in said
    page = Page(out)
    assert_sealed(page)
    rows = re.findall(r'<th scope="row">(.*?)</th>', page.source)
    groups = ["dcgan generator_steps=1", "dcgan generator_steps=2", "infogan", "vae"]
    assert rows[:4] == groups
    for words in ("3 models in 4 settings on equal terms", "tiny (64 images)", "16²", "3 attributes"):
        assert words in page.text
    for title in (
        "Numbers",
        "Cost",
        "One attribute at a time",
        "Codes, turned",
        "Photos, encoded and decoded",
        "Losses",
    ):
        assert f"<h2>{title}</h2>" in page.source
    values = [card(runs / name, "swd_20") for name in ("dcgan-0", "dcgan-1")]
    half = 12.7062 * abs(values[0] - values[1]) / 2
    shown = f"± {half:.0f}" if half >= 100 else f"± {half:.2g}"
    assert f'<td class="number">{sum(values) / 2:.4g}<small>{shown}</small></td>' in page.source
    assert all(f"{value:.5g}" in page.source for value in values), "each seed's own number"
    told = 3 * 3  # attributes × groups that are told them
    assert len(pictures(page)) == 5 + told + 2 + 1, "photos and a sheet a group, flips, two codes, a reconstruction"
    marked = [picture for picture in pictures(page) if DIGITAL_SOURCE_TYPE in str(picture.info)]
    assert len(marked) == len(pictures(page)) - 1, "all but the photos"


def test_on_a_narrow_page_rows_become_lists_whose_lines_name_their_column(capsys, runs: Path, tmp_path: Path) -> None:
    """Where the heading is hidden each cell says by itself what it is of; the other tables scroll within their box."""
    out = tmp_path / "page.html"
    words = (runs / "dcgan-0", runs / "vae-0", "--reach", "swd=1e9", "--out", out)
    assert compare(capsys, *words)[0] == 0
    source = out.read_text()
    narrow = source.partition("@media(max-width:600px){\ntable.side.side")[2].partition("</style>")[0]
    assert "table.side.side.stack thead{display:none}" in narrow
    assert "content:attr(data-name)" in narrow
    stacked = re.findall(r'<table class="side stack">.*?</table>', source)
    assert len(stacked) == 2, "cost, and one attribute at a time"
    for table, named in zip(
        stacked, (["parameters", "peak memory", "time to swd_16 ≤ 1e+09"], ["dcgan", "vae"]), strict=True
    ):
        names = re.findall(r'<td [^>]*data-name="(.*?)"', table)
        assert len(names) == table.count("<td"), "every cell"
        assert set(named) <= set(names)
    boxes = re.findall(r'<div class="(?:panel wide|flips)"><table', source)
    assert len(boxes) == source.count('<table class="side'), "each table in a box of its own"


def card(run: Path, name: str) -> float:
    (file,) = (run / "metrics").glob(f"*-{name}-train-ema.json")
    return read_card(file).value


def test_two_runs_make_a_page_where_asked(capsys, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, said, err = compare(capsys, runs / "dcgan-0", runs / "vae-0", "--ignore", "seed")
    assert (code, "page" in said) == (0, False), err
    assert list(tmp_path.iterdir()) == []
    code, _, err = compare(capsys, runs / "dcgan-0", runs / "vae-0", "--reach", "swd=1e9", "--out", "two.html")
    assert code == 0, err
    page = Page(tmp_path / "two.html")
    assert "images to swd_16 ≤ 1e+09" in page.text
    assert "One seed each: no interval can be told, so none is marked as best" in page.text


def test_what_was_ignored_is_said_and_names_are_escaped(
    capsys, runs: Path, tiny_dataset_folder: Path, tmp_path: Path
) -> None:
    longer = tmp_path / "<b>longer&"
    flags = [*SMALL, "--data", str(tiny_dataset_folder), "--metrics", "swd", "--kimg", "0.024", "--out", str(longer)]
    assert main(["train", "dcgan", *flags]) == 0
    assert main(["evaluate", str(longer), "--count", "20", "--metrics", "swd", "ms_ssim"]) == 0
    named = runs / "dcgan-0", longer, runs / "vae-0"
    code, _, err = compare(capsys, *named, "--out", tmp_path / "a.html")
    assert code == 2
    assert "images_seen is 24, but" in err
    assert "dcgan-0 has 16" in err
    assert not (tmp_path / "a.html").exists()
    code, _, err = compare(capsys, *named, "--ignore", "images_seen", "--out", tmp_path / "a.html")
    assert code == 0, err
    page = Page(tmp_path / "a.html")
    assert_sealed(page)
    assert "Not on equal terms: The runs have seen different numbers of images." in page.text
    assert "on equal terms" not in re.findall("<h1>(.*?)</h1>", page.source)[0]
    assert "dcgan kimg=0.024" in page.text
    assert "<b>longer&" in page.text


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("dcgan-0",), "two runs or more"),
        (("dcgan-0", "vae-0", "nowhere"), "nowhere: no such run"),
        (("dcgan-0", "dcgan-1", "dcgan-0"), "named twice"),
        (("dcgan-0", "dcgan-1", "vae-0", "--out", "page.png"), "compare.html"),
        (("dcgan-0", "dcgan-1", "vae-0", "--ignore", "sed"), "no such field"),
        (("dcgan-0", "dcgan-1", "vae-0", "--reach", "swd"), "NAME=VALUE"),
        (("dcgan-0", "dcgan-1", "--reach", "swd=1"), "--out compare.html"),
        (("dcgan-0/config.json", "dcgan-1", "vae-0"), "config.json: not a run"),
    ],
)
def test_mistakes_are_one_line(capsys, runs: Path, monkeypatch, words: tuple[str, ...], says: str) -> None:
    monkeypatch.chdir(runs)
    code, _, err = compare(capsys, *words)
    assert (code, says in err) == (2, True), err
    assert len(err.strip().splitlines()) == 1
    assert not (runs / "compare.html").exists()


def test_a_copy_of_a_run_does_not_count_as_another_seed(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "copy").symlink_to(runs / "dcgan-0")
    with pytest.raises(LimnerError, match="named twice"):
        groups_of(runs, "dcgan-0", str(tmp_path / "copy"))
    shutil.copytree(runs / "dcgan-0", tmp_path / "moved")
    with pytest.raises(LimnerError, match=r"moved: the same model, settings and seed 0 as .*dcgan-0"):
        groups_of(runs, "dcgan-0", str(tmp_path / "moved"))


# --- the faces --------------------------------------------------------------------------------------------------------


def test_every_model_is_asked_for_the_same_rows(runs: Path, tiny_dataset_folder: Path) -> None:
    groups = groups_of(runs, "dcgan-0", "vae-0", "infogan-0")
    cast = choose_cast(groups)
    dataset = open_dataset(tiny_dataset_folder)
    assert cast.images is not None
    for face, row in zip(cast.images, cast.attributes, strict=True):
        place = next(place for place in range(dataset.count) if (dataset.images(16)[place] == face).all())
        assert (np.asarray(dataset.attributes())[place] == row).all()
    for group in groups[:2]:
        parts = group.model.latents.split(latents_of(group.model, cast, 24))
        assert torch.equal(parts["attributes"], torch.from_numpy(cast.attributes).float())
        assert torch.equal(parts["z"], group.model.latents.split(group.model.latents.sample_seeds(range(24)))["z"])
    assert not groups[2].conditional


def test_without_its_data_the_rows_are_those_the_model_keeps(runs: Path, tiny_dataset_folder: Path) -> None:
    groups = groups_of(runs, "infogan-0", "dcgan-0")
    groups[0].runs[0].facts["dataset"]["manifest_sha256"] = "0" * 64
    cast = choose_cast(groups)
    assert (cast.images, cast.names) == (None, groups[1].model.labels.names)
    kept = groups[1].model.labels.rows
    assert kept is not None
    assert all((kept == row).all(axis=1).any() for row in cast.attributes)
    assert reconstructions_of(groups[1], cast) is None


def test_a_flip_changes_one_attribute_and_nothing_else(runs: Path) -> None:
    (group,) = groups_of(runs, "dcgan-0")
    cast = choose_cast([group])
    model = limner.load(runs / "dcgan-0")
    latents = latents_of(model, cast, 8)
    flips = flips_of(group, cast)
    assert tuple(flips) == model.labels.names
    for column, name in enumerate(model.labels.names):
        pair = []
        for value in (0.0, 1.0):
            rows = torch.from_numpy(cast.attributes[:8]).float()
            rows[:, column] = value
            pair.append(faces_of(model, model.latents.replace(latents, attributes=rows)).astype(np.int16))
        assert np.abs(flips[name].faces - np.stack(pair)[:, :3]).max() <= 1, "batches of another size round otherwise"
        assert flips[name].change == pytest.approx(np.abs(pair[1] - pair[0]).mean() / 255, rel=0.05)
        assert flips[name].change > 0


def test_codes_are_turned_through_their_values(runs: Path) -> None:
    (group,) = groups_of(runs, "infogan-0")
    cast = choose_cast([group])
    category, continuous = turns_of(group, cast)
    assert category.faces.shape == (3, 3, 16, 16, 3)
    assert continuous.faces.shape == (3, 7, 16, 16, 3)
    latents = latents_of(group.model, cast, 3)
    for value in range(3):
        one = torch.eye(3)[[value]].expand(3, -1)
        wanted = faces_of(group.model, group.model.latents.replace(latents, **{category.name: one}))
        assert np.abs(category.faces[:, value].astype(np.int16) - wanted).max() <= 1
    for place, value in ((0, -1.0), (3, 0.0), (6, 1.0)):
        turned = {continuous.name: torch.full((3, 1), value)}
        wanted = faces_of(group.model, group.model.latents.replace(latents, **turned))
        assert np.abs(continuous.faces[:, place].astype(np.int16) - wanted).max() <= 1
    assert flips_of(group, cast) == {}


def test_reconstructions_are_of_the_photos_and_their_own_attributes(runs: Path) -> None:
    group, other = groups_of(runs, "vae-0", "dcgan-0")
    cast = choose_cast([group])
    found = reconstructions_of(group, cast)
    assert found is not None
    assert cast.images is not None
    photos, rows = to_floats(torch.from_numpy(cast.images[:8])), torch.from_numpy(cast.attributes[:8]).float()
    with torch.no_grad():
        latents = group.model.encode(photos, rows)  # type: ignore[operator]
    assert torch.equal(group.model.latents.split(latents)["attributes"], rows)
    assert np.abs(found.astype(np.int16) - faces_of(group.model, latents)).max() <= 1
    assert reconstructions_of(other, cast) is None
