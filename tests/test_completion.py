"""`limner completion bash|zsh|fish`: the script is loaded by the shell itself and asked what it completes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from limner.cli import main
from limner.models import MODELS

CASES = [
    (["sa"], {"sample"}, set()),
    ([""], {"train", "data", "completion"}, {"prepare"}),
    (["data", "pr"], {"prepare", "probe"}, {"heads"}),
    (["data", "probe", "faces", "--mi"], {"--mirror"}, set()),
    (["train", ""], set(MODELS), {"sample"}),
    (["plan", "prog"], {"progan"}, {"dcgan"}),
    (["train", "progan", "--preset", ""], {"laptop", "modern"}, {"--preset"}),
    (["train", "dcgan", "--"], {"--width", "--kimg", "--preset"}, {"--gp-weight"}),
    (["train", "my_file.py", "--ki"], {"--kimg"}, {"--width"}),
    (["sample", "run", "--w"], {"--weights", "--with", "--without"}, {"--seeds"}),
    (["sample", "run", "--weights", ""], {"ema", "raw"}, {"--seeds"}),
    (["evaluate", "run", "--split", "t"], {"train", "test"}, {"valid"}),
    (["resume", "run", "--"], {"--kimg", "--model"}, {"--out", "--latent-dim"}),
    (["completion", ""], {"bash", "zsh", "fish"}, set()),
]
"""words after `limner`, what must be offered, what must not"""


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    import contextlib
    import io

    found = {}
    for shell in ("bash", "zsh", "fish"):
        text = io.StringIO()
        with contextlib.redirect_stdout(text):
            assert main(["completion", shell]) == 0
        found[shell] = tmp_path_factory.mktemp("completion") / f"limner.{shell}"
        found[shell].write_text(text.getvalue())
    return found


def ask(command: list[str]) -> set[str]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    return set(done.stdout.split())


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
@pytest.mark.parametrize(("words", "offered", "others"), CASES)
def test_bash_completes(scripts: dict[str, Path], words: list[str], offered: set[str], others: set[str]) -> None:
    code = 'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _limner; echo "${COMPREPLY[@]}"'
    found = ask(["bash", "--norc", "-c", code, "bash", str(scripts["bash"]), "limner", *words])
    assert offered <= found
    assert not others & found


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_bash_leaves_files_to_the_shell(scripts: dict[str, Path]) -> None:
    code = 'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _limner; echo "${COMPREPLY[@]}"'
    for words in (["sample", "ru"], ["sample", "run", "--out", "pic"], ["train", "dcgan", "--data", ""]):
        assert ask(["bash", "--norc", "-c", code, "bash", str(scripts["bash"]), "limner", *words]) == set()
    assert "-o default" in scripts["bash"].read_text()


@pytest.mark.skipif(shutil.which("zsh") is None, reason="no zsh here")
@pytest.mark.parametrize(("words", "offered", "others"), CASES)
def test_zsh_completes(scripts: dict[str, Path], words: list[str], offered: set[str], others: set[str]) -> None:
    code = 'compdef() {}; source "$1"; shift; _limner_found "$@"'
    assert offered <= ask(["zsh", "-f", "-c", code, "zsh", str(scripts["zsh"]), "limner", *words])


@pytest.mark.skipif(shutil.which("fish") is None, reason="no fish here")
@pytest.mark.parametrize(("words", "offered", "others"), CASES)
def test_fish_completes(scripts: dict[str, Path], words: list[str], offered: set[str], others: set[str]) -> None:
    line = " ".join(["limner", *words])
    assert offered <= ask(["fish", "-N", "-c", f"source {scripts['fish']}; complete -C '{line}'"])


def test_completing_starts_no_python(scripts: dict[str, Path]) -> None:
    for script in scripts.values():
        code = [line for line in script.read_text().splitlines() if not line.startswith("#")]
        assert not any("$(limner" in line or "python" in line for line in code)


def test_another_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "tcsh"]) == 2
    assert "bash, zsh, fish" in capsys.readouterr().err
    assert main(["completion"]) == 0
    assert "source <(limner completion bash)" in capsys.readouterr().out
