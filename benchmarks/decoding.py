"""What the guarded decoder costs at its limits, and what simplejpeg would change: the figures of docs/data.md.

python benchmarks/decoding.py
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

LARGEST = {
    "RGBA PNG": {"format": "PNG", "compress_level": 1},
    "progressive JPEG": {"format": "JPEG", "quality": 50, "progressive": True, "subsampling": 0},
    "lossless WebP": {"format": "WEBP", "lossless": True, "quality": 0, "method": 0},
    "LZW TIFF": {"format": "TIFF", "compression": "tiff_lzw"},
    "CMYK JPEG": {"format": "JPEG", "quality": 90},
}


def largest_picture(kind: str) -> bytes:
    """8192 × 6144 pixels of noise, to be turned by its EXIF: the most work a file of this kind may ask for."""
    noise = np.tile(np.random.default_rng(0).integers(0, 256, (512, 512, 4), dtype=np.uint8), (12, 16, 1))
    mode = {"RGBA PNG": "RGBA", "CMYK JPEG": "CMYK"}.get(kind, "RGB")
    image = Image.frombytes(mode, (8192, 6144), noise[:, :, : len(mode)].tobytes())
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    image.save(buffer, exif=exif, **LARGEST[kind])  # type: ignore[arg-type]
    return buffer.getvalue()


def decode_stdin() -> None:
    """In a process of its own, so that the peak memory is the decoder's alone."""
    from limner.data.pictures import decode

    data = sys.stdin.buffer.read()
    start = time.process_time()
    decode(data, "picture")
    seconds = time.process_time() - start
    peak = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())  # ru_maxrss counts the parent's as well
    print(f"{seconds:.2f} CPU-s, {int(peak.group(1)) >> 10 if peak else 0} MiB at most")


def jpegs(count: int) -> list[bytes]:
    rng = np.random.default_rng(0)
    made = []
    for _ in range(count):
        coarse = Image.fromarray(rng.integers(40, 216, (28, 23, 3), dtype=np.uint8))
        pixels = np.asarray(coarse.resize((178, 218), Image.Resampling.BICUBIC)) + rng.normal(0, 4, (218, 178, 3))
        buffer = io.BytesIO()
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
        made.append(buffer.getvalue())
    return made


def milliseconds(decode: Callable[[bytes], Image.Image], files: list[bytes]) -> float:
    """Of CPU time per picture, decode to 64², best of five passes."""
    best = float("inf")
    for _ in range(5):
        start = time.process_time()
        for data in files:
            decode(data).crop((25, 57, 153, 185)).resize((64, 64), Image.Resampling.LANCZOS)
        best = min(best, time.process_time() - start)
    return best / len(files) * 1000


def compare_simplejpeg() -> None:
    import simplejpeg

    def pillow(data: bytes) -> Image.Image:
        return Image.open(io.BytesIO(data), formats=("JPEG",)).convert("RGB")

    def simple(data: bytes) -> Image.Image:
        return Image.fromarray(simplejpeg.decode_jpeg(data))

    files = jpegs(300)
    same = sum(np.array_equal(np.asarray(pillow(data)), np.asarray(simple(data))) for data in files)
    print(f"{same} of {len(files)} JPEGs decode to the same pixels by Pillow and simplejpeg")
    print(f"{milliseconds(pillow, files):.2f} ms a picture by Pillow, {milliseconds(simple, files):.2f} by simplejpeg")
    print(f"of 400 JPEGs with one flipped bit, Pillow decodes {silently_wrong(files)} that strict libjpeg refuses")


def silently_wrong(files: list[bytes]) -> int:
    import simplejpeg

    rng, count = np.random.default_rng(0), 0
    for k in range(400):
        flipped = bytearray(files[k % len(files)])
        flipped[int(rng.integers(2, len(flipped) - 2))] ^= 1 << int(rng.integers(8))
        try:
            Image.open(io.BytesIO(flipped), formats=("JPEG",)).load()
        except Exception:
            continue
        try:
            simplejpeg.decode_jpeg(bytes(flipped), strict=True)
        except ValueError:
            count += 1
    return count


def main() -> None:
    if sys.argv[1:] == ["--decode"]:
        decode_stdin()
        return
    for kind in LARGEST:
        done = subprocess.run([sys.executable, __file__, "--decode"], input=largest_picture(kind), capture_output=True)
        print(f"{kind}: {(done.stdout or done.stderr).decode().strip()}")
    compare_simplejpeg()


if __name__ == "__main__":
    main()
