"""The tables of a CelebA tree, in CelebA's own formats.

The attributes, landmarks and boxes have the number of rows in the first line and the columns' names in the second; the
people and the partition have neither. All 40 attributes have their column, in CelebA's order: loaders count columns, or
pick them by number. Those that the heads have no label for are -1 in every row; no label is made up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_NAMES = """
    5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose Black_Hair Blond_Hair
    Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee Gray_Hair Heavy_Makeup High_Cheekbones Male
    Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard Oval_Face Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks
    Sideburns Smiling Straight_Hair Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace
    Wearing_Necktie Young
"""
CELEBA_ATTRIBUTES = tuple(_NAMES.split())
"""in the order of its columns"""
_POINTS = ("lefteye", "righteye", "nose", "leftmouth", "rightmouth")


@dataclass(frozen=True)
class TableRow:
    """What the tables say of one picture.

    number: from 0; attributes by name; landmarks: (5, 2) pixels in CelebA's order; box: x, y, width, height of the
    face; identity: number of the person, from 0; split: 0 train, 1 valid, 2 test.
    """

    number: int
    attributes: dict[str, bool]
    landmarks: np.ndarray
    box: tuple[int, int, int, int]
    identity: int
    split: int

    @property
    def name(self) -> str:
        """The picture's file name."""
        return f"{self.number + 1:06d}.jpg"

    def bits(self) -> list[int]:
        """1 or -1 for each of CELEBA_ATTRIBUTES."""
        return [1 if self.attributes.get(name) else -1 for name in CELEBA_ATTRIBUTES]


def tables(rows: Sequence[TableRow]) -> dict[str, str]:
    """Every table by file name."""
    points = " ".join(f"{point}_{axis}" for point in _POINTS for axis in "xy") + " "
    names = " ".join(CELEBA_ATTRIBUTES) + " "  # CelebA's own lines end in a space too
    return {
        "list_attr_celeba.txt": _table(rows, names, [row.bits() for row in rows], 2),
        "list_landmarks_align_celeba.txt": _table(rows, points, [row.landmarks.ravel().tolist() for row in rows], 4),
        "list_bbox_celeba.txt": _table(rows, "image_id x_1 y_1 width height", [row.box for row in rows], 4),
        "identity_CelebA.txt": "".join(f"{row.name} {row.identity + 1}\n" for row in rows),
        "list_eval_partition.txt": "".join(f"{row.name} {row.split}\n" for row in rows),
    }


def _table(rows: Sequence[TableRow], columns: str, values: Sequence[Sequence[int]], width: int) -> str:
    lines = [str(len(rows)), columns]
    lines += [f"{row.name} " + " ".join(f"{v:{width}d}" for v in some) for row, some in zip(rows, values, strict=True)]
    return "".join(f"{line}\n" for line in lines)
