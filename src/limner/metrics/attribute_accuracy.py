"""Whether conditional samples have the attributes they were asked to have, as a probe reads them.

    accuracy_j = mean over samples of [probe says attribute j ⇔ it was asked for]
    value      = mean of accuracy_j over the attributes that the probe reads well and that some samples were asked to
                 have and some not

The probe errs too: its own accuracy on held-out photos stands beside each number, and is about what a generator that
obeys perfectly would get. A generator that ignores what it is asked still agrees by chance as often as the classes'
shares make it, so the balanced accuracy, where ignoring is worth one half, is given as well. An attribute asked of all
or of none has no such figure and proves nothing, so it counts only where all asked for are like that.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from limner.errors import LimnerError
from limner.metrics.card import Measurement, Setting
from limner.metrics.probe.figures import Accuracy, AttributeFigure
from limner.metrics.probe.readers import Reads


class AttributeAccuracy:
    """Counts agreements between what was asked and what the probe reads, in batches; batches change nothing.

    Args:
        probe: reads the samples.
        names: the model's attributes in the order of the vectors it is asked with; those that the probe does not know
            are left out and named in the result.

    Raises:
        LimnerError: no names, one twice, or none that the probe reads well.
    """

    def __init__(self, probe: Reads, names: Sequence[str]) -> None:
        self.probe = probe
        self._names = tuple(names)
        self.figures = _figures(probe.accuracy, names)
        order = [figure.name for figure in probe.accuracy.attributes]
        self._read_columns = [order.index(figure.name) for figure in self.figures]
        self._asked_columns = [self._names.index(figure.name) for figure in self.figures]
        self._counts: Int64[Tensor, "2 2 a"] = torch.zeros(2, 2, len(self.figures), dtype=torch.int64)  # [asked, read]

    def add(self, images: UInt8[Tensor, "n r r 3"], asked: Float[Tensor, "m a"]) -> None:
        """Read samples that were asked to have the attributes `asked` (0 or 1), columns in the order of `names`.

        Raises:
            LimnerError: not one vector of 0 and 1 per image, or images the probe cannot read.
        """
        self.add_readings(self.probe.read(images).attributes, asked)

    def add_readings(self, logits: Float[Tensor, "n b"], asked: Float[Tensor, "m a"]) -> None:
        """The same for samples that the probe has read: its logits [n, b], columns in its own order."""
        if asked.shape != (len(logits), len(self._names)):
            expected = f"[{len(logits)}, {len(self._names)}]"
            raise LimnerError(f"asked: shape {list(asked.shape)}, but {expected} is needed: a value per image and name")
        wanted = asked.detach().cpu()
        if not ((wanted == 0) | (wanted == 1)).all():
            raise LimnerError("asked: holds values other than 0 and 1; ask for attributes to be there or not")
        wanted, found = wanted[:, self._asked_columns], logits.detach().cpu()[:, self._read_columns] > 0
        for asks in (0, 1):
            for reads in (0, 1):
                self._counts[asks, reads] += ((wanted == asks) & (found == bool(reads))).sum(0)

    def result(self) -> Measurement:
        """The mean accuracy over attributes judged; every attribute's own, with the probe's beside it, in `values`.

        `values` holds, for each attribute NAME, `NAME`, `balanced_NAME` (where some samples were asked to have it and
        some not), `probe_NAME` (the probe's held-out accuracy) and `asked_NAME` (the share asked to have it); and over
        those judged the means `balanced` and `probe`. `settings` holds which were judged, and which not: `hardly_read`,
        `asked_of_all_or_none` and, where there are any, `not_read` (the probe does not know them).
        """
        if not self._counts.sum():
            raise LimnerError("attribute_accuracy: no samples; add at least one batch")
        values: dict[str, float] = {}
        for column, figure in enumerate(self.figures):
            values |= _values(figure, self._counts[:, :, column].double())
        well = [figure.name for figure in self.figures if figure.reads_well]
        alike = [name for name in well if f"balanced_{name}" not in values]
        judged = [name for name in well if name not in alike] or well
        means = {
            "probe": [values[f"probe_{name}"] for name in judged],
            "balanced": [values[f"balanced_{name}"] for name in judged if name not in alike],
        }
        return Measurement(
            value=_mean([values[name] for name in judged]),
            values={name: _mean(parts) for name, parts in means.items() if parts} | values,
            settings=self._settings(judged, alike),
            extractor=self.probe.name,
            extractor_sha256=self.probe.sha256,
        )

    def _settings(self, judged: Sequence[str], alike: Sequence[str]) -> dict[str, Setting]:
        known = {figure.name for figure in self.figures}
        settings: dict[str, Setting] = {
            "attributes": ", ".join(judged),
            "hardly_read": ", ".join(figure.name for figure in self.figures if not figure.reads_well),
            "asked_of_all_or_none": ", ".join(alike),
        }
        unknown = ", ".join(name for name in self._names if name not in known)
        return settings | {"not_read": unknown} if unknown else settings


def _figures(accuracy: Accuracy, names: Sequence[str]) -> list[AttributeFigure]:
    known = {figure.name: figure for figure in accuracy.attributes}
    if not names or len(set(names)) < len(names):
        raise LimnerError(f"attribute_accuracy: names {', '.join(names) or '(none)'}; name each attribute once")
    found = [known[name] for name in names if name in known]
    if not found:
        raise LimnerError(
            f"attribute_accuracy: this probe does not read {', '.join(names)}; it reads: "
            f"{', '.join(known) or 'no attribute'}"
        )
    if not any(figure.reads_well for figure in found):
        raise LimnerError(
            f"attribute_accuracy: this probe reads none of {', '.join(names)} well, so it cannot judge them; "
            "train a better one with `limner data probe`"
        )
    return found


def _values(figure: AttributeFigure, counts: Float[Tensor, "2 2"]) -> dict[str, float]:
    """Of one attribute, from how often each answer [asked, read] came."""
    name, asked = figure.name, counts.sum(1)
    values = {
        name: float(counts.trace() / counts.sum()),
        f"probe_{name}": figure.accuracy,
        f"asked_{name}": float(asked[1] / counts.sum()),
    }
    if asked.all():
        values[f"balanced_{name}"] = float((counts.diagonal() / asked).mean())
    return values


def _mean(parts: list[float]) -> float:
    return sum(parts) / len(parts)
