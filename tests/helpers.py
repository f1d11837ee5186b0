"""What several tests share."""

import os

import numpy as np
import torch

HERE = os.path.dirname(os.path.abspath(__file__))
DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def golden(name: str) -> dict[str, np.ndarray]:
    """The arrays of a golden file."""
    with np.load(os.path.join(HERE, "goldens", name)) as file:
        return {key: file[key] for key in file.files}
