"""What several tests share."""

import os

import numpy as np
import pytest
import torch

from core.errors import UserError

HERE = os.path.dirname(os.path.abspath(__file__))
DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def golden(name: str) -> dict[str, np.ndarray]:
    """The arrays of a golden file."""
    with np.load(os.path.join(HERE, "goldens", name)) as file:
        return {key: file[key] for key in file.files}


def refused(work, *words):
    """Checks that `work` is refused in one line that holds the words; the line."""
    with pytest.raises(UserError) as caught:
        work()
    line = str(caught.value)
    assert "\n" not in line and all(str(word) in line for word in words), line
    return line
