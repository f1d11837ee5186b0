"""All steps by two processes, under each launcher, on good and bad file systems: the same results."""

import json
import os
from pathlib import Path

from core.training.checkpoint import read_checkpoint
from tests.entry import ROOT, contents, shell
from tests.kill_training import first_difference

SLOW_DISK = os.path.join(ROOT, "tests", "slow_disk")


def all_steps(launcher, project, folder, **environment):
    """Runs all steps in `folder`; returns the log of the training."""
    words = project.words(
        dataset__sparse_label_path=folder / "weak",
        dataset__superpixel=folder / "seeds",
        workers_per_gpu=2 if environment else 0,
    )
    return shell(f"{launcher} -m tests.all_steps {folder}/run {' '.join(map(str, words))}", **environment)


def test_launchers_agree_on_any_file_system(prepared, tmp_path):
    """`dist-run`, with loader processes, where deleting is slow and files without a name are missing; `torchrun` in one
    process each, where they are not."""
    one, other = tmp_path / "one", tmp_path / "other"
    all_steps("torchpack dist-run -np 2 python3", prepared, one, PYTHONPATH=f"{SLOW_DISK}:{ROOT}")
    all_steps("torchrun --nproc_per_node 2 --master_port 29549", prepared, other)
    for kind, count in {"weak": 4, "seeds": 24, "run/pseudo_labels_0": 4}.items():
        found, expected = (contents(folder / kind, skip=["meta.json"]) for folder in (one, other))
        assert len(found) == count and found == expected
    for kind in ("weak", "seeds"):
        assert contents(one / kind, skip=["meta.json"]) == contents(getattr(prepared, kind), skip=["meta.json"])
        metas = [json.loads((folder / "meta.json").read_text()) for folder in (one / kind, other / kind)]
        metas.append(json.loads((Path(getattr(prepared, kind)) / "meta.json").read_text()))
        assert all(meta.pop("command") for meta in metas) and metas[0] == metas[1] == metas[2]
    checkpoints = [read_checkpoint(str(folder / "run/checkpoints/step-2.pt")) for folder in (one, other)]
    assert first_difference(*checkpoints) is None
    results = [json.loads((folder / "run/results.json").read_text())[-1] for folder in (one, other)]
    assert results[0]["scores"] == results[1]["scores"] and results[0]["environment"]["processes"] == 2
