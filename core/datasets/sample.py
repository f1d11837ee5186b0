"""From a frame's files to what the network trains on."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset
from torchpack.utils.logging import logger

from core.datasets.association import association_targets, superpixel_ids
from core.datasets.base import Reader
from core.datasets.file_points import FilePoints, describe_points, voxel_of_points
from core.datasets.frame import Frame
from core.datasets.image_cache import ImageCache, resized_images
from core.datasets.images import augment_colors
from core.datasets.point_checks import is_valid
from core.datasets.projection import Projection, normalize_pixels, pixel_colors
from core.datasets.voxelize import near_enough, voxelize
from core.label_files.files import (
    ANNOTATED_IGNORED,
    WeakLabel,
    read_pseudo_label,
    read_superpixels,
    read_weak_label,
)

MODES = ("train", "estep", "eval")
MAX_WARNINGS = 5  # frames with points too far away that each process names


@dataclass
class Sample:
    """One frame, voxelised. All that is said of a voxel is said of the point that represents it.

    The fields up to `rows` are per voxel and agree in length; `sample[mask]` slices them all.

    Attributes:
        coords: int32 [V, 3], voxel coordinates of the (augmented) points, minimum 0.
        feats: float32 [V, C], augmented x, y, z (m), the reader's features; with colours also R, G, B (0..255).
        camera: int8 [V], the camera that counts, -1 where none sees the point.
        pixel: float32 [V, 2], (u, v) in that camera in [-1, 1], of the unaugmented point; 0 where there is none.
        sparse_label, propagated_label, pseudo_label, dense_label: uint8 [V], class ids, 0 = none.
        asso_target: uint8 [V], class that the superpixel lends the point, 0 = none.
        candidates: uint32 [V], bit c set where class c is a candidate of the point's component; 0 = none.
        rows: int64 [V], row of the point in the LiDAR file.
        token: the frame.
        index: its position in the data set.
        images: uint8 [K, 3, H, W], resized, RGB.
        point_voxel: int64 [P], voxel of each point that takes part.
        point_rows: int64 [P], its row in the LiDAR file, ascending.
        points: what E-step and scores need of all points of the LiDAR file; None in training.
    """

    coords: NDArray[np.int32]
    feats: NDArray[np.float32]
    camera: NDArray[np.int8]
    pixel: NDArray[np.float32]
    sparse_label: NDArray[np.uint8]
    propagated_label: NDArray[np.uint8]
    pseudo_label: NDArray[np.uint8]
    dense_label: NDArray[np.uint8]
    asso_target: NDArray[np.uint8]
    candidates: NDArray[np.uint32]
    rows: NDArray[np.int64]
    token: str
    index: int
    images: NDArray[np.uint8]
    point_voxel: NDArray[np.int64]
    point_rows: NDArray[np.int64]
    points: FilePoints | None = None

    def __post_init__(self) -> None:
        lengths = {name: len(getattr(self, name)) for name in PER_VOXEL}
        if len(set(lengths.values())) != 1 or len(self.point_voxel) != len(self.point_rows):
            raise ValueError(f"the fields of a sample should agree in length: {lengths}")

    def __len__(self) -> int:
        return len(self.coords)

    def __getitem__(self, mask: Any) -> "Sample":
        """The voxels chosen by a bool mask, an index array or a slice; points of the others drop out."""
        chosen = np.arange(len(self))[mask]
        position = np.full(len(self), -1, np.int64)
        position[chosen] = np.arange(len(chosen))
        point_voxel = position[self.point_voxel]
        kept = point_voxel >= 0
        return replace(
            self,
            **{name: getattr(self, name)[chosen] for name in PER_VOXEL},
            point_voxel=point_voxel[kept],
            point_rows=self.point_rows[kept],
            points=self.points and self.points.renumbered(position),
        )


PER_VOXEL = tuple(field.name for field in fields(Sample))[: [field.name for field in fields(Sample)].index("token")]


class SegmentationDataset(Dataset[Sample]):
    """Samples of a reader's frames.

    `dataset[epoch, index]` (or `dataset[index]`, epoch 0) draws all its random numbers from
    `default_rng([seed, epoch, index])`, so that a sample depends on neither workers nor order.

    Args:
        reader: the frames.
        mode: "train" (points turned about z and scaled, annotated points represent voxels), "estep" (not augmented,
            annotated points represent voxels), "eval" (not augmented, the first point represents a voxel).
        voxel_size: edge of a voxel, m.
        image_size: (height, width) that images are resized to; None: no image is read.
        points: "in_view" (only points that a camera sees) or "all".
        weak_label_dir, superpixel_dir, pseudo_label_dir: folders to take labels from; None: labels 0, no file opened.
            Association targets need both of the first two.
        use_dense_labels: take the dense ground truth from the reader; without, only "estep" does, where it is there.
            It goes into `Sample.dense_label` in "train" alone, else into `Sample.points`.
        every_point: points that take no part get the label of the nearest one that does ("eval" only).
        use_color: append the colour of the point's pixel (nearest below, in the image as the network sees it; 0 for
            points that no camera sees) to the features.
        use_augment: colour jitter and greyscale of the images ("train" only).
        rotation: angle about z is drawn from [0, rotation), rad ("train" only).
        scale: range of the factor on x, y, z ("train" only).
        flip: probability of mirroring the sample: y -> -y, images and pixel coordinates alike ("train" only).
        color_jitter, jitter_probability, gray_probability: see `augment_colors`.
        pts_sr: share of the points that is kept, drawn at random ("train" only); 1 = all.
        seed: see above.
        label_hashes: {label folder: hash in its meta.json}; a file that carries another is refused.
        image_cache: where the resized images are read from; None: the data set's own files are decoded and resized.
    """

    def __init__(
        self,
        reader: Reader,
        mode: str,
        *,
        voxel_size: float,
        image_size: tuple[int, int] | None,
        points: str = "in_view",
        weak_label_dir: str | None = None,
        superpixel_dir: str | None = None,
        pseudo_label_dir: str | None = None,
        use_dense_labels: bool = False,
        every_point: bool = False,
        use_color: bool = False,
        use_augment: bool = False,
        rotation: float = 2 * math.pi,
        scale: tuple[float, float] = (0.95, 1.05),
        flip: float = 0.0,
        color_jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.4, 0.1),
        jitter_probability: float = 0.8,
        gray_probability: float = 0.2,
        pts_sr: float = 1.0,
        seed: int = 0,
        label_hashes: Mapping[str, str] | None = None,
        image_cache: ImageCache | None = None,
    ) -> None:
        if mode not in MODES:
            raise ValueError(f"mode should be one of {MODES}, not {mode!r}")
        self.reader, self.mode, self.voxel_size, self.image_size = reader, mode, voxel_size, image_size
        self.points, self.pts_sr, self.rotation, self.scale, self.seed = points, pts_sr, rotation, scale, seed
        self.flip = flip if mode == "train" else 0.0
        self.weak_label_dir, self.superpixel_dir = weak_label_dir, superpixel_dir
        self.pseudo_label_dir, self.use_dense_labels = pseudo_label_dir, use_dense_labels
        self.every_point = every_point and mode == "eval"
        self.use_color, self.use_augment = use_color, use_augment
        self.color_jitter = color_jitter
        self.jitter_probability, self.gray_probability = jitter_probability, gray_probability
        self.label_hashes, self.image_cache, self._warned = dict(label_hashes or {}), image_cache, set[str]()

    def __len__(self) -> int:
        return len(self.reader)

    def __getitem__(self, key: int | tuple[int, int]) -> Sample:
        """The sample of (epoch, index), or of index in epoch 0.

        Raises:
            UserError: a file of the frame is missing, broken or does not fit the others.
        """
        epoch, index = key if isinstance(key, tuple) else (0, key)
        rng = np.random.default_rng([self.seed, epoch, index])
        frame = self.reader.frame(index)

        # points that take part, and what is known of them
        points = self.reader.load_points(frame)
        projection = self.reader.project(frame, points)
        labels, weak, truth = self._labels(frame, len(points))
        rows = self._rows(points, projection, rng)

        # voxels, and the point that stands for each
        flipped = self.flip > 0 and rng.random() < self.flip
        mirror = np.array([1, -1 if flipped else 1, 1], np.float32)
        xyz = self._transform(points[rows, :3] * mirror, rng)
        rows, xyz = self._without_far_points(frame, rows, xyz)
        priority = None if self.mode == "eval" else labels["sparse_label"][rows]
        voxels = voxelize(xyz, self.voxel_size, priority)
        chosen = rows[voxels.representative]

        # its pixel, its association target, its features
        camera = projection.camera[chosen]
        pixel = normalize_pixels(projection.pixel[chosen], camera, frame.cameras)
        labels = {name: label[chosen] for name, label in labels.items()}
        images = self._images(frame, rng)
        feats: list[NDArray[Any]] = [xyz[voxels.representative], points[chosen, 3:]]
        if self.use_color:
            feats.append(pixel_colors(images, camera, pixel))
        asso_target = self._asso_target(frame, camera, pixel, labels["sparse_label"])
        file_points = None
        if self.mode != "train":
            annotated = self.reader.annotated(frame, points, projection.seen)
            in_file = voxel_of_points(voxels.point_voxel, rows, points[:, :3], self.every_point)
            file_points = describe_points(in_file, projection.seen, weak, truth, annotated)
        if flipped:  # last: colours and superpixels are looked up in images as they are
            images, pixel = np.ascontiguousarray(images[..., ::-1]), pixel * (-1, 1)
        return Sample(
            coords=voxels.coords,
            feats=np.column_stack(feats).astype(np.float32),
            camera=camera,
            pixel=pixel.astype(np.float32),
            **labels,
            asso_target=asso_target,
            rows=chosen,
            token=frame.token,
            index=index,
            images=images,
            point_voxel=voxels.point_voxel,
            point_rows=rows,
            points=file_points,
        )

    def _rows(self, points: NDArray[np.float32], projection: Projection, rng: np.random.Generator) -> NDArray[np.int64]:
        """Rows of the points that take part, ascending."""
        rows = np.flatnonzero(projection.seen if self.points == "in_view" else is_valid(points))
        if self.mode == "train" and self.pts_sr < 1:
            rows = np.sort(rng.permutation(rows)[: math.ceil(self.pts_sr * len(rows))])
        return rows

    def _transform(self, xyz: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float64]:
        """Training: turns points about z and scales them, at random."""
        if self.mode != "train":
            return xyz.astype(np.float64)
        angle, factor = rng.uniform(0, self.rotation), rng.uniform(*self.scale)
        cos, sin = math.cos(angle), math.sin(angle)
        return xyz @ (factor * np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]]))

    def _without_far_points(
        self, frame: Frame, rows: NDArray[np.int64], xyz: NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The points whose voxels a key of the sparse layers can hold; the log says how many others there are."""
        near = near_enough(xyz, self.voxel_size)
        if near.all():
            return rows, xyz
        if frame.token not in self._warned and len(self._warned) < MAX_WARNINGS:
            self._warned.add(frame.token)
            logger.warning(
                f"LiDAR file {frame.lidar_path}: {np.count_nonzero(~near)} of {len(near)} points are too far away for "
                f"voxels of dataset.voxel_size {self.voxel_size:g} m and are dropped."
            )
        return rows[near], xyz[near]

    def _labels(
        self, frame: Frame, num_points: int
    ) -> tuple[dict[str, NDArray[Any]], WeakLabel | None, NDArray[np.uint8] | None]:
        """Labels of all points of the LiDAR file, zeros where none are asked for; weak label and truth as read."""
        names = ("sparse_label", "propagated_label", "pseudo_label", "dense_label")
        labels: dict[str, NDArray[Any]] = {name: np.zeros(num_points, np.uint8) for name in names}
        labels["candidates"] = np.zeros(num_points, np.uint32)
        identity, weak, truth = self.label_hashes.get, None, None
        if self.weak_label_dir is not None:
            weak = read_weak_label(self.weak_label_dir, frame.token, num_points, identity(self.weak_label_dir))
            labels["sparse_label"] = np.where(weak.sparse == ANNOTATED_IGNORED, np.uint8(0), weak.sparse)
            labels["propagated_label"] = weak.propagated
            labels["candidates"] = weak.point_candidates()
        if self.pseudo_label_dir is not None:
            labels["pseudo_label"] = read_pseudo_label(
                self.pseudo_label_dir, frame.token, num_points, identity(self.pseudo_label_dir)
            )
        if self.use_dense_labels or (self.mode == "estep" and self.reader.has_labels(frame)):
            truth = self.reader.load_labels(frame, num_points)
        if self.mode == "train" and truth is not None:
            labels["dense_label"] = truth
        return labels, weak, truth

    def _images(self, frame: Frame, rng: np.random.Generator) -> NDArray[np.uint8]:
        if self.image_size is None:
            return np.zeros((0, 3, 1, 1), np.uint8)
        if not frame.cameras:  # the image branch wants one to look at
            return np.zeros((1, 3, *self.image_size), np.uint8)
        if self.image_cache is not None:
            images = self.image_cache.read(frame.token, len(frame.cameras))
        else:
            images = resized_images(self.reader, frame.cameras, self.image_size)
        if self.use_augment and self.mode == "train":
            for k, image in enumerate(images):
                strengths = (self.color_jitter, self.jitter_probability, self.gray_probability)
                images[k] = augment_colors(image, rng, *strengths)
        return images

    def _asso_target(
        self,
        frame: Frame,
        camera: NDArray[np.int8],
        pixel: NDArray[np.float64],
        sparse_label: NDArray[np.uint8],
    ) -> NDArray[np.uint8]:
        if self.superpixel_dir is None or self.image_size is None:
            return np.zeros(len(camera), np.uint8)
        identity = self.label_hashes.get(self.superpixel_dir)
        cameras = [view.token for view in frame.cameras]
        maps = read_superpixels(self.superpixel_dir, frame.token, cameras, self.image_size, identity)
        return association_targets(superpixel_ids(maps, camera, pixel), sparse_label, camera >= 0)
