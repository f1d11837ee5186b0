"""No file of the shared parts names a data set: adding one makes them no longer."""

import glob
import os
import re

from core.datasets.catalog import dataset_names
from core.synthetic.formats import format_names
from tests.entry import ROOT

NAMES = re.compile(
    "nusc|kitti|waymo|lidarseg|LIDAR_TOP|CAM_FRONT|v1[.]0-|pandaset|rosbag"
    "|recordings[./]|class Recordings|[\"']recordings",
    re.IGNORECASE,
)
ALLOWED = re.compile(
    r"(train_lc|prepare)_\w*nusc\w*"  # names of entry scripts, which are history
    r"|spvcnn_swiftnet18_nusc(_assop2p)?"  # published names of networks
)


def shared_files():
    own = [os.path.join(ROOT, "core/datasets", name) for name in dataset_names()]
    own += [os.path.join(ROOT, "core/synthetic/formats", name) for name in format_names()]
    for path in sorted(glob.glob(os.path.join(ROOT, "core/**/*.py"), recursive=True)):
        if not any(path.startswith((folder + os.sep, folder + ".py")) for folder in own):
            yield path


def test_no_shared_file_names_a_data_set():
    assert len(list(shared_files())) > 80
    found = []
    for path in shared_files():
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if NAMES.search(ALLOWED.sub("", line)):
                    found.append(f"{os.path.relpath(path, ROOT)}:{number}: {line.strip()}")
    assert not found, "\n".join(found)


def test_every_data_set_is_found_by_its_folders_alone():
    """Readers, cities, configurations, and what the demo lays over them."""
    assert dataset_names() == format_names()
    for name in dataset_names():
        for path in ("default.yaml", "pretrain/preseg.yaml", "estep/it2.yaml", "mstep/assop2p_it2.yaml"):
            assert os.path.isfile(os.path.join(ROOT, "configs", name, path))
        assert os.path.isfile(os.path.join(ROOT, "configs/demo", f"{name}.yaml"))
