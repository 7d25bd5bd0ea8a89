"""Does HoloGAN turn what it makes? The paper's networks and a re-implementation's, trained on heads and measured.

    python benchmarks/hologan_turns.py OUT                       # 32², narrow networks, 200 kimg: hours on two cores
    python benchmarks/hologan_turns.py OUT --resolution 64 --probe-resolution 32 --rows angles-10 --result RESULT
    python benchmarks/hologan_turns.py OUT --resolution 64 --full --kimg 3000 --device cuda
    python benchmarks/hologan_turns.py OUT --rows paper deep     # say it again to go on, or for other rows

Heads are rendered at yaws of ±45°, four views of each person; a probe learns to read yaw and who it is from some of
them. HoloGAN is told neither: it trains on the pictures alone, and then its turns are read by the probe
(`pose_control`, `identity_constancy`). Rows differ in their settings only, and are shown as many images. The table, its
numbers and the turns of all rows are written to `--result`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.run import machine
from PIL import Image

from limner.compare.two import read_cards
from limner.explore.captions import captioned
from limner.explore.pictures import read_provenance, save_picture
from limner.metrics.card import Card
from limner.models.hologan import HoloGAN
from limner.training.record import read_run

RESULT = Path(__file__).parent / "results" / "hologan_turns"
BY_HAND = "<!-- What follows is written by hand, and kept. -->"
METRICS = ("pose_control", "identity_constancy", "fd", "swd")
NARROW = ("--width", "16", "--discriminator-width", "32")
WIDE = ("--width", "64", "--discriminator-width", "64")
SAME = ("--batch-size", "32", "--mirror", "--ema-half-life-kimg", "10", "--attributes", "none")


@dataclass(frozen=True)
class Row:
    title: str
    settings: tuple[str, ...]


LAPTOP = ("--preset", "laptop")
FAR = (*LAPTOP, "--yaw", "-45", "45")
ROWS: Mapping[str, Row] = {
    "paper": Row("the paper's networks and losses (`laptop`), ±30°", LAPTOP),
    "paper-seed-1": Row("the same, seed 1", (*LAPTOP, "--seed", "1")),
    "angles-30-seed-1": Row(
        "the paper's with angles read, weight 10, ±30°, seed 1", (*LAPTOP, "--angle-weight", "10", "--seed", "1")
    ),
    "as-far": Row("the paper's, as far as the heads turn, ±45°", FAR),
    "angles-1": Row("the paper's with angles read, weight 1, ±45°", (*FAR, "--angle-weight", "1")),
    "angles-10": Row("the paper's with angles read, weight 10, ±45°", (*FAR, "--angle-weight", "10")),
    "angles-10-seed-1": Row("the same, seed 1", (*FAR, "--angle-weight", "10", "--seed", "1")),
    "s0": Row("a re-implementation's (s0), ±45°", ("--preset", "s0", "--yaw", "-45", "45")),
    "deep": Row("the paper's networks for 128², ±30°", (*LAPTOP, "--networks", "deep")),
    "no-identity": Row("the paper's without the identity term, ±30°", (*LAPTOP, "--identity-weight", "0")),
    "no-style": Row("the paper's without style losses, ±30°", (*LAPTOP, "--style-weight", "0")),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of heads and runs; gone on with if it is there")
    parser.add_argument("--rows", nargs="+", choices=tuple(ROWS), default=["paper", "as-far", "s0"], help="which")
    parser.add_argument("--resolution", type=int, default=32, help="side of the pictures (32)")
    parser.add_argument("--probe-resolution", type=int, help="side that the probe reads; as --resolution")
    parser.add_argument("--heads", type=int, default=12000, help="pictures of heads (12000)")
    parser.add_argument("--kimg", type=float, default=200.0, help="thousands of images a run (200)")
    parser.add_argument("--full", action="store_true", help="networks as wide as published")
    parser.add_argument("--count", type=int, default=5000, help="pictures that are made to measure a run (5000)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--measure", action="store_true", help="leave the runs as they are, and measure them")
    parser.add_argument("--result", type=Path, default=RESULT, help="path of the .md, .json and .jpg, without a suffix")
    chosen = parser.parse_args()
    data = prepare(chosen)
    for name in chosen.rows:
        if not chosen.measure:
            train(name, data, chosen)
        measure(name, chosen)
    write_result(chosen)
    return 0


def prepare(chosen: argparse.Namespace) -> Path:
    """Heads, and a probe that reads their yaw and tells people apart; made once."""
    data: Path = chosen.out / f"heads-{chosen.resolution}"
    if not (data / "dataset.json").exists():
        limner("data", "heads", data, "--resolution", chosen.resolution, "--count", chosen.heads, "--views", 4)
    if not (data / "probe.safetensors").exists():
        side = chosen.probe_resolution or chosen.resolution
        limner("data", "probe", data, "--resolution", side, "--device", chosen.device)
    return data


def train(name: str, data: Path, chosen: argparse.Namespace) -> None:
    """Begin a row's run, or go on with it up to the images asked for."""
    folder = chosen.out / name
    device = ("--device", chosen.device)
    if (folder / "config.json").exists():
        limner("resume", folder, "--kimg", chosen.kimg, *device)
    else:
        sizes = WIDE if chosen.full else NARROW
        words = (*ROWS[name].settings, *sizes, *SAME, "--sample-kimg", 10, "--checkpoint-kimg", 10, "--metrics")
        where = ("--data", data, "--resolution", chosen.resolution, "--out", folder, "--kimg", chosen.kimg)
        limner("train", "hologan", *words, *where, *device)


