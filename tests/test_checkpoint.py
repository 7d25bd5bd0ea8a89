"""A checkpoint: written whole or not at all, and never read when one bit of it is not what was written."""

from __future__ import annotations

import errno
import hashlib
import io
import itertools
import json
import os
import pickle
import random
import re
import resource
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from limner import checkpoint
from limner.checkpoint import (
    Disk,
    checkpoint_name,
    list_checkpoints,
    newest_checkpoint,
    prune_checkpoints,
    read_checkpoint,
    remove_leftovers,
    write_checkpoint,
)
from limner.errors import CheckpointError, LimnerError, ResourceError

NO_PAUSES = (0.0, 0.0, 0.0)


def small_state(seed: int) -> dict[str, Tensor]:
    """A few tensors, none of them zero anywhere, so that a block set to zero always is damage."""
    rng = torch.Generator().manual_seed(seed)
    return {
        "model.weight": torch.rand(8, 4, 4, 4, generator=rng) + 0.5,
        "average.weight": torch.rand(300, generator=rng, dtype=torch.float64) + 0.5,
        "optimizer.step": torch.tensor(float(seed + 1)),
        "random.torch": torch.randint(1, 256, (700,), generator=rng).to(torch.uint8),
    }


def facts(images_seen: int) -> dict[str, Any]:
    return {"images_seen": images_seen, "config": {"name": "tiny", "rate": 0.1}, "note": "é “quoted” \\ \n"}


def save(folder: Path, images_seen: int, disk: Disk | None = None) -> Path:
    path = folder / checkpoint_name(images_seen)
    write_checkpoint(path, small_state(images_seen), facts(images_seen), disk or Disk(), pauses_seconds=NO_PAUSES)
    return path


def forge(path: Path, header: Any, data: bytes = b"", length: int | None = None) -> Path:
    """A file laid out as safetensors are, with any header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    size = len(text) if length is None else length
    path.write_bytes(size.to_bytes(8, "little") + text + data)
    return path


def parts(path: Path) -> tuple[dict[str, Any], bytes]:
    """The header and the data of a file."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def sign(header: dict[str, Any]) -> dict[str, Any]:
    """The header with the digest that its facts and list of tensors should have."""
    metadata = header["__metadata__"]
    text = metadata["facts"] + metadata["tensors"]
    metadata["sha256"] = hashlib.sha256(text.encode(errors="replace")).hexdigest()
    return header


# --- there and back -----------------------------------------------------------------------------------------------


def test_every_type_and_layout_comes_back_bit_by_bit(tmp_path: Path) -> None:
    rng = torch.Generator().manual_seed(0)
    images = torch.randn(3, 4, 5, 6, generator=rng)
    tensors = {
        "float64": torch.tensor([1 / 3, float("inf"), float("nan"), -0.0], dtype=torch.float64),
        "float32": images,
        "bfloat16": images.bfloat16(),
        "float16": images.half(),
        "int64": torch.tensor([-(2**63), 2**63 - 1]),
        "int32": torch.tensor([-(2**31), 7], dtype=torch.int32),
        "uint8": torch.arange(256, dtype=torch.uint8),
        "bool": torch.tensor([True, False, True]),
        "channels last": images.contiguous(memory_format=torch.channels_last),
        "transposed": images.transpose(1, 3),
        "every other": images[:, ::2],
        "no rows": torch.empty(0, 7),
        "no columns": torch.empty(7, 0, dtype=torch.int64),
        "one number": torch.tensor(2.5),
        "a parameter": torch.nn.Parameter(images[0]),
        'odd name "é"\n': torch.ones(1),
    }
    path = tmp_path / checkpoint_name(7)
    write_checkpoint(path, tensors, facts(7))
    found = read_checkpoint(path)
    assert found.facts == facts(7)
    assert found.images_seen == 7
    assert found.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found.tensors[name].dtype == tensor.dtype, name
        assert found.tensors[name].shape == tensor.shape, name
        as_bytes = [t.detach().contiguous().reshape(-1).view(torch.uint8) for t in (found.tensors[name], tensor)]
        assert torch.equal(*as_bytes), name


