"""Feeds damaged files to every reader. Allowed are the same content, or a UserError; of files of others, which hold no
checksum (points, dense labels, images, tables), any content that passes the reader's checks. Never another exception,
a hang, a crash.

    python -m tests.fuzz --cases 20000
    python -m tests.fuzz --seconds 600 --seed 7
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from core.datasets.images import load_image
from core.datasets.nuscenes import NuScenes
from core.datasets.nuscenes.tables import TABLES, load_tables
from core.errors import UserError
from core.label_files import files
from core.scores.results import read_rows
from core.training.checkpoint import read_checkpoint, save_checkpoint
from core.training.resume import EXACT_STATE
from tests.entry import first_difference
from tests.fake_labels import weak_label
from tests.fake_nuscenes import POINTS, SIZE, VERSION, write_fake_nuscenes

HANG = 20
"""Seconds that no reader may take."""


class Target(NamedTuple):
    """A file to damage, and what reads it; where `exact`, a damaged file must not give another result."""

    path: str
    read: Callable[[], Any]
    exact: bool = True


def damage(data: bytes, rng: random.Random) -> bytes:
    """The content with some of it flipped, cut, doubled, put in, taken out, zeroed."""
    content = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        size = len(content)
        place, length = rng.randrange(size + 1), min(rng.choice([1, 2, 8, 64, 1000]), size)
        kind = rng.choice(["flip", "flip", "flip", "cut", "double", "insert", "remove", "zero", "append", "byte"])
        if kind == "flip" and size:
            content[place % size] ^= 1 << rng.randrange(8)
        elif kind == "byte" and size:
            content[place % size] = rng.randrange(256)
        elif kind == "cut":
            del content[place:]
        elif kind == "double":
            content[place:place] = content[place : place + length]
        elif kind == "insert":
            content[place:place] = rng.randbytes(length)
        elif kind == "remove":
            del content[place : place + length]
        elif kind == "zero":
            content[place : place + length] = bytes(len(content[place : place + length]))
        elif kind == "append":
            content += rng.randbytes(length)
    return bytes(content)


def targets(folder: Path) -> dict[str, Target]:
    """Every format, as small as it goes."""
    root = write_fake_nuscenes(folder / "nuscenes")
    index, labels = str(folder / "index"), str(folder / "labels")
    reader = NuScenes(str(root), VERSION, "train", index)
    frame, rng = reader.frame(0), np.random.default_rng(0)
    image = frame.cameras[0].image_path
    files.write_weak_label(labels, "weak", weak_label(0), {"share": 0.5}, "abc")
    files.write_superpixels(labels, "map", ["left", "right"], rng.integers(0, 99, (2, 9, 16)), "abc")
    files.write_pseudo_label(labels, "pseudo", rng.integers(0, 17, 300).astype(np.uint8), "abc")
    files.write_meta(labels, files.WEAK_LABEL, {"grid": [5.0, 0.1]}, 1, reader, {}, command="make them")
    checkpoint, results = str(folder / "step-1.pt"), str(folder / "results.json")
    state = {"model": {"w": torch.randn(50), "b": torch.arange(7)}, "epoch_num": 3, EXACT_STATE: {"ranks": [[1, "x"]]}}
    save_checkpoint(checkpoint, state)
    Path(results).write_text('[{"checkpoint": "a.pt", "scores": {"vox": 1.5}}]')

    def weak_labels():
        statistics = files.read_weak_label_statistics(labels, "weak", "abc")
        return vars(files.read_weak_label(labels, "weak", POINTS, "abc")), statistics

    def described():
        meta = files.read_meta(labels, files.WEAK_LABEL)
        return {key: value for key, value in meta.items() if key not in ("statistics", "command")}

    def frames():
        opened = NuScenes(str(root), VERSION, "train", index)
        return [opened.frame(i).lidar_path for i in range(len(opened))], opened.frame(0).cameras[2].lidar_to_image

    def points():
        found = reader.load_points(frame)
        assert found.dtype == np.float32 and found.shape[1] == 4 and np.isfinite(found).all()

    def dense():
        found = reader.load_labels(frame, POINTS)
        assert len(found) == POINTS and found.max() < 17

    def decoded():
        assert load_image(image, *SIZE).shape == (SIZE[1], SIZE[0], 3)

    def tables():
        load_tables(str(root), VERSION)
        again = NuScenes(str(root), VERSION, "train", str(folder / "other index"))
        shutil.rmtree(folder / "other index", ignore_errors=True)
        assert all(np.isfinite(again.frame(i).cameras[0].lidar_to_image).all() for i in range(len(again)))

    superpixels = partial(files.read_superpixels, labels, "map", ["left", "right"], (9, 16), "abc")
    aims = {
        "weak label": Target(f"{labels}/weak.npz", weak_labels),
        "superpixels": Target(f"{labels}/map.npz", superpixels),
        "pseudo-label": Target(f"{labels}/pseudo.npz", partial(files.read_pseudo_label, labels, "pseudo", 300, "abc")),
        "meta.json": Target(f"{labels}/meta.json", described),
        "checkpoint": Target(checkpoint, lambda: read_checkpoint(checkpoint)),
        "index": Target(f"{index}/{VERSION}.npz", frames),
        "results.json": Target(results, lambda: len(read_rows(results)), exact=False),
        "points": Target(frame.lidar_path, points, exact=False),
        "dense labels": Target(str(frame.label_path), dense, exact=False),
        "image": Target(image, decoded, exact=False),
    }
    for name in (*TABLES, "lidarseg"):
        aims[f"{name}.json"] = Target(f"{root}/{VERSION}/{name}.json", tables, exact=False)
    return aims


def _hang(number, frame):
    raise AssertionError(f"no answer within {HANG} s")


def fuzz(folder: Path, cases: int, seconds: float, seed: int) -> Counter:
    """Damages each target in turn; {(target, outcome): how often}. A case that must not be is kept."""
    rng, outcomes, end = random.Random(seed), Counter(), time.monotonic() + seconds
    aims = targets(folder)
    whole = {name: (Path(aim.path).read_bytes(), aim.read()) for name, aim in aims.items()}
    signal.signal(signal.SIGALRM, _hang)
    for k in range(cases):
        name = list(aims)[k % len(aims)]
        aim, (content, expected) = aims[name], whole[name]
        damaged = damage(content, rng)
        Path(aim.path).write_bytes(damaged)
        signal.alarm(HANG)
        try:
            found = aim.read()
            if aim.exact and first_difference(found, expected):
                raise AssertionError("another content was read, and nothing said")
            outcomes[name, "read"] += 1
        except UserError as error:
            if "\n" in str(error):
                raise AssertionError(f"{name}: an error of more than one line") from error
            outcomes[name, "refused"] += 1
        except BaseException as error:
            kept = Path(tempfile.gettempdir()) / f"fuzz-{seed}-{k}-{os.path.basename(aim.path)}"
            kept.write_bytes(damaged)
            raise AssertionError(f"{name}: case {k} of seed {seed}, kept as {kept}") from error
        finally:
            signal.alarm(0)
            Path(aim.path).write_bytes(content)
        if time.monotonic() > end:
            break
    return outcomes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10**9)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.cases == 10**9 and arguments.seconds == float("inf"):
        arguments.seconds = 60
    with tempfile.TemporaryDirectory() as name:
        outcomes = fuzz(Path(name) / "files", arguments.cases, arguments.seconds, arguments.seed)
    for target in sorted({target for target, _ in outcomes}):
        print(f"{target:<24}{outcomes[target, 'refused']:>8} refused{outcomes[target, 'read']:>8} read")
    print(f"{sum(outcomes.values())} damaged files")


if __name__ == "__main__":
    sys.exit(main())
