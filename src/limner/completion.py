"""Completion of the whole command in bash, zsh and fish: one script that holds every verb, model, preset and flag.

The script is written once, when all verbs can be asked for their flags, and then completes without starting Python.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields

from limner.errors import LimnerError

SHELLS = ("bash", "zsh", "fish")
_FLAG = re.compile(
    r"^[│| ] (?:-h, )?(?P<flag>--[a-z][a-z0-9-]*)(?:, (?P<other>--[a-z][a-z0-9-]*))?"
    r"(?P<value> (?:\{None\}\|)?(?:\{(?P<choices>[A-Za-z0-9,_-]+)\})?)?",
    re.M,
)
"""a flag at the beginning of a line of help, its opposite, and the values to choose from"""
_SWITCH = re.compile(r"--(help|no-.*)")


@dataclass
class Context:
    """What can follow a beginning of a command line such as `train dcgan`."""

    words: Sequence[str] = ()
    """verbs, or models"""
    flags: list[str] = field(default_factory=list)
    switches: set[str] = field(default_factory=set)
    """flags that take no value"""
    choices: dict[str, Sequence[str]] = field(default_factory=dict)
    """values of a flag, where they are known"""


def completion(shell: str, verbs: Sequence[str], data_verbs: Sequence[str], run: Callable[[list[str]], int]) -> str:
    """Return the script for a shell.

    Args:
        shell: bash, zsh or fish.
        verbs: of the command.
        data_verbs: of `limner data`.
        run: runs one command line, to ask it for its help.

    Raises:
        LimnerError: another shell.
    """
    if shell not in SHELLS:
        raise LimnerError(f"completion: {shell!r} is not one of {', '.join(SHELLS)}; `limner completion bash`")
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](_contexts(verbs, data_verbs, run))


def _contexts(verbs: Sequence[str], data_verbs: Sequence[str], run: Callable[[list[str]], int]) -> dict[str, Context]:
    """Everything that can be completed, by the words before it."""
    from limner.models import MODELS, find_model
    from limner.models.outside import installed_models

    models = [*MODELS, *(name for name in installed_models() if name not in MODELS)]
    found = {"": Context(words=verbs, flags=["--help", "--version"], switches={"--help", "--version"})}
    found["data"] = Context(words=data_verbs)
    found["completion"] = Context(words=SHELLS)
    with _help_width():
        for verb in verbs:
            if verb not in ("data", "models", "completion", "train", "plan", "resume"):
                found[verb] = _context(run, verb)
        for verb in data_verbs:
            found[f"data {verb}"] = _context(run, "data", verb)
        for verb in ("train", "plan"):
            found[verb] = _context(run, verb)
            found[verb].words = models
            for model in models:
                with contextlib.suppress(LimnerError):  # an installed model that cannot be imported is not offered
                    presets = find_model(model).presets
                    found[f"{verb} {model}"] = _context(run, verb, model)
                    if presets:
                        found[f"{verb} {model}"].flags.append("--preset")
                        found[f"{verb} {model}"].choices["--preset"] = list(presets)
    found["resume"] = _resume_context(found)
    return found


def _resume_context(found: Mapping[str, Context]) -> Context:
    """The flags of a run's own settings, and those of `resume` alone: a model's settings must stay what they were."""
    from limner.training.config import TrainConfig

    own = {f"--{field.name.replace('_', '-')}" for field in fields(TrainConfig)} | {
        "--stop-at",
        "--help",
        "--no-mirror",
    }
    flags = [flag for flag in found["train"].flags if flag in own]
    return Context(flags=[*flags, "--model"], switches=found["train"].switches, choices=found["train"].choices)


def _context(run: Callable[[list[str]], int], *words: str) -> Context:
    """The flags that a verb's help lists."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
        run([*words, "--help"])
    context = Context()
    for match in _FLAG.finditer(text.getvalue()):
        names = [name for name in (match["flag"], match["other"]) if name]
        context.flags += names
        if match["other"] or _SWITCH.fullmatch(match["flag"]):
            context.switches.update(names)
        if match["choices"]:
            context.choices[match["flag"]] = [value for value in match["choices"].split(",") if value != "None"]
    return context


