"""One small file in place of nuScenes' tables.

The tables take a minute and gigabytes to load. `build_index` reads the few that are needed once and writes per key
frame what the reader wants as plain arrays; later processes open that file in a moment.
"""

import json
import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torchpack.utils.logging import logger

from core.datasets.nuscenes.tables import (
    BROKEN,
    CAMERAS,
    Tables,
    check_root,
    check_sensors,
    load_tables,
    scene_splits,
    tables_digest,
)
from core.datasets.reading import write_index
from core.errors import UserError

FORMAT = 1
MAX_SWEEPS = 10
KNOWN_FRAMES = {
    ("v1.0-trainval", 850, "train"): 28130,
    ("v1.0-trainval", 850, "val"): 6019,
    ("v1.0-test", 150, "test"): 6008,
}
"""Key frames of the whole data set by version, number of scenes and split."""

Arrays = dict[str, NDArray[Any]]


def build_index(root: str, version: str, path: str, num_sweeps_max: int = MAX_SWEEPS) -> None:
    """Reads the tables of nuScenes `version` under `root` and writes the index file `path`, atomically.

    The file is an npz archive: `meta` (JSON as bytes) and, for each split S with F key frames, K = 6 cameras and
    `num_sweeps_max` sweeps, arrays `S/...`:

    - token, sample_token, scene, lidar_path, label_path: bytes [F]; paths are relative to the root, "" = no labels
    - camera_token, camera_path: bytes [F, K], cameras in the order of CAMERAS; camera_size int32 [F, K, 2], (W, H)
    - lidar_to_image: float64 [F, K, 4, 4], see `CameraView`
    - sweep_path: bytes [F, num_sweeps_max], nearest first, "" after the last; sweep_to_key: float64
      [F, num_sweeps_max, 4, 4], see `Sweep`

    Raises UserError: the tables are missing, broken or don't fit together.
    """
    folder = os.path.join(root, version)
    digest = tables_digest(root, version)
    splits = scene_splits(root, version)
    tables = load_tables(root, version)
    arrays: Arrays = {}
    frames = {}
    try:
        for split, scenes in splits.items():
            samples = [sample for sample, scene in tables.samples if scene in scenes]
            check_sensors(folder, tables, samples)
            frames[split] = len(samples)
            arrays.update({f"{split}/{k}": v for k, v in _split_arrays(tables, samples, num_sweeps_max).items()})
    except BROKEN as error:
        what = f"don't fit together (no row for {error})" if isinstance(error, KeyError) else f"are broken ({error})"
        raise UserError(f"the tables in {folder} {what}: unpack the metadata of {version} again") from None
    meta = {
        "format": FORMAT,
        "version": version,
        "digest": digest,
        "frames": frames,
        "num_scenes": len({scene for _, scene in tables.samples}),
        "first_scene": min((scene for _, scene in tables.samples), default=None),
        "num_sweeps": num_sweeps_max,
    }
    arrays["meta"] = np.frombuffer(json.dumps(meta).encode(), np.uint8)
    write_index(path, arrays)


def open_index(root: str, version: str, index_path: str, split: str, num_sweeps: int) -> tuple[dict[str, Any], Arrays]:
    """Opens the index file `index_path`/`version`.npz, building it where it is absent or of other tables.

    Where several processes build it at a time, each writes the same file under its own name and renames it.

    Returns the meta data, and the arrays of `split` with the first `num_sweeps` sweeps; none are read where that is 0.
    Raises UserError: as `build_index`, or the version has no such split.
    """
    check_root(root, version)
    path = os.path.join(index_path, f"{version}.npz")
    digest = tables_digest(root, version)
    found = _read(path, split, num_sweeps, digest)
    if found is None:
        logger.info(f'Index "{path}" of {os.path.join(root, version)}: building it, once.')
        build_index(root, version, path)
        found = _read(path, split, num_sweeps, digest)
        if found is None:
            raise UserError(f"index file {path} cannot be read back: is the disk full?")
    meta, arrays = found
    if split not in meta["frames"]:
        known = ", ".join(meta["frames"])
        raise UserError(f"nuScenes {version} has no split '{split}' (it has: {known}): set dataset.version")
    if meta["frames"][split] == 0:
        raise UserError(_no_frames(os.path.join(root, version), split, meta))
    if num_sweeps > meta["num_sweeps"]:
        raise UserError(f"{num_sweeps} earlier sweeps are asked for, the index holds {meta['num_sweeps']}")
    for name in ("sweep_path", "sweep_to_key"):
        if name in arrays:
            arrays[name] = arrays[name][:, :num_sweeps].copy()
    return meta, arrays


