"""The pictures a run draws of itself, with the averaged weights: the same latents, the same photos, each time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from limner.data.dataset import Dataset
from limner.explore.pictures import Enlargement, repeated_by, save_picture, sheet
from limner.explore.turning import angle_captions, posed, strip_sheet, strips, trained_spans, turns
from limner.models import Encodes
from limner.pixels import to_bytes, to_floats
from limner.training.randomness import stream
from limner.training.trainer import Trainer
from limner.training.variety import Variety

SHEET_FACES = 64
RECONSTRUCTIONS = 32
TURNED_FACES, TURNED_FACES_OF_FURTHER_AXES, TURNED_ANGLES = 8, 4, 9
COLUMNS = 8
GAP = 2
"""pixels between a sheet's faces and around them"""
NAME = "images-{:012d}"
_CELL_PIXELS = 96
_PIXELS_AT_ONCE = 2**20


class Sheets:
    """Draws into `samples/` of a run's folder."""

    def __init__(
        self, folder: Path, seed: int, trainer: Trainer, dataset: Dataset, enlarge: Enlargement = "lanczos"
    ) -> None:
        self.enlarge = enlarge
        self.folder, self.seed, self.trainer, self.dataset = folder / "samples", seed, trainer, dataset
        self._reals: Variety | None = None

    def draw(self) -> dict[str, Any]:
        """The sample sheet, reconstructions where the model encodes, turns where it can; returns what to log of them.

        `diversity`, `contrast` and `saturation` compare the faces with as many reals, see `Variety`.

        Raises:
            ResourceError: a picture cannot be written.
        """
        trainer = self.trainer
        model = trainer.average.model
        latents = model.latents.sample(SHEET_FACES, stream(self.seed, 0, "sheet", 0))
        faces = to_bytes(generate(model, latents, trainer.world.device)).cpu().numpy()
        file = self._save(faces, f"{NAME.format(trainer.images_seen)}.png", {})
        logged: dict[str, Any] = {"file": file, **size_then(model, trainer.images_seen)}
        logged |= Variety.of(faces).beside(self._variety_of_reals(len(faces)))
        if isinstance(model, Encodes):
            logged["reconstructions"] = self._draw_reconstructions()
        if turns(model):
            logged["turns"] = self._draw_turns()
        return logged

    def _draw_reconstructions(self) -> str:
        """Photos, each left of what the model makes of its code: the first of the train split."""
        model, device = self.trainer.average.model, self.trainer.world.device
        rows = self.dataset.indices("train")[:RECONSTRUCTIONS]
        photos = torch.from_numpy(self.dataset.read(model.resolution, rows))
        with torch.no_grad():
            latents = model.encode(to_floats(photos).to(device), self.trainer.loader.attributes_of(rows))  # type: ignore[operator]
        again = to_bytes(generate(model, latents, device)).cpu()
        pairs = torch.stack([photos, again], dim=1).flatten(0, 1).numpy()
        name = f"reconstructions-{NAME.format(self.trainer.images_seen)}.png"
        return self._save(pairs, name, {"what": "photos, each left of its reconstruction", "rows": rows.tolist()})

    def _draw_turns(self) -> str:
        """The same few faces, a row each, turned along each axis the model was trained on, one below the other."""
        model, device = self.trainer.average.model, self.trainer.world.device
        faces = model.latents.sample(TURNED_FACES, stream(self.seed, 0, "turns", 0))
        found = strips(trained_spans(model), TURNED_ANGLES)
        captions = [caption for axis, strip in found for caption in angle_captions(axis, strip)]
        asked = [
            posed(model, faces if place == 0 else faces[:TURNED_FACES_OF_FURTHER_AXES], pose)
            for place, (_, strip) in enumerate(found)
            for pose in strip
        ]
        columns = [to_bytes(generate(model, latents, device)).cpu().numpy() for latents in asked]
        scale = max(1, _CELL_PIXELS // model.resolution)
        picture = strip_sheet(found, columns, scale, GAP, self.enlarge)
        name = f"turns-{NAME.format(self.trainer.images_seen)}.png"
        save_picture(picture, self.folder / name, {"what": "faces × angles", "angles": captions, **self._origin()})
        return f"samples/{name}"

    def _save(self, faces: UInt8[np.ndarray, "n h w 3"], name: str, facts: dict[str, Any]) -> str:
        scale = max(1, _CELL_PIXELS // faces.shape[1])
        small = _without_repeats(faces)
        scale *= faces.shape[1] // small.shape[1]
        picture = sheet(small, COLUMNS, scale, GAP, enlarge=self.enlarge)
        shown = {"face_pixels": small.shape[1], "enlarge": self.enlarge}
        save_picture(picture, self.folder / name, {**facts, **self._origin(), **shown})
        return f"samples/{name}"

    def _origin(self) -> dict[str, Any]:
        trainer = self.trainer
        return {
            "model": trainer.model.name,
            "images_seen": trainer.images_seen,
            "run_seed": self.seed,
            "weights": "ema",
        }

    def _variety_of_reals(self, count: int) -> Variety:
        """Return that of so many training images, taken evenly."""
        if self._reals is None:
            rows = self.dataset.indices("train")
            even = np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(np.int64)
            self._reals = Variety.of(self.dataset.read(self.trainer.model.resolution, rows[even]))
        return self._reals


def _without_repeats(faces: UInt8[np.ndarray, "n r r 3"]) -> UInt8[np.ndarray, "n s s 3"]:
    """Return the faces at the side that a growing model makes now: until it has grown, `generate` repeats pixels."""
    if len(faces) == 0 or faces.shape[1] != faces.shape[2]:
        return faces
    factor = repeated_by(faces.swapaxes(0, 2).swapaxes(0, 1).reshape(faces.shape[1], faces.shape[2], -1))
    return faces[:, ::factor, ::factor] if factor < faces.shape[1] else faces


def size_then(model: Any, images_seen: int) -> dict[str, int]:
    """Side of what the model makes after so many images, `resolution`, and `fading_from`, the one below, in a fade."""
    stage = model.stage(images_seen)
    return {"resolution": stage.resolution, **({"fading_from": stage.resolution // 2} if stage.fading else {})}


@torch.no_grad()
def generate(model: Any, latents: Tensor, device: torch.device) -> Tensor:
    """Images [n, 3, r, r] of many latents, a batch at a time."""
    parts = latents.split(faces_at_once(model.resolution))
    return torch.cat([model.generate(part.to(device)) for part in parts])


def faces_drawn(model: Any) -> int:
    """How many faces are made each time: those of the sheet, and turned ones of models that turn."""
    if not turns(model):
        return SHEET_FACES
    axes = len(strips(trained_spans(model), TURNED_ANGLES))
    return SHEET_FACES + TURNED_ANGLES * (TURNED_FACES + (axes - 1) * TURNED_FACES_OF_FURTHER_AXES)


def shown_pixels(resolution: int) -> int:
    """Return the side that a sheet shows faces of a model of that side at, pixels."""
    return resolution * max(1, _CELL_PIXELS // resolution)


def faces_at_once(resolution: int) -> int:
    """Faces of that side to generate in one batch: 64 of 128², fewer of larger ones, as training takes."""
    return min(SHEET_FACES, max(1, _PIXELS_AT_ONCE // resolution**2))
