"""The made-up city: opened by the devkit, one world for all sensors, the same bytes every time."""

import hashlib
import json
import os
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from core.datasets.catalog import open_dataset
from core.datasets.nuscenes import CLASSES as NUSCENES
from core.datasets.semantic_kitti import CLASSES as KITTI
from core.errors import UserError
from core.synthetic import camera as camera_module
from core.synthetic import lidar as lidar_module
from core.synthetic.camera import View
from core.synthetic.formats.nuscenes.labels import CATEGORIES, FINE, LABEL
from core.synthetic.formats.nuscenes.sensors import nuscenes_rig
from core.synthetic.formats.semantic_kitti import _RAW_OF_KIND, kitti_rig
from core.synthetic.generate import City, choose_scenes, generate_city, shares
from core.synthetic.ground import CELL, GROUND_LABEL
from core.synthetic.lidar import scan
from core.synthetic.raycast import BOX, CONE, CYLINDER, ELLIPSOID, GROUND, SKY, cast_solids, turn
from core.synthetic.scene import make_scene
from tests.conftest import CITY, SIZES

KITTI_CITY = City(format="semantic_kitti", **{**SIZES, "azimuth_steps": 180, "image_size": (94, 310), "seed": 3})


@pytest.fixture(scope="session")
def nusc(city):
    from nuscenes import NuScenes

    return NuScenes("v1.0-trainval", str(city), verbose=False)


