"""Range images of a spinning LiDAR on a moving vehicle, and the points that they hold. Pure functions.

A range image has one row per beam, the highest first, and one column per azimuth step, from the back of the vehicle
clockwise. Cells without an echo have a range that is not positive.
"""

import numpy as np
from numpy.typing import NDArray

from core.running.compiled import njit


def beam_inclinations(
    values: NDArray[np.floating] | None, lowest: float, highest: float, height: int
) -> NDArray[np.float64]:
    """The inclination of each row, float64 [H], rad, highest beam first.

    Args:
        values: [H], of the beams from the lowest up; None: the H beams fill lowest..highest evenly.
        lowest, highest: the limits of the field of view, rad.
        height: H, rows of the range image.
    """
    if values is None:
        values = lowest + (np.arange(height) + 0.5) / height * (highest - lowest)
    return np.asarray(values, np.float64)[::-1].copy()


def column_azimuths(width: int, extrinsic: NDArray[np.float64]) -> NDArray[np.float64]:
    """The azimuth of each column in the sensor frame, float64 [W], rad.

    Column 0 looks just past the vehicle's back, whichever way the sensor is turned (`extrinsic`, [4, 4], sensor ->
    vehicle).
    """
    share = (width - np.arange(width) - 0.5) / width
    return (share * 2 - 1) * np.pi - np.arctan2(extrinsic[1, 0], extrinsic[0, 0])


def points_of_cells(
    range_image: NDArray[np.float32],
    cells: NDArray[np.int64],
    pose: NDArray[np.float32],
    inclination: NDArray[np.float64],
    extrinsic: NDArray[np.float64],
    vehicle_to_world: NDArray[np.float64],
) -> NDArray[np.float64]:
    """The points of some cells, in the vehicle frame at the frame's time.

    A point leaves the sensor frame by `extrinsic`, the vehicle as it stood when this very cell was measured by `pose`,
    and enters the vehicle of the frame by the inverse of `vehicle_to_world`.

    Args:
        range_image: [H, W, C], range (m) in channel 0.
        cells: int64 [n], positions row * W + column.
        pose: [H, W, 6], roll, pitch, yaw (rad), x, y, z (m) of the vehicle in the world at each cell's time; the
            rotation is about x by roll, then y by pitch, then z by yaw.
        inclination: float64 [H], rad.
        extrinsic: float64 [4, 4], sensor -> vehicle.
        vehicle_to_world: float64 [4, 4], at the frame's time.
    Returns float64 [n, 3], x (ahead), y (left), z (up), m.
    """
    width = range_image.shape[1]
    azimuth = column_azimuths(width, extrinsic)
    points = np.empty((len(cells), 3))
    _points_of_cells(
        range_image.reshape(-1, range_image.shape[2]),
        cells,
        pose.reshape(-1, 6),
        np.column_stack([np.cos(inclination), np.sin(inclination)]),
        np.column_stack([np.cos(azimuth), np.sin(azimuth)]),
        np.ascontiguousarray(extrinsic),
        np.ascontiguousarray(vehicle_to_world),
        points,
    )
    return points


@njit(cache=True, nogil=True)
def _points_of_cells(values, cells, pose, beam, column, extrinsic, frame, out):  # type: ignore[no-untyped-def]
    """One cell after the other; beam [H, 2] and column [W, 2] hold cosine and sine; out float64 [n, 3]."""
    width = column.shape[0]
    for i in range(cells.shape[0]):
        cell = cells[i]
        r = np.float64(values[cell, 0])
        row, at = cell // width, cell % width
        x = r * column[at, 0] * beam[row, 0]
        y = r * column[at, 1] * beam[row, 0]
        z = r * beam[row, 1]
        # sensor -> vehicle
        px = extrinsic[0, 0] * x + extrinsic[0, 1] * y + extrinsic[0, 2] * z + extrinsic[0, 3]
        py = extrinsic[1, 0] * x + extrinsic[1, 1] * y + extrinsic[1, 2] * z + extrinsic[1, 3]
        pz = extrinsic[2, 0] * x + extrinsic[2, 1] * y + extrinsic[2, 2] * z + extrinsic[2, 3]
        # vehicle at the cell's time -> world: about x, then y, then z
        roll, pitch, yaw = np.float64(pose[cell, 0]), np.float64(pose[cell, 1]), np.float64(pose[cell, 2])
        cosine, sine = np.cos(roll), np.sin(roll)
        py, pz = cosine * py - sine * pz, sine * py + cosine * pz
        cosine, sine = np.cos(pitch), np.sin(pitch)
        px, pz = cosine * px + sine * pz, cosine * pz - sine * px
        cosine, sine = np.cos(yaw), np.sin(yaw)
        px, py = cosine * px - sine * py, sine * px + cosine * py
        # world -> vehicle at the frame's time; the large coordinates cancel before anything is multiplied
        px += np.float64(pose[cell, 3]) - frame[0, 3]
        py += np.float64(pose[cell, 4]) - frame[1, 3]
        pz += np.float64(pose[cell, 5]) - frame[2, 3]
        out[i, 0] = frame[0, 0] * px + frame[1, 0] * py + frame[2, 0] * pz
        out[i, 1] = frame[0, 1] * px + frame[1, 1] * py + frame[2, 1] * pz
        out[i, 2] = frame[0, 2] * px + frame[1, 2] * py + frame[2, 2] * pz


def seen_pixels(
    projection: NDArray[np.int32], width: int, heights: NDArray[np.int64]
) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
    """The camera that counts for each point, and its pixel there.

    Args:
        projection: int32 [n, 6], twice camera_name (1.., anything else: none), u, v.
        width: W, of all images.
        heights: int64 [K + 1], H of the image of each camera_name; that of 0 is not used.
    Returns int8 [n], camera_name - 1 of the later camera with 0 < u < W - 1 and 0 < v < H - 1; -1 where there is none;
    and float64 [n, 2], (u, v) in it; 0 where there is none.
    """
    camera, pixel = np.full(len(projection), -1, np.int8), np.zeros((len(projection), 2))
    _seen_pixels(np.ascontiguousarray(projection), width, heights, camera, pixel)
    return camera, pixel


@njit(cache=True, nogil=True)
def _seen_pixels(projection, width, heights, camera, pixel):  # type: ignore[no-untyped-def]
    for i in range(projection.shape[0]):
        for k in (0, 3):
            name, u, v = projection[i, k], projection[i, k + 1], projection[i, k + 2]
            later = 0 < name < heights.shape[0] and name - 1 > camera[i]
            if later and 0 < u < width - 1 and 0 < v < heights[name] - 1:
                camera[i], pixel[i, 0], pixel[i, 1] = name - 1, u, v
