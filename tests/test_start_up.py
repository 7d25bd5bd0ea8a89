"""The command line answers without waiting for what it does not need."""

from __future__ import annotations

import subprocess
import sys

import pytest

SLOW = ("torch", "numpy", "PIL", "torchmetrics", "safetensors", "tyro", "rich", "jaxtyping")


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["data", "--help"], ["sampel"]])
def test_help_versions_and_misspellings_import_nothing_slow(words: list[str]) -> None:
    code = f"import sys; from limner.cli import main; main({words}); sys.stderr.write(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    imported = set(done.stderr.split())
    assert "limner.cli" in imported
    assert imported.isdisjoint(SLOW)


def test_the_package_imports_nothing_slow_until_it_is_asked_for() -> None:
    code = "import sys, limner; limner.__all__; limner.__version__; sys.stderr.write(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert set(done.stderr.split()).isdisjoint(SLOW)


def test_the_installed_command_and_the_module_are_the_same() -> None:
    module = subprocess.run([sys.executable, "-m", "limner", "--help"], capture_output=True, check=True, timeout=60)
    code = "import sys; from limner.cli import main; sys.exit(main(['--help']))"
    function = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=60)
    assert module.stdout == function.stdout
    assert b"limner train" in module.stdout or b"train [MODEL]" in module.stdout
