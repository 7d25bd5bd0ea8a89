"""The report: one page that needs nothing else, made from whatever a run's folder holds, however hostile."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from limner.cli import main
from limner.errors import LimnerError
from limner.explore.pictures import read_provenance, save_picture, sheet
from limner.metrics.card import Card
from limner.training.log import RunLog
from limner.training.plots import Mark, Series, line_plot, tick_label, ticks
from limner.training.report import write_report
from test_card import card as make_card

HOSTILE = "<script>alert(1)</script>\"'&\x00\x1b[2J\u202e\ud800"
VOID = {"meta", "img", "source"}


class Page(HTMLParser):
    """What a browser would see: tags, attributes, text; and that every tag is closed in order."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.words)

    def values(self, name: str) -> list[str]:
        return [value for _, found, value in self.attributes if found == name]


def assert_sealed(page: Page) -> None:
    """No request, no script, and the policy that forbids them."""
    assert page.tags.keys().isdisjoint({"script", "iframe", "link", "object", "embed", "form", "base", "a"})
    assert all(source.startswith("data:image/") for source in page.values("src") + page.values("srcset"))
    assert not page.values("href")
    assert not [name for _, name, _ in page.attributes if name.startswith("on") or name == "style"]
    assert "url(" not in page.source
    assert "http" not in re.sub(r"data:image/[a-z]+;base64,[^\"]*", "", page.source).replace("http-equiv", "")
    (policy,) = [value for tag, name, value in page.attributes if tag == "meta" and value.startswith("default-src")]
    style = re.search(r"<style>(.*?)</style>", page.source, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert policy.startswith(f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'")


def make_run(folder: Path, ticks: int = 30, sheets: int = 3) -> Path:
    folder.mkdir(parents=True)
    config = {"model_name": "progan", "kimg": 60.0, "data": "/data/heads-16", "model": {"latent_dim": 64}, "seed": 0}
    (folder / "config.json").write_text(json.dumps(config))
    rng = np.random.default_rng(0)
    with RunLog(folder / "log.jsonl") as log:
        log.write("start", 0, device="cuda: A GPU", parameters=1234)
        for index in range(ticks):
            losses = {"discriminator/real": 1 / (index + 1), "discriminator/fake": 0.5, "generator/loss": -0.25}
            rates = {"generator": 1e-3}
            images = 1000 * (index + 1)
            log.write("tick", images, seconds=10.0 * index, images_per_second=100.0, losses=losses, learning_rate=rates)
        for index in range(sheets):
            images = 10_000 * index
            faces = rng.integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
            save_picture(sheet(faces), folder / "samples" / f"images-{images:012d}.png", {"model": "progan"})
    return folder


def add_card(folder: Path, images_seen: int, value: float, model: str = "progan") -> Card:
    card = Card(
        metric="swd",
        value=value,
        values={"level_16": value},
        settings={"patches": 128},
        count_requested=1000,
        count_reals=1000,
        count_fakes=1000,
        resolution=16,
        quantisation="nearest of 256",
        dataset="heads-16",
        split="valid",
        seed=0,
        model=model,
        weights="ema",
        images_seen=images_seen,
    )
    (folder / "metrics").mkdir(exist_ok=True)
    card.write(folder / "metrics" / card.file_name)
    return card


def test_a_whole_run_is_on_one_sealed_page(tmp_path: Path) -> None:
    run = make_run(tmp_path / "my run")
    for images, value in ((10_000, 40.0), (20_000, 30.0)):
        add_card(run, images, value)
    path = write_report(run)
    assert path == run / "report.html"
    page = Page(path)
    assert_sealed(page)
    assert page.tags["img"] == 2
    headings = ("Faces", "Losses", "Metrics", "Speed", "What happened", "Next", "Settings")
    assert [word for word in page.words if word in headings] == list(headings)
    for expected in (
        "my run",
        "progan · heads-16",
        "30 kimg",
        "of 60 kimg",
        "cuda: A GPU",
        "4 min 50 s",
        "5 min 0 s left",
    ):
        assert expected in page.text
    for expected in ("swd_1k", "1000 fakes, 1000 reals of heads-16", "patches 128", "split valid", "model.latent_dim"):
        assert expected in page.text
    assert f"limner resume '{run}'" in page.text
    assert page.tags["figure"] == 2 + 2 + 1 + 1  # faces, losses of two phases, one metric, speed
    assert not [file for file in run.iterdir() if file.suffix == ".tmp"]


def test_the_newest_of_each_metric_stands_with_its_extractor_and_what_to_read_it_beside(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", sheets=0)
    card = add_card(run, 20_000, 30.0)
    for made in (
        replace(card, metric="ms_ssim", value=0.5, values={"reals": 0.375}),
        replace(card, metric="fd", value=7.0, values={"mean_term": 3.0}, extractor="probe", extractor_sha256="ab" * 32),
        replace(card, metric="attribute_accuracy", value=0.75, values={f"a{n}": n / 50 for n in range(40)}),
        replace(card, metric="zeta", value=1.0, values={}),  # of a later limner
    ):
        made.write(run / "metrics" / made.file_name)
    page = Page(write_report(run))
    assert_sealed(page)
    for word in ("beside", "reals 0.375", "↓", "≈", "mean_term", "a39", "zeta_1k", "share of attributes asked for"):
        assert word in page.text
    table = page.text.partition("newest value")[2]
    assert table.index("pixels") < table.index("swd_1k") < table.index("ms_ssim_1k") < table.index("fd_probe_1k")
    assert page.tags["details"] == 5 + 1
    assert page.tags["figure"] == 3, "losses and speed: nothing was measured twice"
    tiles = page.text.partition("Losses")[0]
    assert tiles.index("fd_probe_1k") < tiles.index("swd_1k") < tiles.index("ms_ssim_1k")


def test_whether_it_turns_is_told_before_whether_it_stays_the_same_person(tmp_path: Path) -> None:
    """Identity alone says nothing: a model that ignores the pose has all of it."""
    run = make_run(tmp_path / "run", sheets=0)
    card = add_card(run, 20_000, 30.0)
    for metric in ("ms_ssim", "identity_constancy", "pose_control"):
        made = replace(card, metric=metric, value=0.5, values={})
        made.write(run / "metrics" / made.file_name)
    tiles = Page(write_report(run)).text.partition("Losses")[0]
    assert tiles.index("pose_control_1k") < tiles.index("swd_1k") < tiles.index("ms_ssim_1k")
    assert "identity_constancy" not in tiles


def test_the_closest_pairs_are_shown(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", sheets=0)
    add_card(run, 20_000, 30.0)
    for images in (10_000, 20_000):
        path = run / "metrics" / f"images-{images:012d}-copy_rate_1k-train-ema.png"
        save_picture(sheet(np.full((16, 16, 16, 3), images // 100, np.uint8)), path, {})
    page = Page(write_report(run))
    (source,) = page.values("src")
    assert base64.b64decode(source.partition(",")[2]) == path.read_bytes()
    assert "nearest to a training face, each left of that face, the nearest first, at 20 kimg" in page.text


def test_the_newest_sheet_and_the_time_lapse_are_embedded(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", sheets=5)
    page = Page(write_report(run))
    newest, film = (base64.b64decode(source.partition(",")[2]) for source in page.values("src"))
    assert newest == (run / "samples" / "images-000000040000.png").read_bytes()
    with Image.open(io.BytesIO(film)) as picture:
        assert (picture.format, picture.n_frames) == ("GIF", 5)
    assert "newest faces, at 40 kimg" in page.text
    assert "5 sheets of the same latents, from 0 kimg to 40 kimg" in page.text
    assert read_provenance(run / "samples" / "time-lapse.gif") is not None


def test_the_time_lapse_is_made_again_only_for_a_newer_sheet(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", sheets=2)
    write_report(run)
    film = run / "samples" / "time-lapse.gif"
    made = film.stat().st_ino
    write_report(run)
    assert film.stat().st_ino == made
    faces = np.full((4, 16, 16, 3), 77, np.uint8)
    save_picture(sheet(faces), run / "samples" / "images-000000030000.png", {})
    write_report(run)
    with Image.open(film) as picture:
        assert picture.n_frames == 3


def test_a_long_run_keeps_its_time_lapse_short(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", sheets=70)
    write_report(run)
    with Image.open(run / "samples" / "time-lapse.gif") as picture:
        assert picture.n_frames == 24


def test_a_sheet_too_large_for_a_page_is_reduced(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", sheets=0)
    Image.new("RGB", (3000, 1500), (9, 99, 199)).save(run / "big.png")
    (run / "samples").mkdir()
    (run / "big.png").rename(run / "samples" / "images-000000001000.png")
    (source,) = Page(write_report(run)).values("src")
    assert source.startswith("data:image/webp")
    with Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) as picture:
        assert picture.size == (1280, 640)


def test_an_empty_folder_has_a_report(tmp_path: Path) -> None:
    page = Page(write_report(tmp_path))
    assert_sealed(page)
    assert "not started" in page.text
    assert page.tags["svg"] == page.tags["img"] == 0


def test_a_run_of_one_tick_has_a_report(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", ticks=1, sheets=1)
    page = Page(write_report(run))
    assert_sealed(page)
    assert page.tags["img"] == 1
    assert page.tags["circle"] == 4


def test_damaged_files_cost_only_themselves(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", sheets=3)
    (run / "config.json").write_bytes(b'{"model": ')
    (run / "samples" / "images-000000020000.png").write_bytes(b"\x89PNG\r\n\x1a\n torn")
    (run / "metrics").mkdir()
    (run / "metrics" / "bad.json").write_text("{}")
    with (run / "log.jsonl").open("ab") as log:
        log.write(b'{"event": "tick", "ima')
    page = Page(write_report(run))
    assert_sealed(page)
    assert "newest faces, at 10 kimg" in page.text
    assert "2 sheets" in page.text
    assert "Settings" not in page.text


def test_hostile_names_are_only_shown(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a<b>&'\"c")
    hostile = {"model_name": HOSTILE, "data": HOSTILE, HOSTILE: {HOSTILE: [HOSTILE]}, "kimg": HOSTILE}
    (run / "config.json").write_text(json.dumps(hostile))
    add_card(run, 1000, 1.0, model="<img src=x>")
    with RunLog(run / "log.jsonl") as log:
        for images in range(3):
            losses = {HOSTILE: 1.0, f"{HOSTILE}/x": math.inf, "big": 10**400, "list": [1], "d": {"x": 1}}
            log.write("tick", 40_000 + images, losses=losses, images_per_second="<b>", learning_rate={HOSTILE: images})
        log.write("tick", 50_000, losses=[HOSTILE], seconds=-1e308, images_per_second=-5, resolution=HOSTILE)
        log.write("metric", 40_000, name=HOSTILE, value=1.0, file=HOSTILE)
        log.write("metric", 40_000, name=[HOSTILE], value=HOSTILE)
        log.write("warning", 40_000, message=HOSTILE)
        log.write("resume", 60_000, time=HOSTILE, device={"a": HOSTILE})
        log.write("end", 60_000, reason=HOSTILE)
    page = Page(write_report(run))
    assert_sealed(page)
    assert page.tags["b"] == page.source.count("<b>")
    assert page.text.count("<script>alert(1)") >= 6
    assert "a<b>&'\"c" in page.text
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202e]", page.source)


def test_what_happened_is_told_newest_first_and_the_undone_is_pale(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", ticks=10)
    with RunLog(run / "log.jsonl") as log:
        log.write("warning", 9000, message="the <loss> jumped")
        log.write("end", 10_000, reason="stopped by signal 15")
        log.write("resume", 8000)
        log.write("rollback", 8000, message="back to 8000")
    page = Page(write_report(run))
    order = [
        page.text.index(word) for word in ("back to 8000", "stopped by signal 15", "the <loss> jumped", "parameters")
    ]
    assert order == sorted(order)
    assert page.values("class").count("gone") == 2
    assert page.values("class").count("bad") == 1
    assert "8 kimg" in page.text
    assert "in training or interrupted" in page.text


@pytest.mark.parametrize(
    ("reason", "bad"), [("finished", False), ("stopped by signal 15", False), ("diverged: loss is nan", True)]
)
def test_the_state_says_how_it_ended(tmp_path: Path, reason: str, bad: bool) -> None:
    run = make_run(tmp_path / "run", ticks=2, sheets=0)
    with RunLog(run / "log.jsonl") as log:
        log.write("end", 2000, reason=reason)
    page = Page(write_report(run))
    assert reason in page.text
    assert ("state bad" in page.values("class")) is bad
    assert "left" not in page.text.partition("Losses")[0]


def test_writing_again_replaces_the_page_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path / "run", sheets=0)
    before = write_report(run).read_bytes()

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(LimnerError, match=r"report\.html: cannot be written"):
        write_report(run)
    assert (run / "report.html").read_bytes() == before
    assert {file.name for file in run.iterdir()} == {"config.json", "log.jsonl", "report.html"}


def test_a_folder_that_is_no_run_is_refused_and_nothing_is_written_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "metrics").mkdir()
    before = sorted(tmp_path.rglob("*"))
    assert main(["report", str(tmp_path)]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert f"{tmp_path}: not a run" in said.err
    assert sorted(tmp_path.rglob("*")) == before


def test_what_is_left_of_a_run_has_a_report(tmp_path: Path) -> None:
    """Its settings, its log, a checkpoint or a number alone is enough."""
    for name in ("config.json", "log.jsonl", "checkpoints/images-000000000016.safetensors", "metrics/card.json"):
        run = tmp_path / name.split("/")[0].split(".")[0]
        file = run / name
        file.parent.mkdir(parents=True)
        file.write_text(
            {"config.json": '{"model_name": "vae"}', "log.jsonl": '{"event": "tick", "images": 3}\n'}.get(name, "")
        )
        if name.startswith("metrics"):
            make_card().write(file)
        assert main(["report", str(run)]) == 0
        assert (run / "report.html").is_file()


def test_no_run_no_report(tmp_path: Path) -> None:
    with pytest.raises(LimnerError, match="nowhere: no such run"):
        write_report(tmp_path / "nowhere")


# --- plots ------------------------------------------------------------------------------------------------------------


def coordinates(plot: str, kind: str) -> list[tuple[float, float]]:
    (path,) = re.findall(rf'<path class="{kind} s0" d="([^"]*)"', plot)
    return [(float(x), float(y)) for x, y in re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", path)]


def test_a_line_runs_from_corner_to_corner() -> None:
    plot = line_plot("t", [Series("a", [(0.0, 0.0), (5.0, 5.0), (10.0, 10.0)])])
    first, middle, last = coordinates(plot, "line")
    assert first[0] < middle[0] < last[0]
    assert first[1] > middle[1] > last[1]  # up is smaller in SVG
    assert middle == ((first[0] + last[0]) / 2, (first[1] + last[1]) / 2)


def test_what_is_not_finite_leaves_a_gap() -> None:
    points = [(0.0, 1.0), (1.0, None), (2.0, 2.0), (3.0, math.nan), (4.0, 3.0), (5.0, 4.0)]
    plot = line_plot("t", [Series("a", points)])
    (path,) = re.findall(r'class="line s0" d="([^"]*)"', plot)
    assert re.sub(r"[^ML]", "", path) == "MMML"
    assert line_plot("t", [Series("a", [(0.0, None), (1.0, math.inf)])]) == ""
    assert line_plot("t", []) == ""


def test_a_long_noisy_line_is_drawn_thin_and_averaged_bold_with_its_spikes() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(0, 1, 5000)
    values[2500] = values.max() * 1.5
    points = [(float(x), float(y)) for x, y in enumerate(values)]
    plot = line_plot("t", [Series("a", points)])
    faint, bold = coordinates(plot, "faint"), coordinates(plot, "line")
    assert len(faint) <= 700
    assert np.std([y for _, y in bold]) < 0.3 * np.std([y for _, y in faint])
    highest = min(faint, key=lambda point: point[1])
    assert highest[0] == pytest.approx(coordinates(plot, "faint")[len(faint) // 2][0], abs=3)
    assert "faint" not in line_plot("t", [Series("a", points)], smooth=False)


def test_a_few_far_points_do_not_flatten_the_rest() -> None:
    points = [(float(x), 1.0 + 0.1 * math.sin(x)) for x in range(50)]
    plot = line_plot("t", [Series("a", [(-1.0, 1e6), *points])])
    assert "1 points beyond the axis" in plot
    heights = [y for _, y in coordinates(plot, "line")[1:]]
    assert max(heights) - min(heights) > 80


def test_marks_stand_where_they_belong_and_labels_do_not_overlap() -> None:
    marks = [
        Mark(2.0, "16²", "grown"),
        Mark(2.1, "resume", "at <2.1>"),
        Mark(8.0, "rollback", "r"),
        Mark(99.0, "far", "f"),
    ]
    plot = line_plot("t", [Series("a", [(0.0, 0.0), (10.0, 1.0)])], marks=marks)
    assert plot.count('class="mark"') == 3
    assert [label for label in ("16²", "resume", "rollback", "far") if f">{label}</text>" in plot] == [
        "16²",
        "rollback",
    ]
    assert "<title>at &lt;2.1&gt;</title>" in plot


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 1.0), (-3.2, 7.9), (1e-9, 2e-9), (5.0, 5.0001), (0.0, 3e7), (-1e-3, -2e-4)]
)
def test_ticks_are_few_round_and_cover(low: float, high: float) -> None:
    found = ticks(low, high)
    step = found[1] - found[0]
    assert 4 <= len(found) <= 9
    assert found[0] <= low + 1e-6 * step
    assert found[-1] >= high - 1e-6 * step
    mantissa = step / 10 ** math.floor(math.log10(step) + 1e-9)
    assert min(abs(mantissa - nice) for nice in (1, 2, 5)) < 1e-3
    labels = [tick_label(value, step) for value in found]
    assert len(set(labels)) == len(labels)


@pytest.mark.parametrize(
    ("value", "step", "label"),
    [
        (0.05, 0.01, "0.05"),
        (1500.0, 500.0, "1,500"),
        (-2.0, 1.0, "−2"),
        (1e-17, 0.1, "0"),
        (20000.0, 5000.0, "20k"),
        (3e-6, 1e-6, "3e-06"),
        (2e6, 1e6, "2M"),
    ],
)
def test_tick_labels(value: float, step: float, label: str) -> None:
    assert tick_label(value, step) == label