def digests(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_tables_are_chained_and_files_exist(nusc, city):
    """Nine sweeps precede each key frame but a scene's first; cameras look at other times, from elsewhere."""
    present = [scene for scene in nusc.scene if scene["nbr_samples"]]
    assert [scene["name"] for scene in present] == ["scene-0001", "scene-0002", "scene-0003"]
    assert len(nusc.scene) == 2 + 150  # the official evaluation looks up all scenes of its split
    for scene in present:
        first = nusc.get("sample", scene["first_sample_token"])
        second = nusc.get("sample", first["next"])
        assert first["prev"] == second["next"] == "" and second["prev"] == first["token"]
        assert scene["last_sample_token"] == second["token"]
        assert second["timestamp"] - first["timestamp"] == 500_000
        row, count = nusc.get("sample_data", second["data"]["LIDAR_TOP"]), 0
        while not (row := nusc.get("sample_data", row["prev"]))["is_key_frame"]:
            count += 1
        assert count == 9 and row["prev"] == "" and len(second["data"]) == 7
    for row in nusc.sample_data:
        assert os.path.getsize(city / row["filename"]) > 0
        if row["prev"]:
            assert nusc.get("sample_data", row["prev"])["next"] == row["token"]
            assert nusc.get("sample_data", row["prev"])["timestamp"] < row["timestamp"]
        assert nusc.get("ego_pose", row["ego_pose_token"])["timestamp"] == row["timestamp"]
    lidar, front = (nusc.get("sample_data", second["data"][name]) for name in ("LIDAR_TOP", "CAM_FRONT"))
    places = [nusc.get("ego_pose", row["ego_pose_token"])["translation"] for row in (lidar, front)]
    assert front["timestamp"] - lidar["timestamp"] == -35_500 and 0.1 < np.linalg.norm(np.subtract(*places)) < 0.4


def test_labels_match_points_and_files_hold_full_scans(nusc, city):
    for row in nusc.lidarseg:
        data = nusc.get("sample_data", row["sample_data_token"])
        points = np.fromfile(city / data["filename"], dtype=np.float32).reshape(-1, 5)
        labels = np.fromfile(city / row["filename"], dtype=np.uint8)
        assert len(points) == len(labels) > 0.95 * 90 * 32 and np.isfinite(points).all()
        assert labels.max() < len(CATEGORIES) and set(np.unique(points[:, 4])) == set(range(32))
        assert points[:, 3].min() >= 0 and points[:, 3].max() <= 255


def kinds_in_view(view: View) -> np.ndarray:
    """Kind [H, W] of what each pixel of an image of the city shows; 0 for the sky."""
    ground = view.scene.ground
    points = view.origin[:2] + np.where(view.hit == GROUND, view.distance, 0.0)[..., None] * view.rays[..., :2]
    last = np.array(ground.material.shape[::-1]) - 1
    columns, rows = np.moveaxis(np.clip(np.trunc((points - ground.origin) / CELL).astype(int), 0, last), -1, 0)
    labels = np.where(view.hit == GROUND, GROUND_LABEL[ground.material[rows, columns]], 0)
    if len(view.used):
        labels = np.where(view.hit >= 0, view.scene.solids.label[view.used[np.maximum(view.hit, 0)]], labels)
    return labels.astype(np.uint8)


@pytest.fixture(scope="module", params=["nuscenes", "semantic_kitti"])
def world(request, city, tmp_path_factory):
    """The city as described, its reader (the last sweep is the key frame before), classes of kinds, rigs, walls."""
    folder = tmp_path_factory.mktemp("world")
    if request.param == "nuscenes":
        reader = open_dataset("nuscenes", str(city), "v1.0-trainval", "train", str(folder), 10)
        rig = nuscenes_rig(CITY.azimuth_steps, CITY.image_size)
        return CITY, reader, lambda kinds: NUSCENES.from_raw[FINE[kinds]], lambda scene: rig, "manmade"
    generate_city(str(folder / "city"), KITTI_CITY)
    reader = open_dataset("semantic_kitti", str(folder / "city"), "v1.0", "train", str(folder / "index"), 1)
    rigs = partial(kitti_rig, KITTI_CITY.azimuth_steps, KITTI_CITY.image_size)
    return KITTI_CITY, reader, lambda kinds: KITTI.from_raw[_RAW_OF_KIND[kinds]], rigs, "building"


def test_points_fall_on_pixels_of_their_class(world):
    """By the files' own calibration, compared with a class map of the same caster."""
    description, reader, classes, rigs, _ = world
    agree = seen = 0
    for index, frame in enumerate(reader):
        points = reader.load_points(frame)
        label, found = reader.load_labels(frame, len(points)), reader.project(frame, points)
        for k, camera in enumerate(rigs(frame.scene).cameras):
            view = View(description.scene(frame.scene), camera, 0.5 * (index % 2) + camera.delay / 1e6)
            rows = np.flatnonzero((found.camera == k) & (label > 0))
            u, v = np.round(found.pixel[rows]).astype(int).T
            expected = classes(kinds_in_view(view))[v, u]
            agree, seen = agree + int((expected == label[rows]).sum()), seen + len(rows)
    assert seen > 3000 and agree / seen > 0.85  # the rest lies at edges and behind them, or moves


def test_a_wall_stays_where_it_is_while_the_vehicle_moves(world):
    """Building points of the key frame before, moved by the tables' poses, lie on those of this one's scene."""
    description, reader, classes, rigs, name = world
    first, frame = reader.frame(0), reader.frame(1)
    sweep, wall = frame.sweeps[-1], reader.classes.names.index(name)
    assert sweep.path == first.lidar_path
    before = reader.load_sweep(sweep)[:, :3].astype(float)
    moved = before[reader.load_labels(first, len(before)) == wall] @ sweep.to_key[:3, :3].T + sweep.to_key[:3, 3]
    scene = description.scene(frame.scene)
    pose = scene.vehicle_pose(0.5) @ rigs(frame.scene).lidar.to_vehicle
    placed = moved @ pose[:3, :3].T + pose[:3, 3]
    solids = scene.solids
    boxes = (classes(solids.label) == wall) & (solids.kind == BOX)
    local = np.einsum("sij,nsj->nsi", solids.inverse[boxes], placed[:, None] - solids.center[boxes])
    gap = (np.abs(np.abs(local).max(2) - 1) * solids.half[boxes].min(1)).min(1)
    assert len(gap) > 50 and np.percentile(gap, 80) < 0.1


def test_windows_leave_no_hit_out(monkeypatch):
    """Restricting solids to their windows changes nothing."""
    scene, rig = make_scene(3, "scene-0001", 2), nuscenes_rig(60, (45, 80))
    pose = scene.vehicle_pose(0.3) @ rig.lidar.to_vehicle
    rays = turn(np.ascontiguousarray(pose[:3, :3]), np.ascontiguousarray(np.swapaxes(rig.lidar.directions(), 0, 1)))
    narrow = lidar_module.trace(scene, rig.lidar, pose, rays, 0.3)
    views = [View(scene, camera, 0.3) for camera in rig.cameras]
    monkeypatch.setattr(
        lidar_module, "column_windows", lambda lidar, corners: np.tile([0, 32, 0, 60], (len(corners), 1))
    )
    everything = np.tile([0, 45, 0, 80], (len(scene.solids.kind), 1))
    monkeypatch.setattr(camera_module, "_windows", lambda *_: everything)
    wide = lidar_module.trace(scene, rig.lidar, pose, rays, 0.3)
    np.testing.assert_array_equal(narrow[0], wide[0])
    for camera, view in zip(rig.cameras, views, strict=True):
        np.testing.assert_array_equal(view.distance, View(scene, camera, 0.3).distance)


@pytest.mark.parametrize(
    ("kind", "origin", "ray", "expected"),
    [
        *((BOX, (-10, *at), (1, 0, 0), far) for at, far in (((0, 0), 9), ((0.9, 0.9), 9), ((1.1, 0), None))),
        *((ELLIPSOID, (-10, *at), (1, 0, 0), far) for at, far in (((0, 0), 9), ((0.6, 0), 9.2), ((0.8, 0.7), None))),
        *((CYLINDER, (-10, *at), (1, 0, 0), far) for at, far in (((0.6, 0.99), 9.2), ((0, 1.01), None))),
        *((CONE, (-10, *at), (1, 0, 0), far) for at, far in (((0, 0), 9.5), ((0, -0.98), 9.01), ((0.3, 0), 9.6))),
        (CONE, (-10, 0.6, 0), (1, 0, 0), None),
        (CONE, (0.5, 0, 10), (0, 0, -1), 10),  # down onto the side at radius 1/2
        (CONE, (0.5, 0, -10), (0, 0, 1), 9),  # up onto the base
    ],
)
def test_rays_meet_unit_shapes_where_geometry_says(kind, origin, ray, expected):
    distance, hit, zero = np.full((1, 1), 1e9), np.full((1, 1), SKY), np.zeros(1)
    shape = (np.array([kind]), np.eye(3)[None], np.zeros((1, 3)), zero, zero, np.array([[0, 1, 0, 1]]))
    cast_solids(np.array(origin, float), np.array([[ray]], float), *shape, distance, hit)
    if expected is None:
        assert hit[0, 0] == SKY
    else:
        assert distance[0, 0] == pytest.approx(expected, abs=1e-9)


def test_every_scene_has_every_class_at_the_demo_size():
    wanted = {label for label in range(32)} & {
        LABEL[name]
        for name in CATEGORIES
        if name.startswith(("flat.", "static.v", "static.m", "vehicle.b", "vehicle.c", "vehicle.t", "vehicle.m"))
        or name in ("movable_object.barrier", "movable_object.trafficcone", "human.pedestrian.adult")
    } - {LABEL["vehicle.bus.bendy"]}
    rig = nuscenes_rig(360, (90, 160))
    for name in ("scene-0003", "scene-0012"):
        scene = make_scene(0, name, 5)
        scans = [scan(scene, rig.lidar, 0.5 * k, np.random.default_rng(k)) for k in range(5)]
        counts = np.bincount(FINE[np.concatenate([found.labels for found in scans])], minlength=32)
        assert all(counts[label] >= 30 for label in wanted)
        found = shares({CATEGORIES[label]: int(count) for label, count in enumerate(counts)}, "vehicle.ego")
        assert 0.28 < found["flat.driveable_surface"] < 0.48
        assert 0.08 < found["static.manmade"] < 0.32


def test_two_workers_write_the_same_bytes(city, tmp_path):
    generate_city(str(tmp_path / "again"), CITY, num_workers=2)
    assert digests(tmp_path / "again") == digests(city)


def test_an_interrupted_city_goes_on_where_it_stopped(city, tmp_path, capsys):
    root = tmp_path / "broken"
    shutil.copytree(city, root)
    (root / "city.json").write_text((root / "city.json").read_text().replace('"complete": true', '"complete": false'))
    shutil.rmtree(root / "v1.0-trainval")
    kept, lost, *_ = sorted((root / "city_frames").iterdir())
    before = kept.stat().st_mtime_ns
    lost.unlink()
    image = sorted((root / "samples" / "CAM_BACK").iterdir())[-1]
    image.write_bytes(image.read_bytes()[:100])
    generate_city(str(root), CITY)
    assert digests(root) == digests(city) and kept.stat().st_mtime_ns == before
    state = json.loads((root / "city.json").read_text())
    del state["arguments"]["format"]  # as version 0.1.0 wrote it
    (root / "city.json").write_text(json.dumps(state))
    capsys.readouterr()
    generate_city(str(root), CITY)
    assert "nothing to do" in capsys.readouterr().out


def test_the_command_prints_the_shares(city, monkeypatch, capsys):
    import prepare_synthetic_nusc

    line = "--train-scenes 2 --val-scenes 1 --frames 2 --azimuth-steps 90 --image-size 90 160 --seed 7 --num-workers 1"
    monkeypatch.setattr("sys.argv", ["prepare_synthetic_nusc.py", "--root", str(city), *line.split()])
    prepare_synthetic_nusc.main()
    printed = capsys.readouterr().out
    assert "nothing to do" in printed and "flat.driveable_surface" in printed


def test_what_is_refused(city, tmp_path):
    """Other arguments, the root of real data, a damaged city.json, an unknown format, senseless numbers."""
    real, damaged = tmp_path / "real", tmp_path / "damaged"
    (real / "v1.0-trainval").mkdir(parents=True)
    damaged.mkdir()
    (damaged / "city.json").write_text("{")
    for root, changes, message in (
        (city, {"azimuth_steps": 120}, "azimuth_steps 90, not 120"),
        (real, {}, "choose another --root"),
        (damaged, {}, "damaged"),
        (tmp_path, {"format": "kitty"}, "--format kitty: unknown; known are: .*nuscenes"),
    ):
        with pytest.raises(UserError, match=message):
            generate_city(str(root), replace(CITY, **changes))
    assert [path.name for path in real.iterdir()] == ["v1.0-trainval"]
    for changes, message in (
        ({"val_scenes": 151}, "val split of nuscenes has 0 to 150"),
        ({"train_scenes": 0, "val_scenes": 0}, "at least one"),
        ({"frames": 0}, "--frames"),
        ({"image_size": (8, 8)}, "--image-size"),
    ):
        with pytest.raises(UserError, match=message):
            choose_scenes(replace(CITY, **changes))
