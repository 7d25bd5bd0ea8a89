"""The verb `limner compare`: two runs or cards on the screen; any number of runs on one page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from limner.arguments import FilePath, ModelChoice
from limner.compare.two import show_two
from limner.errors import LimnerError
from limner.files import refuse_overwriting


def compare(
    runs: Annotated[Sequence[FilePath], tyro.conf.Positional],
    *,
    out: FilePath | None = None,
    ignore: Sequence[str] = (),
    reach: str | None = None,
    device: str = "auto",
    overwrite: bool = False,
    model: Sequence[ModelChoice] = (),
) -> Path | None:
    """Put trained models side by side on equal terms; runs that differ by their seed alone are one row, with intervals.

    Two runs, or two cards, are shown on the screen. Three runs or more, and two with --out, make a page as well:
    numbers, sample sheets of the same attributes, every attribute turned on and off, losses, cost.

    Args:
        runs: folders of runs, or two cards in their metrics folders.
        out: the page to write; compare.html by default where there are three runs or more.
        ignore: what may differ all the same: of the runs dataset_sha256, resolution, crop, images_seen, attributes; of
            the cards any field, such as code_version.
        reach: the score whose cost is told, such as swd=20; by default the best one that every run reached.
        device: what draws the page's faces: auto, cpu, cuda, cuda:N or mps.
        overwrite: replace the page if it is there already.
        model: FILE.py:CLASS for each model that is not part of limner; those files are run, so name what you trust.

    Returns:
        The page's file; None where the table on the screen is all.
    """
    folders = [Path(run) for run in ([runs] if isinstance(runs, str | Path) else runs)]
    if len(folders) < 2:
        raise LimnerError("compare: name two runs or more; one alone is told of by its report.html")
    if len(folders) == 2 and out is None:
        if reach is not None:
            raise LimnerError("--reach: is told of on the page; name that with --out compare.html")
        if model:
            raise LimnerError("--model: only the page draws faces and so needs models; leave it out, or add --out")
        show_two(folders[0], folders[1], ignore)
        return None
    from limner.compare.many import compare_many

    page = Path(out or "compare.html")
    refuse_overwriting([page], overwrite)
    return compare_many(folders, out=page, ignore=ignore, reach=reach, device=device, models=model)
