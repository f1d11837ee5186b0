"""Training, E-step and evaluation on prepared data need no library that only preparation does, and the other way."""

import json

from tests.entry import ASSOP2P, CONFIGS, ESTEP, ESTEP_2, MSTEP, PRETRAIN, ROOT, overrides, shell

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


def test_the_hiding_hides(prepared, tmp_path):
    """The index is built with the devkit; where that is hidden one line says what to install."""
    words = overrides({**prepared.keys, "dataset.index_path": str(tmp_path / "index")})
    calls = [(PRETRAIN, ASSOP2P, "--run-dir", str(tmp_path / "run"), *words)]
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(hidden=HIDDEN, root=ROOT, calls=json.dumps(calls)))
    output = shell(f"python3 {program}", status=1)
    assert "building nuScenes' index needs nuscenes-devkit" in output and "pip install nuscenes-devkit" in output


def test_workers_that_make_weak_labels_start_without_torch():
    """They load the script that started them and the job: seconds each, if that took torch along."""
    modules = "prepare_sparse_label, core.labeling.jobs, core.labeling.proposals"
    output = shell(f"python3 -c 'import sys, {modules}; print(\"torch\" in sys.modules)'")
    assert output.split() == ["False"]
