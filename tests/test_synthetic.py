"""The made-up city: opened and scored by the devkit, one world for all sensors, the same bytes every time."""

import hashlib
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from core.errors import UserError
from core.synthetic import camera as camera_module
from core.synthetic import lidar as lidar_module
from core.synthetic.camera import View, photograph
from core.synthetic.formats.nuscenes.labels import CATEGORIES, FINE, LABEL
from core.synthetic.formats.nuscenes.sensors import nuscenes_rig
from core.synthetic.formats.nuscenes.timeline import lidar_shots
from core.synthetic.generate import City, choose_scenes, generate_city, shares
from core.synthetic.lidar import measure, scan
from core.synthetic.poses import quaternion, rotation
from core.synthetic.raycast import BOX, CONE, CYLINDER, ELLIPSOID, SKY, cast_solids, turn
from core.synthetic.scene import make_scene
from tests.city_views import kinds_in_view

SIZES = dict(train_scenes=2, val_scenes=1, test_scenes=1, frames=2, azimuth_steps=90, image_size=(90, 160), seed=7)
TINY = City(format="nuscenes", **SIZES)
RIG = nuscenes_rig(90, (90, 160))


@pytest.fixture(scope="session")
def city_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("city")
    generate_city(str(root), TINY)
    return root


@pytest.fixture(scope="session")
def nusc(city_root):
    from nuscenes import NuScenes

    return NuScenes("v1.0-trainval", str(city_root), verbose=False)


