"""Camera images: decoding, resizing, colour augmentation."""

import io
from contextlib import suppress

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torchvision.io import ImageReadMode, decode_jpeg
from torchvision.transforms import functional as tvf

from core.datasets.reading import read_bytes
from core.errors import UserError

JPEG_START = b"\xff\xd8\xff"
UNPACK = "unpack the data set's image files again"


def load_image(path: str, width: int, height: int, size_hint: str = UNPACK) -> NDArray[np.uint8]:
    """Decodes an image file of `width` x `height` pixels; uint8 [height, width, 3], RGB.

    Args:
        size_hint: what to do where it has another size, for the error.
    Raises UserError: the file is missing, does not decode, or has another size.
    """
    return decode_image(read_bytes(path, "camera image", UNPACK), path, width, height, size_hint)


def decode_image(data: bytes, name: str, width: int, height: int, size_hint: str = UNPACK) -> NDArray[np.uint8]:
    """Decodes the content of an image file of `width` x `height` pixels; uint8 [height, width, 3], RGB.

    Args:
        name: what errors call the image.
        size_hint: see `load_image`.
    Raises UserError: it does not decode, or has another size.
    """
    try:
        image = _decode(data)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"camera image {name} does not decode ({error}): {UNPACK}") from None
    found = f"{image.shape[1]}x{image.shape[0]}"
    if found != f"{width}x{height}":
        raise UserError(f"camera image {name} is {found}, the data set's tables say {width}x{height}: {size_hint}")
    return image


def _decode(data: bytes) -> NDArray[np.uint8]:
    """JPEG by torchvision, which gives PIL's pixels in less time; all else, and what that refuses, by PIL."""
    if data.startswith(JPEG_START):
        with suppress(RuntimeError):
            buffer = torch.frombuffer(bytearray(data), dtype=torch.uint8)
            return decode_jpeg(buffer, mode=ImageReadMode.RGB).permute(1, 2, 0).numpy()
    try:
        return np.array(Image.open(io.BytesIO(data)).convert("RGB"))
    except UnidentifiedImageError:
        raise ValueError("not an image") from None


def resize_planar(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resizes an image uint8 [H, W, 3] to size = (height, width), bilinear with antialiasing: PIL's values, but for
    one grey level in some of them. Channels come first, as the network takes them: uint8 [3, height, width]."""
    batch = torch.from_numpy(image).permute(2, 0, 1)[None]
    return torch.nn.functional.interpolate(batch, size, mode="bilinear", antialias=True)[0].numpy()


def resize_image(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """`resize_planar` with channels last: uint8 [height, width, 3]."""
    return np.ascontiguousarray(resize_planar(image, size).transpose(1, 2, 0))


def augment_colors(
    image: NDArray[np.uint8],
    rng: np.random.Generator,
    jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.4, 0.1),
    jitter_probability: float = 0.8,
    gray_probability: float = 0.2,
) -> NDArray[np.uint8]:
    """Colour jitter, then greyscale, each with its probability.

    Args:
        image: uint8 [3, H, W], RGB.
        rng: source of all random numbers; as many are drawn whichever augmentation happens.
        jitter: strengths of brightness, contrast and saturation (factor in [max(0, 1 - s), 1 + s]) and of hue
            (shift in [-s, s] of the colour circle), applied in random order.
        jitter_probability, gray_probability: in [0, 1].
    Returns uint8 [3, H, W].
    """
    jittered, grayed = rng.random(2) < (jitter_probability, gray_probability)
    order = rng.permutation(4)
    factors = [rng.uniform(max(0.0, 1 - strength), 1 + strength) for strength in jitter[:3]]
    factors.append(rng.uniform(-jitter[3], jitter[3]))
    operations = (tvf.adjust_brightness, tvf.adjust_contrast, tvf.adjust_saturation, tvf.adjust_hue)
    tensor = torch.from_numpy(image)
    if jittered:
        for k in order:
            tensor = operations[k](tensor, factors[k])
    if grayed:
        tensor = tvf.rgb_to_grayscale(tensor, num_output_channels=3)
    return tensor.numpy()
