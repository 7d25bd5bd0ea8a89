"""Files of published weights: recognised by size and SHA-256 before anything in them is looked at. Never downloaded."""

from __future__ import annotations

import hashlib
import io
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from limner.errors import CheckpointError, LimnerError


@dataclass(frozen=True)
class KnownFile:
    """A file that others published, as it must be byte for byte."""

    name: str
    """its usual name"""
    size: int
    """bytes"""
    sha256: str
    kind: Literal["state dict", "TorchScript"]


def find_file(weights: Path | None, folder: Path, known: Mapping[str, KnownFile]) -> Path:
    """The file given, or else the first known one in `folder`.

    Raises:
        LimnerError: there is none; says what to put where.
    """
    if weights is not None:
        if not weights.is_file():
            raise LimnerError(
                f"{weights}: no such file; needed is {named(known)}; docs/extractors.md says where it is had"
            )
        return weights
    for file in known.values():
        if (folder / file.name).is_file():
            return folder / file.name
    raise LimnerError(
        f"{folder}: no weights; put {named(known)} there, or give the file's path; see docs/extractors.md"
    )


def read_known(path: Path, known: Mapping[str, KnownFile]) -> tuple[bytes, KnownFile]:
    """The content of a file that is one of the known ones: what was hashed is what is returned.

    Raises:
        CheckpointError: it cannot be read, or has another size or SHA-256.
    """
    try:
        size = path.stat().st_size
        of_size = [file for file in known.values() if file.size == size]
        content = path.read_bytes() if of_size else b""
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); needed is {named(known)}") from error
    if not of_size:
        raise CheckpointError(f"{path}: {size:,} bytes: another file, or part of one; needed is {named(known)}")
    found = hashlib.sha256(content).hexdigest()
    for file in of_size:
        if file.sha256 == found:
            return content, file
    raise CheckpointError(
        f"{path}: SHA-256 {found}, but {of_size[0].name} has {of_size[0].sha256}: damaged or altered; get it again"
    )


def load_state(network: nn.Module, content: bytes, path: Path) -> None:
    """Fill a network with a state dict as torch.save writes it, read as tensors only so that no code can run.

    Batch normalization's counts of batches may be missing: they are not used.

    Raises:
        CheckpointError: no state dict, or one of another network.
    """
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{path}: no state dict of tensors ({first_line(error)})") from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{path}: no state dict of tensors; save network.state_dict() alone")
    wanted = {name: value for name, value in network.state_dict().items() if not name.endswith("num_batches_tracked")}
    for name, value in wanted.items():
        if name not in state or state[name].shape != value.shape:
            found = tuple(state[name].shape) if name in state else "missing"
            raise CheckpointError(f"{path}: {name}: {found}, not {tuple(value.shape)}; weights of another network")
    for name in state:
        if name not in network.state_dict():
            raise CheckpointError(f"{path}: {name}: unknown; weights of another network")
    network.load_state_dict({name: state[name] for name in wanted}, strict=False)


def load_torchscript(content: bytes, path: Path, device: torch.device | str) -> torch.jit.ScriptModule:
    """A TorchScript file's network. It is a program: it can do whatever the user who runs it can.

    Raises:
        CheckpointError: no TorchScript file.
    """
    try:
        with warnings.catch_warnings():
            # files in this format are what the field publishes, whatever becomes of the compiler that wrote them
            warnings.simplefilter("ignore", DeprecationWarning)
            module = torch.jit.load(io.BytesIO(content), map_location=device)
    except (RuntimeError, ValueError) as error:
        raise CheckpointError(f"{path}: no TorchScript file ({first_line(error)}); save one with torch.jit") from error
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    return module.eval()


def first_line(error: BaseException) -> str:
    """An error's message in one short line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else type(error).__name__


def named(known: Mapping[str, KnownFile]) -> str:
    """The files in words, for a message."""
    return " or ".join(f"{file.name} ({file.size:,} bytes, SHA-256 {file.sha256[:8]}…)" for file in known.values())
