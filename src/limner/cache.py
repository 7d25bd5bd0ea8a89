"""Where limner keeps what it can make again, and files that a user gives it once for all."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """$LIMNER_CACHE, else $XDG_CACHE_HOME/limner, else ~/.cache/limner. It may not exist yet."""
    if own := os.environ.get("LIMNER_CACHE"):
        return Path(own)
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared) / "limner"
    return Path.home() / ".cache" / "limner"
