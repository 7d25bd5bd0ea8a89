"""Types of arguments that the command line reads from one word, and for which Python takes more than text.

The verbs are functions that tyro turns into commands: each type says how a word is read, so that one signature serves
`limner sample RUN --seeds 0-7` and `limner.sample("run", seeds=range(8))` alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

from tyro.constructors import PrimitiveConstructorSpec


def _one_word(metavar: str, read: Callable[[str], Any], accepted: tuple[type, ...]) -> PrimitiveConstructorSpec[Any]:
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=lambda words: read(words[0]),
        is_instance=lambda value: isinstance(value, accepted),
        str_from_instance=lambda value: [str(value)],
    )


FilePath = Annotated[str | Path, _one_word("PATH", Path, (str, Path))]
"""a file or folder"""
OptionalPath = Annotated[
    str | Path | None,
    _one_word("{None}|PATH", lambda word: None if word == "None" else Path(word), (str, Path, type(None))),
]
"""a file or folder, or None; for a setting whose default may be a path, which tyro does not find in a union"""
Seeds = Annotated[str | Sequence[int], _one_word("0-63|1,5,9-12", str, (str, Sequence))]
"""seeds: text such as "0-63" or "1,5,9-12", or in Python also whole numbers"""
Names = Annotated[str | Sequence[str], _one_word("Male,Smiling", str, (str, Sequence))]
"""names with commas between them, or in Python also a list of them"""
ModelChoice = Annotated[str | type, _one_word("FILE.py:CLASS", str, (str, type))]
"""a model's name, FILE.py:CLASS, or in Python also the class itself"""
