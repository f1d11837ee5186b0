"""Superpixels: repeatable, connected to the image's content, with the published number."""

import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from core.errors import UserError
from core.labeling.annotation.parameters import SuperpixelParameters
from core.labeling.superpixels.superpixels import check_implementation, make_superpixels

PARAMETERS = SuperpixelParameters(image_size=(72, 128), num_superpixels=64)
OPENCV = replace(PARAMETERS, implementation="opencv")


def image(seed, size=(72, 128)):
    """Noisy squares of random colours."""
    rng = np.random.default_rng(seed)
    squares = rng.integers(0, 256, (size[0] // 8, size[1] // 8, 3)).repeat(8, 0).repeat(8, 1)
    return np.clip(squares + rng.integers(-5, 6, squares.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("parameters", [PARAMETERS, OPENCV])
def test_results_do_not_share_memory(parameters):
    first = make_superpixels(image(0), parameters)
    before = first.copy()
    make_superpixels(image(1), parameters)
    np.testing.assert_array_equal(first, before)


def test_published_number_of_superpixels():
    ids = make_superpixels(image(0, (360, 640)), SuperpixelParameters())
    assert ids.shape == (360, 640) and ids.dtype == np.int32
    assert 700 <= len(np.unique(ids)) <= 1100 and ids.min() >= 0 and ids.max() < 65536


def test_wrong_size_is_refused():
    with pytest.raises(ValueError, match="shape"):
        make_superpixels(image(0, (64, 64)), PARAMETERS)


def test_contrib_is_needed_only_where_it_is_chosen(monkeypatch):
    main_part = SimpleNamespace(__version__="4.11.0", setNumThreads=lambda count: None)
    monkeypatch.setitem(sys.modules, "cv2", main_part)
    assert check_implementation(PARAMETERS) == {"labels_of_opencv": "4.11.0"}
    install = "--force-reinstall --no-deps opencv-contrib-python-headless==4.11.*choose implementation numba"
    with pytest.raises(UserError, match=install):
        check_implementation(OPENCV)
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(UserError, match="pip install opencv-python-headless==4.11"):
        check_implementation(PARAMETERS)
