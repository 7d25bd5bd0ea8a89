"""Whether a model's codes mean something, and what they are named, as a probe trained on real data reads its images.

Images are drawn with codes from the prior and read. Of every code and every attribute that the probe reads well,

    share = (I − E) / (H − E)       `limner.metrics.information`: how much of the attribute the code tells

where H is the attribute's entropy among these images or among the real ones that the probe was judged on, whichever is
more: who tells all of an attribute that hardly ever shows has told little. The best one-to-one matching of codes with
attributes is the one whose shares sum to the most.

    value, where codes are named  = mean over the named codes of the share with the attribute of that name
    value, where none is          = mean share of the best matching

A code is judged by its name where the probe reads that attribute well and the code varies in the sample. A
discriminator that is told no attributes cannot know what a name means: nothing in the training ties a code to its name
but how often, and with what others, it is on. So theory lets this be low; the number says what came of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from limner.errors import LimnerError
from limner.metrics.assignment import best_matching
from limner.metrics.card import Measurement, Setting
from limner.metrics.codes import BINS, Code
from limner.metrics.information import Tables, expected_information, information, shares, tabulate
from limner.metrics.probe.readers import Reads

SHUFFLES = 20
"""orders of the readings over which what chance gives is averaged"""
ARROW = " → "
"""between a code and the attribute matched with it, in the name of a sub-value"""
LEAST_SHARE = 0.0005
"""below which a code and the attribute matched with it have nothing to do with each other: any would do as well"""
Pairs = list[tuple[int, int]]
"""(code, attribute)"""


class Means(NamedTuple):
    """Mean shares: of the codes with their own names, and of the best matching."""

    named: float
    matched: float


class CodeRecovery:
    """Takes images and the codes they were made with, in batches; batches change nothing.

    Args:
        probe: reads the images.
        codes: the model's code variables.
        seed: of the shuffles that say what chance gives.

    Raises:
        LimnerError: no codes, a probe that reads nothing well, or none of what the codes are named.
    """

    def __init__(self, probe: Reads, codes: Sequence[Code], seed: int = 0) -> None:
        if not codes:
            raise LimnerError("code_recovery: no codes; it is a number of models that have some, such as infogan")
        self.probe, self.codes, self._seed = probe, tuple(codes), seed
        known = [figure.name for figure in probe.accuracy.attributes]
        self.figures = [figure for figure in probe.accuracy.attributes if figure.reads_well]
        self._least = torch.tensor([figure.entropy for figure in self.figures], dtype=torch.float64)
        self._columns = [known.index(figure.name) for figure in self.figures]
        self._values: list[Int64[Tensor, "n c"]] = []
        self._read: list[Bool[Tensor, "n a"]] = []
        names = [code.name for code in codes if code.kind == "named"]
        well = {figure.name for figure in self.figures}
        if not well or (names and not well & set(names)):
            what = f"none of {', '.join(names)}" if names else "no attribute"
            raise LimnerError(
                f"code_recovery: this probe reads {what} well, so it cannot say what codes mean; "
                "train a better one with `limner data probe`"
            )

    def add(self, images: UInt8[Tensor, "n r r 3"], values: Int64[Tensor, "m c"]) -> None:
        """Read images that were made with these codes: of every variable its value, 0 … ways − 1.

        Raises:
            LimnerError: not one row of values per image, or images the probe cannot read.
        """
        self.add_readings(self.probe.read(images).attributes, values)

    def add_readings(self, logits: Float[Tensor, "n b"], values: Int64[Tensor, "m c"]) -> None:
        """The same for images that the probe has read: its logits [n, b], columns in its own order."""
        if values.shape != (len(logits), len(self.codes)):
            expected = f"[{len(logits)}, {len(self.codes)}]"
            raise LimnerError(
                f"codes: shape {list(values.shape)}, but {expected} is needed: a value per image and code"
            )
        self._values.append(values.detach().cpu())
        self._read.append(logits.detach().cpu()[:, self._columns] > 0)

    def result(self) -> Measurement:
        """The value; beside it what chance and a perfect model would get, and every code's own figures.

        `values` holds `chance` (the value's mean over shuffled readings) and `probe` (what real images, with their true
        labels for codes, would have by the probe's held-out figures). Where codes are named: `others` (their mean share
        with each other's names: what names dealt out at random get), `agreement` (mean balanced accuracy of the reading
        against the code, ½ by chance), `own_name` (part of them that is matched with its own name), `matched` and
        `chance_matched` (mean share of the best matching), and for each judged code NAME `NAME` (its share),
        `agreement_NAME` and `probe_NAME`. For each matched pair `CODE → ATTRIBUTE` (its share); the same after `nats_`
        (I − E), and after `sign_` (correlation of code and reading) or, of categorical codes, after `way_` (the value,
        counted from 1, at which the attribute is commonest).

        Raises:
            LimnerError: no images, or so few that no named code varies.
        """
        if not self._values:
            raise LimnerError("code_recovery: no images; add at least one batch")
        values, read = torch.cat(self._values), torch.cat(self._read)
        tables = tabulate(values, [code.ways for code in self.codes], read)
        chance = expected_information(tables)
        found = shares(tables, chance, self._least)
        judged, matched = self._judged(tables), best_matching(found)
        means, level = _means(found, judged, matched), self._by_chance(values, read, chance, judged)
        figures = self._of_pairs(matched, tables, found, information(tables) - chance)
        if judged:
            summary = {"chance": level.named, "probe": self._ceiling(judged), **_of_names(found, judged, matched)}
            summary |= {"matched": means.matched, "chance_matched": level.matched}
            names = self._of_names(judged, tables, found)
            agreements = [_agreement(tables, pair) for pair in judged]
            figures = summary | {"agreement": sum(agreements) / len(agreements)} | names | figures
        else:
            figures = {"chance": level.matched, "probe": self._ceiling(matched)} | figures
        return Measurement(
            value=means.named if judged else means.matched,
            values=figures,
            settings=self._settings(),
            extractor=self.probe.name,
            extractor_sha256=self.probe.sha256,
        )

    @property
    def _named(self) -> list[str]:
        return [code.name for code in self.codes if code.kind == "named"]

    def _judged(self, tables: Tables) -> Pairs:
        """The codes that vary with the attributes they are named; none where codes have no names."""
        attributes = {figure.name: column for column, figure in enumerate(self.figures)}
        pairs = [
            (place, attributes[code.name])
            for place, code in enumerate(self.codes)
            if code.kind == "named" and code.name in attributes and _of_code(tables.ways, tables, place).all()
        ]
        if self._named and not pairs:
            raise LimnerError(
                f"code_recovery: no code varies among {tables.count} images, so none is judged; use a larger --count"
            )
        return pairs

    def _by_chance(
        self, values: Int64[Tensor, "n c"], read: Bool[Tensor, "n a"], chance: Float[Tensor, "c a"], judged: Pairs
    ) -> Means:
        """Both means where codes and images have nothing to do with each other: readings in another order."""
        generator = torch.Generator().manual_seed(self._seed)
        levels = []
        for _ in range(SHUFFLES):
            shuffled = read[torch.randperm(len(read), generator=generator)]
            found = shares(tabulate(values, [code.ways for code in self.codes], shuffled), chance, self._least)
            levels.append(_means(found, judged, best_matching(found)))
        return Means(*(sum(level) / SHUFFLES for level in zip(*levels, strict=True)))

    def _ceiling(self, pairs: Pairs) -> float:
        """Mean share that a model would have whose images show what these attributes' codes say, and nothing else."""
        return sum(self.figures[attribute].told_share for _, attribute in pairs) / len(pairs)

    def _of_names(self, judged: Pairs, tables: Tables, found: Float[Tensor, "c a"]) -> dict[str, float]:
        """Of each code its figures with the attribute of its name."""
        figures = {}
        for pair in judged:
            figure = self.figures[pair[1]]
            figures[figure.name] = float(found[pair])
            figures[f"agreement_{figure.name}"] = _agreement(tables, pair)
            figures[f"probe_{figure.name}"] = figure.told_share
        return figures

    def _of_pairs(
        self, pairs: Pairs, tables: Tables, found: Float[Tensor, "c a"], nats: Float[Tensor, "c a"]
    ) -> dict[str, float]:
        """Of each matched pair its figures."""
        figures = {}
        for code, attribute in pairs:
            name = f"{self.codes[code].name}{ARROW}{self.figures[attribute].name}"
            figures[name], figures[f"nats_{name}"] = float(found[code, attribute]), float(nats[code, attribute])
            if self.codes[code].kind == "categorical":
                ways = _of_code(tables.ways, tables, code).clamp_min(1)
                figures[f"way_{name}"] = 1.0 + int(
                    (_of_code(tables.together, tables, code)[:, attribute] / ways).argmax()
                )
            else:
                figures[f"sign_{name}"] = _correlation(tables, code, attribute)
        return figures

    def _settings(self) -> dict[str, Setting]:
        well = [figure.name for figure in self.figures]
        known = [figure.name for figure in self.probe.accuracy.attributes]
        settings: dict[str, Setting] = {"attributes": ", ".join(well), "shuffles": SHUFFLES}
        if any(code.kind == "continuous" for code in self.codes):
            settings["bins"] = BINS
        if not self._named:
            return settings | {"value": "best matching"}
        return settings | {
            "value": "own names",
            "hardly_read": ", ".join(name for name in self._named if name in known and name not in well),
            "not_read": ", ".join(name for name in self._named if name not in known),
        }


