"""A run's settings: what can be set, how they are kept as JSON, and which may change when a run goes on."""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

import tyro

from limner.arguments import OptionalPath
from limner.errors import CheckpointError, LimnerError
from limner.metrics.evaluate import check_metrics
from limner.models import MODELS, Model, find_model, model_of_run
from limner.models.outside import source_of
from limner.training.memory import parse_size

M = TypeVar("M")

DEFAULT_KIMG = 1000.0
"""length of a run of a model that has no schedule of its own"""
SAFE_FIELDS = frozenset(
    (
        "data",
        "kimg",
        "device",
        "tick_kimg",
        "sample_kimg",
        "checkpoint_kimg",
        "keep_checkpoints",
        "metrics",
        "metrics_kimg",
        "metrics_count",
        "tensorboard",
        "enlarge",
        "memory",
        "preflight",
        "micro_batches",
        "threads",
    )
)
"""change nothing about the weights, so a resumed run may change them; `data` still has to be the same data set,
the pre-flight alone changes `micro_batches`, where a machine has less memory than before, and another number of
`threads` changes the weights by rounding only"""

ADDED_LATER: Mapping[str, Any] = {
    "memory": None,
    "preflight": "auto",
    "micro_batches": [],
    "threads": None,
    "enlarge": "pixels",
}
"""settings that the first runs did not have yet, with what they did: those runs go on, and load"""


