"""What the made-up city's images show."""

import numpy as np
from numpy.typing import NDArray

from core.synthetic.camera import View
from core.synthetic.ground import CELL, GROUND_LABEL
from core.synthetic.raycast import GROUND


def kinds_in_view(view: View) -> NDArray[np.uint8]:
    """Kind [H, W] of what each pixel of an image of the city shows; 0 for the sky."""
    ground = view.scene.ground
    points = view.origin[:2] + np.where(view.hit == GROUND, view.distance, 0.0)[..., None] * view.rays[..., :2]
    cells = np.trunc((points - ground.origin) / CELL).astype(np.int64)
    rows = np.clip(cells[..., 1], 0, ground.material.shape[0] - 1)
    columns = np.clip(cells[..., 0], 0, ground.material.shape[1] - 1)
    labels = np.where(view.hit == GROUND, GROUND_LABEL[ground.material[rows, columns]], 0)
    if len(view.used):
        labels = np.where(view.hit >= 0, view.scene.solids.label[view.used[np.maximum(view.hit, 0)]], labels)
    return labels.astype(np.uint8)
