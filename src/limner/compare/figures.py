"""The faces of the page as HTML: sheets, flips of every attribute, turned codes, reconstructions."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL.PngImagePlugin import PngInfo

from limner.compare.contenders import Group
from limner.compare.faces import (
    SHEET_FACES,
    STRIP_LATENTS,
    Cast,
    Flip,
    Turn,
    faces_of,
    flips_of,
    latents_of,
    reconstructions_of,
    turns_of,
)
from limner.explore.pictures import provenance_record, provenance_xmp, sheet
from limner.latents import AttributeRows
from limner.training.page import data_uri, text

_SHEET_COLUMNS = 6


def sheets(groups: Sequence[Group], cast: Cast) -> str:
    """Each group's faces of the same seeds and rows, after the photos of those rows."""
    figures = []
    if cast.images is not None:
        photos = _picture(cast.images, _SHEET_COLUMNS, None, "photos of the data")
        figures.append(_figure(photos, "the data", f"its own pictures of these rows ({cast.split} split)"))
    for group in groups:
        faces = faces_of(group.model, latents_of(group.model, cast, SHEET_FACES))
        picture = _picture(faces, _SHEET_COLUMNS, group, f"faces of {group.name}")
        figures.append(_figure(picture, group.name, _asked(group, cast)))
    return f'<div class="sheets">{"".join(figures)}</div>'


def _asked(group: Group, cast: Cast) -> str:
    seed = f", training seed {group.runs[0].seed}" if len(group.runs) > 1 else ""
    if group.conditional:
        whose = "the same rows" if cast.images is not None else "rows of the data"
        return f"asked for the attributes of {whose}{seed}"
    if group.code_parts:
        named = any(isinstance(group.model.latents.part(name), AttributeRows) for name in group.code_parts)
        return f"its codes set to those rows{seed}" if named else f"codes of its own{seed}"
    return f"told no attributes{seed}"


def _picture(faces: np.ndarray, columns: int, group: Group | None, what: str) -> str:
    """An <img> at native size; a model's picture says in itself that it is synthetic."""
    buffer = io.BytesIO()
    chunks = PngInfo()
    if group is not None:
        origin = {
            "model": group.model.name,
            "weights": "ema",
            "images_seen": group.runs[0].images_seen,
            "checkpoint_sha256": group.model.checkpoint.sha256,  # type: ignore[union-attr]
        }
        chunks.add_itxt("XML:com.adobe.xmp", provenance_xmp(origin).decode())
        chunks.add_text("limner", provenance_record(origin))
    picture = sheet(faces, columns=columns, gap=1)
    picture.save(buffer, "PNG", pnginfo=chunks, optimize=True)
    size = f'width="{picture.width}" height="{picture.height}"'
    return f'<img src="{data_uri("image/png", buffer.getvalue())}" {size} alt="{text(what)}">'


def _figure(picture: str, title: str, caption: str) -> str:
    told = f'<b>{text(title)}</b> <span class="aside">{text(caption)}</span>'
    return f'<figure class="faces crisp"><figcaption>{told}</figcaption>{picture}</figure>'


def flip_table(groups: Sequence[Group], cast: Cast) -> str:
    """A row an attribute, a column a model: the same faces without it above, with it below; "" where none is told any.

    What stands in one row can be compared; the number is how much of the picture a flip changes.
    """
    found = {group.name: flips_of(group, cast) for group in groups}
    shown = [group for group in groups if found[group.name]]
    if not shown:
        return ""
    names = list(dict.fromkeys(name for group in shown for name in found[group.name]))
    head = "".join(f'<th scope="col">{text(group.name)}{_code_note(group)}</th>' for group in shown)
    coded = ", ".join(group.name for group in shown if not group.conditional)
    codes = f" Of {text(coded)} a code of that name is turned." if coded else ""
    body = ""
    for name in names:
        cells = "".join(_flip_cell(found[group.name].get(name), group, name) for group in shown)
        body += f'<tr><th scope="row">{text(name.replace("_", " "))}</th>{cells}</tr>'
    return (
        f"<p>{STRIP_LATENTS} faces of each model, above without the attribute, below with it, all else kept. The "
        f"number is how much a flip changes a pixel on average, in percent of its range, over 8 faces.{codes}</p>"
        f'<div class="flips"><table class="side stack"><thead><tr><th scope="col">attribute</th>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _code_note(group: Group) -> str:
    note = "codes: nothing in its training ties a code to its name"
    return "" if group.conditional else f"<small>{note}</small>"


def _flip_cell(flip: Flip | None, group: Group, name: str) -> str:
    named = f'data-name="{text(group.name)}"'
    if flip is None:
        return f'<td class="none" {named}>–</td>'
    strip = flip.faces.reshape(-1, *flip.faces.shape[2:])
    picture = _picture(strip, flip.faces.shape[1], group, f"{group.name}: without and with {name}")
    return f'<td class="crisp" {named}>{picture}<small>{100 * flip.change:.1f} %</small></td>'


def code_figures(groups: Sequence[Group], cast: Cast) -> str:
    """Each code of each model that has codes, turned through its values; "" where none has."""
    return "".join(_turned(group, turn) for group in groups for turn in turns_of(group, cast))


def _turned(group: Group, turn: Turn) -> str:
    faces = turn.faces.reshape(-1, *turn.faces.shape[2:])
    picture = _picture(faces, turn.faces.shape[1], group, f"{group.name}: {turn.name} turned")
    rows = f"each row one face, from left to right {turn.what}"
    return _figure(picture, f"{group.name} · {turn.name.replace('_', ' ')}", rows)


def reconstructions(groups: Sequence[Group], cast: Cast) -> str:
    """Photos, and below them what each model that encodes makes of them again; "" where none encodes."""
    figures = []
    for group in groups:
        again = reconstructions_of(group, cast)
        if again is None or cast.images is None:
            continue
        both = np.concatenate([cast.images[: len(again)], again])
        picture = _picture(both, len(again), group, f"{group.name}: photos above, reconstructions below")
        error = np.abs(both[: len(again)].astype(np.float32) - again).mean() / 255
        said = f"photos of the {cast.split} split above, encoded and decoded below: {100 * error:.1f} % off on average"
        figures.append(_figure(picture, group.name, said))
    return f'<div class="sheets wide">{"".join(figures)}</div>' if figures else ""
