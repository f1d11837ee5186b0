"""nuScenes' index and reader."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.datasets.nuscenes import CLASSES, NuScenes
from core.datasets.nuscenes import index as nuscenes_index
from core.datasets.nuscenes.splits import official_scenes
from core.datasets.nuscenes.tables import CAMERAS
from core.errors import UserError
from tests.fake_nuscenes import POINTS, SIZE, VERSION, write_fake_nuscenes

REAL = Path(__file__).parents[2] / "shared/data/nuscenes_keyframe"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_fake_nuscenes(tmp_path / "nuscenes")


def open_reader(root: Path, split: str = "train", version: str = VERSION, num_sweeps: int = 5, **keys: Any) -> NuScenes:
    return NuScenes(str(root), version, split, str(root.parent / "index"), num_sweeps, **keys)


def test_class_table() -> None:
    assert CLASSES.num_classes == 17 and CLASSES.names[0] == "ignored" and CLASSES.colors.shape == (17, 3)
    assert CLASSES.things == tuple(range(1, 11))
    ignored = [0, 1, 5, 7, 8, 10, 11, 13, 19, 20, 29, 31]
    assert np.flatnonzero(CLASSES.from_raw[:32] == 0).tolist() == ignored
    pairs = {9: 1, 14: 2, 15: 3, 16: 3, 17: 4, 18: 5, 21: 6, 2: 7, 3: 7, 4: 7, 6: 7, 12: 8, 22: 9, 23: 10}
    pairs |= {24: 11, 25: 12, 26: 13, 27: 14, 28: 15, 30: 16}
    assert {raw: int(CLASSES.from_raw[raw]) for raw in pairs} == pairs and len(pairs) + len(ignored) == 32


def test_frames(root: Path) -> None:
    train, val = open_reader(root), open_reader(root, "val")
    assert train.tokens() == ["scene-0061-lidar0", "scene-0061-lidar3"] == [frame.token for frame in train]
    assert val.tokens() == ["scene-0103-lidar0", "scene-0103-lidar3"]
    first, second = train.frame(0), train.frame(1)
    assert first.scene == "scene-0061" and first.sweeps == ()
    assert [os.path.basename(sweep.path) for sweep in second.sweeps] == [
        f"scene-0061-lidar{step}.pcd.bin" for step in (2, 1, 0)
    ]
    assert tuple(view.name for view in first.cameras) == CAMERAS
    assert [view.token for view in second.cameras] == [f"scene-0061-{name}3" for name in CAMERAS]
    assert {(view.width, view.height) for view in first.cameras} == {SIZE}
    train.check_files(sweeps=True)
    points = train.load_points(first)
    assert points.shape == (POINTS, 4) and points.dtype == np.float32
    labels = train.load_labels(first, POINTS)
    assert labels.dtype == np.uint8 and labels.max() <= 16


def test_sweeps_move_with_the_vehicle(root: Path) -> None:
    """A fixed point of the world, seen from a sweep and from the key frame."""
    world = np.array([620.0, 1612.0, 1.0])

    def in_lidar(time: float) -> np.ndarray:
        angle = 0.1 * time
        turn = np.array([[np.cos(angle), np.sin(angle), 0], [-np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
        ego = turn @ (world - [600 + 2 * time, 1600, 0.1 * time])
        return np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]) @ (ego - [0.9, 0, 1.8])

    for sweep, time in zip(open_reader(root).frame(1).sweeps, (2, 1, 0), strict=True):
        moved = sweep.to_key @ np.append(in_lidar(time), 1)
        np.testing.assert_allclose(moved[:3], in_lidar(3), atol=1e-9)


def test_splits_are_the_devkits() -> None:
    devkit = pytest.importorskip("nuscenes.utils.splits")
    theirs, ours = devkit.create_splits_scenes(), official_scenes()
    assert ours == {split: theirs[split] for split in ours}


def test_stale_index_is_built_anew(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_reader(root)
    builds = []
    build = nuscenes_index.build_index

    def counted(*args: Any) -> None:
        builds.append(args)
        build(*args)

    monkeypatch.setattr(nuscenes_index, "build_index", counted)
    open_reader(root)
    assert not builds
    write_fake_nuscenes(root, seed=1)  # other tables of the same sizes
    open_reader(root)
    assert len(builds) == 1
    (root.parent / "index" / f"{VERSION}.npz").write_bytes(b"PK half a file")
    assert len(open_reader(root)) == 2
    assert len(builds) == 2
    assert os.listdir(root.parent / "index") == [f"{VERSION}.npz"]


def test_index_that_cannot_be_written(root: Path) -> None:
    (root.parent / "index").write_text("a file where the folder should be")
    with pytest.raises(UserError, match=r"index file .* cannot be written .*set dataset.index_path"):
        open_reader(root)


def test_bad_roots(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"dataset.root .*nowhere is not a folder"):
        open_reader(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"no tables of v1.0-trainval \(versions there: v1.0-mini\)"):
        open_reader(root, version="v1.0-trainval")
    with pytest.raises(UserError, match=r"no split 'test' \(it has: train, val\)"):
        open_reader(root, "test")
    table = root / VERSION / "ego_pose.json"
    table.write_text(table.read_text()[:-200])
    with pytest.raises(UserError, match=r"ego_pose.json is broken"):
        open_reader(root)
    table.write_text("[]")
    with pytest.raises(UserError, match="don't fit together"):
        open_reader(root)
    table.unlink()
    with pytest.raises(UserError, match=r"ego_pose.json is missing"):
        open_reader(root)


def test_own_splits(root: Path) -> None:
    """Scenes of other names, in the splits that splits.json lists; read again when it changes."""
    folder = root / VERSION
    table = folder / "scene.json"
    for old, new in (("scene-0061", "monday"), ("scene-0103", "tuesday")):
        table.write_text(table.read_text().replace(f'"name": "{old}"', f'"name": "{new}"'))
    (folder / "splits.json").write_text('{"train": ["monday", "tuesday"], "val": ["friday"], "test": ["tuesday"]}')
    assert {frame.scene for frame in open_reader(root)} == {"monday", "tuesday"}
    assert len(open_reader(root, "test")) == 2
    with pytest.raises(UserError, match=r"splits.json: none of the scenes that it lists for split 'val'"):
        open_reader(root, "val")
    (folder / "splits.json").write_text('{"train": ["monday"]}')
    assert {frame.scene for frame in open_reader(root)} == {"monday"}
    with pytest.raises(UserError, match=r"no split 'val' \(it has: train\)"):
        open_reader(root, "val")
    for content, message in (("{", "not readable as JSON"), ('{"train": "monday"}', "expected"), ("[1]", "expected")):
        (folder / "splits.json").write_text(content)
        with pytest.raises(UserError, match=f"splits.json: {message}"):
            open_reader(root)


def test_other_cameras(root: Path) -> None:
    table = root / VERSION / "sensor.json"
    table.write_text(table.read_text().replace("CAM_BACK_LEFT", "CAM_REAR"))
    with pytest.raises(UserError, match=r"sample scene-0061-sample0 has no key frame of CAM_BACK_LEFT; .*sensor.json"):
        open_reader(root)
    table.write_text(table.read_text().replace("LIDAR_TOP", "LIDAR"))
    with pytest.raises(UserError, match=r"has no key frame of LIDAR_TOP, CAM_BACK_LEFT"):
        open_reader(root)
