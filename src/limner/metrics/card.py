"""Metric cards: a number and everything it depends on. Unlike cards refuse to be compared.

The same generator has FIDs of 3.8, 4.3 and 5.3 on the same photos under three resize filters, so a number without its
protocol is not a result. A card is a JSON file that binds one number to that protocol.
"""

from __future__ import annotations

import json
import math
import os
import types
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib import metadata
from pathlib import Path
from typing import Any, TypeAlias, get_args, get_origin, get_type_hints

from limner.errors import DataError, LimnerError, ResourceError

FORMAT = "limner-card-2"
_FIRST_FORMAT = "limner-card-1"
_SINCE_2 = ("extractor_resize", "truncation", "attributes")
"""fields that a card of the first format lacks: it was made without extractor, truncation and given attributes"""
Setting: TypeAlias = str | int | float | bool

SUBJECT = ("value", "values", "count_requested", "model", "images_seen")
"""What a comparison is about, hence may differ. All other fields are the protocol and must be equal."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What a metric returns: the number and what the metric itself knows of how it was made."""

    value: float
    values: Mapping[str, float] = field(default_factory=dict)
    """sub-values: one per level, or the same quantity of the reals"""
    settings: Mapping[str, Setting] = field(default_factory=dict)
    extractor: str | None = None
    extractor_sha256: str | None = None
    extractor_resize: str | None = None
    count_reals: int | None = None
    """reals that were looked at, where not as many as the evaluation was asked for; 0 where none are needed"""
    count_fakes: int | None = None
    """fakes, or pairs of fakes, likewise"""


@dataclass(frozen=True, kw_only=True)
class Card:
    """One number and its protocol. Values are finite, or there is no card (LimnerError)."""

    metric: str
    """key in `limner.metrics.registry.METRICS`"""
    value: float
    values: Mapping[str, float] = field(default_factory=dict)
    settings: Mapping[str, Setting] = field(default_factory=dict)
    """the metric's own parameters"""
    count_requested: int
    count_reals: int | None
    """None where a file of reference statistics does not say"""
    count_fakes: int
    resolution: int
    """side of the compared images, pixels"""
    quantisation: str
    """how floats became bytes"""
    resize: str | None = None
    """how the reals came to this resolution; fakes are never resized"""
    crop: str | None = None
    dataset: str | None = None
    dataset_sha256: str | None = None
    """of the dataset's manifest"""
    split: str | None = None
    seed: int
    """of the choice of reals, of patches and directions"""
    latents_seed: int | None = None
    model: str | None = None
    weights: str | None = None
    """"ema" or "raw" """
    images_seen: int | None = None
    extractor: str | None = None
    """network whose features are compared; None where pixels are"""
    extractor_sha256: str | None = None
    extractor_resize: str | None = None
    """how images came to the network's size"""
    truncation: float | None = None
    """factor on the latents' distance from their mean; None: as the prior has them"""
    attributes: str | None = None
    """where a conditional model's attributes came from, and which; None: it has none"""
    code_version: str = field(default_factory=lambda: metadata.version("limner"))

    def __post_init__(self) -> None:
        for name, value in (("value", self.value), *self.values.items(), *self.settings.items()):
            if isinstance(value, float) and not math.isfinite(value):
                raise LimnerError(
                    f"{self.metric}: {name} is {value}, which no card can hold; look for non-finite weights or images"
                )

    @property
    def name(self) -> str:
        """Metric, extractor and count of fakes, such as swd_2k and fd_probe_10k."""
        return display_name(self.metric, self.count_fakes, self.extractor)

    @property
    def file_name(self) -> str:
        """Name of the card's file in a run's folder `metrics`: images seen, name, split, weights."""
        seen = None if self.images_seen is None else f"images-{self.images_seen:012d}"
        parts = [seen, self.name, self.split, self.weights]
        return "-".join(part for part in parts if part) + ".json"

    def write(self, path: Path) -> None:
        """Write JSON at `path`: all of it, or nothing (ResourceError)."""
        content = {"format": FORMAT, "name": self.name, **asdict(self)}
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        partial = path.with_name(path.name + ".partial")
        try:
            with partial.open("w", encoding="utf-8", newline="\n") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except OSError as error:
            raise ResourceError(f"{path}: cannot be written ({error.strerror}); make room there") from error
        finally:  # also where a signal interrupts
            partial.unlink(missing_ok=True)


