"""How a progressively grown model grows, as a pure function of the images seen (Karras et al. 2018, arXiv:1710.10196).

Level 0 makes images of 4², level 1 of 8², and so on. The lowest level is trained alone; then every next one is faded in
over a while and trained alone for another (the paper's figure 2, section 2 and appendix A.1):

    4² alone | 8² fades in | 8² alone | 16² fades in | 16² alone | …
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T", int, float)

LOWEST = 4
"""side of level 0, pixels"""


@dataclass(frozen=True)
class Depth:
    """How far a network has grown."""

    level: int
    """the highest that takes part"""
    alpha: float = 1.0
    """its share of the picture; the rest is the level below's. 1: it stands alone"""

    @property
    def resolution(self) -> int:
        """Side of the level's images, pixels."""
        return LOWEST << self.level

    @property
    def fading(self) -> bool:
        return self.alpha < 1


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """When which level is trained."""

    top: int
    """the highest level"""
    stable_images: int
    """for which a level is trained alone"""
    fade_images: int
    """for which a level is faded in; 0: at once"""
    first_images: int
    """as `stable_images`, of level 0"""
    batch_sizes: tuple[int, ...]
    """of the levels from 0 on, the last one standing for all above it"""
    fade_steps: int = 0
    """1 / (fade_steps + 1), 2 / (fade_steps + 1), … are the only shares taken while fading; 0: all between 0 and 1"""
    repeats: int = 1
    """batches for which the shares are held"""

    def depth(self, images_seen: int) -> Depth:
        """What is trained after so many images."""
        if images_seen < self.first_images or self.top == 0:
            return Depth(0)
        period = self.fade_images + self.stable_images
        past, within = divmod(images_seen - self.first_images, period) if period else (self.top, 0)
        level = past + 1
        if level > self.top:
            return Depth(self.top)
        if within >= self.fade_images:
            return Depth(level)
        held = self.repeats * level_value(self.batch_sizes, level)
        return Depth(level, self._alpha(within - within % held))

    def _alpha(self, images_of_fade: int) -> float:
        way = images_of_fade / self.fade_images
        return (math.floor(way * self.fade_steps) + 1) / (self.fade_steps + 1) if self.fade_steps else way

    def milestones(self) -> tuple[int, ...]:
        """Images seen at which a level begins to fade in, or begins to stand alone: 0 and upward."""
        starts = {0}
        for level in range(1, self.top + 1):
            fade = self.first_images + (level - 1) * (self.fade_images + self.stable_images)
            starts |= {fade, fade + self.fade_images}
        return tuple(sorted(starts))

    def end(self) -> int:
        """Images after which the highest level has been trained alone for as long as the others were."""
        return self.first_images + self.top * (self.fade_images + self.stable_images)


def level_value(values: Sequence[T], level: int) -> T:
    """Of a table by level, whose last entry stands for all levels above it."""
    return values[min(level, len(values) - 1)]


def level_of(resolution: int) -> int:
    """The level of images of side `resolution`, a power of two from 4 on."""
    return resolution.bit_length() - LOWEST.bit_length()
