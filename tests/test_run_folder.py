"""What is not a run is refused by every verb in the same words and with the same exit code."""

from __future__ import annotations

from pathlib import Path

import pytest

from limner.cli import main

VERBS = {
    "resume": ["resume", "RUN"],
    "sample": ["sample", "RUN"],
    "sample, to a named file": ["sample", "RUN", "--out", "faces.png"],
    "walk": ["walk", "RUN", "--seeds", "1,2"],
    "turn": ["turn", "RUN"],
    "timelapse": ["timelapse", "RUN"],
    "evaluate": ["evaluate", "RUN"],
    "report": ["report", "RUN"],
    "compare two": ["compare", "RUN", "RUN"],
    "compare three": ["compare", "RUN", "RUN", "RUN"],
}


def said_by(verb: str, path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = main([str(path) if word == "RUN" else word for word in VERBS[verb]])
    return code, capsys.readouterr().err.strip()


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


@pytest.mark.parametrize("verb", VERBS)
def test_a_run_that_is_not_there(verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "nowhere"
    words = f"limner: {path}: no such run; give the folder that `limner train` printed"
    assert said_by(verb, path, capsys) == (2, words)
    assert not path.exists()
    assert not list((tmp_path / "here").iterdir())


@pytest.mark.parametrize("verb", VERBS)
def test_a_folder_that_is_not_a_run(verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "photos"
    path.mkdir()
    (path / "me.jpg").touch()
    code, said = said_by(verb, path, capsys)
    assert code == 2
    assert said.startswith(f"limner: {path}: not a run (no settings, log, checkpoints or metrics of one in it)")
    assert len(said.splitlines()) == 1
    assert [entry.name for entry in path.iterdir()] == ["me.jpg"], "nothing was written there"


def test_a_run_without_a_checkpoint_is_another_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    code, said = said_by("sample", tmp_path / "run", capsys)
    assert (code, "no checkpoint in it; has the run begun?" in said) == (4, True)
