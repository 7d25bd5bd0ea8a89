"""Do what README.md says, as a new user would: every command of it, literally and in order, from a fresh clone.

    python .ci/newcomer.py [FOLDER]        # FOLDER: where to clone to, by default a temporary one, which is removed

The commands are read from README.md: the lines of its ```bash blocks in order, the `limner …` commands of its tables,
and its ```python blocks. One shell runs them as they stand, but for their budgets, made tiny by flags that are added
after a command's own (the last value of a flag counts) and by environment variables. Built-in heads stand in for
the photos, CelebA and CelebA-HQ that a user has. The first command that fails ends the script with exit code 1.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TINY_RUN = "--heads 200 --kimg 0.2 --metrics-count 64 --tick-kimg 0.1"
FLAGS = {
    "train": TINY_RUN,
    "train progan": f"{TINY_RUN} --resolution 16",
    "plan": "--kimg 0.2 --resolution 16",
    "resume": "--stop-at {stop_at} --metrics-count 64",
    "evaluate": "--count 64",
    "walk": "--steps 3",
    "turn": "--steps 4",
    "data heads": "--count 120",
    "data celeba-tree": "--count 20",
    "data probe": "--kimg 0.2",
    "data statistics": "--extractor probe --count 60",
}
"""added to a command, by its first words; the longest that fits is taken"""
STAND_INS = """
limner data celeba-tree celeba --count 220
mkdir -p photos/more
cp celeba/img_align_celeba/0000[0-4]*.jpg photos/
cp celeba/img_align_celeba/0001*.jpg photos/more/
limner data heads celebahq --count 120 --resolution 16
"""
"""Commands that make what a user has already; run as soon as limner is a command."""


def bash_commands(readme: str) -> list[str]:
    """Return the commands of the ```bash blocks, without comments, in order."""
    blocks = re.findall(r"^```bash\n(.*?)^```", readme, re.M | re.S)
    lines = [re.sub(r"\s+#.*", "", line).strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


def inline_commands(readme: str) -> list[str]:
    """Return the `limner …` commands in the first column of tables and in running text that name what exists."""
    rows = re.findall(r"^\| `(limner [^`]+)`", readme, re.M)
    return [row for row in rows if "…" not in row.replace("RUN…", "")]


def python_blocks(readme: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", readme, re.M | re.S)


def filled_in(command: str) -> str:
    """The command with a run, a model and a dataset in place of RUN, MODEL and DATASET."""
    run = "runs/hologan" if command.startswith("limner turn") else "runs/dcgan-heads-32-001"
    values = {
        "RUN…": f"{run} runs/dcgan-heads-32-002",
        "RUN": run,
        "MODEL": "dcgan",
        "DATASET": "heads-32",
        "SOURCE": "photos",
        "DEST": "made-" + "-".join(command.split()[2:3]),
    }
    for name, value in values.items():
        command = command.replace(name, value)
    return command


def with_budget(command: str) -> str:
    """The command with the flags that make it short."""
    words = command.split()
    start = words.index("limner") + 1 if "limner" in words else len(words)
    for count in (2, 1):
        flags = FLAGS.get(" ".join(words[start : start + count]))
        if flags is not None:
            return f"{command} {flags.format(stop_at=0.3 if '--kimg' in command else 0.4)}"
    return command


def script(readme: str) -> str:
    """The whole session as one shell script that stops at the first command that fails."""
    commands = [with_budget(command) for command in bash_commands(readme)]
    first = next(at for at, command in enumerate(commands) if "photos/" in command)
    inline = [with_budget(filled_in(command)) for command in inline_commands(readme)]
    python = [f"python block-{number}.py" for number in range(len(python_blocks(readme)))]
    lines = [*commands[:first], *STAND_INS.strip().splitlines(), *commands[first:], *inline, *python]
    told = [f"printf '%s\\n' {quoted(f'$ {line}')}\n{line}" for line in lines]
    return "set -eo pipefail\n" + "\n".join(told) + "\nprintf 'README: %d commands\\n' " + str(len(lines)) + "\n"


def quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def main() -> int:
    place = Path(sys.argv[1]).absolute() if len(sys.argv) > 1 else Path(tempfile.mkdtemp()) / "limner"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(place)], check=True)
    readme = (place / "README.md").read_text(encoding="utf-8")
    for number, block in enumerate(python_blocks(readme)):
        (place / f"block-{number}.py").write_text(re.sub(r"\bkimg=\d+", "kimg=0.2", block), encoding="utf-8")
    virtual = os.environ.get("VIRTUAL_ENV")
    path = [part for part in os.environ["PATH"].split(os.pathsep) if not virtual or not part.startswith(virtual)]
    environment = {
        **{name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "OMP_NUM_THREADS")},
        "PATH": os.pathsep.join(path),
        "LIMNER_CACHE": str(place / "cache"),
        "FACES": FLAGS["train"],
    }
    code = subprocess.run(["bash", "-c", script(readme)], cwd=place, env=environment, check=False).returncode
    if len(sys.argv) == 1:
        shutil.rmtree(place.parent)
    print("README: all commands ran" if code == 0 else "README: the command above failed", file=sys.stderr)
    return 1 if code else 0


if __name__ == "__main__":
    sys.exit(main())