def digests(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


# ---- tables -------------------------------------------------------------------------------------------------------


def test_tables_are_chained_and_files_exist(nusc, city_root):
    present = [scene for scene in nusc.scene if scene["nbr_samples"]]
    assert [scene["name"] for scene in present] == ["scene-0001", "scene-0002", "scene-0003"]
    assert len(nusc.scene) == 2 + 150  # the official evaluation looks up all scenes of its split
    for scene in present:
        first = nusc.get("sample", scene["first_sample_token"])
        assert first["prev"] == ""
        second = nusc.get("sample", first["next"])
        assert second["prev"] == first["token"] and second["next"] == ""
        assert scene["last_sample_token"] == second["token"]
        assert second["timestamp"] - first["timestamp"] == 500_000
    for row in nusc.sample_data:
        assert os.path.getsize(city_root / row["filename"]) > 0
        if row["prev"]:
            assert nusc.get("sample_data", row["prev"])["next"] == row["token"]
            assert nusc.get("sample_data", row["prev"])["timestamp"] < row["timestamp"]
        assert nusc.get("ego_pose", row["ego_pose_token"])["timestamp"] == row["timestamp"]
    for sample in nusc.sample:
        assert len(sample["data"]) == 7


def test_five_sweeps_precede_every_key_frame_but_the_first(nusc):
    for sample in nusc.sample:
        row, count = nusc.get("sample_data", sample["data"]["LIDAR_TOP"]), 0
        while row["prev"]:
            row = nusc.get("sample_data", row["prev"])
            if row["is_key_frame"]:
                break
            count += 1
        assert count == (0 if sample["prev"] == "" else 9)


def test_cameras_look_at_other_times_from_where_the_vehicle_is_then(nusc):
    sample = nusc.sample[1]
    lidar = nusc.get("sample_data", sample["data"]["LIDAR_TOP"])
    at_lidar = nusc.get("ego_pose", lidar["ego_pose_token"])
    front = nusc.get("sample_data", sample["data"]["CAM_FRONT"])
    at_front = nusc.get("ego_pose", front["ego_pose_token"])
    assert front["timestamp"] - lidar["timestamp"] == -35_500
    way = np.linalg.norm(np.subtract(at_lidar["translation"], at_front["translation"]))
    assert 0.1 < way < 0.4
    assert (front["height"], front["width"]) == (90, 160)


def test_labels_match_points_and_files_hold_full_scans(nusc, city_root):
    for row in nusc.lidarseg:
        data = nusc.get("sample_data", row["sample_data_token"])
        points = np.fromfile(city_root / data["filename"], dtype=np.float32).reshape(-1, 5)
        labels = np.fromfile(city_root / row["filename"], dtype=np.uint8)
        assert len(points) == len(labels) > 0.95 * 90 * 32
        assert labels.max() < len(CATEGORIES)
        assert np.isfinite(points).all()
        assert points[:, 3].min() >= 0 and points[:, 3].max() <= 255
        assert set(np.unique(points[:, 4])) == set(range(32))


def test_official_evaluation_scores_perfect_predictions_at_one(nusc, city_root, tmp_path):
    from nuscenes.eval.lidarseg.evaluate import LidarSegEval

    folder = tmp_path / "lidarseg" / "val"
    folder.mkdir(parents=True)
    evaluation = LidarSegEval(nusc, str(tmp_path), "val")
    for sample_token in evaluation.sample_tokens:
        token = nusc.get("sample", sample_token)["data"]["LIDAR_TOP"]
        labels = np.fromfile(city_root / nusc.get("lidarseg", token)["filename"], dtype=np.uint8)
        evaluation.mapper.convert_label(labels).clip(1).astype(np.uint8).tofile(folder / f"{token}_lidarseg.bin")
    assert len(evaluation.sample_tokens) == 2
    assert evaluation.evaluate()["miou"] == pytest.approx(1.0)


def test_test_version_has_no_labels_and_takes_submissions(city_root, tmp_path):
    from nuscenes import NuScenes
    from nuscenes.eval.lidarseg.utils import get_samples_in_eval_set
    from nuscenes.eval.lidarseg.validate_submission import validate_submission

    nusc = NuScenes("v1.0-test", str(city_root), verbose=False)
    assert nusc.lidarseg == [] and nusc.sample_annotation == [] and len(nusc.category) == 32
    folder = tmp_path / "lidarseg" / "test"
    folder.mkdir(parents=True)
    (tmp_path / "test").mkdir()
    keys = ("use_camera", "use_lidar", "use_radar", "use_map", "use_external")
    (tmp_path / "test" / "submission.json").write_text(json.dumps({"meta": dict.fromkeys(keys, True)}))
    tokens = get_samples_in_eval_set(nusc, "test")
    assert len(tokens) == 2
    for sample_token in tokens:
        data = nusc.get("sample_data", nusc.get("sample", sample_token)["data"]["LIDAR_TOP"])
        count = os.path.getsize(city_root / data["filename"]) // 20
        np.ones(count, dtype=np.uint8).tofile(folder / f"{data['token']}_lidarseg.bin")
    validate_submission(nusc, str(tmp_path), "test")


# ---- one world ------------------------------------------------------------------------------------------------------


def test_points_fall_on_pixels_of_their_class(city_root, nusc):
    """Projects with the devkit's own steps and compares with a class map of the same caster."""
    from nuscenes.utils.data_classes import LidarPointCloud
    from nuscenes.utils.geometry_utils import transform_matrix
    from pyquaternion import Quaternion

    scene, rig = TINY.scene("scene-0001"), nuscenes_rig(90, (360, 640))
    still = [thing.speed == 0 for thing in scene.things]
    sample = nusc.get("sample", nusc.scene[0]["last_sample_token"])
    lidar = nusc.get("sample_data", sample["data"]["LIDAR_TOP"])
    labels = np.fromfile(city_root / nusc.get("lidarseg", lidar["token"])["filename"], dtype=np.uint8)
    cloud = LidarPointCloud.from_file(str(city_root / lidar["filename"])).points[:3]
    shot = lidar_shots("scene-0001", 1)[-1]
    things = scan(scene, RIG.lidar, shot.time, shot.rng(TINY.seed)).things
    stands = np.array([index < 0 or still[index] for index in things])

    def chain(row, inverse):
        found = np.eye(4)
        for table, key in (("calibrated_sensor", "calibrated_sensor_token"), ("ego_pose", "ego_pose_token")):
            record = nusc.get(table, row[key])
            found = transform_matrix(record["translation"], Quaternion(record["rotation"])) @ found
        return np.linalg.inv(found) if inverse else found

    agree = seen = 0
    for camera in rig.cameras:
        row = nusc.get("sample_data", sample["data"][camera.channel])
        at = chain(row, True) @ chain(lidar, False) @ np.vstack([cloud, np.ones(cloud.shape[1])])
        u, v, depth = camera.intrinsic @ at[:3]
        u, v = np.round(u / depth), np.round(v / depth)
        kept = stands & (depth > 1) & (u >= 0) & (u < 640) & (v >= 0) & (v < 360) & (labels != LABEL["vehicle.ego"])
        view = View(scene, camera, shot.time + camera.delay / 1e6)
        pixels = FINE[kinds_in_view(view)][v[kept].astype(int), u[kept].astype(int)]
        agree, seen = agree + int((pixels == labels[kept]).sum()), seen + int(kept.sum())
        found = view.distance[v[kept].astype(int), u[kept].astype(int)]
        same = pixels == labels[kept]
        assert np.median(np.abs(found[same] - depth[kept][same])) < 0.1
    assert seen > 500
    assert agree / seen > 0.85  # the rest lies at edges and behind them: the cameras look from elsewhere


def test_images_show_the_colours_of_their_classes(city_root, nusc):
    """Grass is greener than the road in the files themselves."""
    scene, rig = TINY.scene("scene-0001"), RIG
    greener: dict[str, list[NDArray[np.float64]]] = {"flat.terrain": [], "flat.driveable_surface": []}
    for camera in rig.cameras:
        row = nusc.get("sample_data", nusc.sample[0]["data"][camera.channel])
        image = np.asarray(Image.open(city_root / row["filename"]).convert("RGB")).astype(float)
        labels = FINE[kinds_in_view(View(scene, camera, camera.delay / 1e6))]
        for name, found in greener.items():
            found.append((image[..., 1] - image[..., 2])[labels == LABEL[name]])
    grass, road = (np.concatenate(found) for found in greener.values())
    assert grass.mean() > road.mean() + 20


def test_a_wall_stays_where_it_is_while_the_vehicle_moves(nusc):
    """Points on walls, moved into the world by the poses in the tables, lie on the walls' surfaces."""
    from nuscenes.utils.data_classes import LidarPointCloud
    from nuscenes.utils.geometry_utils import transform_matrix
    from pyquaternion import Quaternion

    scene = TINY.scene("scene-0001")
    solids, rig = scene.solids, RIG
    for shot in (lidar_shots("scene-0001", 0)[0], lidar_shots("scene-0001", 1)[4]):
        row = nusc.get("sample_data", shot.token(TINY.seed))
        points = LidarPointCloud.from_file(os.path.join(nusc.dataroot, row["filename"])).points[:3]
        found = scan(scene, rig.lidar, shot.time, shot.rng(TINY.seed))
        np.testing.assert_array_equal(found.points[:, :3], points.T)
        world = np.linalg.inv(scene.to_world)
        for table in ("ego_pose", "calibrated_sensor"):
            record = nusc.get(table, row[f"{table}_token"])
            world = world @ transform_matrix(record["translation"], Quaternion(record["rotation"]))
        placed = (world @ np.vstack([points, np.ones(points.shape[1])]))[:3].T
        gaps = []
        for point in placed[FINE[found.labels] == LABEL["static.manmade"]]:
            boxes = (FINE[solids.label] == LABEL["static.manmade"]) & (solids.kind == BOX)
            local = np.einsum("sij,sj->si", solids.inverse[boxes], point - solids.center[boxes])
            gap = np.abs(np.abs(local).max(axis=1) - 1.0) * solids.half[boxes].min(axis=1)
            gaps.append(gap.min())
        assert len(gaps) > 50 and np.percentile(gaps, 80) < 0.1


@pytest.mark.parametrize("name", ["scene-0001", "scene-0003"])
def test_windows_leave_no_hit_out(name, monkeypatch):
    """Restricting solids to their windows changes nothing."""
    scene, rig = make_scene(3, name, 2), nuscenes_rig(60, (45, 80))
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
    ("kind", "target", "expected"),
    [
        (BOX, (0.0, 0.0), 9.0),
        (BOX, (0.9, 0.9), 9.0),
        (BOX, (1.1, 0.0), None),
        (ELLIPSOID, (0.0, 0.0), 9.0),
        (ELLIPSOID, (0.6, 0.0), 9.2),
        (ELLIPSOID, (0.8, 0.7), None),
        (CYLINDER, (0.6, 0.99), 9.2),
        (CYLINDER, (0.0, 1.01), None),
        (CONE, (0.0, 0.0), 9.5),
        (CONE, (0.0, -0.98), 9.01),
        (CONE, (0.3, 0.0), 9.6),
        (CONE, (0.6, 0.0), None),
    ],
)
def test_rays_meet_unit_shapes_where_geometry_says(kind, target, expected):
    """From (-10, y, z) along x."""
    distance, hit = np.full((1, 1), 1e9), np.full((1, 1), SKY)
    cast_solids(
        np.array([-10.0, *target]),
        np.array([[[1.0, 0.0, 0.0]]]),
        np.array([kind]),
        np.eye(3)[None],
        np.zeros((1, 3)),
        np.zeros(1),
        np.zeros(1),
        np.array([[0, 1, 0, 1]]),
        distance,
        hit,
    )
    if expected is None:
        assert hit[0, 0] == SKY
    else:
        assert distance[0, 0] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("down", [1.0, -1.0])