def test_the_file_is_ordinary_safetensors(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    loaded = load_file(save(tmp_path, 3))
    assert all(torch.equal(tensor, small_state(3)[name]) for name, tensor in loaded.items())
    assert loaded.keys() == small_state(3).keys()


def test_facts_that_json_cannot_hold_are_an_error_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"(?i)json"):
        write_checkpoint(tmp_path / checkpoint_name(1), {}, {"images_seen": 1, "rate": float("nan")})
    assert list(tmp_path.iterdir()) == []


# --- K2: stopped at every storage call ----------------------------------------------------------------------------


class Killed(BaseException):
    """Stands for kill -9: nothing after it runs but what Python cannot help."""


class Stopping(Disk):
    """Dies at the k-th call: before it, or (a write) with half of its bytes on the disk, or right after it."""

    def __init__(self, at: int, when: str) -> None:
        self.at, self.when = at, when
        self.calls: list[str] = []

    def _call(self, name: str, work: Callable[[], Any], half: Callable[[], Any] = lambda: None) -> Any:
        self.calls.append(name)
        if len(self.calls) > self.at:
            raise Killed  # a dead process does nothing more
        if len(self.calls) == self.at and self.when == "before":
            half()
            raise Killed
        result = work()
        if len(self.calls) == self.at:
            raise Killed
        return result

    def create(self, path: Path) -> int:
        return self._call("create", lambda: Disk.create(self, path))

    def write(self, descriptor: int, data: memoryview) -> int:
        half = data[: len(data) // 2]
        return self._call("write", lambda: os.write(descriptor, data), lambda: os.write(descriptor, half))

    def flush(self, descriptor: int) -> None:
        self._call("flush", lambda: Disk.flush(self, descriptor))

    def close(self, descriptor: int) -> None:
        os.close(descriptor)  # the kernel does it for a dead process too
        self._call("close", lambda: None)

    def rename(self, before: Path, after: Path) -> None:
        self._call("rename", lambda: Disk.rename(self, before, after))

    def flush_folder(self, folder: Path) -> None:
        self._call("flush_folder", lambda: Disk.flush_folder(self, folder))

    def remove(self, path: Path) -> None:
        self._call("remove", lambda: Disk.remove(self, path))


def save_and_prune(folder: Path, images_seen: int, disk: Disk) -> None:
    prune_checkpoints(folder, 2, save(folder, images_seen, disk), disk)


@pytest.mark.parametrize("existing", [(), (10,), (10, 20), (10, 20, 30), (10, 20, 40)], ids=str)
def test_a_kill_at_any_storage_call_leaves_the_old_or_the_new(tmp_path: Path, existing: tuple[int, ...]) -> None:
    """(10, 20, 40): the save goes over a checkpoint of the same name."""
    counting = Stopping(10**9, "")
    for images_seen in existing:
        save(tmp_path, images_seen)
    shutil.copytree(tmp_path, tmp_path / "rehearsal")
    save_and_prune(tmp_path / "rehearsal", 40, counting)
    shutil.rmtree(tmp_path / "rehearsal")
    removals = max(0, len({*existing, 40}) - 2)
    assert counting.calls == [
        "create", *["write"] * 5, "flush", "close", "rename", "flush_folder", *["remove"] * removals
    ]  # fmt: skip
    for at, when in itertools.product(range(1, len(counting.calls) + 1), ("before", "after")):
        folder = tmp_path / f"{at}-{when}"
        folder.mkdir()
        for images_seen in existing:
            save(folder, images_seen)
        with pytest.raises(Killed):
            save_and_prune(folder, 40, Stopping(at, when))
        reasons: list[str] = []
        found = newest_checkpoint(folder, reasons.append)
        assert reasons == [], "no name that looks like a checkpoint may hold less than one"
        rename = counting.calls.index("rename") + 1
        renamed = at > rename or (at, when) == (rename, "after")
        expected = 40 if renamed or 40 in existing else max(existing, default=None)
        assert (found.images_seen if found else None) == expected, (at, when)
        if found:
            assert all(torch.equal(t, small_state(found.images_seen)[name]) for name, t in found.tensors.items())
        remove_leftovers(folder)
        assert list_checkpoints(folder) == sorted(folder.iterdir(), reverse=True)


# --- K4: power cuts -----------------------------------------------------------------------------------------------


class Recording(Disk):
    """Performs every call and notes it, with the bytes written."""

    def __init__(self) -> None:
        self.trace: list[tuple[str, Any, Any]] = []
        self._names: dict[int, str] = {}

    def create(self, path: Path) -> int:
        descriptor = super().create(path)
        self._names[descriptor] = path.name
        self.trace.append(("create", path.name, None))
        return descriptor

    def write(self, descriptor: int, data: memoryview) -> int:
        self.trace.append(("write", self._names[descriptor], bytes(data)))
        return super().write(descriptor, data)

    def flush(self, descriptor: int) -> None:
        super().flush(descriptor)
        self.trace.append(("flush", self._names[descriptor], None))

    def rename(self, before: Path, after: Path) -> None:
        super().rename(before, after)
        self.trace.append(("rename", before.name, after.name))

    def flush_folder(self, folder: Path) -> None:
        super().flush_folder(folder)
        self.trace.append(("flush_folder", None, None))

    def remove(self, path: Path) -> None:
        super().remove(path)
        self.trace.append(("remove", path.name, None))


def after_power_cut(trace: list[tuple[str, Any, Any]], rng: random.Random) -> dict[str, bytes]:
    """A state the disk may be in when the power goes right after `trace`: what POSIX allows, and no more.

    Bytes written since a file's last flush are there, cut short, partly zero, or absent. Of the changes of the folder
    since its last flush, the first few have happened.
    """
    inodes: list[dict[str, bytes]] = []
    changes: list[tuple[str, Any, Any]] = []
    opened: dict[str, int] = {}
    safe = 0
    for kind, name, value in trace:
        if kind == "create":
            inodes.append({"safe": b"", "all": b""})
            opened[name] = len(inodes) - 1
            changes.append(("link", name, opened[name]))
        elif kind == "write":
            inodes[opened[name]]["all"] += value
        elif kind == "flush":
            inodes[opened[name]]["safe"] = inodes[opened[name]]["all"]
        elif kind == "rename":
            opened[value] = opened.pop(name)
            changes.append(("rename", name, value))
        elif kind == "remove":
            changes.append(("unlink", name, None))
        elif kind == "flush_folder":
            safe = len(changes)
    folder: dict[str, int] = {}
    for kind, name, value in changes[: rng.randint(safe, len(changes))]:
        if kind == "link":
            folder[name] = value
        elif kind == "rename":
            folder[value] = folder.pop(name)
        else:
            folder.pop(name, None)
    return {name: _surviving(inodes[inode], rng) for name, inode in folder.items()}


def _surviving(inode: dict[str, bytes], rng: random.Random) -> bytes:
    safe, everything = inode["safe"], inode["all"]
    if safe == everything:
        return everything
    end = rng.choice([len(safe), rng.randint(len(safe), len(everything)), len(everything)])
    tail = everything[len(safe) : end]
    if tail and rng.random() < 0.5:  # the length was written before the data
        hole = rng.randrange(len(tail))
        tail = tail[:hole] + bytes(len(tail) - hole)
    return safe + tail


def replay(folder: Path, files: dict[str, bytes], verified: dict[bytes, int | None]) -> int | None:
    """Images seen of the newest checkpoint among these files, each distinct content read once by the real reader."""
    for name in sorted((n for n in files if re.fullmatch(r"images-\d{12}\.safetensors", n)), reverse=True):
        digest = hashlib.sha256(files[name]).digest()
        if digest not in verified:
            (folder / name).write_bytes(files[name])
            try:
                verified[digest] = read_checkpoint(folder / name).images_seen
            except CheckpointError:
                verified[digest] = None
            (folder / name).unlink()
        if verified[digest] is not None:
            return verified[digest]
    return None


def trace_of_saves(folder: Path, disk: Recording, saves: int) -> list[tuple[int, int]]:
    """(length of the trace, images seen) at every moment a save was acknowledged."""
    acknowledged = []
    for images_seen in range(1, saves + 1):
        path = save(folder, images_seen, disk)
        acknowledged.append((len(disk.trace), images_seen))
        prune_checkpoints(folder, 2, path, disk)
    return acknowledged


def states_lost(
    folder: Path, trace: list[tuple[str, Any, Any]], acknowledged: list[tuple[int, int]], tries: int = 40
) -> tuple[int, int]:
    """Of `tries` random states after a power cut at every call: how many there were, and in how many work was lost."""
    rng, verified = random.Random(0), dict[bytes, int | None]()
    states = lost = 0
    for length in range(1, len(trace) + 1):
        promised = max((images for end, images in acknowledged if end <= length), default=None)
        for _ in range(tries):
            found = replay(folder, after_power_cut(trace[:length], rng), verified)
            states += 1
            lost += promised is not None and (found is None or found < promised)
    return states, lost


def test_a_power_cut_never_takes_a_save_that_was_acknowledged(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "replay").mkdir()
    disk = Recording()
    acknowledged = trace_of_saves(tmp_path / "run", disk, saves=8)
    states, lost = states_lost(tmp_path / "replay", disk.trace, acknowledged)
    assert states > 3000
    assert lost == 0


@pytest.mark.parametrize("left_out", ["flush", "flush_folder"])
def test_the_power_cut_model_sees_a_missing_flush(tmp_path: Path, left_out: str) -> None:
    """The test of the test: the same trace without one kind of flush loses work."""
    (tmp_path / "run").mkdir()
    (tmp_path / "replay").mkdir()
    disk = Recording()
    acknowledged = trace_of_saves(tmp_path / "run", disk, saves=3)
    kept = [i for i, call in enumerate(disk.trace) if call[0] != left_out]
    ends = [(sum(i < end for i in kept), images) for end, images in acknowledged]
    assert states_lost(tmp_path / "replay", [disk.trace[i] for i in kept], ends, 5)[1] > 0


# --- K9: damage ---------------------------------------------------------------------------------------------------


def damaged(kind: str, data: bytes, rng: random.Random) -> bytes:
    if kind == "bit":
        place = rng.randrange(len(data))
        return data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]
    if kind == "cut":
        return data[: rng.randrange(len(data))]
    if kind == "block":
        start = rng.randrange(len(data) // 512) * 512
        return data[:start] + bytes(len(data[start : start + 512])) + data[start + 512 :]
    return data + rng.randbytes(rng.randint(1, 64))


@pytest.mark.parametrize("kind", ["bit", "cut", "block", "more"])
def test_damage_anywhere_is_found(tmp_path: Path, kind: str) -> None:
    data = save(tmp_path, 5).read_bytes()
    rng, path = random.Random(kind), tmp_path / "images-000000000009.safetensors"
    for _ in range(300):
        path.unlink(missing_ok=True)  # writing over a file waits for the disk
        path.write_bytes(damaged(kind, data, rng))
        with pytest.raises(CheckpointError, match=rf"^{path}: [^\n]+$"):
            read_checkpoint(path)


@pytest.mark.parametrize("name", small_state(0))
def test_a_changed_tensor_is_named(tmp_path: Path, name: str) -> None:
    path = save(tmp_path, 5)
    header, data = parts(path)
    start, stop = header[name]["data_offsets"]
    place = (start + stop) // 2
    forge(path, header, data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
    with pytest.raises(CheckpointError, match=rf"{path}: tensor '{name}' does not match its SHA-256"):
        read_checkpoint(path)


def _forgeries() -> dict[str, Callable[[dict[str, Any], bytes], tuple[Any, bytes, int | None]]]:
    weight = "model.weight"

    def change(name: str, **fields: Any) -> Callable[..., Any]:
        return lambda header, data: ({**header, name: {**header[name], **fields}}, data, None)

    def twice(header: dict[str, Any], data: bytes) -> Any:
        text = json.dumps(header)
        return (text[:-1] + f', "{weight}": {json.dumps(header[weight])}}}').encode(), data, None

    def relisted(header: dict[str, Any], data: bytes) -> Any:
        """A type that lies, in the list and its digest too: only the tensor's shape or bytes can tell."""
        listed = json.loads(header["__metadata__"]["tensors"])
        listed[weight][0] = header[weight]["dtype"] = "I32"
        header["__metadata__"]["tensors"] = json.dumps(listed)
        return header, data, None

    def facts_with(text: str) -> Callable[..., Any]:
        def forged(header: dict[str, Any], data: bytes) -> Any:
            header["__metadata__"]["facts"] = text
            return sign(header), data, None

        return forged

    def tensors_with(text: str) -> Callable[..., Any]:
        def forged(header: dict[str, Any], data: bytes) -> Any:
            header["__metadata__"]["tensors"] = text
            return sign(header), data, None

        return forged

    return {
        "header of 2^63 bytes": lambda header, data: (header, data, 2**63),
        "header of 2^64 - 1 bytes": lambda header, data: (header, data, 2**64 - 1),
        "header of 0 bytes": lambda header, data: (header, data, 0),
        "header longer than the file": lambda header, data: (header, data, len(json.dumps(header)) + len(data) + 1),
        "a name twice": twice,
        "NaN in the header": lambda header, data: (json.dumps({**header, "x": float("nan")}).encode(), data, None),
        "NaN in the facts": facts_with('{"images_seen": 5, "rate": NaN}'),
        "a fact twice": facts_with('{"images_seen": 5, "images_seen": 6}'),
        "facts that are a list": facts_with("[5]"),
        "facts that nest too deep": facts_with("[" * 100_000),
        "facts with half a character": facts_with('{"images_seen": "\ud800"}'),
        "a list of tensors that is none": tensors_with("7"),
        "a list of tensors of numbers": tensors_with('{"model.weight": 7}'),
        "an empty list of tensors": tensors_with("{}"),
        "metadata that is a list": lambda header, data: ({**header, "__metadata__": [1]}, data, None),
        "no metadata": lambda header, data: ({weight: header[weight]}, data, None),
        "a header that is a list": lambda header, data: (b"[1, 2, 3]", data, None),
        "a header that is not text": lambda header, data: (b"\xff\xfe" * 40, data, None),
        "a header that nests too deep": lambda header, data: (b"[" * 100_000, data, None),
        "overlapping tensors": change("average.weight", data_offsets=[8, 2408]),
        "offsets backwards": change(weight, data_offsets=[4448, 2400]),
        "an offset below 0": change(weight, data_offsets=[-2048, 0]),
        "a type that lies": change(weight, dtype="I32"),
        "a type nobody knows": change(weight, dtype="F31"),
        "a type of half bytes": change(weight, dtype="F4"),
        "a signed type that lies": lambda header, data: relisted(header, data),
        "a shape that lies": change(weight, shape=[4, 8, 4, 4]),
        "a shape below 0": change(weight, shape=[-8, -4, 4, 4]),
        "a shape of 10^12": change(weight, shape=[10**12], data_offsets=[0, 4 * 10**12]),
        "an entry that is a number": lambda header, data: ({**header, weight: 7}, data, None),
        "an unlisted tensor": lambda header, data: (
            {**header, "more": {"dtype": "U8", "shape": [1], "data_offsets": [len(data), len(data) + 1]}},
            data + b"\1",
            None,
        ),
    }


@pytest.mark.parametrize("name", _forgeries())
def test_a_forged_file_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    header, data = parts(save(tmp_path, 5))
    text, data, length = _forgeries()[name](header, data)
    path = forge(tmp_path / "images-000000000009.safetensors", text, data, length)
    with pytest.raises(CheckpointError, match=re.escape(str(path))) as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_the_forger_of_these_tests_can_make_a_good_file(tmp_path: Path) -> None:
    path = save(tmp_path, 5)
    header, data = parts(path)
    forge(path, sign(header), data)
    assert read_checkpoint(path).images_seen == 5


# --- K10, K11, K15, K17: choosing what to go on from --------------------------------------------------------------


def test_the_newest_good_checkpoint_is_taken_and_the_bad_ones_named(tmp_path: Path) -> None:
    for images_seen in (10, 20, 30, 40):
        save(tmp_path, images_seen)
    (tmp_path / checkpoint_name(40)).write_bytes(b"")
    data = bytearray((tmp_path / checkpoint_name(30)).read_bytes())
    data[-1] ^= 1
    (tmp_path / checkpoint_name(30)).write_bytes(data)
    reasons: list[str] = []
    found = newest_checkpoint(tmp_path, reasons.append)
    assert found is not None
    assert found.images_seen == 20
    assert [checkpoint_name(40) in reasons[0], checkpoint_name(30) in reasons[1], len(reasons)] == [True, True, 2]
    assert "random.torch" in reasons[1] or "SHA-256" in reasons[1]
    assert len(list_checkpoints(tmp_path)) == 4


def test_when_all_are_damaged_each_is_named_and_none_deleted(tmp_path: Path) -> None:
    for images_seen in (10, 20, 30):
        path = save(tmp_path, images_seen)
        path.write_bytes(path.read_bytes()[:-1])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(CheckpointError) as caught:
        newest_checkpoint(tmp_path, lambda reason: None)
    assert caught.value.exit_code == 4
    assert all(checkpoint_name(images_seen) in str(caught.value) for images_seen in (10, 20, 30))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_no_checkpoints_is_not_an_error(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path, pytest.fail) is None
    assert newest_checkpoint(tmp_path / "absent", pytest.fail) is None


def test_newest_is_by_images_not_by_the_clock(tmp_path: Path) -> None:
    for images_seen, year in ((999, 2031), (1000, 1999), (50, 2026)):
        path = save(tmp_path, images_seen)
        os.utime(path, ((year - 1970) * 31_557_600,) * 2)
    found = newest_checkpoint(tmp_path, pytest.fail)
    assert found is not None
    assert found.images_seen == 1000
    prune_checkpoints(tmp_path, 2, tmp_path / checkpoint_name(1000))
    assert [path.name for path in list_checkpoints(tmp_path)] == [checkpoint_name(1000), checkpoint_name(999)]


@pytest.mark.parametrize("keep", [0, 1, 2, 3])
def test_pruning_never_removes_what_a_run_went_back_to(tmp_path: Path, keep: int) -> None:
    """Three newer ones are damaged, the run went on from 100 and saved at 105: 105 and 100 must both stay."""
    for images_seen in (90, 95, 100, 105, 110, 120, 130):
        path = save(tmp_path, images_seen)
        if images_seen > 105:
            path.write_bytes(path.read_bytes()[:-1])
    prune_checkpoints(tmp_path, keep, tmp_path / checkpoint_name(105))
    kept = [path.name for path in list_checkpoints(tmp_path)]
    assert kept == [checkpoint_name(n) for n in (130, 120, 110, 105, 100, 95)[: 3 + max(keep, 2)]]
    found = newest_checkpoint(tmp_path, lambda reason: None)
    assert found is not None
    assert found.images_seen == 105


def test_another_format_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = save(tmp_path, 5)
    header, data = parts(path)
    header["__metadata__"]["format"] = "limner-checkpoint-2"
    forge(path, header, data)
    with pytest.raises(CheckpointError, match=r"limner-checkpoint-2.*reads 'limner-checkpoint-1'.*use the limner that"):
        read_checkpoint(path)


# --- K12 … K14, K21: disks that fail ------------------------------------------------------------------------------


class Failing(Disk):
    """The calls from the `first`-th to the `last`-th fail with `code`."""

    def __init__(self, first: int, last: int, code: int, kinds: tuple[str, ...] = ("create", "write", "flush")) -> None:
        self.first, self.last, self.code, self.kinds = first, last, code, kinds
        self.calls = 0

    def _count(self, kind: str) -> None:
        if kind in self.kinds:
            self.calls += 1
            if self.first <= self.calls <= self.last:
                raise OSError(self.code, os.strerror(self.code))

    def create(self, path: Path) -> int:
        self._count("create")
        return super().create(path)

    def write(self, descriptor: int, data: memoryview) -> int:
        written = super().write(descriptor, data[: max(1, len(data) // 2)])  # short writes are legal
        self._count("write")
        return written

    def flush(self, descriptor: int) -> None:
        self._count("flush")
        super().flush(descriptor)

    def close(self, descriptor: int) -> None:
        super().close(descriptor)
        self._count("close")

    def rename(self, before: Path, after: Path) -> None:
        self._count("rename")
        super().rename(before, after)

    def flush_folder(self, folder: Path) -> None:
        self._count("flush_folder")
        super().flush_folder(folder)


ALL = ("create", "write", "flush", "close", "rename", "flush_folder")


def calls_of_a_save(folder: Path) -> int:
    counting = Failing(0, 0, 0, ALL)
    save(folder, 1, counting)
    (folder / checkpoint_name(1)).unlink()
    return counting.calls


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_disk_full_at_any_call_leaves_the_old_one_and_says_how_much_is_missing(tmp_path: Path, code: int) -> None:
    calls = calls_of_a_save(tmp_path)
    save(tmp_path, 40)
    before = (tmp_path / checkpoint_name(40)).read_bytes()
    assert calls > 30
    for first in range(1, calls):  # the last one, flushing the folder, comes when the new one is whole already
        with pytest.raises(ResourceError, match=r"images-0+40.*MB and [\d.]+ MB are free") as caught:
            save(tmp_path, 40, Failing(first, 10**9, code, ALL))
        assert os.strerror(code) in str(caught.value)
        assert [path.name for path in tmp_path.iterdir()] == [checkpoint_name(40)]
        assert (tmp_path / checkpoint_name(40)).read_bytes() == before


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_a_fault_that_passes_is_tried_again(tmp_path: Path, code: int) -> None:
    for kind in ALL:
        disk = Failing(1, 2, code, (kind,))
        found = read_checkpoint(save(tmp_path, 3, disk))
        assert torch.equal(found.tensors["model.weight"], small_state(3)["model.weight"])
        assert disk.calls >= 3
        assert [path.name for path in tmp_path.iterdir()] == [checkpoint_name(3)]


def test_pauses_grow_between_attempts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(checkpoint.time, "sleep", pauses.append)
    with pytest.raises(ResourceError):
        write_checkpoint(tmp_path / checkpoint_name(1), small_state(1), facts(1), Failing(1, 99, errno.EIO))
    assert len(pauses) == 3
    assert pauses == sorted(pauses)


def test_a_fault_that_will_not_pass_is_not_tried_again(tmp_path: Path) -> None:
    disk = Failing(1, 10**9, errno.EROFS)
    with pytest.raises(ResourceError, match="Read-only file system"):
        save(tmp_path, 1, disk)
    assert disk.calls == 1


def test_a_folder_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=rf"{tmp_path}/gone/images-0+1.safetensors: .*No such file or directory"):
        save(tmp_path / "gone", 1)
    assert not (tmp_path / "gone").exists()


def test_a_real_limit_on_file_size_leaves_the_old_one(tmp_path: Path) -> None:
    """The kernel's own refusal (EFBIG), in a child so that no other file of the tests meets the limit."""
    import signal

    save(tmp_path, 1)
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
        code = 1
        try:
            save(tmp_path, 1)
        except ResourceError as error:
            code = 0 if "File too large" in str(error) else 2
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert [path.name for path in tmp_path.iterdir()] == [checkpoint_name(1)]
    assert read_checkpoint(tmp_path / checkpoint_name(1)).images_seen == 1


def test_leftovers_go_only_when_asked(tmp_path: Path) -> None:
    save(tmp_path, 1)
    leftover = tmp_path / f".{checkpoint_name(2)}.tmp-12345"
    other = tmp_path / "notes.tmp-1"
    for path in (leftover, other):
        path.write_bytes(b"half")
    found = newest_checkpoint(tmp_path, pytest.fail)
    prune_checkpoints(tmp_path, 2, save(tmp_path, 3))
    assert found is not None
    assert leftover.exists()
    remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [checkpoint_name(1), checkpoint_name(3), other.name]


# --- S1, S3: hostile files ----------------------------------------------------------------------------------------


class Payload:
    """Runs code when unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.canary,)


def _hostile(kind: str, canary: Path) -> bytes:
    buffer = io.BytesIO()
    if kind == "pickle":
        return pickle.dumps(Payload(canary))
    if kind == "torch.save":
        torch.save({"model": Payload(canary)}, buffer)
    elif kind == "torch.save, legacy":
        torch.save({"model": Payload(canary)}, buffer, _use_new_zipfile_serialization=False)
    elif kind == "npy":
        np.save(buffer, np.array([Payload(canary)], dtype=object), allow_pickle=True)
    elif kind == "zip":
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps(Payload(canary)))
    elif kind == "yaml":
        return f"!!python/object/apply:os.system ['touch {canary}']\n".encode()
    elif kind == "python":
        return f"open({str(canary)!r}, 'w')\n".encode()
    elif kind == "other safetensors":
        save_file({"weight": torch.ones(3)}, canary.with_name("other"))
        return canary.with_name("other").read_bytes()
    return buffer.getvalue()


FOREIGN = ("pickle", "torch.save", "torch.save, legacy", "npy", "zip", "yaml", "python", "empty", "other safetensors")


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_foreign_file_is_refused_and_runs_nothing(tmp_path: Path, kind: str) -> None:
    canary = tmp_path / "canary"
    path = tmp_path / checkpoint_name(1)
    path.write_bytes(_hostile(kind, canary))
    with pytest.raises(CheckpointError, match=re.escape(str(path))):
        read_checkpoint(path)
    assert not canary.exists()


def test_the_canary_would_have_sung(tmp_path: Path) -> None:
    pickle.loads(_hostile("pickle", tmp_path / "canary"))
    assert (tmp_path / "canary").exists()


def test_a_folder_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / checkpoint_name(1)).mkdir()
    with pytest.raises(CheckpointError, match="directory"):
        read_checkpoint(tmp_path / checkpoint_name(1))


def _bombs(path: Path) -> dict[str, Callable[[], Path]]:
    digest = hashlib.sha256(b"").hexdigest()

    def signed(entries: dict[str, Any], listed: dict[str, Any], data: bytes = b"") -> Path:
        metadata = {"format": checkpoint.FORMAT, "facts": '{"images_seen": 1}', "tensors": json.dumps(listed)}
        return forge(path, sign({"__metadata__": metadata, **entries}), data)

    def one(shape: list[int], size: int) -> Path:
        entry = {"dtype": "F32", "shape": shape, "data_offsets": [0, size]}
        return signed({"w": entry}, {"w": ["F32", shape, digest]})

    def many() -> Path:
        entry = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
        return signed({f"t{i}": entry for i in range(200_000)}, {f"t{i}": ["F32", [0], digest] for i in range(200_000)})

    def sparse() -> Path:
        """A header of four gigabytes that the disk need not hold."""
        with path.open("wb") as file:
            file.write((2**32).to_bytes(8, "little"))
            file.truncate(2**32 + 8)
        return path

    return {
        "10^12 elements": lambda: one([10**12], 4 * 10**12),
        "10^12 elements of no bytes": lambda: one([10**6, 10**6], 0),
        "a shape that overflows": lambda: one([2**32, 2**32], 0),
        "200,000 tensors": many,
        "a header of 4 GiB": sparse,
    }


@pytest.mark.parametrize("name", _bombs(Path()))
def test_a_bomb_is_refused_with_little_memory(tmp_path: Path, name: str) -> None:
    path = _bombs(tmp_path / checkpoint_name(1))[name]()
    pid = os.fork()
    if pid == 0:  # a child, whose peak of memory is its own
        before = resident_mb()
        code = 1
        try:
            read_checkpoint(path)
        except CheckpointError:
            code = 0 if resident_mb() - before < 150 else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def resident_mb() -> float:
    """This process's peak, which a fork starts afresh."""
    text = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", text)[1]) / 1024  # type: ignore[index]


def test_errors_are_those_of_the_table_of_exit_codes() -> None:
    assert (CheckpointError("").exit_code, ResourceError("").exit_code) == (4, 5)
    assert issubclass(CheckpointError, LimnerError)
