"""Predictions of points as files: labels, arrays, and coloured clouds that viewers open."""

import io
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from core.datasets.frame import ClassTable

Content = Callable[[NDArray[np.float32], NDArray[np.uint8], NDArray[np.float32], ClassTable], bytes]
"""(x, y, z [N, 3], class [N], confidence [N], classes) -> content of the file."""


def label_file(xyz: NDArray, label: NDArray[np.uint8], confidence: NDArray, classes: ClassTable) -> bytes:
    """uint32 raw label ids of the data set."""
    to_raw = classes.to_raw if classes.to_raw is not None else np.arange(classes.num_classes)
    return to_raw[label].astype("<u4").tobytes()


def npy_file(xyz: NDArray, label: NDArray[np.uint8], confidence: NDArray, classes: ClassTable) -> bytes:
    """A NumPy array [N] with the fields label (uint8, class id) and confidence (float32)."""
    rows = np.zeros(len(label), [("label", "u1"), ("confidence", "<f4")])
    rows["label"], rows["confidence"] = label, confidence
    buffer = io.BytesIO()
    np.save(buffer, rows)
    return buffer.getvalue()


def pcd_file(xyz: NDArray, label: NDArray[np.uint8], confidence: NDArray, classes: ClassTable) -> bytes:
    """Binary PCD: x, y, z, rgb (packed into a float, as PCL does), label, confidence."""
    dtype = [("xyz", "<f4", 3), ("rgb", "<u4"), ("label", "<u4"), ("confidence", "<f4")]
    rows = np.zeros(len(label), dtype)
    red, green, blue = classes.colors[label].astype(np.uint32).T
    rows["xyz"], rows["rgb"] = xyz, red << 16 | green << 8 | blue
    rows["label"], rows["confidence"] = label, confidence
    header = (
        "# .PCD v0.7 - Point Cloud Data file format\nVERSION 0.7\nFIELDS x y z rgb label confidence\n"
        "SIZE 4 4 4 4 4 4\nTYPE F F F F U F\nCOUNT 1 1 1 1 1 1\n"
        f"WIDTH {len(rows)}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {len(rows)}\nDATA binary\n"
    )
    return header.encode() + rows.tobytes()


def ply_file(xyz: NDArray, label: NDArray[np.uint8], confidence: NDArray, classes: ClassTable) -> bytes:
    """Binary PLY: x, y, z, red, green, blue, label, confidence."""
    dtype = [("xyz", "<f4", 3), ("rgb", "u1", 3), ("label", "u1"), ("confidence", "<f4")]
    rows = np.zeros(len(label), dtype)
    rows["xyz"], rows["rgb"], rows["label"], rows["confidence"] = xyz, classes.colors[label], label, confidence
    properties = [
        *(f"property float {axis}" for axis in "xyz"),
        *(f"property uchar {name}" for name in ("red", "green", "blue", "label")),
        "property float confidence",
    ]
    head = ["ply", "format binary_little_endian 1.0", f"element vertex {len(rows)}", *properties, "end_header", ""]
    return "\n".join(head).encode() + rows.tobytes()


FORMATS: dict[str, Content] = {"label": label_file, "npy": npy_file, "pcd": pcd_file, "ply": ply_file}
"""What --format may say; the file's ending."""