@dataclass(frozen=True, kw_only=True)
class TrainConfig(Generic[M]):
    """Settings of a run; the model's own come from its file."""

    model: M
    """the model's own settings; in Python also a model's name, for its default settings"""
    data: OptionalPath = None
    """a prepared dataset (see `limner data prepare`); without one the built-in heads are rendered and used"""
    heads: int = 10000
    """how many built-in heads to render when there is no --data"""
    resolution: int | None = None
    """side of the images, pixels; by default the largest the dataset has and the model can make, 32 for the heads"""
    attributes: str = "auto"
    """attributes to condition on: all, none, or names with commas between them; auto takes all that the dataset has
    where the model takes any"""
    seed: int = 0
    """of everything random"""
    kimg: float | None = None
    """thousands of images to show in all; by default what the model's own schedule takes, 1000 where it has none"""
    batch_size: int | None = None
    """images per update over all processes; by default the paper's, by resolution where a model grows"""
    micro_batch: int | None = None
    """images per forward and backward pass: less memory, same result"""
    memory: str | None = None
    """memory that a process may take, like 8GB: batches are taken in smaller parts where needed, and a run that cannot
    fit is refused; by default what is free at the start"""
    preflight: Literal["auto", "on", "off"] = "auto"
    """try every stage on made-up images before the first step; auto: where a model grows and has 10 kimg or more to
    go, and where --memory is given; off: nor time a few updates for an estimate"""
    micro_batches: Annotated[tuple[int, ...], tyro.conf.Suppress] = ()
    """as micro_batch by resolution, as the pre-flight settled it; 0 and none: no other"""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """bf16 trains with bfloat16 activations where the hardware is fast at it, weights and losses staying float32"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps"""
    threads: int | None = None
    """threads of a process that trains on a CPU; by default $OMP_NUM_THREADS, or what a short measurement before the
    first step finds fastest"""
    mirror: bool = True
    """show a random half of the images mirrored"""
    ema_half_life_kimg: float = 10.0
    """half-life of the average of weights that pictures are made with; 0 for no average"""
    ema_rampup: float = 0.05
    """that half-life is at most this share of the images seen so far; 0 for no limit"""
    warmup_kimg: float = 0.0
    """the learning rate rises from 0 over this long"""
    decay: Literal["none", "linear", "cosine"] = "none"
    """how the learning rate falls from `decay_start_kimg` to the end of the run"""
    decay_start_kimg: float | None = None
    """see `decay`; by default half-way through the run"""
    final_factor: float = 0.0
    """share of the learning rate left at the end of a decay"""
    tick_kimg: float = 1.0
    """log losses and speed this often"""
    sample_kimg: float = 20.0
    """draw the fixed sample sheet this often"""
    checkpoint_kimg: float = 50.0
    """save this often (and at the end, and when stopped)"""
    keep_checkpoints: int = 3
    """how many checkpoints stay, at least 2"""
    metrics: tuple[str, ...] = ("swd", "ms_ssim")
    """measured during the run; none of them when empty"""
    metrics_kimg: float = 100.0
    """measure this often (and at the end)"""
    metrics_count: int = 1024
    """images per measurement during the run; `limner evaluate` takes its own"""
    enlarge: Literal["lanczos", "pixels"] = "lanczos"
    """how sheets enlarge small faces: smoothly (lanczos), or every pixel to a square (pixels)"""
    tensorboard: bool = False
    """also write TensorBoard files (needs limner[tensorboard])"""

    def __post_init__(self) -> None:
        if isinstance(self.model, str):
            object.__setattr__(self, "model", find_model(self.model).Config())
        if isinstance(self.data, str):
            object.__setattr__(self, "data", Path(self.data))

    def check(self) -> None:
        """Refuse values that make no sense, by name. (Not `__post_init__`: a parser would swallow the line.)"""
        for name in ("kimg", "tick_kimg", "sample_kimg", "checkpoint_kimg", "metrics_kimg"):
            value = getattr(self, name)
            _require(self, name, value is None or 0 < value < math.inf, "a number above 0")
        for name in ("ema_half_life_kimg", "ema_rampup", "warmup_kimg", "decay_start_kimg"):
            value = getattr(self, name)
            _require(self, name, value is None or 0 <= value < math.inf, "a number not below 0")
        for name in ("batch_size", "micro_batch", "resolution", "threads"):
            _require(self, name, getattr(self, name) is None or getattr(self, name) >= 1, "a whole number above 0")
        _require(self, "micro_batches", min(self.micro_batches, default=0) >= 0, "numbers not below 0")
        if self.memory is not None:
            parse_size(self.memory)
        _require(self, "heads", self.heads >= 2, "at least 2")
        _require(self, "seed", 0 <= self.seed < 2**32, "a whole number from 0 to 4294967295")
        _require(self, "final_factor", 0 <= self.final_factor <= 1, "a share from 0 to 1")
        _require(self, "keep_checkpoints", self.keep_checkpoints >= 2, "at least 2")
        _require(self, "metrics_count", self.metrics_count >= 2, "at least 2")
        if self.metrics:
            check_metrics(self.metrics)
        if not dataclasses.is_dataclass(self.model) or isinstance(self.model, type):
            raise LimnerError(f"model is {self.model!r}, expected the model's settings or its name, such as 'dcgan'")
        for field in dataclasses.fields(typing.cast(Any, self.model)):
            value = getattr(self.model, field.name)
            _require(self.model, field.name, not isinstance(value, float) or math.isfinite(value), "a finite number")
        if self.kimg is not None and self.decay != "none" and self.decay_start_images >= self.kimg * 1000:
            raise LimnerError(
                f"decay_start_kimg is {self.decay_start_kimg}; it must come before the end at {self.kimg:g}"
            )

    @property
    def images(self) -> int:
        """Images to show in all, once that is settled."""
        return round(1000 * self._settled_kimg)

    @property
    def _settled_kimg(self) -> float:
        return DEFAULT_KIMG if self.kimg is None else self.kimg

    @property
    def decay_start_images(self) -> float:
        """Where the learning rate begins to fall."""
        return 1000 * (self._settled_kimg / 2 if self.decay_start_kimg is None else self.decay_start_kimg)

    def learning_rate_factor(self, images_seen: int) -> float:
        """What every learning rate is multiplied by: a pure function of the images seen."""
        factor = min(1.0, images_seen / (self.warmup_kimg * 1000)) if self.warmup_kimg > 0 else 1.0
        start, end = self.decay_start_images, self._settled_kimg * 1000
        if self.decay == "none" or images_seen <= start:
            return factor
        way = min(1.0, (images_seen - start) / (end - start))
        left = 1 - way if self.decay == "linear" else 0.5 * (1 + math.cos(math.pi * way))
        return factor * (self.final_factor + (1 - self.final_factor) * left)


def longer_decay(before: TrainConfig[Any], after: TrainConfig[Any], images_seen: int) -> str | None:
    """Say how the learning rate goes on where a run with a decay is made longer; None where it does not decay.

    The rate is a function of the images seen and of the run's length, so from here on it is what it would be at this
    point of a run that had the new length from its beginning: a restart of the decay, higher the longer it goes on.
    """
    if before.decay == "none" or before.images == after.images:
        return None
    old, new = before.learning_rate_factor(images_seen), after.learning_rate_factor(images_seen)
    return (
        f"the learning rate goes on as in a run of {after.images / 1000:g} kimg: from here on {new:.3g} of its "
        f"full value, before {old:.3g}, and its {after.decay} decay ends at {after.images / 1000:g} kimg"
    )


