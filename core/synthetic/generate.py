"""Making a city: checks, the frames by many processes, what is left at the end."""

import json
import os
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from core.errors import UserError
from core.running.files import write_json
from core.running.progress import progress
from core.running.workers import make_all
from core.synthetic.city import SPLITS, City, read_record, write_frame

_ARGUMENTS_FILE = "city.json"


def generate_city(root: str, city: City, num_workers: int = 1) -> dict[str, dict[str, int]]:
    """Makes a city under `root`, or what is still missing of it.

    Args:
        root: data root; new, or one of a city of the same arguments whose making was interrupted.
        city: what to make.
        num_workers: processes; the files do not depend on it.
    Returns points of each of the format's classes by split: {"train": {name: 1234, ...}, ...}.
    Raises UserError: `root` holds something else, or the arguments make no sense.
    """
    scenes = choose_scenes(city)
    complete = _claim(root, city)
    frames = [
        (name, frame, split != "test") for split in SPLITS for name in scenes[split] for frame in range(city.frames)
    ]
    missing = [frame for frame in frames if read_record(root, *frame[:2]) is None]
    if complete and not missing:
        print(f"{root} already holds this city, complete: nothing to do.")
    else:
        description = f"City: {len(missing)} of {len(frames)} key frames to make"
        made = make_all(FrameJob(root, city, missing), range(len(missing)), num_workers if num_workers > 1 else 0)
        for _ in progress(made, len(missing), description):
            pass
        city.writer().finish(root, city, scenes)
        write_json(os.path.join(root, _ARGUMENTS_FILE), {"arguments": _arguments(city), "complete": True})
    return {split: _count_labels(root, city, scenes[split]) for split in SPLITS if scenes[split]}


def choose_scenes(city: City) -> dict[str, list[str]]:
    """Scene names of the format's splits, as many as the city has: {"train": [...], "val": ..., "test": ...}.

    Raises UserError: more scenes than the data set has, or sizes that make no sense.
    """
    official, chosen = city.writer().scene_names(), {}
    for split in SPLITS:
        wanted = getattr(city, f"{split}_scenes")
        if not 0 <= wanted <= len(official[split]):
            most = len(official[split])
            raise UserError(f"--{split}-scenes {wanted}: the {split} split of {city.format} has 0 to {most} scenes")
        chosen[split] = official[split][:wanted]
    if not chosen["train"] and not chosen["val"]:
        raise UserError("--train-scenes and --val-scenes are both 0: a city needs at least one of them")
    if not 1 <= city.frames <= 200:
        raise UserError(f"--frames {city.frames}: expected 1 to 200 key frames a scene")
    if city.azimuth_steps < 16 or min(city.image_size) < 16:
        raise UserError(
            f"--azimuth-steps {city.azimuth_steps} --image-size {city.image_size[0]} {city.image_size[1]}: "
            "expected at least 16 steps and 16 pixels each way"
        )
    return chosen


def shares(counts: dict[str, int], left_out: str) -> dict[str, float]:
    """Share of each class among the points, without those of the class `left_out`."""
    counted = {name: count for name, count in counts.items() if name != left_out}
    return {name: count / max(1, sum(counted.values())) for name, count in counted.items()}


def _arguments(city: City) -> dict[str, Any]:
    return {**asdict(city), "image_size": list(city.image_size)}


def _claim(root: str, city: City) -> bool:
    """Marks `root` as this city's; True where it is complete already."""
    path = os.path.join(root, _ARGUMENTS_FILE)
    wanted = _arguments(city)
    found = [name for name in city.writer().folders if os.path.exists(os.path.join(root, name))]
    if not os.path.exists(path):
        if found:
            raise UserError(
                f"{root} holds {', '.join(found)} but no {_ARGUMENTS_FILE}: it is no made-up city and stays untouched; "
                "choose another --root"
            )
        write_json(path, {"arguments": wanted, "complete": False})
        return False
    try:
        with open(path) as file:
            state = json.load(file)
        present, complete = dict(state["arguments"]), bool(state["complete"])
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path} is damaged: remove {root} or choose another --root") from None
    if found:  # cities of version 0.1.0 don't name their format
        present.setdefault("format", city.format)
    for key in sorted(wanted.keys() | present.keys()):
        if present.get(key) != wanted.get(key):
            raise UserError(
                f"{root} holds a city with {key} {present.get(key)}, not {wanted.get(key)}: give the same arguments, "
                f"choose another --root, or remove {root} first"
            )
    return complete


@dataclass
class FrameJob:
    """Makes single key frames; see `core.running.workers`.

    Attributes:
        directory: data root.
        city: what to make.
        frames: scene, number of the key frame in it, whether it gets labels.
    """

    directory: str
    city: City
    frames: list[tuple[str, int, bool]]

    def check_packages(self) -> None:
        """Nothing is optional."""

    def make(self, index: int) -> bool:
        """Makes key frame `index`."""
        write_frame(self.directory, self.city, *self.frames[index])
        return True


def _count_labels(root: str, city: City, names: list[str]) -> dict[str, int]:
    classes = city.writer().class_names
    total = np.zeros(len(classes), dtype=np.int64)
    for name in names:
        for frame in range(city.frames):
            record = read_record(root, name, frame)
            total += np.array(record["labels"] if record else 0)
    return {classes[index]: int(count) for index, count in enumerate(total) if count}
