"""A fake nuScenes folder with all label files that a configuration asks for, written rather than computed."""

from pathlib import Path
from typing import Any

import numpy as np
from torchpack.utils.config import Config

from core import builder
from core.datasets.base import Reader
from core.label_files.files import (
    PSEUDO_LABEL,
    SUPERPIXEL,
    WEAK_LABEL,
    WeakLabel,
    describe,
    write_meta,
    write_pseudo_label,
    write_superpixels,
    write_weak_label,
)
from core.running.config import load_config
from tests.fake_nuscenes import POINTS, VERSION


def fake_config(path: str, root: Path, *overrides: str, overlays: tuple[str, ...] = ()) -> Config:
    """The configuration, on a fake nuScenes under `root`, with a tiny network and without loader processes."""
    folders = {name: str(root / name) for name in ("index_path", "superpixel", "sparse_label_path")}
    pieces = [f"--dataset.{name}={folder}" for name, folder in folders.items()]
    pieces += [f"--dataset.root={root / 'nuscenes'}", f"--dataset.version={VERSION}"]
    pieces += ["--model.cr=0.125", "--model.imagenet_pretrain=null", "--workers_per_gpu=0"]
    return load_config(path, overlays, [*pieces, *overrides])


def weak_label(seed: int) -> WeakLabel:
    """Annotated points (some of the ignored class); component 0 of one class, 1 and 2 of several."""
    rng = np.random.default_rng(seed)
    sparse = rng.choice(np.array([0, 1, 2, 16, 255], np.uint8), POINTS, p=[0.6, 0.1, 0.1, 0.1, 0.1])
    component = rng.integers(-1, 3, POINTS).astype(np.int32)
    propagated = np.where(component == 0, 5, 0).astype(np.uint8)
    return WeakLabel(sparse, propagated, component, np.array([0, 0b110, (1 << 16) | 4], np.uint32))


def write_weak_labels(config: Config, reader: Reader) -> dict[str, WeakLabel]:
    """Weak labels of all frames, as the configuration's parameters would make them; {token: label}."""
    directory, parameters = config.dataset.sparse_label_path, builder.weak_label_parameters(config)
    identity = describe(WEAK_LABEL, parameters, 0, reader)["parameters_hash"]
    labels = {token: weak_label(seed) for seed, token in enumerate(reader.tokens())}
    for token, label in labels.items():
        write_weak_label(directory, token, label, {}, identity)
    write_meta(directory, WEAK_LABEL, parameters, 0, reader, {})
    return labels


def write_all_superpixels(config: Config, reader: Reader) -> None:
    """Superpixels of all images: blocks of 64 pixels."""
    directory, size = config.dataset.superpixel, builder.image_size(config, reader)
    parameters = builder.superpixel_parameters(config, size)
    identity = describe(SUPERPIXEL, parameters, None, reader)["parameters_hash"]
    ids = np.arange(size[0] * size[1]).reshape(size) // 64
    for frame in reader:
        tokens = [camera.token for camera in frame.cameras]
        write_superpixels(directory, frame.token, tokens, np.stack([ids] * len(tokens)), identity)
    write_meta(directory, SUPERPIXEL, parameters, None, reader, {})


def write_pseudo_labels(directory: str, reader: Reader) -> dict[str, Any]:
    """Random pseudo-labels of all frames; {token: uint8 [N]}."""
    identity = describe(PSEUDO_LABEL, {}, None, reader)["parameters_hash"]
    rng = np.random.default_rng(0)
    labels = {token: rng.integers(0, 17, POINTS).astype(np.uint8) for token in reader.tokens()}
    for token, label in labels.items():
        write_pseudo_label(directory, token, label, identity)
    write_meta(directory, PSEUDO_LABEL, {}, None, reader, {})
    return labels