def config_to_json(model: str | type[Model], config: TrainConfig[Any]) -> dict[str, Any]:
    """As kept in `config.json` and in every checkpoint; of a model outside limner also where its class was defined.

    Args:
        model: its class, or the name of one of MODELS.
        config: the settings.
    """
    facts = dataclasses.asdict(config)
    facts["data"] = None if config.data is None else str(config.data)
    known = {"model_name": model} if isinstance(model, str) else {"model_name": model.name}
    if not isinstance(model, str) and MODELS.get(model.name) is not model:
        known["model_source"] = source_of(model)
    as_read: dict[str, Any] = json.loads(json.dumps({**known, **facts}))  # tuples have become lists
    return as_read


def config_from_json(
    facts: Mapping[str, Any], where: Path, model: type[Model] | None = None
) -> tuple[type[Model], TrainConfig[Any]]:
    """The model's class and the settings; every field must be known, be there, and be of its type.

    Args:
        facts: as `config_to_json` made them.
        where: the file they are from.
        model: the class of a model outside limner, as a person named it; what `facts` says of a file is never run.
    """
    facts = {**ADDED_LATER, **facts}
    model_class = model_of_run(str(facts.pop("model_name", "")), facts.pop("model_source", None), model, where)
    settings = facts.pop("model", None)
    if not isinstance(settings, Mapping):
        raise LimnerError(f"{where}: field 'model' must hold the model's settings; put them back")
    model = _from_json(model_class.Config, dict(settings), where, "model.")
    config = _from_json(TrainConfig, facts, where, "", model=model)
    try:
        config.check()
    except LimnerError as error:
        raise LimnerError(f"{where}: {error}") from None
    return model_class, config


def read_config(path: Path, model: type[Model] | None = None) -> tuple[type[Model], TrainConfig[Any]]:
    """`config.json` of a run; `model` as in `config_from_json`.

    Raises:
        LimnerError: there is none, or a field of it is not what it should be.
    """
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise LimnerError(
            f"{path}: is missing; put it back, or make another run with `limner train MODEL --out FOLDER`"
        ) from None
    except (ValueError, OSError) as error:
        raise LimnerError(f"{path}: cannot be read ({' '.join(str(error).split())}); restore it") from None
    if not isinstance(facts, Mapping):
        raise LimnerError(f"{path}: must hold one JSON object; restore it")
    return config_from_json(facts, path, model)


def refuse_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Changed safe fields, as `field: old → new`; a field that shapes the weights must not change.

    `kimg` may change: where the learning rate decays, it goes on as in a run of the new length (see `longer_decay`).

    Raises:
        CheckpointError: naming every such field with its old and new value.
    """
    allowed: list[str] = []
    refused: list[str] = []
    before = {name: value for name, value in ADDED_LATER.items() if name in after} | dict(before)
    for name in sorted({*_flatten(before), *_flatten(after)} - {"model_source"}):  # which is only shown
        old, new = _flatten(before).get(name, "absent"), _flatten(after).get(name, "absent")
        if old == new:
            continue
        (allowed if name in SAFE_FIELDS else refused).append(f"{name}: {old} → {new}")
    if refused:
        raise CheckpointError(
            f"this run was started with other settings ({'; '.join(refused)}); start a new run for those, "
            f"or resume with the old ones"
        )
    return allowed


def _flatten(facts: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in facts.items():
        flat |= _flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat


def _from_json(kind: Any, facts: Mapping[str, Any], where: Path, prefix: str, **given: Any) -> Any:
    hints = typing.get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind) if field.name not in given]
    for name in facts:
        if name not in names:
            raise LimnerError(f"{where}: field '{prefix}{name}' is not a setting here; remove it")
    for name in names:
        if name not in facts:
            raise LimnerError(f"{where}: field '{prefix}{name}' is missing; put it back")
    return kind(
        **given, **{name: _typed(facts[name], hints[name], f"{where}: field '{prefix}{name}'") for name in names}
    )


def _typed(value: Any, hint: Any, where: str) -> Any:
    """A JSON value as a field of that type holds it."""
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return None if value is None and type(None) in options else _typed(value, options[0], where)
    if origin is Literal and value in options:
        return value
    if origin is tuple and isinstance(value, list):
        return tuple(_typed(item, options[0], where) for item in value)
    if hint is Path and isinstance(value, str):
        return Path(value)
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if hint in (int, str, bool) and type(value) is hint:
        return value
    wanted = f"one of {list(options)}" if origin is Literal else getattr(hint, "__name__", str(hint))
    raise LimnerError(f"{where} is {value!r}, expected {wanted}; put the old value back")


def _require(config: Any, name: str, good: bool, wanted: str) -> None:
    if not good:
        raise LimnerError(f"{name} is {getattr(config, name)}, expected {wanted}")
