"""TFRecords: how fast they are read, in how much memory, and whether TensorFlow agrees about them.

python benchmarks/tfrecords.py [--package PYTHON] [--tensorflow PYTHON] [--out benchmarks/results/tfrecords.json]

--package PYTHON      a Python with `tfrecord` and `google-crc32c`, to be timed beside
--tensorflow PYTHON   a Python with TensorFlow: it writes as PGGAN does and limner reads, then the other way round
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from limner.data.crc32c import crc32c
from limner.data.decoding import squares
from limner.data.picture_record import PictureReader
from limner.data.prepare import prepare
from limner.data.record_file import open_record_file
from limner.data.record_levels import RecordLevels, Records
from limner.data.tfrecords import open_tfrecords
from pggan_records import pggan_levels, pictures, write_records

OTHERS = Path(__file__).with_name("tfrecords_others.py")
SIDE, COUNT, REPEATS = 64, 4000, 5


def ask(python: str, *words: str | Path) -> dict[str, float | str]:
    """What another Python's run of `tfrecords_others.py` prints."""
    command = [python, str(OTHERS), *map(str, words)]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(printed.splitlines()[-1])


def best_seconds(work: Callable[[], object]) -> float:
    """CPU seconds of the best of some runs."""
    taken = []
    for _ in range(REPEATS):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return min(taken)


def read_pixels(path: Path) -> None:
    """One file from the index to pixels, channels last, every CRC checked."""
    file, reader = open_record_file(path), PictureReader(SIDE)
    for start in range(0, len(file), 16):
        for payload in file.read(range(start, min(start + 16, len(file))), 1 << 20):
            assert isinstance(payload, memoryview)
            image = np.empty((SIDE, SIDE, 3), dtype=np.uint8)
            for channel, plane in enumerate(reader.read(payload)):
                image[..., channel] = plane


def read_level(path: Path) -> None:
    """One file as `prepare` reads it: also the SHA-256 of every picture."""
    opened = open_tfrecords(path)
    assert opened is not None
    assert isinstance(opened.photos, Records)
    for some in squares(RecordLevels(opened.photos, SIDE), 1):
        assert all(square.fault is None for square in some)


def measure_reading(folder: Path, package: str | None) -> dict[str, object]:
    images = np.tile(pictures(50, SIDE), (COUNT // 50, 1, 1, 1))
    path = next(write_records(folder, {SIDE: images}).iterdir())
    megabytes = path.stat().st_size / 1e6
    theirs = [ask(package, "time", path) for _ in range(REPEATS)] if package else []
    ours, prepared = best_seconds(lambda: read_pixels(path)), best_seconds(lambda: read_level(path))
    found: dict[str, object] = {
        "file": f"{COUNT} records of {SIDE}², {megabytes:.0f} MB",
        "limner": {"images_per_cpu_s": round(COUNT / ours), "mb_per_cpu_s": round(megabytes / ours)},
        "limner, as prepare reads, with SHA-256: images_per_cpu_s": round(COUNT / prepared),
        "index only, records per CPU-s": round(COUNT / best_seconds(lambda: open_record_file(path))),
    }
    if theirs:
        seconds = min(float(t["seconds"]) for t in theirs)
        found[f"tfrecord {theirs[0]['version']}, which checks no CRC"] = {
            "images_per_cpu_s": round(COUNT / seconds),
            "mb_per_cpu_s": round(megabytes / seconds),
        }
    return found


def measure_crc(package: str | None) -> dict[str, object]:
    rng, found = np.random.default_rng(0), {}
    for count, length in ((4096, 110), (600, 12_400), (40, 196_700), (1, 3_145_800)):
        rows = rng.integers(0, 256, (count, length), dtype=np.uint8)
        seconds = best_seconds(lambda rows=rows: crc32c(rows))  # type: ignore[misc]
        found[f"limner, MB/s at {length:,} bytes"] = round(rows.size / seconds / 1e6)
    if package:
        theirs = ask(package, "crc")
        found[f"google-crc32c {theirs['version']}, MB/s at 12,400 bytes"] = theirs["mb_per_s"]
    return found


def measure_memory(folder: Path) -> dict[str, str]:
    """Most memory of a process that reads few and many records."""
    found = {}
    for count in (1000, 16_000):
        images = np.tile(pictures(50, SIDE), (count // 50, 1, 1, 1))
        source = write_records(folder / str(count), {SIDE: images})
        command = [sys.executable, __file__, "--peak", str(source)]
        printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        size = sum(path.stat().st_size for path in source.iterdir())
        found[f"{count:,} records, {size / 1e6:.0f} MB"] = f"{printed.strip()} MiB"
    return found


def print_peak(source: str) -> None:
    read_level(Path(source))
    peak = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())  # ru_maxrss counts the parent's as well
    print(int(peak[1]) >> 10 if peak else 0)


def cross_check(folder: Path, python: str) -> dict[str, object]:
    """Both ways, all levels of colour and grey pictures; every pixel is compared."""
    found: dict[str, object] = {}
    for channels in (3, 1):
        levels = pggan_levels(pictures(40, 128, channels))
        here = folder / f"channels{channels}"
        (here / "theirs").mkdir(parents=True)
        np.savez(here / "levels.npz", **{str(r): images for r, images in levels.items()})  # type: ignore[arg-type]
        version = ask(python, "write", here / "levels.npz", here / "theirs")["tensorflow"]
        data = prepare(here / "theirs", here / "dataset", workers=1)
        same = all(
            np.array_equal(data.images(r), np.broadcast_to(images.transpose(0, 2, 3, 1), data.images(r).shape))
            for r, images in levels.items()
        )
        ask(python, "read", write_records(here / "ours", levels), here / "read.npz")
        read = np.load(here / "read.npz")
        back = all(np.array_equal(read[str(r)], images) for r, images in levels.items())
        found[f"40 pictures of {channels} channel{'s' * (channels > 1)}, every level of 4² to 128²"] = {
            "TensorFlow": version,
            "TensorFlow writes, limner reads: every pixel the same": same,
            "the tests' writer writes, TensorFlow reads: every pixel the same": back,
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--package", metavar="PYTHON")
    parser.add_argument("--tensorflow", metavar="PYTHON")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--peak", metavar="SOURCE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        return print_peak(options.peak)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found: dict[str, object] = {
            "python": sys.version.split()[0],
            "numpy": np.__version__,
            "reading": measure_reading(folder / "reading", options.package),
            "crc": measure_crc(options.package),
            "memory": measure_memory(folder / "memory"),
        }
        if options.tensorflow:
            found["tensorflow"] = cross_check(folder / "tensorflow", options.tensorflow)
    print(json.dumps(found, indent=1, ensure_ascii=False))
    if options.out:
        options.out.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
