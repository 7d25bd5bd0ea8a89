"""Equal terms: the same data, crop, resolution, attributes and images seen, or a refusal that names what differs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import fields
from typing import Any

from limner.compare.contenders import Contender, Group
from limner.errors import LimnerError
from limner.metrics.card import Card

TERMS = ("dataset_sha256", "resolution", "crop", "images_seen", "attributes")
"""named as on a card, so that one --ignore serves both"""


def check_ignored(ignore: Collection[str]) -> None:
    """Refuse words after --ignore that are no field.

    Raises:
        LimnerError: naming them.
    """
    unknown = sorted(set(ignore) - {entry.name for entry in fields(Card)})
    if unknown:
        raise LimnerError(
            f"ignore: {', '.join(unknown)}: no such field; a run's terms are {', '.join(TERMS)}, and a card has the "
            "fields that docs/metrics.md lists"
        )


def check_terms(groups: Sequence[Group], ignore: Collection[str]) -> list[str]:
    """Refuse runs on unequal terms; returns what was ignored and does differ, in plain words.

    A model that is not told attributes (it has codes of its own) may stand beside models that are.

    Raises:
        LimnerError: the first field that differs, with the run and both values.
    """
    allowed = []
    runs = [(group, run) for group in groups for run in group.runs]
    for field in TERMS:
        known = [(run, value) for group, run in runs if (value := _term(group, run, field)) is not _NONE]
        unlike = [(run, value) for run, value in known if value != known[0][1]]
        if unlike and field not in ignore:
            (first, ours), (run, theirs) = known[0], unlike[0]
            raise LimnerError(
                f"{run.folder}: {field} is {_told(theirs, ours)}, but {first.folder} has {_told(ours, theirs)}; "
                f"compare runs on equal terms, or allow it with --ignore {field}"
            )
        if unlike:
            allowed.append(_WORDS[field])
    return allowed


_NONE = object()
_WORDS = {
    "dataset_sha256": "The runs were trained on different data.",
    "resolution": "The runs make pictures of different sizes.",
    "crop": "The runs were trained on different crops of their photos.",
    "images_seen": "The runs have seen different numbers of images.",
    "attributes": "The runs are conditional on different attributes.",
}


def _term(group: Group, run: Contender, field: str) -> Any:
    if field == "images_seen":
        return group.images_of(run)
    if field == "resolution":
        return int(run.facts["resolution"])
    if field == "attributes":
        return _NONE if group.code_parts else run.labels.names
    return run.facts["dataset"]["manifest_sha256" if field == "dataset_sha256" else field]


def _told(value: Any, other: Any) -> str:
    """A value in a few words, long ones by what tells them apart."""
    if isinstance(value, tuple):
        own = [name for name in value if name not in other]
        listed = ", ".join(own[:4]) + (" …" if len(own) > 4 else "")
        return f"{len(value)} names" + (f" ({listed} among them)" if own else "") if value else "none"
    return f"{value[:12]}…" if isinstance(value, str) and len(value) == 64 else f"{value}"