def _no_frames(folder: str, split: str, meta: Mapping[str, Any]) -> str:
    if "splits" in meta["digest"]:
        return f"{folder}/splits.json: none of the scenes that it lists for split '{split}' is in scene.json"
    return (
        f"{folder} has no key frame of split '{split}': none of its {meta['num_scenes']} scenes (the first is "
        f"{meta.get('first_scene')}) is of that split of nuScenes; say of own scenes in {folder}/splits.json which "
        'they are: {"train": [names of scenes], "val": [names of scenes]}'
    )


def _read(path: str, split: str, num_sweeps: int, digest: dict[str, list[int]]) -> tuple[dict[str, Any], Arrays] | None:
    """The meta data of an index file and the arrays of a split; None where there is no whole one of these tables."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            meta: dict[str, Any] = json.loads(archive["meta"].tobytes())
            if (meta.get("format"), meta.get("digest")) != (FORMAT, digest):
                return None
            names = [name for name in archive.files if name.startswith(f"{split}/")]
            names = [name for name in names if num_sweeps > 0 or "sweep" not in name]
            return meta, {name.removeprefix(f"{split}/"): archive[name] for name in names}
    except (*BROKEN, OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error):
        return None


def _split_arrays(tables: Tables, samples: Sequence[str], num_sweeps: int) -> Arrays:
    lidar = [tables.lidar_of_sample[sample] for sample in samples]
    cameras = [[tables.camera_of_sample[sample, name] for name in CAMERAS] for sample in samples]
    flat = [token for row in cameras for token in row]
    shape = (len(samples), len(CAMERAS))
    rows = tables.sample_data
    lidar_to_world = tables.sensor_to_world(lidar)
    intrinsics = tables.intrinsics(flat)
    world_to_image = intrinsics @ np.linalg.inv(tables.sensor_to_world(flat))
    _check_calibration(flat, intrinsics, world_to_image)
    _check_calibration(lidar, lidar_to_world, lidar_to_world)
    scene_of_sample = dict(tables.samples)
    return {
        "token": _strings(lidar),
        "sample_token": _strings(list(samples)),
        "scene": _strings([scene_of_sample[sample] for sample in samples]),
        "lidar_path": _strings([rows[token].filename for token in lidar]),
        "label_path": _strings([tables.label_of_lidar.get(token, "") for token in lidar]),
        "camera_token": _strings(flat).reshape(shape),
        "camera_path": _strings([rows[token].filename for token in flat]).reshape(shape),
        "camera_size": np.array([rows[token].size for token in flat], np.int32).reshape(*shape, 2),
        "lidar_to_image": world_to_image.reshape(*shape, 4, 4) @ lidar_to_world[:, None],
        **_sweep_arrays(tables, lidar, lidar_to_world, num_sweeps),
    }


def _check_calibration(tokens: Sequence[str], *matrices: NDArray[np.float64]) -> None:
    """Raises ValueError for the first image or sweep whose calibration or pose is not finite or cannot be inverted."""
    for stack in matrices:
        wrong = ~np.isfinite(stack).all((1, 2))
        wrong |= np.abs(np.linalg.det(np.where(np.isfinite(stack), stack, 0))) < 1e-9
        if wrong.any():
            raise ValueError(f"the calibration or pose of {tokens[int(wrong.argmax())]} is singular")


def _sweep_arrays(tables: Tables, lidar: Sequence[str], lidar_to_world: NDArray[np.float64], num_sweeps: int) -> Arrays:
    tokens = np.array([_previous(tables, token, num_sweeps) for token in lidar], object).reshape(-1, num_sweeps)
    present = tokens != ""
    path = np.full(tokens.shape, "", object)
    path[present] = [tables.sample_data[token].filename for token in tokens[present]]
    to_key = np.tile(np.eye(4), (*tokens.shape, 1, 1))
    world_to_key = np.broadcast_to(np.linalg.inv(lidar_to_world)[:, None], to_key.shape)
    to_key[present] = world_to_key[present] @ tables.sensor_to_world(list(tokens[present]))
    return {"sweep_path": _strings(path.reshape(-1).tolist()).reshape(tokens.shape), "sweep_to_key": to_key}


def _previous(tables: Tables, token: str, count: int) -> list[str]:
    """Tokens of the `count` sweeps before a LiDAR sample_data, nearest first; "" before the first of the scene."""
    tokens = []
    for _ in range(count):
        token = tables.sample_data[token].prev if token else ""
        tokens.append(token)
    return tokens


def _strings(values: list[str]) -> NDArray[np.bytes_]:
    """Fixed-width UTF-8."""
    return np.array([value.encode() for value in values], np.bytes_).reshape(len(values))