@contextlib.contextmanager
def _help_width() -> Iterator[None]:
    """Inside, help is as wide as one column of options, whatever the terminal."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "110"
    try:
        yield
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before


def _table(contexts: Mapping[str, Context]) -> list[tuple[str, str]]:
    """(key, words) pairs: `KEY` has words, `KEY -` flags, `KEY --flag` values; `KEY --flag` of a switch is "-"."""
    rows = []
    for key, context in contexts.items():
        rows.append((key, " ".join(context.words)))
        rows.append((f"{key} -", " ".join(dict.fromkeys(context.flags))))
        rows += [(f"{key} {flag}", " ".join(values)) for flag, values in context.choices.items()]
        rows += [(f"{key} {flag}", "-") for flag in sorted(context.switches)]
    return [(key.strip(), words) for key, words in rows if words]


def _cases(contexts: Mapping[str, Context]) -> str:
    """The table as the cases of a `case` in bash and zsh."""
    return "\n".join(f"        '{key}') echo '{words}' ;;" for key, words in _table(contexts))


_POSIX = """\
_limner_words() {
    case "$1" in
%s
    esac
}
_limner_found() {  # arguments: all words up to the one to complete; prints what it can be
    local context='' word previous found
    word="${@: -1}"
    if [ "$#" -gt 2 ]; then
        context="$2"
        case "$2" in
            data|train|plan) case "${3}" in -*|'') ;; *) [ "$#" -gt 3 ] && context="$2 $3" ;; esac ;;
        esac
        case "$context" in
            train\\ *|plan\\ *) [ -n "$(_limner_words "$context -")" ] || context="$2" ;;  # a model of one's own
        esac
        shift $(($# - 2))
        previous="$1"
    fi
    case "$word" in
        -*) _limner_words "${context:+$context }-"; return ;;
    esac
    case "$previous" in
        --*)
            found="$(_limner_words "$context $previous")"
            if [ "$found" != - ]; then echo "$found"; return; fi ;;
    esac
    _limner_words "$context"
}
"""


def _bash(contexts: Mapping[str, Context]) -> str:
    return (
        "# bash completion for limner; load it with: source <(limner completion bash)\n"
        + _POSIX % _cases(contexts)
        + textwrap.dedent("""\
        _limner() {
            local word="${COMP_WORDS[COMP_CWORD]}"
            COMPREPLY=($(compgen -W "$(_limner_found "${COMP_WORDS[@]:0:COMP_CWORD+1}")" -- "$word"))
        }
        complete -o bashdefault -o default -F _limner limner
        """)
    )


def _zsh(contexts: Mapping[str, Context]) -> str:
    return (
        "#compdef limner\n# zsh completion for limner; load it with: source <(limner completion zsh)\n"
        + _POSIX % _cases(contexts)
        + textwrap.dedent("""\
        _limner() {
            local -a found
            found=(${=$(_limner_found "${(@)words[1,CURRENT]}")})
            if (( $#found )); then compadd -- $found; else _files; fi
        }
        compdef _limner limner
        """)
    )


def _fish(contexts: Mapping[str, Context]) -> str:
    cases = "\n".join(f"        case '{key}'\n            string split ' ' -- '{w}'" for key, w in _table(contexts))
    return (
        "# fish completion for limner; load it with: limner completion fish | source\n"
        f'function __limner_words\n    switch "$argv[1]"\n{cases}\n    end\nend\n'
        + textwrap.dedent("""\
        function __limner_found
            set -l before (commandline -opc)
            set -l word (commandline -ct)
            set -l context ''
            if test (count $before) -gt 1
                set context $before[2]
                if contains -- $context data train plan; and test (count $before) -gt 2
                    if test -n (__limner_words "$context $before[3] -" | string collect; or echo '')
                        set context "$context $before[3]"
                    end
                end
            end
            if string match -q -- '-*' $word
                __limner_words (string trim "$context -")
                return
            end
            if string match -q -- '--*' $before[-1]
                set -l found (__limner_words "$context $before[-1]")
                if test "$found" != -
                    string join \\n -- $found
                    return
                end
            end
            __limner_words $context
        end
        complete -c limner -a '(__limner_found)'
        """)
    )
