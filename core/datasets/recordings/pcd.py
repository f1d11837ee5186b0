"""Point clouds in PCD: ascii, binary and compressed. Maintained readers refuse fields of COUNT 0, which some recorders
write, and take longer than the rest of a training sample."""

import math
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from core.running.compiled import njit

_DTYPES = {("F", 4): "<f4", ("F", 8): "<f8"} | {
    (kind, size): f"<{kind.lower()}{size}" for kind in "IU" for size in (1, 2, 4, 8)
}
_HEADER = ("VERSION", "FIELDS", "SIZE", "TYPE", "COUNT", "WIDTH", "HEIGHT", "VIEWPOINT", "POINTS", "DATA")
_MAX_HEADER = 100  # lines


def read_pcd(file: IO[bytes]) -> dict[str, NDArray[Any]]:
    """Reads a PCD file.

    Returns {field: [N], or [N, count]}, in the file's types; without padding ("_") and fields of COUNT 0.
    Raises ValueError: what is wrong with the file.
    """
    header = _read_header(file)
    dtype = _dtype(header)
    count = math.prod(int(number) for number in header.get("POINTS") or (*header["WIDTH"], *header["HEIGHT"]))
    kind = header["DATA"][0].lower()
    if kind == "ascii":
        rows = _read_ascii(file, dtype, count)
    elif kind == "binary":
        rows = _from_bytes(file.read(), dtype, count)
    elif kind == "binary_compressed":
        rows = _read_compressed(file, dtype, count)
    else:
        raise ValueError(f"DATA {kind} is unknown; known are ascii, binary and binary_compressed")
    return {name: rows[name] for name in dtype.names or () if not name.startswith("\0")}


def _read_header(file: IO[bytes]) -> dict[str, list[str]]:
    header: dict[str, list[str]] = {}
    for _ in range(_MAX_HEADER):
        words = file.readline(100_000).decode("ascii", "replace").split()
        if not words or words[0].startswith("#"):
            continue
        if words[0].upper() not in _HEADER:
            raise ValueError("it has no PCD header")
        header[words[0].upper()] = words[1:]
        if words[0].upper() == "DATA":
            break
    header.setdefault("HEIGHT", ["1"])
    size = "POINTS" if "WIDTH" not in header else "WIDTH"
    missing = [key for key in ("FIELDS", "SIZE", "TYPE", "DATA", size) if not header.get(key)]
    if missing:
        raise ValueError(f"its PCD header lacks {missing[0]}")
    return header


def _dtype(header: dict[str, list[str]]) -> np.dtype:
    names, sizes, kinds = header["FIELDS"], header["SIZE"], header["TYPE"]
    counts = header.get("COUNT", ["1"] * len(names))
    if not len(names) == len(sizes) == len(kinds) == len(counts):
        raise ValueError("FIELDS, SIZE, TYPE and COUNT of its header differ in length")
    fields: list[Any] = []
    for i, (name, size, kind, count) in enumerate(zip(names, sizes, kinds, counts, strict=True)):
        if (kind, int(size)) not in _DTYPES:
            raise ValueError(f"field {name} is of the unknown type {kind}{size}")
        hidden = name == "_" or int(count) == 0
        shape = () if int(count) == 1 else (int(count),)
        fields.append((f"\0{i}" if hidden else name, _DTYPES[kind, int(size)], shape))
    return np.dtype(fields)


def _from_bytes(data: bytes, dtype: np.dtype, count: int) -> NDArray[Any]:
    if len(data) < count * dtype.itemsize:
        raise ValueError(f"it ends early: {len(data)} bytes of {count * dtype.itemsize} for {count} points")
    return np.frombuffer(data, dtype, count)


def _read_ascii(file: IO[bytes], dtype: np.dtype, count: int) -> NDArray[Any]:
    width = int(sum(np.prod(dtype[name].shape, dtype=int) for name in dtype.names or ()))
    lines = file.read().split(b"\n")
    table = np.array([line.split() for line in lines if line.strip()][:count], dtype=np.float64).reshape(-1, width)
    if len(table) < count:
        raise ValueError(f"it ends early: {len(table)} lines for {count} points")
    column = 0
    rows = np.zeros(count, dtype)
    for name in dtype.names or ():
        shape = rows[name].shape
        step = int(np.prod(shape[1:], dtype=int))
        block = table[:, column : column + step].reshape(shape)
        rows[name] = block if dtype[name].base.kind == "f" else np.nan_to_num(block)
        column += step
    return rows


def _read_compressed(file: IO[bytes], dtype: np.dtype, count: int) -> NDArray[Any]:
    sizes = np.frombuffer(file.read(8), "<u4")
    if len(sizes) < 2:
        raise ValueError("it ends early")
    packed = np.frombuffer(file.read(int(sizes[0])), np.uint8)
    if len(packed) < sizes[0] or sizes[1] != count * dtype.itemsize:
        raise ValueError(f"it ends early, or its compressed part is not of {count} points")
    plain = np.empty(int(sizes[1]), np.uint8)
    if len(plain) and _decompress(packed, plain) != len(plain):
        raise ValueError("its compressed part is damaged")
    begin = 0
    rows = np.zeros(count, dtype)
    for name in dtype.names or ():  # one field after the other
        column = plain[begin : begin + rows[name].nbytes]
        if rows[name].size:
            rows[name] = column.view(dtype[name].base).reshape(rows[name].shape)
        begin += len(column)
    return rows


@njit(cache=True)
def _decompress(packed, plain):  # type: ignore[no-untyped-def]
    """LZF: runs of bytes as they are, and copies of what was written before. Returns the bytes written, -1 if wrong."""
    i, o = np.int64(0), np.int64(0)
    while i < len(packed):
        control = np.int64(packed[i])
        i += 1
        if control < 32:
            length = control + 1
            if i + length > len(packed) or o + length > len(plain):
                return -1
            plain[o : o + length] = packed[i : i + length]
            i += length
        else:
            length = control >> 5
            if length == 7:
                if i >= len(packed):
                    return -1
                length += np.int64(packed[i])
                i += 1
            if i >= len(packed):
                return -1
            begin = o - ((control & 31) << 8) - np.int64(packed[i]) - 1
            i += 1
            length += 2
            if begin < 0 or o + length > len(plain):
                return -1
            for k in range(length):  # may overlap
                plain[o + k] = plain[begin + k]
        o += length
    return o
