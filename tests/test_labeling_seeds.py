"""SEEDS in numba gives OpenCV's labels, pixel for pixel; superpixels of images."""

import glob
import hashlib
import sys
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from core.datasets.images import load_image, resize_image
from core.errors import UserError
from core.labeling.annotation.parameters import SuperpixelParameters
from core.labeling.superpixels.seeds import seeds_superpixels
from core.labeling.superpixels.seeds_levels import block_levels
from core.labeling.superpixels.superpixels import check_implementation, equalize, make_superpixels
from tests.entry import ROOT

PUBLISHED = {
    "num_superpixels": 1024,
    "num_levels": 5,
    "prior": 5,
    "histogram_bins": 10,
    "double_step": True,
    "iterations": 10,
}
REAL = sorted(glob.glob(f"{ROOT}/../shared/data/nuscenes_keyframe/samples/CAM_*/*.jpg"))


def opencv_superpixels(hsv, iterations, **numbers):
    height, width = hsv.shape[:2]
    seeds = cv2.ximgproc.createSuperpixelSEEDS(width, height, 3, **numbers)
    seeds.iterate(hsv, iterations)
    return seeds.getLabels()


def picture(kind, size, seed=0):
    """uint8 [H, W, 3]: what a camera sees, or what provokes ties."""
    rng = np.random.default_rng(seed)
    height, width = size
    if kind == "flat":
        return np.full((height, width, 3), 90, np.uint8)
    if kind == "noise":
        return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    if kind == "two colours":
        return (200 * rng.integers(0, 2, (height, width, 1)).repeat(3, 2)).astype(np.uint8)
    coarse = rng.integers(0, 256, (height // 9 + 2, width // 9 + 2, 3)).astype(np.uint8)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    squares = coarse.repeat(9, 0).repeat(9, 1)[:height, :width]
    mixed = np.where(
        np.arange(width)[None, :, None] < width // 2, smooth, squares
    )  # a scene: shades, edges, some noise
    return np.clip(mixed.astype(int) + rng.integers(-6, 7, mixed.shape), 0, 255).astype(np.uint8)


def check_same(hsv, **changes):
    numbers = {**PUBLISHED, **changes}
    ours, theirs = seeds_superpixels(hsv, **numbers), opencv_superpixels(hsv, **numbers)
    assert ours.dtype == theirs.dtype and np.count_nonzero(ours != theirs) == 0, numbers


@pytest.mark.skipif(not REAL, reason="needs ../shared/data/nuscenes_keyframe")
def test_real_images_at_the_published_numbers():
    assert len(REAL) == 6
    for path in REAL:
        image = resize_image(load_image(path, 1600, 900), (360, 640))
        check_same(equalize(image))


@pytest.mark.parametrize("seed", range(6))
def test_order_of_sums_beyond_the_precision_of_float32(seed):
    """Products of large superpixels' areas exceed 2**24; on nearly equal histograms the sums' rounding decides."""
    rng = np.random.default_rng(seed)
    tile = rng.integers(0, 256, (92, 102, 3), dtype=np.uint8)
    hsv = np.tile(tile, (4, 12, 1))
    hsv[rng.integers(0, 368, 30), rng.integers(0, 1224, 30)] = 0
    check_same(hsv, num_superpixels=15, num_levels=3, iterations=0, double_step=False)


@settings(max_examples=120, deadline=None, derandomize=True)
@given(
    height=st.integers(4, 70),
    width=st.integers(4, 140),
    kind=st.sampled_from(["scene", "flat", "noise", "two colours"]),
    seed=st.integers(0, 99),
    num_superpixels=st.integers(1, 300),
    num_levels=st.integers(1, 6),
    prior=st.integers(-1, 6),
    histogram_bins=st.sampled_from([2, 5, 10, 13]),
    double_step=st.booleans(),
    iterations=st.integers(0, 5),
)
def test_small_images(height, width, kind, seed, **numbers):
    try:
        block_levels((height, width), numbers["num_superpixels"], numbers["num_levels"])
    except UserError:
        assume(False)
    check_same(picture(kind, (height, width), seed), **numbers)


def test_blocks_cover_the_image():
    """By hand: 24 x 42 superpixels asked of 360 x 640, in blocks of 2 x 2 pixels, three times doubled."""
    levels = block_levels((360, 640), 1024, 5)
    assert [(level.rows, level.columns) for level in levels] == [(180, 320), (90, 160), (45, 80), (22, 40)]
    assert levels[0].row_starts.tolist() == list(range(0, 361, 2))
    assert levels[3].column_starts.tolist() == list(range(0, 641, 16))
    assert levels[3].row_starts[[0, 1, -1]].tolist() == [0, 16, 360]
    labels = levels[2].pixels(levels[2].children(np.arange(880, dtype=np.uint16).reshape(22, 40)))
    assert labels.shape == (360, 640) and labels[0, 15] == 0 and labels[0, 16] == 1 and labels[359, 639] == 879


@pytest.mark.parametrize(
    ("size", "numbers", "words"),
    [
        ((54, 96), (2048, 5), "2048 superpixels do not suit an image of 96x54 pixels.*less than 2x2.*fewer"),
        ((5, 1000), (10, 5), "too narrow.*more"),
        ((376, 1241), (10, 5), "5 levels: take fewer levels"),
        ((4000, 4000), (500_000, 2), "65536 cannot be stored"),
    ],
)
def test_unfit_numbers_are_refused(size, numbers, words):
    with pytest.raises(UserError, match=f"dataset.seeds: .*{words}"):
        block_levels(size, *numbers)


def test_equalized_colours_are_those_of_opencv_4_11():
    """Our SEEDS gives OpenCV 4.11's labels with any OpenCV that equalises as that one does."""
    colours = np.stack(np.meshgrid(*[np.arange(0, 256, 5, dtype=np.uint8)] * 3), -1)
    images = [*colours, *(colours // 3 + 40), np.full((3, 5, 3), 7, np.uint8)]
    found = b"".join(equalize(image).tobytes() for image in images)
    assert hashlib.sha256(found).hexdigest()[:16] == "c84ca0f1f03ad2b6"


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