def measure(name: str, chosen: argparse.Namespace) -> None:
    """A row's numbers, and the turns of its first faces."""
    folder, device = chosen.out / name, ("--device", chosen.device)
    limner("evaluate", folder, "--metrics", *METRICS, "--count", chosen.count, *device)
    limner("turn", folder, "--seeds", "0-2", "--steps", 10, "--out", folder / "turns.png", *device)


def limner(*words: Any) -> None:
    """The command in a process of its own; its errors end this one."""
    subprocess.run([sys.executable, "-m", "limner", *map(str, words)], check=True)


# --- results ---------------------------------------------------------------------------------------------------------


def facts_of(folder: Path) -> dict[str, Any]:
    """What is known of a row's run: newest cards, z's error at the start and now."""
    record = read_run(folder)
    cards: dict[str, Card] = {card.metric: card for card in read_cards(folder)}
    errors = [tick["losses"]["generator/identity"] for tick in record.ticks if "generator/identity" in tick["losses"]]
    spread = 1 / 3 if record.config["model"]["latents"] == "uniform" else 1.0
    pose, who = cards["pose_control"], cards["identity_constancy"]
    return {
        "kimg": round((pose.images_seen or 0) / 1000, 1),
        "pose_control": {"value": pose.value, **pose.values},
        "identity_constancy": {"value": who.value, **who.values},
        **{name: cards[name].value for name in ("fd", "swd") if name in cards},
        "z_error_share": [round(error / spread, 4) for error in (errors[0], errors[-1])],
        "settings": {**record.config["model"]},
        "faces": pose.count_fakes,
    }


COLUMNS: Sequence[tuple[str, str, str, str]] = (
    ("pose_control ↑", "pose_control", "value", ".3f"),
    ("rank correlation", "pose_control", "rank_correlation", ".3f"),
    ("slope", "pose_control", "slope", ".2f"),
    ("degrees off", "pose_control", "error_degrees", ".1f"),
    ("wrong way", "pose_control", "wrong_way", ".1%"),
    ("turning back", "pose_control", "turning_back", ".1%"),
    ("identity_constancy ↑", "identity_constancy", "value", ".3f"),
)


def write_result(chosen: argparse.Namespace) -> None:
    """PATH.md, .json and .jpg of all rows that have been measured; what a person wrote below the table is kept."""
    found = {name: facts_of(chosen.out / name) for name in ROWS if (chosen.out / name / "turns.png").exists()}
    page = chosen.result.with_suffix(".md")
    note = page.read_text(encoding="utf-8").partition(BY_HAND)[2] if page.exists() else "\n"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(f"{table(found, chosen)}\n\n{BY_HAND}{note}", encoding="utf-8")
    facts = {"command": command_of(chosen), "machine": machine(), "rows": found}
    chosen.result.with_suffix(".json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    pictures = [Image.open(chosen.out / name / "turns.png").convert("RGB") for name in found]
    titled = [
        captioned(picture, ROWS[name].title.replace("`", "")) for name, picture in zip(found, pictures, strict=True)
    ]
    whole = Image.new("RGB", (titled[0].width, sum(picture.height for picture in titled)))
    top = 0
    for picture in titled:
        whole.paste(picture, (0, top))
        top += picture.height
    origin = read_provenance(chosen.out / next(iter(found)) / "turns.png")
    save_picture(whole, chosen.result.with_suffix(".jpg"), {**origin, "rows": list(found)})


def table(found: Mapping[str, Any], chosen: argparse.Namespace) -> str:
    head = ["", "kimg", *(title for title, *_ in COLUMNS), "z's error", "fd ↓"]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for name, facts in found.items():
        cells = [ROWS[name].title, f"{facts['kimg']:g}"]
        cells += [format(facts[metric][value], form) for _, metric, value, form in COLUMNS]
        first, last = facts["z_error_share"]
        cells += [f"{first:.1%} → {last:.1%}", f"{facts['fd']:.2f}" if "fd" in facts else ""]
        lines.append(f"| {' | '.join(cells)} |")
    about = (
        f"`{HoloGAN.name}` on heads of {chosen.resolution}², yaw ±45°. z's error: of reading z in the pictures, as a "
        "share of z's variance, at the start and at the end."
    )
    picture = f"![turns]({chosen.result.name}.jpg)"
    return "\n".join(["# Does it turn?", "", f"    {command_of(chosen)}", "", about, "", *lines, "", picture])


def command_of(chosen: argparse.Namespace) -> str:
    words = [f"--resolution {chosen.resolution}", f"--kimg {chosen.kimg:g}", f"--count {chosen.count}"]
    words += [f"--probe-resolution {chosen.probe_resolution}"] if chosen.probe_resolution else []
    words += [f"--heads {chosen.heads}", *(["--full"] if chosen.full else []), f"--device {chosen.device}"]
    return f"python benchmarks/hologan_turns.py OUT --rows {' '.join(chosen.rows)} {' '.join(words)}"


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    sys.exit(main())
