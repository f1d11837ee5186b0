"""The ground: a grid of materials, with the shadows that lie on it."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from core.synthetic.labels import KIND
from core.synthetic.solids import Solids

# materials: kind, raised above the plane, reflectivity; road, pavement and islands look alike to the LiDAR
ASPHALT, MARKING, TILES, GRASS, SOIL, PAVERS, PARKING = range(7)
_MATERIALS = (
    ("road", False, 0.055),
    ("marking", False, 0.075),
    ("sidewalk", False, 0.060),
    ("grass", True, 0.090),
    ("soil", True, 0.070),
    ("paving", False, 0.060),
    ("parking", False, 0.055),
)
GROUND_LABEL = np.array([KIND[name] for name, _, _ in _MATERIALS], dtype=np.uint8)
GROUND_RAISED = np.array([raised for _, raised, _ in _MATERIALS])
GROUND_REFLECTIVITY = np.array([reflectivity for _, _, reflectivity in _MATERIALS])
CELL = 0.1  # metres


@dataclass
class Ground:
    """Materials of the ground around a street."""

    origin: NDArray[np.float64]  # [2] x, y of the corner of cell (0, 0), metres, scene frame
    material: NDArray[np.uint8]  # [Y, X]

    @classmethod
    def of(cls, x: tuple[float, float], y: tuple[float, float], material: int) -> "Ground":
        """Ground of one material over x[0]..x[1], y[0]..y[1] metres."""
        shape = round((y[1] - y[0]) / CELL), round((x[1] - x[0]) / CELL)
        return cls(np.array([x[0], y[0]]), np.full(shape, material, dtype=np.uint8))

    def paint(self, x: tuple[float, float], y: tuple[float, float], material: int) -> None:
        """Covers the rectangle x[0]..x[1], y[0]..y[1] (metres)."""
        columns = [max(0, round((v - self.origin[0]) / CELL)) for v in x]
        rows = [max(0, round((v - self.origin[1]) / CELL)) for v in y]
        self.material[rows[0] : rows[1], columns[0] : columns[1]] = material

    def cells(
        self, points: NDArray[np.float64], valid: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Row and column of the cell of each of points [..., >= 2] (m); of those beside the ground the nearest one, of
        those that are not `valid` the first."""
        flat = np.where(valid[..., None], points[..., :2], self.origin)
        cells, (rows, columns) = np.trunc((flat - self.origin) / CELL).astype(np.int64), self.material.shape
        return np.clip(cells[..., 1], 0, rows - 1), np.clip(cells[..., 0], 0, columns - 1)

    def shadows(self, solids: Solids, centers: NDArray[np.float64], sun: NDArray[np.float64]) -> NDArray[np.uint8]:
        """Where the sun does not reach the plane z = 0: uint8 [Y, X], 255 in full shadow.

        Args:
            solids: what casts shadows; each as the box around it.
            centers: [S, 3] their centres, metres.
            sun: [3] unit vector towards the sun.
        """
        mask = np.zeros_like(self.material)
        corners = solids.corners + centers[:, None, :]
        height = np.maximum(corners[..., 2:], 0.0)
        flat = corners[..., :2] - height * (sun[:2] / sun[2])
        pixels = np.round((flat - self.origin) / CELL - 0.5).astype(np.int32)
        for pixel in pixels:
            cv2.fillConvexPoly(mask, cv2.convexHull(pixel), (255,))
        return mask
