"""CelebAMask-HQ as downloaded: 30,000 faces of 1024², 40 attributes. Lee et al. 2020, arXiv:1907.11922.

Its folder holds some 20 masks for each face, as pictures: `CelebA-HQ-img` alone has the faces. The attribute file has
the form of CelebA's.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from limner.data.celeba import match_rows, read_attributes, stems_of
from limner.data.faults import printable
from limner.data.folder import open_folder
from limner.data.sources import Source
from limner.errors import DataError

PICTURES, MASKS = "CelebA-HQ-img", "CelebAMask-HQ-mask-anno"
ATTRIBUTES = "CelebAMask-HQ-attribute-anno.txt"
LICENCE = (
    "CelebAMask-HQ is for non-commercial research and education only; none of it may be passed on "
    "(https://github.com/switchablenorms/CelebAMask-HQ)"
)
_NOT_READ = {
    MASKS: "masks, not pictures of faces: left out",
    "CelebAMask-HQ-pose-anno.txt": "not read, so no pose",
    "CelebA-HQ-to-CelebA-mapping.txt": "not read, so not CelebA's official split but one by SHA-256",
}


def open_celebamask_hq(path: Path) -> Source | None:
    """CelebAMask-HQ in the folder `path`, or its folder of pictures; None if it is neither.

    Raises:
        DataError: `path` is (in) its folder of masks, or the attribute file does not match the pictures.
    """
    masks = next((p for p in (path, *path.absolute().parents) if p.name == MASKS), None)
    if masks is not None:
        raise DataError(
            f"{path}: holds CelebAMask-HQ's masks, not faces; name the folder above ('{printable(str(masks.parent))}') "
            f"or its {PICTURES}"
        )
    root = path.parent if path.name == PICTURES else path
    if not path.is_dir() or not (root / PICTURES).is_dir():
        if (path / MASKS).is_dir():
            raise DataError(f"{path}: has CelebAMask-HQ's masks but no faces; put its {PICTURES} beside {MASKS}")
        return None
    photos = open_folder(root / PICTURES)
    notes = [f"{name}: {what}" for name, what in _NOT_READ.items() if (root / name).exists()]
    names: tuple[str, ...] = ()
    attributes: dict[str, np.ndarray] = {}
    if (root / ATTRIBUTES).is_file():
        names, rows = read_attributes(root / ATTRIBUTES, notes)
        matched = match_rows(root / ATTRIBUTES, rows, stems_of(photos), notes)
        attributes = {name: rows[stem] for stem, name in matched}
    else:
        notes.append(f"{ATTRIBUTES}: not found, so no attributes")
    return Source("celebamask-hq", photos, "center", names, attributes, notes=tuple(notes), licence=LICENCE)
