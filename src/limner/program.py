"""The command that starts this installation of limner, as a person would type it in their shell."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path


def limner_command() -> str:
    """Return `limner` where the shell finds this installation by that name; else the path of its script.

    After `make faces` limner is installed in `.venv`, which the shell does not search until it is activated: a command
    that is shown must work all the same.
    """
    script = Path(sys.executable).parent / "limner"
    found = shutil.which("limner")
    if not script.exists():  # started from a source folder: `python -m limner`
        return "limner" if found else f"{shlex.quote(sys.executable)} -m limner"
    if found and Path(found).resolve() == script.resolve():
        return "limner"
    relative = os.path.relpath(script)
    return shlex.quote(str(script) if relative.startswith("..") else relative)
