"""One file that holds everything a run needs to go on exactly: a safetensors file whose header carries the rest.

Tensors are the networks, their averages, the optimizers' moments by parameter name and the random states; the header's
metadata holds the facts (JSON: clock, config, dataset) and a SHA-256 of every tensor and of the facts themselves,
because neither safetensors nor PyTorch notices a flipped bit. Nothing in a checkpoint can run code.

A file is written beside its final name, flushed to the disk, renamed, and the folder flushed: at any moment a crash
leaves the old checkpoint or the new one, never half of one.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from limner.errors import CheckpointError, ResourceError

FORMAT = "limner-checkpoint-1"
_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_NAME = re.compile(r"images-(\d{12})\.safetensors")
_PASSING = (errno.EIO, errno.ENOSPC, errno.EDQUOT)  # faults worth another try: they may pass
_PIECE = 1 << 24
_LARGEST_HEADER = 16 << 20  # about 50,000 tensors

Facts = dict[str, Any]


class Disk:
    """The storage calls a checkpoint is written with; a test stands in for it to fail or stop at any one of them."""

    def create(self, path: Path) -> int:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)

    def write(self, descriptor: int, data: memoryview) -> int:
        return os.write(descriptor, data)

    def flush(self, descriptor: int) -> None:
        os.fsync(descriptor)

    def close(self, descriptor: int) -> None:
        os.close(descriptor)

    def rename(self, before: Path, after: Path) -> None:
        os.replace(before, after)

    def flush_folder(self, folder: Path) -> None:
        if os.name == "nt":  # a folder cannot be opened there; NTFS journals the rename
            return
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)


DISK = Disk()


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint in memory."""

    path: Path
    tensors: dict[str, Tensor]
    facts: Facts

    @property
    def images_seen(self) -> int:
        return int(self.facts["images_seen"])


def checkpoint_name(images_seen: int) -> str:
    return f"images-{images_seen:012d}.safetensors"


def write_checkpoint(
    path: Path,
    tensors: Mapping[str, Tensor],
    facts: Facts,
    disk: Disk = DISK,
    pauses_seconds: tuple[float, ...] = (0.1, 0.5, 2.0),
) -> None:
    """Write durably under `path`, trying again after each pause when the disk is full or fails.

    Raises:
        ResourceError: it could not be written; whatever was at `path` before is still there.
    """
    # Wide types first, so that every tensor starts at a multiple of its own size.
    ordered = dict(sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0])))
    buffers = {name: _bytes_of(tensor) for name, tensor in ordered.items()}
    header = _header(ordered, buffers, facts)
    temporary = path.parent / f".{path.name}.tmp-{os.getpid()}"
    for pause in (*pauses_seconds, None):
        try:
            _write_durably(path, temporary, [memoryview(header), *buffers.values()], disk)
            return
        except OSError as error:
            with contextlib.suppress(OSError):
                disk.remove(temporary)
            if pause is None or error.errno not in _PASSING:
                raise _unwritten(path, error, sum(map(len, buffers.values()))) from error
            time.sleep(pause)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read and verify every byte.

    Raises:
        CheckpointError: naming the file, and the tensor or field that is damaged.
    """
    try:
        header = _read_header(path)
        facts, digests = _verified_facts(path, header.pop("__metadata__", None))
        _refuse_unlisted(path, header, digests)
        with safe_open(str(path), framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in digests}
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such checkpoint; `limner sample` and `resume` take a run's folder") from None
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, error) from None
    for name, tensor in tensors.items():
        if [_DTYPES.get(tensor.dtype), list(tensor.shape), _sha256(_bytes_of(tensor))] != digests[name]:
            raise CheckpointError(f"{path}: tensor {name!r} does not match its SHA-256; the file is damaged")
    return Checkpoint(path, tensors, facts)


def list_checkpoints(folder: Path) -> list[Path]:
    """Files named as checkpoints, newest (most images seen, not latest by the clock) first."""
    found = [path for path in folder.glob("images-*.safetensors") if _NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: path.name, reverse=True)


def newest_checkpoint(folder: Path, rejected: Callable[[str], None]) -> Checkpoint | None:
    """The newest checkpoint that verifies; every one passed over is named to `rejected`. None when there are no files.

    Raises:
        CheckpointError: there are checkpoints, and every one is damaged. Nothing is deleted.
    """
    reasons = []
    for path in list_checkpoints(folder):
        try:
            return read_checkpoint(path)
        except CheckpointError as error:
            reasons.append(str(error))
            rejected(str(error))
    if reasons:
        raise CheckpointError(f"{folder}: none of {len(reasons)} checkpoints can be read: " + "; ".join(reasons))
    return None


def prune_checkpoints(folder: Path, keep: int, newest: Path, disk: Disk = DISK) -> None:
    """Of `newest`, just written, and those before it, remove all but `keep` (at least two).

    At least two, since a failing disk may have spoilt one. Files that claim more images than `newest` are left alone:
    the run went back behind them because they could not be read, and counting them would remove the good ones.
    """
    written = [path for path in list_checkpoints(folder) if path.name <= newest.name]
    for path in written[max(keep, 2) :]:
        disk.remove(path)


def remove_leftovers(folder: Path) -> None:
    """Remove half-written files of processes that died. Call it only while holding the run's lock."""
    for path in folder.glob(".images-*.tmp-*"):
        path.unlink(missing_ok=True)


