"""Which metrics exist for a model, an extractor and a probe; whatever does not is refused in one line."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence

from limner.errors import LimnerError
from limner.metrics.probe.figures import Accuracy
from limner.metrics.registry import METRICS, Shown
from limner.metrics.subject import Kind
from limner.models.base import Encodes


def check_names(names: Sequence[str]) -> None:
    """Refuse metrics that do not exist, with the nearest one that does.

    Raises:
        LimnerError: none is named, or one is unknown.
    """
    if not names:
        raise LimnerError(f"metrics: none named; choose from {', '.join(METRICS)}")
    for name in names:
        if name not in METRICS:
            near = difflib.get_close_matches(name.lower().replace("-", "_"), METRICS, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise LimnerError(f"metrics: {name!r} is not a metric; {hint}there are {', '.join(METRICS)}")


def check_metrics(names: Sequence[str], extractor: str | None = None, *, probe: bool = False) -> None:
    """Refuse metrics that do not exist, or do not with what is at hand, in one line that says what to do.

    Args:
        names: as asked for.
        extractor: the name of the one at hand, if any.
        probe: whether the dataset's probe is at hand.

    Raises:
        LimnerError: none is named, or one is unknown, or it exists for another extractor, or for none at hand.
    """
    check_names(names)
    for name in names:
        _check_extractor(name, extractor)
        if METRICS[name].probe and not probe:
            raise LimnerError(
                f"metrics: {name} needs the dataset's probe; make it with `limner data probe DATASET`, "
                "then measure with `limner evaluate RUN`"
            )


_KINDS: Mapping[Kind, str] = {
    "conditional": "conditional models, and this one takes no attributes",
    "codes": "models with codes, such as infogan, and this one has none",
    "encodes": "models that encode photos, such as vae and vae-gan, and this one does not",
    "poses": "models that turn, such as hologan, and this one takes no yaw",
}


def check_kinds(names: Sequence[str], kinds: Collection[Kind]) -> None:
    """Refuse metrics that are of other kinds of models.

    Raises:
        LimnerError: saying which, and of what models it is; or a name is unknown.
    """
    check_names(names)
    for name in names:
        kind = METRICS[name].of
        if kind is not None and kind not in kinds:
            raise LimnerError(_other_kind(name, kind))


def check_class(names: Sequence[str], model_class: type) -> None:
    """Refuse, before there is a model, what none of this class can be measured by.

    Raises:
        LimnerError: a number of models that encode, and this class does not.
    """
    for name in names:
        if METRICS[name].of == "encodes" and not issubclass(model_class, Encodes):
            raise LimnerError(_other_kind(name, "encodes"))


def _other_kind(name: str, kind: Kind) -> str:
    return f"metrics: {name} is of {_KINDS[kind]}; leave it out"


_UNREAD: Mapping[Shown, str] = {
    "attributes": "no attribute; train one on a labelled dataset",
    "pose": "no pose; train one with `limner data probe` on a dataset with pose.npy",
    "identity": "no identity; train one on a dataset with several views of its people, such as that of "
    "`limner data heads PATH --views 4`",
}


def reads(accuracy: Accuracy, shown: Shown) -> bool:
    """Whether a probe with these figures reads what a metric looks at."""
    found = {"attributes": accuracy.attributes, "pose": accuracy.pose, "identity": accuracy.identity}
    return bool(found[shown])


def check_reads(names: Sequence[str], accuracy: Accuracy) -> None:
    """Refuse metrics of what a probe with these figures does not read.

    Raises:
        LimnerError: saying which, and what to train the probe on.
    """
    for name in names:
        shown = METRICS[name].reads
        if shown is not None and not reads(accuracy, shown):
            raise LimnerError(f"metrics: {name} needs a probe that reads {shown}, and this one reads {_UNREAD[shown]}")


def _check_extractor(name: str, extractor: str | None) -> None:
    spec = METRICS[name]
    if spec.extractor == "none":
        return
    if extractor is None:
        raise LimnerError(
            f"metrics: {name} compares features, and no extractor is at hand; measure it with `limner evaluate RUN "
            f"--metrics {name} --extractor {'inception' if spec.extractor == 'inception' else 'NAME'}`"
        )
    if exists_for(name, extractor):
        return
    instead = f"ask for {spec.other_name}, or " if spec.other_name else ""
    if spec.extractor == "inception":
        why = f"{name} is a number of inception's features, not of {extractor}'s; {instead}use --extractor inception"
    else:
        why = f"of inception's features {name} is called {spec.other_name}; ask for {spec.other_name}"
    raise LimnerError(f"metrics: {why}")


def exists_for(name: str, extractor: str | None) -> bool:
    """Whether a metric has a meaning on this extractor's features (None: without any)."""
    wanted = METRICS[name].extractor
    if wanted in ("none", "any"):
        return wanted == "none" or extractor is not None
    return extractor is not None and (extractor == "inception") == (wanted == "inception")


def applicable(
    extractor: str | None,
    *,
    count: int,
    probe: bool = False,
    model: bool = True,
    kinds: Collection[Kind] = (),
) -> tuple[str, ...]:
    """All metrics that can be measured with what is at hand.

    Args:
        extractor: its name, if any.
        count: images of each set.
        probe: whether a probe is at hand that reads what the model is to show.
        model: whether there is a model, not only its images.
        kinds: of the model.
    """
    return tuple(
        name
        for name, spec in METRICS.items()
        if exists_for(name, extractor)
        and count >= spec.least
        and (probe or not spec.probe)
        and (model or not spec.model)
        and (spec.of is None or spec.of in kinds)
    )
