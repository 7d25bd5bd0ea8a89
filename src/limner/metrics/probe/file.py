"""`probe.safetensors`: a probe's weights, and in the header all that is known of it. Loading it runs no code.

The header's metadata has one field, `limner`: JSON of the record (format "limner-probe-1") and a SHA-256 of the record
and every tensor, since safetensors does not notice a flipped bit. The same probe is always the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from limner.errors import CheckpointError, DataError, ResourceError
from limner.metrics.probe.figures import Accuracy
from limner.metrics.probe.from_json import from_json
from limner.metrics.probe.network import LARGEST, SMALLEST, ProbeNetwork, unset_network

FORMAT = "limner-probe-1"
FILE_NAME = "probe.safetensors"
_LARGEST_BYTES = 64 << 20
_KEY = "limner"


@dataclass(frozen=True, kw_only=True)
class Record:
    """What a probe is, and how good."""

    dataset: str
    dataset_sha256: str
    """of the dataset's manifest"""
    resolution: int
    """side of the pictures it reads, pixels"""
    accuracy: Accuracy
    splits: dict[str, int]
    """images learnt from, chosen on and judged on"""
    split_rule: str
    seed: int
    mirror: bool
    kimg: float
    """thousands of images it was trained on"""
    images_seen: int
    """when it was best on the validation split: the weights kept"""
    code_version: str

    def network(self) -> ProbeNetwork:
        """A network of this record's shape, whose weights are still to be given."""
        accuracy = self.accuracy
        names, pose, identity = accuracy.attributes, accuracy.pose is not None, accuracy.identity is not None
        return unset_network(self.resolution, len(names), pose, identity)


def save_probe(path: Path, network: ProbeNetwork, record: Record) -> None:
    """Write a probe: all of it, or nothing (ResourceError)."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    about = {"format": FORMAT, **asdict(record)}
    about["sha256"] = _digest(about, tensors)
    data = safetensors.torch.save(tensors, {_KEY: json.dumps(about, sort_keys=True, allow_nan=False)})
    partial = path.with_name(f"{path.name}.partial")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise ResourceError(f"{path}: cannot be written ({error.strerror}); choose another place with --out") from error
    finally:  # also where a signal interrupts
        partial.unlink(missing_ok=True)


def load_probe(path: Path) -> tuple[ProbeNetwork, Record, str]:
    """A probe in eval mode, its record, and the SHA-256 of its file.

    Raises:
        DataError: there is no such file.
        CheckpointError: it is damaged, or not a probe of this version.
    """
    try:
        size = path.stat().st_size
        if size > _LARGEST_BYTES:
            raise _bad(path, f"{size >> 20} MiB, larger than any probe")
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
    except FileNotFoundError:
        raise DataError(f"{path}: no such probe; train one with `limner data probe DATASET`") from None
    except (SafetensorError, OSError) as error:
        raise _bad(path, " ".join(str(error).split())) from error
    about = _about(path, metadata)
    if about.pop("sha256", None) != _digest(about, tensors):
        raise _bad(path, "does not match its SHA-256")
    record = _record(path, about)
    return _network(path, record, tensors), record, sha256


def _about(path: Path, metadata: dict[str, str]) -> dict[str, Any]:
    try:
        about = json.loads(metadata.get(_KEY, ""))
    except (ValueError, RecursionError):
        about = None
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        found = about.get("format") if isinstance(about, dict) else "no limner format"
        raise CheckpointError(
            f"{path}: format {found!r:.60}, but a probe is {FORMAT!r}; pass one of `limner data probe`"
        )
    return about


def _record(path: Path, about: dict[str, Any]) -> Record:
    try:
        record = from_json(Record, {key: value for key, value in about.items() if key != "format"})
    except ValueError as error:
        raise _bad(path, str(error)) from error
    side = record.resolution
    if not SMALLEST <= side <= LARGEST or side & (side - 1):
        raise _bad(path, f"resolution {side}")
    return record


def _network(path: Path, record: Record, tensors: dict[str, Tensor]) -> ProbeNetwork:
    network = record.network()
    expected = network.state_dict()
    for name in sorted(expected.keys() ^ tensors.keys()):
        raise _bad(path, f"tensor {name!r} is {'missing' if name in expected else 'unknown'}")
    for name, tensor in tensors.items():
        if tensor.dtype != expected[name].dtype or tensor.shape != expected[name].shape:
            raise _bad(path, f"tensor {name!r} is {tensor.dtype} {list(tensor.shape)}")
        if not torch.isfinite(tensor).all():
            raise _bad(path, f"tensor {name!r} is not finite")
    network.load_state_dict(tensors)
    return network.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]


def _digest(about: dict[str, Any], tensors: dict[str, Tensor]) -> str:
    """SHA-256 of the record, and of every tensor's name, type, shape and bytes."""
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _bad(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(f"{path}: not a readable probe ({reason}); train it again with `limner data probe`")
