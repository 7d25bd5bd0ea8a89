"""The command line: parse, then call one function.

`limner --help` must answer at once, so nothing is imported before the verb is known.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from limner.errors import LimnerError
from limner.signals import WATCH, flush_output, number_of

HELP = """\
limner: train, measure and explore generative models of faces

usage: limner VERB … [--debug]

  train [MODEL]              train a model; without one, the quick start: five minutes on the built-in heads
  resume RUN                 go on with a run exactly where it stopped
  plan [MODEL]               what a run would take of memory, time and disk, and whether it fits
  models                     list the models
  sample RUN                 draw faces from a trained model, one a seed
  walk RUN --seeds 1,5,9     from face to face through the latents: a sheet, or a moving picture
  turn RUN                   the same faces from one angle after another: a sheet, or a moving picture (hologan)
  timelapse RUN              the same faces as they were learned, through all resolutions: a moving picture
  evaluate RUN               measure a trained model
  compare RUN RUN …          trained models side by side on equal terms: numbers, and of three or more one page
  report RUN                 write a run's report.html again
  completion SHELL           a script that completes verbs, models and flags: bash, zsh or fish
  data prepare SOURCE DEST   make a dataset of photos (folder or zip), CelebA or CelebAMask-HQ as downloaded, TFRecords
  data heads DEST            render the built-in heads as a dataset
  data celeba-tree DEST      render them as a CelebA tree, to try what reads CelebA
  data info DATASET          what a dataset holds
  data probe DATASET         train a small network that reads attributes, pose and identity from pictures
  data statistics DATASET F  write its features' mean and covariance to F, an .npz file: a reference for FID
  data check SOURCE          every bad file of a source, with what is wrong

MODEL is a name that `limner models` lists, or FILE.py:CLASS for one of your own.
`limner VERB --help` explains a verb, `limner train MODEL --help` a model's settings too.
A signal (Ctrl-C, SIGTERM) stops every verb; a training run saves first. A second one ends it at once.
`--debug` shows the traceback of an error. Exit codes: 0 well, 1 bug, 2 usage (also: no such run), 3 data, 4 checkpoint,
5 resources, 6 run locked, 7 diverged, 8 peer lost, 130 or 143 stopped by SIGINT (Ctrl-C) or SIGTERM.
"""
DATA_VERBS = ("prepare", "heads", "celeba-tree", "info", "probe", "statistics", "check")
SYNONYMS = {
    "models": ("list", "ls", "architectures", "show"),
    "train": ("fit", "learn", "run", "start", "begin", "new"),
    "resume": ("continue", "restart", "go-on", "load"),
    "plan": ("estimate", "dry-run", "memory", "preflight"),
    "sample": ("generate", "gen", "draw", "faces", "images", "sheet", "synthesize"),
    "walk": ("interpolate", "interpolation", "morph", "latents"),
    "turn": ("rotate", "pose", "spin", "yaw"),
    "timelapse": ("video", "film", "movie", "gif", "animate", "progress"),
    "evaluate": ("eval", "metrics", "measure", "score", "test", "validate", "fid", "kid", "swd", "ppl"),
    "compare": ("diff", "versus", "vs", "benchmark"),
    "report": ("html", "page", "log", "status", "plot"),
    "completion": ("complete", "autocomplete", "completions"),
    "data prepare": ("prepare", "dataset", "datasets", "convert", "import", "preprocess", "download", "photos"),
    "data heads": ("heads", "render", "synthetic"),
    "data celeba-tree": ("celeba-tree", "celeba"),
    "data info": ("info", "describe", "inspect"),
    "data probe": ("probe", "classifier"),
    "data statistics": ("statistics", "stats"),
    "data check": ("check", "verify"),
    "--help": ("h", "man", "usage"),
    "--version": ("version", "-v", "-V"),
}
"""words that people try for a verb"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        with WATCH:
            return _run(words)
    except LimnerError as error:
        return _fail(str(error), error.exit_code, debug)
    except KeyboardInterrupt as interruption:
        return _fail(str(interruption) or "interrupted", 128 + number_of(interruption), debug)
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except MemoryError as error:
        return _fail(f"out of memory ({error}); use a smaller --batch-size, --micro-batch or --resolution", 5, debug)
    except OSError as error:
        return _fail(
            f"{error.filename or 'input/output'}: {error.strerror or error}; check the path and the disk", 5, debug
        )
    except RuntimeError as error:
        if type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error):
            return _fail("out of memory; use a smaller --batch-size, --micro-batch or --resolution", 5, debug)
        return _bug(error, debug)
    except Exception as error:
        return _bug(error, debug)


