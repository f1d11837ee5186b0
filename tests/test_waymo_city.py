"""The made-up city in Waymo's format: what its files say is where the city has it."""

import numpy as np
import pytest

from core.datasets.waymo import Waymo
from core.synthetic.camera import View
from core.synthetic.formats.waymo import segment as segment_module
from core.synthetic.formats.waymo.labels import CLASS, OF_KIND, ground_classes
from core.synthetic.formats.waymo.segment import segment_files, segment_shots
from core.synthetic.formats.waymo.sensors import waymo_rig
from core.synthetic.formats.waymo.turn import measure_moving
from core.synthetic.scene import make_scene

NAME, START, SEED = "1234567890123456789_20_000_40_000", 1_550_000_000_000_000, 3
SCENE, RIG = make_scene(SEED, NAME, 3), waymo_rig(180, (64, 96))


@pytest.fixture(scope="module")
def segment(tmp_path_factory):
    """(data root, the turns as the city measured them, their shots) of one segment: key frames 0, 3 and 6 of 7."""
    root, turns = tmp_path_factory.mktemp("city"), []

    def kept(*arguments):
        turns.append(measure_moving(*arguments))
        return turns[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segment_module, "measure_moving", kept)
        shots = segment_shots(START, 3, 2)
        files, counts = segment_files(SCENE, RIG, shots, True, SEED)
    for component, content in files.items():
        (root / "training" / component).mkdir(parents=True)
        (root / f"training/{component}/{NAME}.parquet").write_bytes(content)
    keys = [turn for turn, shot in zip(turns, shots, strict=True) if shot.is_key]
    assert counts.sum() == sum(len(of_points(turn, "classes")) for turn in keys)
    return root, turns, shots


@pytest.fixture(scope="module")
def reader(segment):
    root = segment[0]
    return Waymo(str(root), "v2", "train", str(root / "index"), 2)


def of_points(turn, attribute):
    """What the city knows of the points, in the files' order."""
    echoes = (turn.first, turn.second)
    return np.concatenate([getattr(echo, attribute)[echo.distance > 0] for echo in echoes])


def test_points_return_to_the_citys_own_coordinates(segment, reader):
    """Within 1 mm in both returns, though the vehicle moves meanwhile: by more than half a metre in a turn."""
    _, turns, shots = segment
    keys = [(turn, shot) for turn, shot in zip(turns, shots, strict=True) if shot.is_key]
    assert len(reader) == len(keys) == 3
    for frame, (turn, shot) in zip(reader, keys, strict=True):
        way = np.linalg.norm(turn.poses[-1, :3, 3] - turn.poses[0, :3, 3])
        assert way > 0.35
        points = reader.load_points(frame)[:, :3].astype(np.float64)
        pose = SCENE.vehicle_pose(shot.time)
        own = of_points(turn, "points")
        in_scene = points @ pose[:3, :3].T + pose[:3, 3]
        assert len(points) == len(own) and (turn.second.distance > 0).sum() > 100
        assert np.linalg.norm(in_scene - own, axis=1).max() < 1e-3
        flat = own[of_points(turn, "classes") == CLASS["road"]]
        assert np.abs(flat[:, 2]).max() < 0.1  # the city's road is at z = 0


def test_pixels_show_the_points(segment, reader):
    """A camera's own rays, cast into the same scene, meet the class of the first returns in its pixels."""
    frame, turn = reader.frame(1), segment[1][3]
    projection = reader.project(frame, reader.load_points(frame))
    own, own_solids, own_ground = of_points(turn, "classes"), OF_KIND[SCENE.solids.label], ground_classes(SCENE.ground)
    time, num_first = segment[2][3].time, np.count_nonzero(turn.first.distance > 0)
    assert 0.3 < projection.seen.mean() < 0.9
    for k, camera in enumerate(RIG.cameras):
        view = View(SCENE, camera, time + camera.delay / 1e6)
        seen = np.flatnonzero(projection.camera[:num_first] == k)
        column, row = projection.pixel[seen].astype(int).T
        hit = view.hit[row, column]
        is_solid = own_solids[view.used[np.maximum(hit, 0)]] == own[seen]
        is_ground = np.isin(own[seen], own_ground)
        assert len(seen) > 200
        assert np.where(hit >= 0, is_solid, is_ground).mean() > 0.9  # of the mirrored columns 0.35 to 0.62
