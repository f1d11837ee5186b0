"""IUPC: weakly supervised LiDAR segmentation with association learning between points and images."""

import contextlib
import io

# torchpack's callbacks pull in tensorpack, which prints "Failed to import tensorflow." when first imported
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(ImportError):
    import tensorpack  # noqa: F401
