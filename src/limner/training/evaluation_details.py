"""A card's figures one by one, where it holds some of each attribute, code or axis: one table for screen and page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from limner.metrics.card import Card
from limner.metrics.code_recovery import ARROW, LEAST_SHARE


@dataclass(frozen=True)
class Details:
    """A table of text; all columns but those in `words` are numbers, those in `aside` only for wide pages."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: Sequence[int]
    aside: Sequence[int] = ()


def details(card: Card) -> Details | None:
    """The card's figures of attributes, codes or axes; None where it has none."""
    makers = {"attribute_accuracy": _of_attributes, "code_recovery": _of_codes, "pose_control": _of_axes}
    found = makers[card.metric](card) if card.metric in makers else None
    return found if found and found.rows else None


def _of_attributes(card: Card) -> Details:
    judged = _listed(card, "attributes")
    badly = _listed(card, "hardly_read")
    rows = []
    for name in (key.removeprefix("probe_") for key in card.values if key.startswith("probe_")):
        figures = [_number(card.values, key) for key in (name, f"balanced_{name}", f"probe_{name}", f"asked_{name}")]
        note = "" if name in judged else "hardly read" if name in badly else "asked of all or none"
        rows.append((name, *figures, note))
    head = ("attribute", "accuracy", "balanced", "probe", "asked of", "not judged")
    return Details(f"{card.name}: attribute by attribute", head, rows, words=(0, 5))


def _of_codes(card: Card) -> Details:
    values = card.values
    named = [key.removeprefix("agreement_") for key in values if key.startswith("agreement_")]
    matched = {}
    for key in values:
        if f"nats_{key}" in values and values[key] >= LEAST_SHARE:
            code, attribute = key.split(ARROW, 1)
            matched[code] = key, attribute
    rows = []
    for code in dict.fromkeys([*named, *matched]):
        by_name = [_number(values, key) for key in (code, f"agreement_{code}", f"probe_{code}")] if named else []
        pair, attribute = matched.get(code, ("", ""))
        told = (_number(values, pair), _number(values, f"nats_{pair}"), _direction(values, pair))
        rows.append((code, *by_name, attribute, *told))
    head = ["code", *(("own name", "agrees", "at best") if named else ())]
    place = len(head)
    head += ["best match", "share", "nats", "way"]
    return Details(f"{card.name}: code by code", head, rows, words=(0, place), aside=(place + 2,))


_OF_AN_AXIS = {
    "value": "control",
    "chance": "chance",
    "rank_correlation": "ranks",
    "slope": "slope",
    "range": "range",
    "error_degrees": "degrees off",
    "probe_error_degrees": "the probe",
    "error_of_line_degrees": "off the line",
    "turning_back": "back",
    "monotone": "one way",
    "wrong_way": "wrong way",
    "sign": "sign",
}
"""figure → heading"""
_FOR_WIDE_PAGES = ("chance", "range", "error_of_line_degrees", "monotone")


def _of_axes(card: Card) -> Details:
    figures = {"value": card.value, **card.values}
    figures |= {f"{axis}_value": card.values[axis] for axis in ("pitch", "roll") if axis in card.values}
    rows = []
    for axis, before in (("yaw", ""), ("pitch", "pitch_"), ("roll", "roll_")):
        if f"{before}value" in figures:
            rows.append((axis, *(_number(figures, before + name) for name in _OF_AN_AXIS)))
    aside = [1 + list(_OF_AN_AXIS).index(name) for name in _FOR_WIDE_PAGES]
    return Details(f"{card.name}: axis by axis", ("axis", *_OF_AN_AXIS.values()), rows, words=(0,), aside=aside)


def _listed(card: Card, setting: str) -> list[str]:
    return str(card.settings.get(setting, "")).split(", ")


def _number(values: Mapping[str, float], name: str) -> str:
    return f"{values[name]:.3f}" if name in values else ""


def _direction(values: Mapping[str, float], pair: str) -> str:
    """Which way a code is to be turned for the attribute: its correlation, or the value it is commonest at."""
    if f"way_{pair}" in values:
        return f"at {values[f'way_{pair}']:.0f}"
    return f"{values[f'sign_{pair}']:+.2f}" if f"sign_{pair}" in values else ""
