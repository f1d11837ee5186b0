"""nuScenes' tables of a made-up city."""

from typing import Any

from core.synthetic.city import City
from core.synthetic.formats.nuscenes.labels import CATEGORIES
from core.synthetic.formats.nuscenes.sensors import nuscenes_rig
from core.synthetic.formats.nuscenes.timeline import Shot, camera_shot, label_filename, lidar_shots, logfile, token
from core.synthetic.poses import Matrix, quaternion
from core.synthetic.scene import Scene
from core.synthetic.sensors import Camera, Lidar

Row = dict[str, Any]
Tables = dict[str, list[Row]]
_TABLES = (
    "category",
    "attribute",
    "visibility",
    "instance",
    "sensor",
    "calibrated_sensor",
    "ego_pose",
    "log",
    "scene",
    "sample",
    "sample_data",
    "sample_annotation",
    "map",
    "lidarseg",
)
MAP_FILE = "maps/made-up-city.png"


def build_tables(city: City, names: list[str], absent: list[str], labelled: bool) -> Tables:
    """All tables of one version; those of boxes are empty.

    Args:
        city: what was made.
        names: of the version's scenes.
        absent: official scenes that this city lacks but the official evaluation looks up: rows without key frames.
        labelled: whether the version has labels; without them lidarseg stays empty, as in nuScenes' own test version.
    """
    tables: Tables = {table: [] for table in _TABLES}
    seed, rig = city.seed, nuscenes_rig(city.azimuth_steps, city.image_size)
    tables["category"] = [
        {"token": token(seed, "category", name), "name": name, "description": "", "index": index}
        for index, name in enumerate(CATEGORIES)
    ]
    channels = {rig.lidar.channel: "lidar", **{camera.channel: "camera" for camera in rig.cameras}}
    for channel, modality in channels.items():
        tables["sensor"].append({"token": token(seed, channel), "channel": channel, "modality": modality})
    for name in names:
        _add_scene(tables, city, city.scene(name), labelled)
    _add_absent(tables, seed, absent)
    logs = [row["token"] for row in tables["log"]]
    tables["map"] = [
        {"token": token(seed, "map"), "log_tokens": logs, "category": "semantic_prior", "filename": MAP_FILE}
    ]
    return tables


def _add_scene(tables: Tables, city: City, scene: Scene, labelled: bool) -> None:
    seed, name = city.seed, scene.name
    scene_token, log_token = token(seed, "scene", name), token(seed, "log", name)
    samples = [token(seed, "sample", name, frame) for frame in range(city.frames)]
    log = {"vehicle": "made-up", "date_captured": "2020-09-13", "location": "made-up-city"}
    tables["log"].append({"token": log_token, "logfile": logfile(seed, name), **log})
    tables["scene"].append(_scene_row(seed, name, log_token, samples, "A made-up street"))
    for frame in range(city.frames):
        tables["sample"].append(
            {"token": samples[frame], "timestamp": lidar_shots(name, frame)[-1].timestamp, "scene_token": scene_token}
        )
    _chain(tables["sample"][-city.frames :])
    rig = nuscenes_rig(city.azimuth_steps, city.image_size)
    lidar = [shot for frame in range(city.frames) for shot in lidar_shots(name, frame)]
    _add_channel(tables, city, scene, rig.lidar, lidar, samples)
    for camera in rig.cameras:
        shots = [camera_shot(name, frame, camera.channel, camera.delay) for frame in range(city.frames)]
        _add_channel(tables, city, scene, camera, shots, samples)
    if labelled:
        for shot in lidar:
            if shot.is_key_frame:
                key = shot.token(seed)
                tables["lidarseg"].append({"token": key, "sample_data_token": key, "filename": label_filename(key)})


def _add_absent(tables: Tables, seed: int, names: list[str]) -> None:
    """Scene rows without key frames, which `nuscenes.eval.lidarseg` wants for every scene of an official split."""
    if not names:
        return
    log = {**tables["log"][0], "token": token(seed, "log", "absent"), "logfile": f"city{seed}-absent"}
    tables["log"].append(log)
    for name in names:
        tables["scene"].append(_scene_row(seed, name, log["token"], [], "Not in this made-up city"))


def _scene_row(seed: int, name: str, log_token: str, samples: list[str], description: str) -> Row:
    return {
        "token": token(seed, "scene", name),
        "log_token": log_token,
        "nbr_samples": len(samples),
        "first_sample_token": samples[0] if samples else "",
        "last_sample_token": samples[-1] if samples else "",
        "name": name,
        "description": description,
    }


def _add_channel(
    tables: Tables, city: City, scene: Scene, sensor: Lidar | Camera, shots: list[Shot], samples: list[str]
) -> None:
    """Calibration, poses and data rows of one sensor in one scene."""
    seed = city.seed
    is_camera = isinstance(sensor, Camera)
    calibration = token(seed, "calibration", scene.name, sensor.channel)
    tables["calibrated_sensor"].append(
        {
            "token": calibration,
            "sensor_token": token(seed, sensor.channel),
            **_pose(sensor.to_vehicle),
            "camera_intrinsic": sensor.intrinsic.tolist() if isinstance(sensor, Camera) else [],
        }
    )
    rows = []
    for shot in shots:
        key = shot.token(seed)
        pose = scene.to_world @ scene.vehicle_pose(shot.time)
        tables["ego_pose"].append({"token": key, "timestamp": shot.timestamp, **_pose(pose)})
        rows.append(
            {
                "token": key,
                "sample_token": samples[shot.frame],
                "ego_pose_token": key,
                "calibrated_sensor_token": calibration,
                "timestamp": shot.timestamp,
                "fileformat": "jpg" if is_camera else "pcd",
                "is_key_frame": shot.is_key_frame,
                "height": city.image_size[0] if is_camera else 0,
                "width": city.image_size[1] if is_camera else 0,
                "filename": shot.filename(seed),
            }
        )
    _chain(rows)
    tables["sample_data"] += rows


def _pose(matrix: Matrix) -> Row:
    return {"translation": [float(v) for v in matrix[:3, 3]], "rotation": quaternion(matrix[:3, :3])}


def _chain(rows: list[Row]) -> None:
    """Links rows to their neighbours by token."""
    for index, row in enumerate(rows):
        row["prev"] = rows[index - 1]["token"] if index > 0 else ""
        row["next"] = rows[index + 1]["token"] if index + 1 < len(rows) else ""
