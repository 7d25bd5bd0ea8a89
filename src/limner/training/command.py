"""The verbs `limner train` and `limner resume`: flags for the run and for the model chosen."""

from __future__ import annotations

import argparse
import difflib
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import tyro

from limner.arguments import FilePath
from limner.errors import LimnerError
from limner.models import MODELS, Model, choose_model
from limner.models.dcgan import DCGAN, DCGANConfig
from limner.models.outside import file_of
from limner.program import limner_command
from limner.training import run
from limner.training.config import TrainConfig, read_config
from limner.training.report import write_report
from limner.training.run_folder import check_run

M = TypeVar("M")
F = TypeVar("F", bound="PlanFlags[Any]")

QUICK_START: tuple[type[Model], TrainConfig[Any]] = (
    DCGAN,
    TrainConfig(
        model=DCGANConfig(width=48, learning_rate=6e-4),
        attributes="none",
        kimg=72.0,
        batch_size=32,
        decay="cosine",
        sample_kimg=5.0,
        checkpoint_kimg=20.0,
        metrics_kimg=40.0,
    ),
)
"""What `limner train` alone does: the model and settings whose heads were best after five minutes on two cores."""


@dataclass(frozen=True, kw_only=True)
class PlanFlags(Generic[M]):
    config: TrainConfig[M]
    out: Path | None = None
    """folder of the run to make; by default the next free number under runs/"""


@dataclass(frozen=True, kw_only=True)
class TrainFlags(PlanFlags[M]):
    stop_at: float | None = None
    """stop for now at so many kimg, saved; the run's goal stays --kimg, and `limner resume` goes on to it"""


@dataclass(frozen=True, kw_only=True)
class ResumeFlags(Generic[M]):
    config: TrainConfig[M]
    stop_at: float | None = None
    """stop for now at so many kimg, saved; the run's goal stays --kimg"""


def train(words: Sequence[str]) -> int:
    """`limner train [MODEL] [flags]`."""
    model_class, flags = chosen(words, "train", TrainFlags)
    folder = run.train(model_class, flags.config, flags.out, flags.stop_at)
    _tell(folder, model_class)
    return 0


def chosen(words: Sequence[str], verb: str, flags: type[F]) -> tuple[type[Model], F]:
    """Return the model and the flags, of the given class, that `limner VERB [MODEL] [flags]` asks for."""
    what = {"train": "Train a model", "plan": "What training a model would take: memory, time, disk"}[verb]
    if words and not words[0].startswith("-"):
        model_class = choose_model(words[0])
        default, words = default_settings(model_class, words[1:])
        prog, description = f"limner {verb} {model_class.name}", f"{what}.\n\n{_described(model_class)}"
    else:
        model_class, default = QUICK_START
        prog = f"limner {verb}"
        names = ", ".join(MODELS)
        description = (
            f"{what}: `limner {verb} MODEL`, one of {names}. Without MODEL this is the quick start: "
            f"{model_class.name} on the built-in heads, for about five minutes on two cores."
        )
    kind: Any = flags
    return model_class, _parse(kind[model_class.Config], words, prog, description, kind(config=default))


def default_settings(model_class: type[Model], words: Sequence[str]) -> tuple[TrainConfig[Any], list[str]]:
    """What a model is trained with unless the other words, which come back too, say otherwise: see `--preset`."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--preset")
    try:
        found, rest = parser.parse_known_args(list(words))
    except argparse.ArgumentError:
        raise LimnerError(f"--preset needs a name; {_presets(model_class)}") from None
    if found.preset is None:
        return TrainConfig(model=model_class.Config()), rest
    if found.preset not in model_class.presets:
        near = difflib.get_close_matches(found.preset, model_class.presets, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise LimnerError(f"--preset {found.preset!r}: {hint}{_presets(model_class)}")
    preset = model_class.presets[found.preset]
    return TrainConfig(model=model_class.Config(**preset.model), **preset.run), rest


def _presets(model_class: type[Model]) -> str:
    if not model_class.presets:
        return f"{model_class.name} has none; leave --preset out"
    return f"{model_class.name} has: {', '.join(model_class.presets)}"


def _described(model_class: type[Model]) -> str:
    if not model_class.presets:
        return model_class.summary
    lines = [f"  {name}: {preset.summary}" for name, preset in model_class.presets.items()]
    return "\n".join([model_class.summary, "", "--preset NAME takes the settings called so for defaults:", *lines])


def resume(words: Sequence[str]) -> int:
    """`limner resume RUN [flags]`."""
    if not words or words[0].startswith("-"):
        if words and words[0] in ("-h", "--help"):
            print(
                "usage: limner resume RUN [--kimg MORE] [--stop-at N] [--model FILE.py:CLASS] [other flags]\n\n"
                "Go on with a run from its newest good checkpoint, exactly as if it had never stopped.\n"
                "--model names the class of a run whose model is not part of limner; that file is run.\n"
                "Flags as for train (`limner resume RUN --help` lists them); what shapes the weights must not change."
            )
            return 0
        raise LimnerError("resume: which run? `limner resume RUN`, where RUN is the folder that `limner train` printed")
    folder = Path(words[0])
    check_run(folder)
    given, rest = take_model(words[1:])
    model_class, default = read_config(folder / "config.json", given)
    settings = ResumeFlags[model_class.Config]
    description = (
        f"Go on with {folder}; settings that shape the weights must stay what they were. --kimg may be more than "
        f"before: a learning rate that decays then goes on as in a run of that length."
    )
    flags = _parse(settings, rest, f"limner resume {folder}", description, ResumeFlags(config=default))
    _tell(run.resume(folder, model_class, flags.config, flags.stop_at), model_class)
    return 0


def take_model(words: Sequence[str]) -> tuple[type[Model] | None, list[str]]:
    """The class that `--model` names, which has to be known before the other words can be read, and those words."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--model")
    try:
        found, rest = parser.parse_known_args(list(words))
    except argparse.ArgumentError:
        raise LimnerError("--model needs a name: --model path/to/file.py:CLASS") from None
    return None if found.model is None else choose_model(found.model), rest


def report(run: tyro.conf.Positional[FilePath]) -> Path:
    """Write a run's report.html again, from whatever is in its folder.

    Args:
        run: folder of a run.

    Returns:
        The page's file.
    """
    check_run(Path(run))
    page = write_report(Path(run))
    print(f"report        {page}")
    return page


def _parse(kind: Any, words: Sequence[str], prog: str, description: str, default: Any) -> Any:
    return tyro.cli(
        kind, args=list(words), prog=prog, description=description, default=default, config=(tyro.conf.OmitArgPrefixes,)
    )


def _tell(folder: Path, model_class: type[Model]) -> None:
    if os.environ.get("RANK", "0") != "0":
        return
    sheets = sorted((folder / "samples").glob("images-*.png"))
    print(f"run           {folder}")
    if sheets:
        print(f"sample sheet  {sheets[-1]}")
    print(f"report        {folder / 'report.html'}")
    file = file_of(model_class)
    named = f" --model {shlex.quote(file)}" if file else ""
    print(f"next          {limner_command()} sample {folder} --seeds 0-63 --out sheet.png{named}")
