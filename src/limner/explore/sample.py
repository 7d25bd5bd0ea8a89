"""The verb `limner sample`: faces of a trained model, one a seed."""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from PIL import Image

from limner.arguments import FilePath, ModelChoice, Names, Seeds
from limner.errors import LimnerError
from limner.explore.pictures import Enlargement, check_suffix, save_picture, sheet
from limner.files import refuse_overwriting
from limner.program import limner_command
from limner.training.run_folder import check_run

_MOST_SEEDS = 100_000
_LARGEST_SEED = 2**63 - 1
_SHEET_CELL_PIXELS = 96
"""faces smaller than this are enlarged on a sheet"""


def sample(
    run: tyro.conf.Positional[FilePath],
    *,
    seeds: Annotated[Seeds, tyro.conf.arg(metavar="0-63|1,5,9-12")] = "0-63",
    out: FilePath | None = None,
    weights: Literal["ema", "raw"] = "ema",
    columns: int | None = None,
    enlarge: Enlargement = "lanczos",
    wanted: Annotated[Names, tyro.conf.arg(name="with", metavar="Male,Smiling")] = "",
    unwanted: Annotated[Names, tyro.conf.arg(name="without", metavar="Eyeglasses")] = "",
    device: str = "auto",
    overwrite: bool = False,
    model: ModelChoice | None = None,
) -> Path:
    """Draw faces from a trained model: one seed is one face, whatever the other seeds and the device.

    Args:
        run: folder of a run, or one of its checkpoints.
        seeds: which faces: ranges and single seeds, such as 0-63 or 1,5,9-12.
        out: a picture (.png, .webp, .jpg) for one sheet, or a folder (no suffix) for one file a face at its own size;
            by default samples/seeds-….png in the run.
        weights: the moving average of the generator's weights (ema), or the weights as trained (raw).
        columns: faces a row of the sheet; by default nearly as many as there are rows.
        enlarge: how faces smaller than 96 pixels are enlarged on a sheet: smoothly (lanczos), or every pixel to a
            square (pixels).
        wanted: attributes that every face is asked to have, with commas between them; of conditional models. The
            others are as in a row of the data, drawn by the seed.
        unwanted: attributes that no face is to have.
        device: auto, cpu, cuda, cuda:N or mps.
        overwrite: replace what --out names, if it is there already.
        model: the class of a run whose model is not part of limner; that file is run, so name only one you trust.

    Returns:
        Where the picture or the pictures are: `out`.
    """
    run, chosen = Path(run), chosen_seeds(seeds)
    own, out = out is None, Path(out) if out is not None else default_sheet(run, "seeds", spell_seeds(chosen))
    if columns is not None and columns < 1:
        raise LimnerError(f"--columns {columns}: a sheet needs at least one face a row")
    one_sheet = bool(out.suffix) and not out.is_dir()
    if one_sheet:
        check_suffix(out)
    files = [out] if one_sheet else [out / f"seed{seed:04d}.png" for seed in chosen]
    refuse_overwriting(files, own or overwrite)
    loaded, origin = load_with_origin(run, weights, device, model)
    asked = asked_attributes(loaded, wanted, unwanted)
    if asked:
        origin["attributes"] = ",".join(f"{name}={value}" for name, value in asked.items())
    faces = tracked(generate_faces(loaded, chosen, asked), len(chosen))
    if one_sheet:
        images = np.stack(list(faces))
        scale = max(-(-_SHEET_CELL_PIXELS // images.shape[1]), 1)
        picture = sheet(images, columns, scale, enlarge=enlarge)
        save_picture(picture, out, {**origin, "seeds": spell_seeds(chosen)})
    else:
        for seed, file, face in zip(chosen, files, faces, strict=True):
            save_picture(Image.fromarray(face), file, {**origin, "seeds": str(seed)})
    print(f"{len(chosen)} {'face' if len(chosen) == 1 else 'faces'}: {out}")
    return out


def chosen_seeds(seeds: str | Sequence[int]) -> list[int]:
    """Seeds as text, such as "0-63", or as whole numbers.

    Raises:
        LimnerError: they are neither, or there are none or too many.
    """
    if isinstance(seeds, str):
        return parse_seeds(seeds)
    try:
        numbers = list(dict.fromkeys(operator.index(seed) for seed in seeds))
    except TypeError:
        raise LimnerError(f"seeds {seeds!r}: expected text such as 0-63, or whole numbers such as [1, 5, 9]") from None
    if not numbers or min(numbers) < 0 or max(numbers) > _LARGEST_SEED or len(numbers) > _MOST_SEEDS:
        raise LimnerError(f"seeds: expected 1 to {_MOST_SEEDS} whole numbers from 0 to 2^63 - 1, got {str(seeds)[:60]}")
    return numbers


def parse_seeds(text: str) -> list[int]:
    """Seeds named by "0-63" or "1,5,9-12", in that order, each once.

    Raises:
        LimnerError: the text has another form, a range runs backwards, or there are more than 100,000.
    """
    seeds: dict[int, None] = {}
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\d{1,19})\s*(?:-\s*(\d{1,19})\s*)?", part, re.ASCII)
        if found is None:
            raise LimnerError(f"--seeds {text!r}: {part.strip()!r} is not a seed or range; write 0-63 or 1,5,9-12")
        first, last = int(found[1]), int(found[2] or found[1])
        if last < first or last > _LARGEST_SEED:
            reason = "runs backwards" if last < first else "is above 2^63 - 1"
            raise LimnerError(f"--seeds {text!r}: {part.strip()!r} {reason}; write 0-63 or 1,5,9-12")
        if len(seeds) + last - first >= _MOST_SEEDS:
            raise LimnerError(f"--seeds {text!r}: more than {_MOST_SEEDS} seeds; draw them in several commands")
        seeds |= dict.fromkeys(range(first, last + 1))
    return list(seeds)


def spell_seeds(seeds: Sequence[int]) -> str:
    """The shortest text that `parse_seeds` reads as these seeds: [0, 1, 2, 7] is "0-2,7"."""
    spans: list[list[int]] = []
    for seed in seeds:
        if spans and seed == spans[-1][1] + 1:
            spans[-1][1] = seed
        else:
            spans.append([seed, seed])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)