def test_steep_rays_meet_a_cone(down):
    """Straight down onto the side at radius 1/2, straight up onto the base."""
    distance, hit = np.full((1, 1), 1e9), np.full((1, 1), SKY)
    cast_solids(
        np.array([0.5, 0.0, 10.0 * down]),
        np.array([[[0.0, 0.0, -down]]]),
        np.array([CONE]),
        np.eye(3)[None],
        np.zeros((1, 3)),
        np.zeros(1),
        np.zeros(1),
        np.array([[0, 1, 0, 1]]),
        distance,
        hit,
    )
    assert distance[0, 0] == pytest.approx(10.0 if down > 0 else 9.0)


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


def test_quaternions_are_those_of_the_rotation():
    from pyquaternion import Quaternion

    for yaw in np.linspace(-3.1, 3.1, 9):
        matrix = rotation(yaw, 0.3, -0.7)
        np.testing.assert_allclose(Quaternion(quaternion(matrix)).rotation_matrix, matrix, atol=1e-12)


def test_full_scale_sensors_give_full_scale_data():
    rig = nuscenes_rig(1084, (900, 1600))
    scene = make_scene(0, "scene-0001", 5)
    found = scan(scene, rig.lidar, 0.0, np.random.default_rng(0))
    assert 33_500 < len(found.points) <= 34_688
    shadow = scene.ground.shadows(scene.solids, scene.solids.centers(0.0), scene.weather.sun)
    assert photograph(scene, rig.cameras[1], 0.0, shadow, np.random.default_rng(0)).shape == (900, 1600, 3)


