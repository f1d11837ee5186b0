"""Random changes of training samples."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.datasets.images import augment_colors


@dataclass(frozen=True)
class Augmentation:
    """What is drawn for each training sample.

    Attributes:
        rotation: angle about z is drawn from [0, rotation), rad.
        scale: range of the factor on x, y, z.
        flip: probability of mirroring the sample: y -> -y, images and pixel coordinates alike.
        colors: colour jitter and greyscale of the images.
        color_jitter, jitter_probability, gray_probability: see `augment_colors`.
        share: of the points that is kept, drawn at random; 1 = all.
    """

    rotation: float = 2 * math.pi
    scale: tuple[float, float] = (0.95, 1.05)
    flip: float = 0.0
    colors: bool = False
    color_jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.4, 0.1)
    jitter_probability: float = 0.8
    gray_probability: float = 0.2
    share: float = 1.0

    def keep(self, rows: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        """The rows of the points that are kept, ascending."""
        if self.share == 1:
            return rows
        return np.sort(rng.permutation(rows)[: math.ceil(self.share * len(rows))])

    def draw_flip(self, rng: np.random.Generator) -> bool:
        """Whether this sample is mirrored."""
        return self.flip > 0 and rng.random() < self.flip

    def turn(self, xyz: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float64]:
        """Points [N, 3] (m) turned about z and scaled."""
        angle, factor = rng.uniform(0, self.rotation), rng.uniform(*self.scale)
        cos, sin = math.cos(angle), math.sin(angle)
        return xyz @ (factor * np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]]))

    def recolor(self, images: NDArray[np.uint8], rng: np.random.Generator) -> None:
        """Changes the colours of images uint8 [K, 3, H, W] in place."""
        if self.colors:
            for image in images:
                image[:] = augment_colors(image, rng, self.color_jitter, self.jitter_probability, self.gray_probability)