def asked_attributes(model: Any, wanted: str | Sequence[str], unwanted: str | Sequence[str]) -> dict[str, int]:
    """1 for each attribute named in `wanted`, 0 for each in `unwanted`: names with commas between them, or lists.

    Raises:
        LimnerError: the model takes no attributes, does not know one, or one is in both.
    """
    texts = [(text if isinstance(text, str) else ",".join(text)) for text in (wanted, unwanted)]
    words = [(name.strip(), value) for text, value in zip(texts, (1, 0), strict=True) for name in text.split(",")]
    asked: dict[str, int] = {}
    known = list(model.labels.names) if hasattr(model, "labels") and "attributes" in model.latents else []
    for name, value in words:
        if not name:
            continue
        if not known:
            raise LimnerError(f"--with, --without: {why_no_attributes(model)}")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise LimnerError(f"--with, --without: {name!r} is not one of the model's; {hint}it has {', '.join(known)}")
        if asked.get(name, value) != value:
            raise LimnerError(f"--with, --without: {name!r} is in both; leave it out of one")
        asked[name] = value
    return asked


def why_no_attributes(model: Any) -> str:
    """Why a model cannot be asked for attributes, and what to do: its kind takes none, or its run was given none."""
    takes = getattr(type(model), "takes_attributes", None)
    if takes is None or not takes(getattr(model, "config", None)):
        return f"{model.name} takes no attributes; leave them out"
    return (
        f"this {model.name} was trained without attributes (its setting attributes is none) and can be asked for none; "
        f"train one with them: {limner_command()} train {model.name} --attributes all (the quick start, "
        f"{limner_command()} train alone, takes none)"
    )


def generate_faces(model: Any, seeds: Sequence[int], asked: Mapping[str, int] | None = None) -> Iterator[np.ndarray]:
    """One face a seed, uint8 [r, r, 3], with the attributes asked for.

    Each seed's latents come from a CPU generator of its own, and each face is computed alone: in a batch, its last bits
    would depend on how many are computed with it.
    """
    for seed in seeds:
        yield paint(model, latents_of_seed(model, seed, asked))


def latents_of_seed(model: Any, seed: int, asked: Mapping[str, int] | None = None) -> Any:
    """[1, d], on the CPU: what that seed's face is made of, with the attributes asked for."""
    import torch

    latents = model.latents.sample(1, torch.Generator().manual_seed(seed))
    if not asked:
        return latents
    row = model.latents.split(latents)["attributes"].clone()
    for name, value in asked.items():
        row[:, model.labels.names.index(name)] = value
    return model.latents.replace(latents, attributes=row)


def paint(model: Any, latents: Any) -> np.ndarray:
    """The face of latents [1, d]: uint8 [r, r, 3]."""
    import torch

    from limner.pixels import to_bytes

    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    with torch.inference_mode():
        return to_bytes(model.generate(latents.to(device)))[0].cpu().numpy()


def load_with_origin(
    run: Path, weights: Literal["ema", "raw"], device: str, model: ModelChoice | None = None
) -> tuple[Any, dict[str, object]]:
    """The model on its device, and what a picture's record says of its origin."""
    import limner

    loaded = limner.load(run, weights=weights, device=device, model=model)
    checkpoint = getattr(loaded, "checkpoint", None)
    origin = {
        "model": getattr(loaded, "name", type(loaded).__name__),
        "weights": weights,
        "checkpoint_sha256": getattr(checkpoint, "sha256", None),
        "images_seen": getattr(checkpoint, "images_seen", None),
    }
    return loaded, {name: value for name, value in origin.items() if value is not None}


def default_sheet(run: Path, kind: str, text: str) -> Path:
    """`samples/KIND-TEXT.png` in the run, the text shortened at a comma where it is long.

    Raises:
        LimnerError: there is no such run.
    """
    if not run.exists():  # what else it may be is for `load` to say
        check_run(run)
    folder = run if run.is_dir() else run.parent
    name = text if len(text) <= 80 else f"{text[:70].rpartition(',')[0]},and-more"
    return folder / "samples" / f"{kind}-{name}.png"


def tracked(faces: Iterator[np.ndarray], count: int) -> Iterator[np.ndarray]:
    """The same faces, with a bar on standard error where that is a terminal."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return iter(track(faces, "faces", total=count, console=console, transient=True, disable=not console.is_terminal))