def _means(found: Float[Tensor, "c a"], judged: Pairs, matched: Pairs) -> Means:
    named, best = (sum(float(found[pair]) for pair in pairs) / max(len(pairs), 1) for pairs in (judged, matched))
    return Means(named, best)


def _of_names(found: Float[Tensor, "c a"], judged: Pairs, matched: Pairs) -> dict[str, float]:
    """What the names are worth beside other names."""
    crossed = [float(found[code, other]) for code, own in judged for _, other in judged if other != own]
    others = {"others": sum(crossed) / len(crossed)} if crossed else {}
    told = [pair for pair in matched if found[pair] >= LEAST_SHARE]
    return others | {"own_name": sum(pair in told for pair in judged) / len(judged)}


def _of_code(counts: Tensor, tables: Tables, code: int) -> Tensor:
    """The rows of one code's ways."""
    return counts[tables.code == code]


def _agreement(tables: Tables, pair: tuple[int, int]) -> float:
    """Balanced accuracy of the reading as a guess at the code, yes for 1; not the better of two signs."""
    ways = _of_code(tables.ways, tables, pair[0])
    having = _of_code(tables.together, tables, pair[0])[:, pair[1]] / ways
    return float(1 - having[0] + having[1]) / 2


def _correlation(tables: Tables, code: int, attribute: int) -> float:
    """Of the code's value and the reading, 0 where either is constant."""
    ways = _of_code(tables.ways, tables, code) / tables.count
    together = _of_code(tables.together, tables, code)[:, attribute] / tables.count
    level = torch.arange(len(ways), dtype=ways.dtype)
    level = level - ways @ level
    having = float(together.sum())
    spread = float(ways @ level**2) * having * (1 - having)
    return float(together @ level) / spread**0.5 if spread > 0 else 0.0
