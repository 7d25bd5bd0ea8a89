"""Files that a command was told to write are not replaced without `--overwrite`; its defaults in a run are its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from limner.cli import main
from test_evaluate_verb import train


@pytest.fixture(scope="module")
def run(tiny_dataset_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    train(tiny_dataset_folder, folder, "--sample-kimg", "0.008")
    return folder


@pytest.fixture(scope="module")
def turning(tiny_dataset_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "turning"
    train(tiny_dataset_folder, folder, model="hologan")
    return folder


VERBS = {
    "sample": ("sample", "RUN", "--seeds", "1,2", "--out", "OUT.png"),
    "faces": ("sample", "RUN", "--seeds", "1,2", "--out", "OUT"),
    "walk": ("walk", "RUN", "--seeds", "1,2", "--steps", "2", "--out", "OUT.png"),
    "turn": ("turn", "TURNING", "--seeds", "1", "--steps", "2", "--out", "OUT.png"),
    "timelapse": ("timelapse", "RUN", "--faces", "1", "--out", "OUT.gif"),
    "compare": ("compare", "RUN", "TURNING", "--ignore", "attributes", "--out", "OUT.html"),
    "statistics": ("data", "statistics", "DATA", "OUT.npz"),
}


@pytest.mark.parametrize("verb", VERBS)
def test_what_is_there_stays_unless_overwriting_is_asked_for(
    verb: str, run: Path, turning: Path, tiny_dataset_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"RUN": str(run), "TURNING": str(turning), "DATA": str(tiny_dataset_folder)}
    words = [places.get(word, word).replace("OUT", str(tmp_path / "out")) for word in VERBS[verb]]
    kept = tmp_path / "out" / "seed0002.png" if verb == "faces" else Path(words[-1])
    kept.parent.mkdir(exist_ok=True)
    kept.write_text("somebody's own")
    before = sorted(tmp_path.rglob("*"))
    assert main(words) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert f"{kept}: there already" in said.err
    assert "--overwrite" in said.err
    assert (kept.read_text(), sorted(tmp_path.rglob("*"))) == ("somebody's own", before)
    if verb == "statistics":
        return  # it needs an extractor, and what is asked here comes before that
    assert main([*words, "--overwrite"]) == 0, capsys.readouterr().err
    assert kept.read_bytes() != b"somebody's own"


def test_what_a_verb_writes_by_default_is_its_own(run: Path, turning: Path) -> None:
    for words in (
        ("sample", run, "--seeds", "1,2"),
        ("walk", run, "--seeds", "1,2", "--steps", "2"),
        ("turn", turning, "--seeds", "1", "--steps", "2"),
        ("timelapse", run, "--faces", "1"),
        ("report", run),
    ):
        for _ in range(2):
            assert main([str(word) for word in words]) == 0


def test_a_page_written_by_default_is_not_replaced_either(
    run: Path, turning: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It lies where the command was given, not inside a run."""
    monkeypatch.chdir(tmp_path)
    Path("compare.html").write_text("an earlier page")
    assert main(["compare", str(run), str(turning), str(run)]) == 2
    assert "compare.html: there already" in capsys.readouterr().err
    assert Path("compare.html").read_text() == "an earlier page"
