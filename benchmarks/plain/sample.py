"""A training sample of nuScenes as the published release makes it: numpy and PIL, camera by camera, point by point.

Files are read straight from the data set's tables, poses are applied one after the other as nuscenes-devkit does, and
nothing is shared with `core`. The random turn and scale are given, so that results can be compared.
"""

import io
import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CAMERAS = ("CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_LEFT", "CAM_BACK", "CAM_BACK_RIGHT")
Array = NDArray[Any]


@dataclass
class PlainFrame:
    """A key frame as the tables describe it.

    Attributes:
        lidar_file: path of the points.
        lidar_pose, camera_poses: (sensor -> ego, ego -> world), each a row with `translation` and `rotation`.
        lidar_token: sample_data token; label files are named by it.
        camera_files, intrinsics: per camera.
    """

    lidar_file: str
    lidar_token: str
    lidar_pose: tuple[Mapping[str, Any], Mapping[str, Any]]
    camera_files: list[str]
    camera_poses: list[tuple[Mapping[str, Any], Mapping[str, Any]]]
    intrinsics: list[Array]


def find_frame(root: str, version: str, lidar_token: str) -> PlainFrame:
    """Looks a key frame up in the tables, by the token of its LiDAR's sample_data."""
    names = ("sample_data", "calibrated_sensor", "ego_pose", "sensor")
    tables = {name: {row["token"]: row for row in _load_table(root, version, name)} for name in names}
    lidar = tables["sample_data"][lidar_token]
    by_channel = {}
    for row in tables["sample_data"].values():
        if row["sample_token"] == lidar["sample_token"] and row["is_key_frame"]:
            sensor = tables["calibrated_sensor"][row["calibrated_sensor_token"]]["sensor_token"]
            by_channel[tables["sensor"][sensor]["channel"]] = row
    cameras = [by_channel[channel] for channel in CAMERAS]

    def poses(row: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        return tables["calibrated_sensor"][row["calibrated_sensor_token"]], tables["ego_pose"][row["ego_pose_token"]]

    return PlainFrame(
        os.path.join(root, lidar["filename"]),
        lidar_token,
        poses(lidar),
        [os.path.join(root, row["filename"]) for row in cameras],
        [poses(row) for row in cameras],
        [np.array(poses(row)[0]["camera_intrinsic"]) for row in cameras],
    )


def _load_table(root: str, version: str, name: str) -> list[dict[str, Any]]:
    with open(os.path.join(root, version, f"{name}.json"), encoding="utf-8") as file:
        rows: list[dict[str, Any]] = json.load(file)
    return rows


def load_points(frame: PlainFrame) -> NDArray[np.float32]:
    """float32 [N, 4]: x, y, z (m), intensity."""
    return np.fromfile(frame.lidar_file, dtype=np.float32).reshape(-1, 5)[:, :4]


def load_images(frame: PlainFrame, size: tuple[int, int]) -> list[NDArray[np.float32]]:
    """Per camera float32 [3, H, W], 0..255, resized to `size` = (H, W) by PIL."""
    return [resize(decode(path), size) for path in frame.camera_files]


def decode(path: str) -> Image.Image:
    """A camera image in RGB."""
    return Image.open(path).convert("RGB")


def resize(image: Image.Image, size: tuple[int, int]) -> NDArray[np.float32]:
    """float32 [3, H, W]."""
    small = image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return np.ascontiguousarray(np.asarray(small, dtype=np.float32).transpose(2, 0, 1))


def project(frame: PlainFrame, points: Array, image_size: tuple[int, int]) -> tuple[list[Array], list[Array]]:
    """Projects all points into every camera through the ego poses.

    Args:
        image_size: (height, width) of the full-size images.

    Returns:
        Per camera: bool [N], which points it sees; float [N, 2], (u, v) of all points in [-1, 1].
    """
    masks, pixels = [], []
    for (camera, camera_ego), intrinsic in zip(frame.camera_poses, frame.intrinsics, strict=True):
        cloud = points[:, :3].T.astype(np.float64)
        for pose in frame.lidar_pose:  # LiDAR -> ego -> world, at the LiDAR's time
            cloud = rotation_matrix(pose["rotation"]) @ cloud + np.array(pose["translation"])[:, None]
        for pose in (camera_ego, camera):  # world -> ego -> camera, at the camera's time
            cloud = rotation_matrix(pose["rotation"]).T @ (cloud - np.array(pose["translation"])[:, None])
        depth = cloud[2]
        with np.errstate(divide="ignore", invalid="ignore"):
            u, v = (intrinsic @ cloud)[:2] / depth
        height, width = image_size
        mask = (depth > 1.0) & (u > 0) & (u < width - 1) & (v > 0) & (v < height - 1)
        masks.append(mask)
        pixels.append(np.stack([u / (width - 1) * 2 - 1, v / (height - 1) * 2 - 1], axis=1))
    return masks, pixels


def rotation_matrix(quaternion: Sequence[float]) -> Array:
    """3x3 of a quaternion (w, x, y, z): rotates the axes one by one, q v q*."""
    w, *xyz = np.array(quaternion) / np.linalg.norm(quaternion)
    axis = np.array(xyz)
    columns = [e + 2 * np.cross(axis, np.cross(axis, e) + w * e) for e in np.eye(3)]
    return np.stack(columns, axis=1)


def load_weak_label(directory: str, token: str) -> dict[str, Array]:
    """Per point: sparse class (0 = none), propagated class, candidates as bool [N, 32]."""
    with zipfile.ZipFile(os.path.join(directory, f"{token}.npz")) as archive:
        names = ("sparse", "propagated", "component", "candidates")
        arrays = {name: np.load(io.BytesIO(archive.read(f"{name}.npy"))) for name in names}
    sparse = arrays["sparse"].copy()
    sparse[sparse == 255] = 0
    candidates = np.zeros((len(sparse), 32), bool)
    for component, bits in enumerate(arrays["candidates"]):
        candidates[arrays["component"] == component] = [(int(bits) >> c) & 1 == 1 for c in range(32)]
    return {"sparse": sparse, "propagated": arrays["propagated"], "candidates": candidates}


def load_superpixels(directory: str, frame: PlainFrame) -> list[Array]:
    """Per camera [H, W]; ids are made unique by adding the maximum + 1 of the cameras before."""
    maps, offset = [], 0
    with np.load(os.path.join(directory, f"{frame.lidar_token}.npz")) as archive:
        size = json.loads(archive["header.json"])["size"]
        stored = archive["ids"].reshape(-1, *size)
    for ids in stored.astype(np.int64):
        ids += offset
        offset = int(ids.max()) + 1
        maps.append(ids)
    return maps


def superpixels_of_points(maps: Sequence[Array], masks: Sequence[Array], pixels: Sequence[Array]) -> Array:
    """int64 [N], -1 where no camera sees the point; the later camera counts."""
    ids = np.full(len(masks[0]), -1)
    for superpixels, mask, pixel in zip(maps, masks, pixels, strict=True):
        height, width = superpixels.shape
        column = np.floor((pixel[mask, 0] + 1) / 2 * (width - 1)).astype(int)
        row = np.floor((pixel[mask, 1] + 1) / 2 * (height - 1)).astype(int)
        ids[mask] = superpixels[row, column]
    return ids


def voxelize(xyz: Array, voxel_size: float, priority: Array) -> tuple[Array, Array, Array]:
    """Voxels in the order of `np.unique`.

    Args:
        priority: [P], class of an annotated point, 0 = none.

    Returns:
        coordinates [V, 3], minimum 0; representatives [V]; voxel of each point [P]. A voxel's representative is its
        annotated point of the highest class, the first of several; else its first point.
    """
    grid = np.round(xyz / voxel_size).astype(np.int64)
    grid -= grid.min(0)
    order = np.lexsort((np.arange(len(xyz)), -priority.astype(np.int64)))  # the best first
    coords, first, inverse = np.unique(grid[order], axis=0, return_index=True, return_inverse=True)
    voxel = np.empty(len(xyz), np.int64)
    voxel[order] = inverse.reshape(-1)
    return coords, order[first], voxel


def association_targets(superpixel: Array, sparse: Array) -> Array:
    """Class of each point by its superpixel, where the annotated points of that are of one class; 0 = none.

    Args:
        superpixel: [V], -1 = none.
        sparse: [V], class of an annotated point, 0 = none.
    """
    targets = np.zeros(len(superpixel), np.uint8)
    for i in np.unique(superpixel[superpixel >= 0]):
        inside = superpixel == i
        classes = np.unique(sparse[inside & (sparse > 0)])
        if len(classes) == 1:
            targets[inside] = classes[0]
    annotated = (sparse > 0) & (superpixel >= 0)
    targets[annotated] = sparse[annotated]
    return targets


def make_sample(
    frame: PlainFrame,
    weak_label_dir: str,
    superpixel_dir: str,
    voxel_size: float,
    full_size: tuple[int, int],
    image_size: tuple[int, int],
    transform: Array,
) -> dict[str, Array]:
    """A training sample of the points in view.

    Args:
        full_size, image_size: (height, width) of the camera images, as they are and as the network sees them.
        transform: [3, 3], the random turn and scale: xyz @ transform.

    Returns:
        coords [V, 3], feats float32 [V, 4], point_voxel [P], rows [V], point_rows [P], masks bool [K, V],
        pixels float32 [K, V, 2], sparse, propagated, asso_target [V], candidates bool [V, 32], images
        float32 [K, 3, H, W].
    """
    points = load_points(frame)
    masks, pixels = project(frame, points, full_size)
    weak = load_weak_label(weak_label_dir, frame.lidar_token)
    images = load_images(frame, image_size)
    rows = np.flatnonzero(np.any(masks, axis=0))
    xyz = points[rows, :3] @ transform
    coords, representative, voxel = voxelize(xyz, voxel_size, weak["sparse"][rows])
    chosen = rows[representative]
    masks, pixels = [mask[chosen] for mask in masks], [pixel[chosen] for pixel in pixels]
    superpixel = superpixels_of_points(load_superpixels(superpixel_dir, frame), masks, pixels)
    sparse = weak["sparse"][chosen]
    return {
        "coords": coords,
        "feats": np.concatenate([xyz[representative], points[chosen, 3:]], axis=1).astype(np.float32),
        "point_voxel": voxel,
        "rows": chosen,
        "point_rows": rows,
        "masks": np.stack(masks),
        "pixels": np.stack(pixels).astype(np.float32),
        "sparse": sparse,
        "propagated": weak["propagated"][chosen],
        "candidates": weak["candidates"][chosen],
        "asso_target": association_targets(superpixel, sparse),
        "images": np.stack(images),
    }


def collate(samples: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    """Samples side by side, as float images and 64-bit labels; coordinates get the sample's position in the batch."""
    batch: dict[str, Array] = {}
    numbered = [np.pad(s["coords"], ((0, 0), (0, 1)), constant_values=i) for i, s in enumerate(samples)]
    batch["coords"] = np.concatenate(numbered)
    batch["images"] = np.stack([s["images"] for s in samples])
    for name in ("feats", "sparse", "propagated", "asso_target", "candidates"):
        batch[name] = np.concatenate([s[name] for s in samples])
    for name in ("sparse", "propagated", "asso_target"):
        batch[name] = batch[name].astype(np.int64)
    for name in ("masks", "pixels"):
        batch[name] = np.concatenate([s[name] for s in samples], axis=1)
    return batch