# ---- making it ------------------------------------------------------------------------------------------------------


def test_two_workers_write_the_same_bytes(city_root, tmp_path):
    generate_city(str(tmp_path / "again"), TINY, num_workers=2)
    assert digests(tmp_path / "again") == digests(city_root)


def test_an_interrupted_city_goes_on_where_it_stopped(city_root, tmp_path, capsys):
    root = tmp_path / "broken"
    shutil.copytree(city_root, root)
    (root / "city.json").write_text((root / "city.json").read_text().replace('"complete": true', '"complete": false'))
    shutil.rmtree(root / "v1.0-trainval")
    kept = sorted((root / "city_frames").iterdir())[0]
    before = kept.stat().st_mtime_ns
    sorted((root / "city_frames").iterdir())[1].unlink()
    image = sorted((root / "samples" / "CAM_BACK").iterdir())[-1]
    image.write_bytes(image.read_bytes()[:100])
    generate_city(str(root), TINY)
    assert digests(root) == digests(city_root)
    assert kept.stat().st_mtime_ns == before
    capsys.readouterr()
    generate_city(str(root), TINY)
    assert "nothing to do" in capsys.readouterr().out


def test_the_command_prints_the_shares(city_root, monkeypatch, capsys):
    import prepare_synthetic_nusc

    line = "--train-scenes 2 --val-scenes 1 --frames 2 --azimuth-steps 90 --image-size 90 160 --seed 7 --num-workers 1"
    monkeypatch.setattr("sys.argv", ["prepare_synthetic_nusc.py", "--root", str(city_root), *line.split()])
    prepare_synthetic_nusc.main()
    printed = capsys.readouterr().out
    assert "nothing to do" in printed and "flat.driveable_surface" in printed


