"""`limner plan`: the table, what it refuses, and two processes that agree."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from limner.cli import main
from limner.training import forecast
from limner.training.rehearsing import Answer, Rehearsals
from tiny import tiny_settings

FLAGS = [
    *(
        f"--{name.replace('_', '-')}={value}"
        for name, value in tiny_settings("progan").items()
        if name != "batch_sizes"
    ),
    "--batch-size=8",
    "--minibatch-std-group=2",
    "--resolution=16",
    "--device=cpu",
    "--precision=fp32",
]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes 0.3 GB and 0.1 GB for each row of a pass, and 10 ms for each row."""

    def updates(self: Rehearsals, images: int, batch_size: int, micro_batch: int, timed: bool) -> Answer:
        return Answer(3e8 + 1e8 * micro_batch, 0.01 * batch_size, "generator")

    monkeypatch.setattr(Rehearsals, "updates", updates)
    monkeypatch.setattr(Rehearsals, "pictures", lambda self, images, count: Answer(4e8, 0.5))
    monkeypatch.setattr(Rehearsals, "checkpoint_bytes", lambda self: 2_000_000)


def plan(*words: str) -> int:
    return main(["plan", "progan", *FLAGS, *words])


def test_the_table_and_the_totals(
    machine: None, tiny_dataset_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plan(f"--data={tiny_dataset_folder}", f"--out={tmp_path / 'run'}", "--kimg=0.128") == 0
    printed = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in printed.splitlines() if line.startswith("│")]
    assert [row[0] for row in rows] == ["4²", "8² fading in", "8²", "16² fading in", "16²"]
    assert rows[-1] == ["16²", "0.1", "8", "", "1.1 GB", "10", "1 s", "1.0"]
    assert "64 images to train on" in printed
    assert "at most 1.1 GB (4²) of" in printed
    assert "time       2 s for 0.1 kimg, 0 s of it for 1 sheets" in printed
    assert "3 + 1 checkpoints of 2 MB" in printed
    assert "≈" not in printed
    assert not (tmp_path / "run").exists(), "it makes nothing"


def test_less_memory_means_smaller_parts(machine: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert plan("--memory=750MB") == 0
    printed = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in printed.splitlines() if line.startswith("│")]
    assert {(row[3], row[4]) for row in rows} == {("4", "700 MB")}
    assert "of 750 MB (--memory)" in printed


def test_what_cannot_fit_is_refused_with_numbers(machine: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert plan("--memory=450MB") == 5
    printed = capsys.readouterr()
    assert printed.err.splitlines()[-1] == (
        "limner: memory: 4², generator phase, a batch of 8 taken 2 of its images at a time needs 500 MB of 450 MB "
        "(--memory); use a smaller --batch-size or --resolution, narrower networks, or more --memory"
    )
    assert "500 MB: too much" in printed.out


def test_all_that_is_missing_is_said_at_once(
    machine: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(forecast.Plan, "free_disk_bytes", property(lambda self: 1000.0))
    monkeypatch.setattr(Rehearsals, "pictures", lambda self, images, count: Answer(4e9, 0.5))
    assert plan("--memory=3GB") == 5
    last = capsys.readouterr().err.splitlines()[-1]
    assert "memory: drawing pictures of 16² needs 4 GB of 3 GB (--memory)" in last
    assert "disk: checkpoints (2 MB each)" in last


def test_a_run_that_ends_before_it_has_grown_is_warned_of(machine: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert plan("--kimg=0.05", "--memory=3GB") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "the run ends at 0.1 kimg, with 16² still fading in" in printed
    assert plan("--memory=3GB") == 0
    assert "the run ends" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--resolution=32"], 3, "no images of 32²"),
        (["--memory=8"], 2, "expected a size with its unit"),
        (["--micro-batch=3"], 2, "compares 2 images of a batch with each other"),
    ],
)
def test_what_cannot_be_planned(
    machine: None, tiny_dataset_folder: Path, words: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plan(f"--data={tiny_dataset_folder}", *words) == code
    printed = capsys.readouterr().err
    assert said in printed
    assert len(printed.splitlines()) == 1


AGREEING = """
import json, sys
from limner.training import planning
from limner.training.distributed import join_world
from limner.training.preflight import StageFigures
with join_world("cpu") as world:
    figures = [(4, 100.0, 0.1), (2, 90.0, 0.3)][world.rank]
    own = StageFigures(
        start=0, stop=8, resolution=8, fading=False, batch_size=8,
        micro_batch=figures[0], peak_bytes=figures[1], seconds_per_image=figures[2],
    )
    both = planning.agree(own, world)
    print(json.dumps([both.micro_batch, both.peak_bytes, both.seconds_per_image, world.size_here]))
"""


def test_two_processes_take_the_smaller_parts() -> None:
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    both = [
        subprocess.Popen(
            [sys.executable, "-c", AGREEING],
            env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    said = [process.communicate(timeout=100)[0] for process in both]
    assert [json.loads(text) for text in said] == [[2, 100.0, 0.3, 2]] * 2
