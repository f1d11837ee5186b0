"""What each command imports, and which file names a data set."""

import glob
import json
import os
import re
import shutil

import torch

from core.datasets.catalog import dataset_names
from core.synthetic.formats import format_names
from core.training.checkpoint import network_state, read_checkpoint, step_checkpoints
from tests.entry import ASSOP2P, CONFIGS, PRESEG, ROOT, Project, shell

HIDDEN = ("open3d", "hdbscan", "cv2", "nuscenes", "pyarrow", "sklearn", "matplotlib")
PROGRAM = """
import sys
from importlib.machinery import PathFinder

class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] in {hidden!r} else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Without
sys.path.insert(0, {root!r})
from pathlib import Path
from tests import entry
print(*{work}, sep="\\n")
print("imported:", sorted(name for name in sys.modules if name.split(".")[0] in {hidden!r}))
"""


def without(hidden, tmp_path, *calls, status=0):
    """The output of functions of `tests.entry`, in one process in which some libraries do not import."""
    work = " + ".join(calls)
    (tmp_path / "program.py").write_text(PROGRAM.format(hidden=hidden, root=ROOT, work=f"({work})"))
    return shell(f"python3 {tmp_path}/program.py", status=status)


def test_all_steps_on_prepared_data(own, tmp_path):
    """All five and the evaluation. Without dense labels nothing is validated, and the newest state stands in for the
    best."""
    shutil.rmtree(f"{own.root}/lidarseg")
    run, words = tmp_path / "run", [str(word) for word in own.words()]
    best = [
        "--weight-path",
        f"{run}/checkpoints_mstep_1/max-iou-vox-val.pt",
        "--save-predictions",
        f"{run}/predictions",
    ]
    calls = (
        f"entry.all_steps({CONFIGS!r}, Path({str(run)!r}), {words!r})",
        f"entry.run_script('eval_miou', {ASSOP2P!r}, *{best!r}, *{words!r})",
    )
    output = without(HIDDEN, tmp_path, *calls)
    printed, rest = output.split("imported: ")
    assert rest.startswith("[]") and "Predictions are not scored" in printed
    assert printed.count("No dense labels at hand") == 2
    warnings = [line for line in printed.splitlines() if line.startswith("WARNING") and "valid" in line]
    assert len(warnings) == 3 and all("label" in line for line in warnings)  # one a training
    for folder in ("checkpoints", "checkpoints_mstep_0", "checkpoints_mstep_1"):
        newest = network_state(read_checkpoint(str(step_checkpoints(str(run / folder))[-1])))
        for head in ("vox", "pix"):
            kept = network_state(read_checkpoint(str(run / folder / f"max-iou-{head}-val.pt")))
            assert all(torch.equal(kept[name], newest[name]) for name in newest)
    scalars = [json.loads(line) for line in (run / "scalars.jsonl").read_text().splitlines()]
    assert not any(name.startswith("iou/") for line in scalars for name in line)


def test_city_index_and_labels(tmp_path):
    """A city, its index and its labels by the default methods, without the libraries of the others; one line says what
    to install for clusters."""
    project = Project(*(str(tmp_path / name) for name in ("city", "index", "weak", "seeds")))
    sizes = "--train-scenes 1 --val-scenes 1 --test-scenes 0 --frames 1 --azimuth-steps 90 --image-size 90 160"
    city = ["prepare_synthetic_nusc", "--root", project.root, "--num-workers", "1", *sizes.split()]
    hidden = tuple(name for name in HIDDEN if name not in ("cv2", "hdbscan", "sklearn"))  # city; clusters
    calls = (
        f"entry.run_script(*{city!r})",
        f"entry.prepare(entry.Project({project.root!r}, {project.index!r}, {project.weak!r}, {project.seeds!r}))",
        "[str(sorted(name for name in sys.modules if name.split('.')[0] in " + repr(hidden) + "))]",
    )
    assert "[]" in without(hidden, tmp_path, *calls).splitlines()
    words = [PRESEG, *map(str, project.words(dataset__sparse_label_path=tmp_path / "others"))]
    assert "pip install hdbscan" in without(HIDDEN, tmp_path, f"[entry.refusal('prepare_sparse_label', *{words!r})]")


def test_workers_that_make_weak_labels_start_without_torch():
    """They load the script that started them and the job: seconds each, if that took torch along."""
    modules = "prepare_sparse_label, core.labeling.over_data_set.jobs, core.labeling.annotation.proposals"
    output = shell(f"python3 -c 'import sys, {modules}; print(\"torch\" in sys.modules)'")
    assert output.split() == ["False"]


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