def test_a_lidar_may_leave_misses_out():
    scene, full = make_scene(0, "scene-0001", 2), nuscenes_rig(90, (90, 160)).lidar
    bare = replace(full, keeps_misses=False, roof_half_angle=0.0)
    found = scan(scene, bare, 0.0, np.random.default_rng(0))
    assert LABEL["vehicle.ego"] not in FINE[found.labels]
    assert np.linalg.norm(found.points[:, :3], axis=1).min() > 1.0
    image = measure(scene, full, 0.0, np.random.default_rng(0))
    assert image.distance.shape == image.labels.shape == (90, 32)


def test_another_seed_gives_another_city():
    first, second = (make_scene(seed, "scene-0001", 2) for seed in (0, 1))
    assert [thing.x for thing in first.things] != [thing.x for thing in second.things]


def test_other_arguments_are_refused(city_root):
    other = City(**{**TINY.__dict__, "azimuth_steps": 120})
    with pytest.raises(UserError, match="azimuth_steps 90, not 120"):
        generate_city(str(city_root), other)


def test_a_real_root_is_refused(tmp_path):
    (tmp_path / "v1.0-trainval").mkdir()
    with pytest.raises(UserError, match="choose another --root"):
        generate_city(str(tmp_path), TINY)
    assert [path.name for path in tmp_path.iterdir()] == ["v1.0-trainval"]


def test_a_damaged_city_file_is_refused(tmp_path):
    (tmp_path / "city.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        generate_city(str(tmp_path), TINY)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"val_scenes": 151}, "val split of nuscenes has 0 to 150"),
        ({"train_scenes": 0, "val_scenes": 0}, "at least one"),
        ({"frames": 0}, "--frames"),
        ({"image_size": (8, 8)}, "--image-size"),
    ],
)
def test_senseless_arguments_are_refused(changed, message):
    with pytest.raises(UserError, match=message):
        choose_scenes(City(**{**TINY.__dict__, **changed}))


def test_a_city_of_version_0_1_0_is_known_again(city_root, tmp_path, capsys):
    """Its city.json names no format."""
    root = tmp_path / "old"
    shutil.copytree(city_root, root)
    state = json.loads((root / "city.json").read_text())
    del state["arguments"]["format"]
    (root / "city.json").write_text(json.dumps(state))
    generate_city(str(root), TINY)
    assert "nothing to do" in capsys.readouterr().out


def test_an_unknown_format_is_refused(tmp_path):
    with pytest.raises(UserError, match="--format kitty: unknown; known are: .*nuscenes"):
        generate_city(str(tmp_path), replace(TINY, format="kitty"))