def _bug(error: Exception, debug: bool) -> int:
    """Something nobody foresaw: still one line."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{os.path.basename(where.filename)}:{where.lineno}"
    said = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return _fail(f"unexpected {said} (at {place}); this is a bug, please report what --debug prints", 1, debug)


def _fail(message: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    with contextlib.suppress(OSError, ValueError):  # nobody may be there to read it
        print(f"limner: {message}", file=sys.stderr)
    flush_output()
    return code


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0
    if words[0] == "--version":
        from limner import __version__

        print(f"limner {__version__}")
        return 0
    verb, rest = words[0], words[1:]
    if verb == "data":
        return _data(rest)
    verbs: dict[str, Callable[[list[str]], int]] = {
        "train": _train,
        "resume": _resume,
        "plan": _plan,
        "models": _models,
        "sample": _sample,
        "walk": _walk,
        "turn": _turn,
        "timelapse": _timelapse,
        "evaluate": _evaluate,
        "compare": _compare,
        "report": _report,
    }
    if verb == "completion":
        return _completion(rest, [*verbs, "data", "completion"])
    if verb not in verbs:
        raise LimnerError(f"{verb!r} is not a verb; {_near(verb, [*verbs, 'data', 'completion'])}see `limner --help`")
    return verbs[verb](rest)


def _near(word: str, words: Sequence[str], group: str = "") -> str:
    """Return a question with the verb that was probably meant, by spelling or by meaning; "" where there is none.

    Args:
        word: what was typed.
        words: the verbs there.
        group: "data " among the verbs of `limner data`.
    """
    import difflib

    meant = {other: verb for verb, others in SYNONYMS.items() for other in others}
    own = {other: verb.removeprefix(group) for other, verb in meant.items() if verb.startswith(group)}
    known = {**(own if group else meant), **{verb: verb for verb in words}}
    for cutoff, candidates in ((0.8, words), (0.6, known)):  # a verb misspelt before a synonym misspelt
        near = difflib.get_close_matches(word.lower(), candidates, n=1, cutoff=cutoff)
        if near:
            return f"did you mean {known[near[0]]!r}? "
    return ""


def _completion(words: list[str], verbs: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(
            "usage: limner completion bash|zsh|fish\n\n"
            "Print a script that completes verbs, models, presets and flags. Load it in every new shell:\n"
            "  bash   echo 'source <(limner completion bash)' >> ~/.bashrc\n"
            "  zsh    echo 'source <(limner completion zsh)' >> ~/.zshrc   (after compinit)\n"
            "  fish   limner completion fish > ~/.config/fish/completions/limner.fish"
        )
        return 0
    from limner.completion import completion

    print(completion(words[0], verbs, DATA_VERBS, _run), end="")
    return 0


def _call(function: Callable[..., Any], words: list[str], prog: str) -> int:
    import tyro

    tyro.cli(function, args=words, prog=prog)
    return 0


def _data(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print("\n".join(line for line in HELP.splitlines() if line.startswith("  data")))
        return 0
    verb, rest = words[0], words[1:]
    prog = f"limner data {verb}"
    if verb == "heads":
        from limner.heads import make_heads

        return _call(make_heads, rest, prog)
    if verb == "celeba-tree":
        from limner.heads.celeba_tree import make_celeba_tree

        return _call(make_celeba_tree, rest, prog)
    if verb == "prepare":
        from limner.data.prepare import prepare

        return _call(prepare, rest, prog)
    if verb == "info":
        from limner.data.info import info

        return _call(info, rest, prog)
    if verb == "probe":
        from limner.metrics.probe.verb import probe

        return _call(probe, rest, prog)
    if verb == "statistics":
        from limner.training.statistics import statistics

        return _call(statistics, rest, prog)
    if verb == "check":
        from limner.data.check import check

        return _call(check, rest, prog)
    near = _near(verb, DATA_VERBS, "data ")
    raise LimnerError(f"'data {verb}' is not a verb; {near}there are: data {', data '.join(DATA_VERBS)}")


def _sample(words: list[str]) -> int:
    from limner.explore.sample import sample

    return _call(sample, words, "limner sample")


def _walk(words: list[str]) -> int:
    from limner.explore.walk import walk

    return _call(walk, words, "limner walk")


def _turn(words: list[str]) -> int:
    from limner.explore.turn import turn

    # An angle may begin with a minus sign, which a parser would take for another flag.
    joined: list[str] = []
    for word in words:
        if joined and joined[-1] in ("--yaw", "--pitch", "--roll") and word[:2].lstrip("-+.").isdigit():
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return _call(turn, joined, "limner turn")


def _timelapse(words: list[str]) -> int:
    from limner.explore.time_lapse_verb import timelapse

    return _call(timelapse, words, "limner timelapse")


def _evaluate(words: list[str]) -> int:
    from limner.training.evaluate import evaluate

    return _call(evaluate, words, "limner evaluate")


def _compare(words: list[str]) -> int:
    from limner.compare.verb import compare

    return _call(compare, words, "limner compare")


def _report(words: list[str]) -> int:
    from limner.training.command import report

    return _call(report, words, "limner report")


def _models(words: list[str]) -> int:
    if words and words[0] not in ("-h", "--help"):
        raise LimnerError(f"models: takes no argument, got {words[0]!r}; settings of one: limner train MODEL --help")
    from limner.models import MODELS, find_model
    from limner.models.outside import installed_models

    for name, model in MODELS.items():
        print(f"{name:10} {model.summary}")
    for name, entries in installed_models().items():
        package = entries[0].dist.name if entries[0].dist else "an installed package"
        if name in MODELS:
            print(f"{name:10} (of {package}: not used, because limner has a model of that name)")
            continue
        try:
            print(f"{name:10} {find_model(name).summary} (of {package})")
        except LimnerError as error:
            print(f"{name:10} (not usable: {error})")
    print("\nsettings of one: limner train MODEL --help; one of your own: limner train path/to/file.py:CLASS")
    return 0


def _train(words: list[str]) -> int:
    from limner.training import command

    return command.train(words)


def _plan(words: list[str]) -> int:
    from limner.training import plan

    return plan.plan(words)


def _resume(words: list[str]) -> int:
    from limner.training import command

    return command.resume(words)


if __name__ == "__main__":
    sys.exit(main())
