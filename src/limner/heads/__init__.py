"""The built-in dataset: an endless, labelled, posed set of shaded heads drawn from a parametric model with NumPy."""

from __future__ import annotations

from limner.heads.make import default_heads, make_heads
from limner.heads.render import Head, render_head

__all__ = ["Head", "default_heads", "make_heads", "render_head"]
