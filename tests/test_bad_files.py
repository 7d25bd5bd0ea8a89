"""`--bad-files` as a share, and the lists of bad files that programs read: `data check --json` and `--list-bad`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from hostile import encode, photo
from limner.cli import main
from limner.data.check import check
from limner.data.faults import FAULTS
from limner.data.prepare import prepare
from limner.data.tally import allowed_share, most_skipped, percent
from limner.errors import DataError, LimnerError
from test_celeba import file_name, make_celeba


def make_photos(folder: Path, good: int, bad: int) -> Path:
    (folder / "sub").mkdir(parents=True)
    for k in range(good):
        (folder / f"{k:03d}.png").write_bytes(encode(photo(np.random.default_rng(k), 24, 24), "PNG"))
    for k in range(bad):
        (folder / "sub" / f"bad {k}.png").write_bytes(b"<html>" if k % 2 else b"")
    return folder


# A share


def test_a_share_of_bad_files_is_left_out(tmp_path: Path) -> None:
    source = make_photos(tmp_path / "photos", 57, 3)
    data = prepare(source, tmp_path / "out", resolution=16, bad_files="5%", workers=1)
    assert data.count == 57
    assert [entry["file"] for entry in data.source["skipped"]] == [f"sub/bad {k}.png" for k in range(3)]
    with pytest.raises(DataError, match=r"more than 2 of 60 files .*allow a larger share, such as --bad-files 9\.8%"):
        prepare(source, tmp_path / "out2", resolution=16, bad_files="4.9%", workers=1)
    assert not (tmp_path / "out2").exists()


def test_the_message_of_the_first_bad_file_names_the_ways_on(tmp_path: Path) -> None:
    source = make_photos(tmp_path / "photos", 3, 1)
    with pytest.raises(DataError, match=r"`limner data check .*photos` lists all .*--bad-files 5% leaves up to 5 in"):
        prepare(source, tmp_path / "out", resolution=16, workers=1)


@pytest.mark.parametrize(
    ("asked", "total", "most"),
    [("error", 5000, 0), ("0%", 5000, 0), ("skip", 310, 1), ("skip", 2999, 2), ("5%", 310, 15), ("0.1%", 100, 1),
     ("29%", 100, 29), ("100%", 7, 7)],
)  # fmt: skip
def test_how_many_may_be_left_out(asked: str, total: int, most: int) -> None:
    assert most_skipped(allowed_share(asked), total) == most


@pytest.mark.parametrize("asked", ["", "5", "0.05", "five", "-1%", "101%", "5 %", "nan%", "1e1%"])
def test_what_is_no_share_is_refused_before_anything_is_read(tmp_path: Path, asked: str) -> None:
    with pytest.raises(LimnerError, match=r"say error .*, skip .* or a share such as 5%") as caught:
        prepare(tmp_path / "nowhere", tmp_path / "out", bad_files=asked)
    assert caught.value.exit_code == 2


def test_the_share_advised_is_enough() -> None:
    for total in range(1, 400):
        for bad in {1, total // 3, total - 1, total} - {0}:
            share = allowed_share(percent(Fraction(bad, total)))
            assert most_skipped(share, total) >= bad


def test_only_bad_files_name_the_source(tmp_path: Path) -> None:
    source = make_photos(tmp_path / "photos", 0, 2)
    with pytest.raises(DataError, match=r"photos: no picture could be used; the first: sub/bad 0\.png"):
        prepare(source, tmp_path / "out", bad_files="100%", workers=1)


# Lists


def test_check_prints_one_json_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = make_photos(tmp_path / "photos", 4, 2)
    shutil.copy(source / "000.png", source / "copy.png")
    (source / "labels.csv").write_text("x")
    assert main(["data", "check", str(source), "--resolution", "16", "--workers", "1", "--json"]) == 3
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert (found["kind"], found["pictures"], found["good"], found["copies"]) == ("folder", 7, 5, 1)
    assert found["source"] == found["folder"] == str(source)
    assert found["bad"] == [
        {"file": "sub/bad 0.png", "fault": "zero-byte", "detail": "the file is empty", "remedy": FAULTS["zero-byte"]},
        {"file": "sub/bad 1.png", "fault": "html", "detail": "it is a web page", "remedy": FAULTS["html"]},
    ]
    assert any("labels.csv" in remark for remark in found["remarks"])
    assert f"limner: {found['error']}\n" in captured.err
    assert "--bad-files 28.6%" in found["error"]
    shutil.rmtree(source / "sub")
    assert main(["data", "check", str(source), "--resolution", "16", "--workers", "1", "--json"]) == 0
    good = json.loads(capsys.readouterr().out)
    assert good["bad"] == []
    assert "error" not in good


def test_json_of_a_refusal_and_of_a_dataset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", str(tmp_path / "nowhere"), "--json"]) == 3
    assert "no such folder or zip" in json.loads(capsys.readouterr().out)["error"]
    source = make_photos(tmp_path / "photos", 4, 0)
    data = prepare(source, tmp_path / "out", resolution=16, workers=1)
    capsys.readouterr()
    assert main(["data", "check", str(data.folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "source": str(data.folder), "kind": "dataset", "images": 4, "files": len(data.files),
    }  # fmt: skip
    (data.folder / "splits.npy").write_bytes(b"")
    assert main(["data", "check", str(data.folder), "--json"]) == 3
    assert "splits.npy" in json.loads(capsys.readouterr().out)["error"]


def test_json_says_what_changed_since_the_dataset_was_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = make_photos(tmp_path / "photos", 5, 0)
    prepare(source, tmp_path / "out", resolution=16, workers=1)
    (source / "000.png").unlink()
    shutil.copy(source / "002.png", source / "001.png")
    (source / "003.png").write_bytes(b"")
    shutil.copy(source / "002.png", source / "new.png")
    capsys.readouterr()
    with pytest.raises(DataError, match=r"1 of 5 pictures cannot be used.*000\.png is gone, new\.png is new"):
        check(source, dataset=tmp_path / "out", json=True, workers=1)
    expected = {"gone": ["000.png"], "new": ["new.png"], "changed": ["001.png", "003.png"]}
    assert json.loads(capsys.readouterr().out)["dataset"] == {"folder": str(tmp_path / "out"), **expected}


def test_the_list_is_one_path_a_line_for_other_programs(tmp_path: Path) -> None:
    source, bad = make_photos(tmp_path / "photos", 3, 2), tmp_path / "bad.txt"
    odd = os.fsdecode(b"latin-\xe9 'quoted'.png")
    (source / odd).write_bytes(b"")
    with pytest.raises(DataError, match="3 of 6"):
        check(source, resolution=16, list_bad=bad, workers=1)
    assert bad.read_bytes() == b"latin-\xe9 'quoted'.png\nsub/bad 0.png\nsub/bad 1.png\n"
    if sys.platform == "linux":
        subprocess.run(["xargs", "-d", "\\n", "-a", str(bad), "rm", "--"], cwd=source, check=True)
        check(source, resolution=16, list_bad=bad, workers=1)
        assert bad.read_bytes() == b""


def test_a_name_with_a_line_break_is_left_to_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, bad = make_photos(tmp_path / "photos", 3, 1), tmp_path / "bad.txt"
    (source / "a\nb.png").write_bytes(b"")
    with pytest.raises(DataError, match="2 of 5"):
        check(source, resolution=16, list_bad=bad, workers=1)
    assert bad.read_text() == "sub/bad 0.png\n"
    assert "1 bad files listed; 1 with a line break in their names are not, see --json" in capsys.readouterr().out


def test_paths_of_celeba_are_relative_to_what_was_named(tmp_path: Path) -> None:
    folder = make_celeba(tmp_path / "root" / "celeba")
    (folder / "img_align_celeba" / file_name(1)).write_bytes(b"")
    for source, path in ((folder, "img_align_celeba"), (tmp_path / "root", "celeba/img_align_celeba")):
        with pytest.raises(DataError, match="1 of 6"):
            check(source, list_bad=tmp_path / "bad", workers=1)
        assert (tmp_path / "bad").read_text() == f"{path}/{file_name(1)}\n"


def test_a_list_that_cannot_be_is_refused_first(tmp_path: Path) -> None:
    source = make_photos(tmp_path / "photos", 3, 1)
    for wrong in (tmp_path, tmp_path / "no" / "file"):
        with pytest.raises(LimnerError, match="name a file to write, in a folder that exists"):
            check(source, list_bad=wrong, workers=1)
    data = prepare(source, tmp_path / "out", resolution=16, bad_files="50%", workers=1)
    with pytest.raises(LimnerError, match="is a dataset, which has no picture files"):
        check(data.folder, list_bad=tmp_path / "bad")
