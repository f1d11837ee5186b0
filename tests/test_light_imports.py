"""Training, E-step and evaluation on prepared data need no library that only preparation does, and the other way."""

import json

from tests.entry import ASSOP2P, CONFIGS, ESTEP, ESTEP_2, MSTEP, PRESEG, PRETRAIN, ROOT, Project, overrides, shell

HIDDEN = ("open3d", "hdbscan", "cv2", "nuscenes", "pyarrow", "sklearn", "matplotlib")
PROGRAM = """
import importlib, json, sys
from importlib.machinery import PathFinder

HIDDEN = {hidden!r}


class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] in HIDDEN else super().find_spec(name, path, target)


sys.meta_path[sys.meta_path.index(PathFinder)] = Without
sys.path.insert(0, {root!r})
for script, *words in json.loads({calls!r}):
    sys.argv = [script + ".py", *words]
    importlib.import_module(script).main()
    print("done:", script)
found = sorted(name for name in sys.modules if name.split(".")[0] in HIDDEN)
print("imported:", found)
"""


def test_steps_on_prepared_data(prepared, tmp_path):
    """All five steps and the evaluation, in one process in which the other libraries do not import."""
    run, words = str(tmp_path / "run"), overrides(prepared.keys)
    best = [f"{run}/{folder}/max-iou-vox-val.pt" for folder in ("checkpoints", "checkpoints_mstep_0")]
    calls = [
        (PRETRAIN, ASSOP2P, "--run-dir", run, *words),
        (ESTEP, f"{CONFIGS}/estep/it1.yaml", "--run-dir", run, "--weight-path", best[0], *words),
        (MSTEP, f"{CONFIGS}/mstep/assop2p.yaml", "--run-dir", run, *words),
        (ESTEP_2, f"{CONFIGS}/estep/it2.yaml", "--run-dir", run, "--weight-path", best[1], *words),
        ("eval_miou", ASSOP2P, "--weight-path", best[1], "--save-predictions", run + "/predictions", *words),
    ]
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(hidden=HIDDEN, root=ROOT, calls=json.dumps(calls)))
    output = shell(f"python3 {program}")
    assert output.count("done:") == len(calls)
    assert "imported: []" in output


def test_city_index_and_labels(tmp_path):
    """A city, its index and its labels by the default methods, without the libraries of the others."""
    project = Project(*(str(tmp_path / name) for name in ("city", "index", "weak", "seeds")))
    sizes = "--train-scenes 1 --val-scenes 1 --test-scenes 0 --frames 1 --azimuth-steps 90 --image-size 90 160"
    calls = [
        ("prepare_synthetic_nusc", "--root", project.root, "--num-workers", "1", *sizes.split()),
        ("prepare_sparse_label", PRESEG, *project.words()),
        ("prepare_nusc_superpixel", f"{CONFIGS}/default.yaml", *project.words()),
    ]
    program = tmp_path / "program.py"
    hidden = tuple(name for name in HIDDEN if name not in ("cv2", "hdbscan", "sklearn"))  # city; clusters
    program.write_text(PROGRAM.format(hidden=hidden, root=ROOT, calls=json.dumps(calls)))
    output = shell(f"python3 {program}")
    assert output.count("done:") == len(calls) and "imported: []" in output


def test_the_hiding_hides(prepared, tmp_path):
    """One line says what to install for clusters."""
    words = overrides({**prepared.keys, "dataset.sparse_label_path": str(tmp_path / "weak")})
    calls = [("prepare_sparse_label", PRESEG, *words)]
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(hidden=HIDDEN, root=ROOT, calls=json.dumps(calls)))
    assert "pip install hdbscan" in shell(f"python3 {program}", status=1)


def test_workers_that_make_weak_labels_start_without_torch():
    """They load the script that started them and the job: seconds each, if that took torch along."""
    modules = "prepare_sparse_label, core.labeling.over_data_set.jobs, core.labeling.annotation.proposals"
    output = shell(f"python3 -c 'import sys, {modules}; print(\"torch\" in sys.modules)'")
    assert output.split() == ["False"]
