"""Links that lead nowhere, as where a disk is not mounted: one line before long work, for every kind of file."""

import os
from functools import partial

import pytest

from core.datasets.nuscenes import NuScenes
from core.datasets.semantic_kitti import SemanticKitti
from core.datasets.waymo import Waymo
from core.datasets.waymo.components import COMPONENTS
from core.errors import UserError
from tests.entry import refusal
from tests.fake_kitti import write_sequence
from tests.fake_nuscenes import VERSION, write_fake_nuscenes
from tests.fake_waymo import SEGMENTS, write_fake_waymo


def unmount(path):
    """Moves a file or folder away, and leaves a link to where there is nothing."""
    os.rename(path, f"{path}.away")
    os.symlink(f"/mnt/none/{os.path.basename(path)}", path)


def refused(work, path, dead=None):
    """Checks that `work` is refused by one line with the path and the link that leads nowhere (by default the same)."""
    with pytest.raises(UserError) as caught:
        work()
    line = str(caught.value)
    dead = dead or path
    assert str(path) in line and f"dead link to /mnt/none/{os.path.basename(dead)} (is that disk mounted?)" in line
    assert "\n" not in line


@pytest.mark.parametrize("kind", ["LiDAR", "image", "label", "sweep", "folder"])
def test_nuscenes(tmp_path, kind):
    root = write_fake_nuscenes(tmp_path / "nuscenes")
    reader = NuScenes(str(root), VERSION, "train", str(tmp_path / "index"), 2)
    frame = [frame for frame in reader if frame.sweeps][-1]
    path = {"LiDAR": frame.lidar_path, "label": frame.label_path, "sweep": frame.sweeps[0].path}.get(
        kind, frame.cameras[2].image_path
    )
    dead = os.path.dirname(path) if kind == "folder" else path
    unmount(dead)
    refused(lambda: reader.check_files(labels=True, sweeps=True), dead if kind == "folder" else path, dead)


@pytest.mark.parametrize("folder", ["velodyne", "image_2", "labels"])
def test_semantic_kitti(tmp_path, folder):
    write_sequence(tmp_path, "00")
    reader = SemanticKitti(str(tmp_path), "v1.0", "train", str(tmp_path / "index"))
    path = sorted((tmp_path / "sequences/00" / folder).iterdir())[1]
    unmount(path)
    refused(reader.check_files, path)
    if folder == "image_2":  # no index of their sizes yet
        refused(lambda: SemanticKitti(str(tmp_path), "v1.0", "train", str(tmp_path / "other index")), path)


@pytest.mark.parametrize("component", COMPONENTS)
@pytest.mark.parametrize("opened", [False, True], ids=["new", "opened before"])
def test_waymo(tmp_path, component, opened):
    write_fake_waymo(tmp_path / "data")

    def open_and_check():
        Waymo(str(tmp_path / "data"), "v2", "train", str(tmp_path / "index")).check_files()

    if opened:
        open_and_check()
    path = tmp_path / f"data/training/{component}/{SEGMENTS[1]}.parquet"
    unmount(path)
    refused(open_and_check, path)


def test_what_is_behind_them_is_not_available(tmp_path):
    root = write_fake_nuscenes(tmp_path / "nuscenes")
    nuscenes = partial(NuScenes, str(root), VERSION, "train", str(tmp_path / "nuscenes index"), frames="available")
    unmount(nuscenes().frame(0).cameras[1].image_path)
    write_sequence(tmp_path, "00")
    kitti = partial(SemanticKitti, str(tmp_path), "v1.0", "train", str(tmp_path / "index"), frames="available")
    scans = len(kitti())
    unmount(sorted((tmp_path / "sequences/00/velodyne").iterdir())[1])
    write_fake_waymo(tmp_path / "waymo")
    waymo = partial(Waymo, str(tmp_path / "waymo"), "v2", "train", str(tmp_path / "waymo index"), frames="available")
    unmount(tmp_path / f"waymo/training/camera_image/{SEGMENTS[1]}.parquet")
    whole = len(NuScenes(str(root), VERSION, "train", str(tmp_path / "nuscenes index")))
    assert len(nuscenes()) == whole - 1 and len(kitti()) == scans - 1
    assert {frame.scene for frame in waymo()} == {SEGMENTS[0]}
    for reader in (nuscenes(), kitti(), waymo()):
        reader.check_files()


def test_a_command_refuses_before_it_works(prepared, tmp_path):
    os.makedirs(tmp_path / "root")
    for name in os.listdir(prepared.root):
        os.symlink(f"{prepared.root}/{name}", tmp_path / "root" / name)
    os.remove(tmp_path / "root/samples")
    os.symlink("/mnt/none/samples", tmp_path / "root/samples")
    line = refusal(
        "train_lc_sparse_assop2p_nusc",
        "configs/nuscenes/pretrain/assop2p.yaml",
        *("--run-dir", tmp_path / "run", *prepared.words(), "--dataset.root", tmp_path / "root"),
    )
    assert f"{tmp_path}/root/samples being a dead link to /mnt/none/samples" in line and "LiDAR file" in line