def display_name(metric: str, count: int, extractor: str | None = None) -> str:
    """`swd`, 2000 → `swd_2k`; `fd`, 10000, `probe` → `fd_probe_10k`; `fid`, 10000, `inception` → `fid_10k`.

    Only exact thousands become k: 2048 is `swd_2048`, or two counts would share a name. Inception is not named, since
    it is what the field means by FID, KID and the rest where it says nothing.
    """
    stem = metric if extractor in (None, "inception") else f"{metric}_{extractor}"
    return f"{stem}_{count // 1000}k" if count and count % 1000 == 0 else f"{stem}_{count}"


def read_card(path: Path) -> Card:
    """The card in a JSON file; one of the first format too, whose missing fields are None.

    Raises:
        DataError: the file is missing, is no JSON, lacks a field or has an unknown one, or holds a wrong type or a
            value that is not finite.
    """
    content = _read_json(path)
    found = content.pop("format", None)
    if found == _FIRST_FORMAT:
        content = dict.fromkeys(_SINCE_2) | content
    elif found != FORMAT:
        raise DataError(f"{path}: format: not a {FORMAT} file; pass a card that limner wrote")
    name = content.pop("name", None)
    hints = get_type_hints(Card)
    _check_names(path, content, set(hints))
    for key, value in content.items():
        if not _fits(value, hints[key]):
            raise DataError(f"{path}: {key}: {value!r:.60} is not {_words(hints[key])}; make the card again")
    content["value"] = float(content["value"])  # JSON writers may write 6 for 6.0
    content["values"] = {key: float(value) for key, value in content["values"].items()}
    try:
        card = Card(**content)
    except LimnerError as error:
        raise DataError(f"{path}: {error}") from error
    if name != card.name:
        raise DataError(f"{path}: name: {name!r}, but the fields say {card.name!r}; make the card again")
    return card


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except (ValueError, RecursionError) as error:  # ValueError: JSON and UTF-8 errors alike
        raise DataError(f"{path}: not JSON ({error}); make the card again") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: a JSON {type(content).__name__}, not an object; pass a card that limner wrote")
    return content


def _check_names(path: Path, content: Mapping[str, object], known: Collection[str]) -> None:
    # A field with a default is required too: an older file without it would be given today's value.
    for key in sorted(known - content.keys()):
        raise DataError(f"{path}: {key}: missing; make the card again with this version of limner")
    for key in sorted(content.keys() - known):
        raise DataError(f"{path}: {key}: unknown field; read it with the version of limner that wrote it")


def _fits(value: object, hint: Any) -> bool:
    if isinstance(hint, types.UnionType):
        return any(_fits(value, option) for option in get_args(hint))
    if get_origin(hint) is not None:  # Mapping[str, X]
        return isinstance(value, dict) and all(_fits(item, get_args(hint)[1]) for item in value.values())
    if hint is float:
        return isinstance(value, float) or (type(value) is int and abs(value) < 2**53)
    return isinstance(value, hint) and (hint is bool or not isinstance(value, bool))


def _words(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("collections.abc.", "")


def compare(first: Card, second: Card, *, ignore: Collection[str] = ()) -> dict[str, float]:
    """`second` minus `first`: {"value": …} and one entry for each sub-value.

    Args:
        first: card to compare with.
        second: card whose values are taken as they are.
        ignore: fields that may differ all the same, such as ("code_version",); named by whoever knows why.

    Raises:
        LimnerError: the cards are unlike; one line names every field that differs, with both values.
    """
    unknown = sorted(set(ignore) - {entry.name for entry in fields(Card)})
    if unknown:
        raise LimnerError(f"ignore: {', '.join(unknown)}: no such field of a card")
    unlike = [line for line in _differences(first, second) if line.split(" ")[0].split(".")[0] not in ignore]
    if unlike:
        raise LimnerError(
            f"{first.name} and {second.name} cannot be compared: {'; '.join(unlike)}; measure both in the same way"
        )
    shared = [key for key in first.values if key in second.values]
    return {
        "value": second.value - first.value,
        **{key: second.values[key] - first.values[key] for key in shared},
    }


def _differences(first: Card, second: Card) -> list[str]:
    lines = []
    for entry in fields(Card):
        a, b = getattr(first, entry.name), getattr(second, entry.name)
        if entry.name in SUBJECT or a == b:
            continue
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            keys = [key for key in {**a, **b} if a.get(key) != b.get(key)]
            lines += [f"{entry.name}.{key} {a.get(key)!r} ≠ {b.get(key)!r}" for key in keys]
        else:
            lines.append(f"{entry.name} {a!r} ≠ {b!r}")
    return lines