def _write_durably(path: Path, temporary: Path, pieces: list[memoryview], disk: Disk) -> None:
    descriptor = disk.create(temporary)
    try:
        for piece in pieces:
            for start in range(0, len(piece), _PIECE):
                rest = piece[start : start + _PIECE]
                while len(rest):
                    rest = rest[disk.write(descriptor, rest) :]
        disk.flush(descriptor)
    finally:
        disk.close(descriptor)
    disk.rename(temporary, path)
    disk.flush_folder(path.parent)


def _header(tensors: Mapping[str, Tensor], buffers: Mapping[str, memoryview], facts: Facts) -> bytes:
    digests = {name: [_DTYPES[t.dtype], list(t.shape), _sha256(buffers[name])] for name, t in tensors.items()}
    facts_text = json.dumps(facts, allow_nan=False, sort_keys=True)
    digests_text = json.dumps(digests, sort_keys=True)
    entries: dict[str, Any] = {
        "__metadata__": {
            "format": FORMAT,
            "facts": facts_text,
            "tensors": digests_text,
            "sha256": _sha256(memoryview((facts_text + digests_text).encode())),
        }
    }
    offset = 0
    for name, (dtype, shape, _) in digests.items():
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + len(buffers[name])]}
        offset += len(buffers[name])
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _read_header(path: Path) -> dict[str, Any]:
    """The file's JSON header, read before anything is mapped or allocated for its tensors."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(_LARGEST_HEADER, size - 8):
            raise _unreadable(path, f"{size} bytes that begin with no header of limner's")
        header = _strict_json(path, file.read(length), "its header")
    if not isinstance(header, dict):
        raise _unreadable(path, "its header is not an object")
    return header


def _verified_facts(path: Path, metadata: Any) -> tuple[Facts, dict[str, list[Any]]]:
    metadata = metadata if isinstance(metadata, dict) else {}
    if metadata.get("format") != FORMAT:
        found = metadata.get("format", "no limner format")
        raise CheckpointError(
            f"{path}: format {found!r}, but this version reads {FORMAT!r}; use the limner that wrote it"
        )
    facts_text, digests_text = str(metadata.get("facts")), str(metadata.get("tensors"))
    if _sha256(memoryview((facts_text + digests_text).encode(errors="replace"))) != metadata.get("sha256"):
        raise CheckpointError(f"{path}: its header does not match its SHA-256; the file is damaged")
    facts = _strict_json(path, facts_text.encode(errors="replace"), "its field 'facts'")
    digests = _strict_json(path, digests_text.encode(errors="replace"), "its field 'tensors'")
    if not isinstance(facts, dict) or not isinstance(digests, dict):
        raise _unreadable(path, "its facts are not objects")
    if not all(isinstance(digest, list) and len(digest) == 3 for digest in digests.values()):
        raise _unreadable(path, "its field 'tensors' is not a list of type, shape and SHA-256 for each")
    return facts, digests


def _refuse_unlisted(path: Path, header: Mapping[str, Any], digests: Mapping[str, Any]) -> None:
    """Every tensor must be there, of the type and shape the digests were made of; nothing else may be."""
    for name in sorted(header.keys() ^ digests.keys()):
        where = "not listed with a SHA-256" if name in header else "missing"
        raise CheckpointError(f"{path}: tensor {name!r} is {where}; the file is damaged")
    for name, entry in header.items():
        found = [entry.get("dtype"), entry.get("shape")] if isinstance(entry, dict) else entry
        if found != digests[name][:2] or found[0] not in _DTYPES.values():
            raise CheckpointError(f"{path}: tensor {name!r} is not of the type and shape listed; the file is damaged")


def _strict_json(path: Path, data: bytes, what: str) -> Any:
    """JSON with no NaN and no name twice, which two readers could take for two things."""
    try:
        return json.loads(data.decode(), object_pairs_hook=_once, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise _unreadable(path, f"{what}: {_one_line(error)}") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a name is there twice")
    return dict(pairs)


def _refuse_constant(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _bytes_of(tensor: Tensor) -> memoryview:
    """A tensor's bytes in row-major order, without a copy where it already lies so on the CPU."""
    flat = tensor.detach().to("cpu").contiguous().reshape(-1)
    return memoryview(flat.view(torch.uint8).numpy().data) if flat.numel() else memoryview(b"")


def _sha256(data: memoryview) -> str:
    return hashlib.sha256(data).hexdigest()


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _unreadable(path: Path, reason: BaseException | str) -> CheckpointError:
    text = reason if isinstance(reason, str) else _one_line(reason)
    return CheckpointError(f"{path}: not a readable checkpoint ({text})")


def _unwritten(path: Path, error: OSError, size: int) -> ResourceError:
    with contextlib.suppress(OSError):
        free = shutil.disk_usage(path.parent).free
        return ResourceError(
            f"{path}: could not be saved ({error.strerror}): it needs {size / 1e6:.0f} MB and {free / 1e6:.0f} MB are "
            "free; make room, the last good checkpoint is untouched"
        )
    return ResourceError(f"{path}: could not be saved ({error.strerror}); the folder is gone or not writable")
