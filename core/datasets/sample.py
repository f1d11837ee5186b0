"""From a frame's files to what the network trains on."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset
from torchpack.utils.logging import logger

from core.datasets.association import association_targets, superpixel_ids
from core.datasets.augmentation import Augmentation
from core.datasets.base import Reader
from core.datasets.file_points import FilePoints, describe_points, voxel_of_points
from core.datasets.frame import Frame
from core.datasets.image_cache import read_images, resized_images
from core.datasets.label_sources import LabelSources
from core.datasets.point_checks import is_valid
from core.datasets.projection import normalize_pixels, pixel_colors
from core.datasets.voxelize import near_enough, voxelize

MODES = ("train", "estep", "eval")
MAX_WARNINGS = 5  # frames with points too far away that each process names


@dataclass
class Sample:
    """One frame, voxelised. All that is said of a voxel is said of the point that represents it.

    The fields up to `rows` are per voxel and agree in length.

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
        labels: what is read besides the points.
        dense_labels: take the dense ground truth from the reader; without, only "estep" does, where it is there.
            It goes into `Sample.dense_label` in "train" alone, else into `Sample.points`.
        augmentation: of "train" alone.
        use_color: append the colour of the point's pixel (nearest below, in the image as the network sees it; 0 for
            points that no camera sees) to the features.
        every_point: points that take no part get the label of the nearest one that does ("eval" only).
        seed: see above.
        image_cache: folder that the resized images are read from; None: the data set's own files are decoded and
            resized.
    """

    def __init__(
        self,
        reader: Reader,
        mode: str,
        *,
        voxel_size: float,
        image_size: tuple[int, int] | None,
        points: str = "in_view",
        labels: LabelSources | None = None,
        dense_labels: bool = False,
        augmentation: Augmentation | None = None,
        use_color: bool = False,
        every_point: bool = False,
        seed: int = 0,
        image_cache: str | None = None,
    ) -> None:
        if mode not in MODES:
            raise ValueError(f"mode should be one of {MODES}, not {mode!r}")
        self.reader, self.mode, self.voxel_size, self.image_size = reader, mode, voxel_size, image_size
        self.points, self.seed, self.image_cache = points, seed, image_cache
        self.labels, self.dense_labels = labels or LabelSources(), dense_labels
        self.augmentation = (augmentation or Augmentation()) if mode == "train" else None
        self.use_color, self.every_point = use_color, every_point and mode == "eval"
        self._warned = set[str]()

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
        stored, truth = self.labels.read(frame.token, len(points)), self._truth(frame, len(points))
        rows = np.flatnonzero(projection.seen if self.points == "in_view" else is_valid(points))
        rows, xyz, flipped = self._augmented(points, rows, rng)

        # voxels, and the point that stands for each
        rows, xyz = self._without_far_points(frame, rows, xyz)
        priority = None if self.mode == "eval" else stored.sparse[rows]
        voxels = voxelize(xyz, self.voxel_size, priority)
        chosen = rows[voxels.representative]

        # its pixel, its association target, its features
        camera = projection.camera[chosen]
        pixel = normalize_pixels(projection.pixel[chosen], camera, frame.cameras)
        sparse = stored.sparse[chosen]
        images = self._images(frame, rng)
        feats: list[NDArray[Any]] = [xyz[voxels.representative], points[chosen, 3:]]
        if self.use_color:
            feats.append(pixel_colors(images, camera, pixel))
        asso_target = self._asso_target(frame, camera, pixel, sparse)
        file_points = None
        if self.mode != "train":
            annotated = self.reader.annotated(frame, points, projection.seen)
            in_file = voxel_of_points(voxels.point_voxel, rows, points[:, :3], self.every_point)
            file_points = describe_points(in_file, projection.seen, stored.weak, truth, annotated)
        if flipped:  # last: colours and superpixels are looked up in images as they are
            images, pixel = np.ascontiguousarray(images[..., ::-1]), pixel * (-1, 1)
        return Sample(
            coords=voxels.coords,
            feats=np.column_stack(feats).astype(np.float32),
            camera=camera,
            pixel=pixel.astype(np.float32),
            sparse_label=sparse,
            propagated_label=stored.propagated[chosen],
            pseudo_label=stored.pseudo[chosen],
            dense_label=truth[chosen] if self.mode == "train" and truth is not None else np.zeros_like(sparse),
            candidates=stored.candidates[chosen],
            asso_target=asso_target,
            rows=chosen,
            token=frame.token,
            index=index,
            images=images,
            point_voxel=voxels.point_voxel,
            point_rows=rows,
            points=file_points,
        )

    def _augmented(
        self, points: NDArray[np.float32], rows: NDArray[np.int64], rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.float64], bool]:
        """Training: rows that are kept, their turned and scaled x, y, z, whether the sample is mirrored."""
        if self.augmentation is None:
            return rows, points[rows, :3].astype(np.float64), False
        rows = self.augmentation.keep(rows, rng)
        flipped = self.augmentation.draw_flip(rng)
        mirror = np.array([1, -1 if flipped else 1, 1], np.float32)
        return rows, self.augmentation.turn(points[rows, :3] * mirror, rng), flipped

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

    def _truth(self, frame: Frame, num_points: int) -> NDArray[np.uint8] | None:
        """Dense labels of all points of the LiDAR file; None where they are not asked for."""
        if self.dense_labels or (self.mode == "estep" and self.reader.has_labels(frame)):
            return self.reader.load_labels(frame, num_points)
        return None

    def _images(self, frame: Frame, rng: np.random.Generator) -> NDArray[np.uint8]:
        if self.image_size is None:
            return np.zeros((0, 3, 1, 1), np.uint8)
        if not frame.cameras:  # the image branch wants one to look at
            return np.zeros((1, 3, *self.image_size), np.uint8)
        if self.image_cache is not None:
            images = read_images(self.image_cache, frame.token, (len(frame.cameras), 3, *self.image_size))
        else:
            images = resized_images(self.reader, frame.cameras, self.image_size)
        if self.augmentation is not None:
            self.augmentation.recolor(images, rng)
        return images

    def _asso_target(
        self, frame: Frame, camera: NDArray[np.int8], pixel: NDArray[np.float64], sparse_label: NDArray[np.uint8]
    ) -> NDArray[np.uint8]:
        maps = self.labels.superpixels(frame, self.image_size) if self.image_size is not None else None
        if maps is None:
            return np.zeros(len(camera), np.uint8)
        return association_targets(superpixel_ids(maps, camera, pixel), sparse_label, camera >= 0)
