"""All steps by two processes, under each launcher, on good and bad file systems, and by one: the same results."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from core.training.checkpoint import read_checkpoint
from tests.entry import ASSOP2P, BEST, PRETRAIN, ROOT, contents, first_difference, run_script, shell

SLOW_DISK = os.path.join(ROOT, "tests", "slow_disk")


def test_launchers_agree_on_any_file_system(prepared, tmp_path, monkeypatch):
    """`dist-run` takes all steps, with loader processes, where deleting is slow and files without a name are missing;
    `torchrun` trains, in one process each, where they are not; one process scores. Both launchers at once."""
    one, other = tmp_path / "one", tmp_path / "other"
    labels = {"dataset__sparse_label_path": one / "weak", "dataset__superpixel": one / "seeds"}
    commands = [
        f"torchpack dist-run -np 2 python3 -m tests.all_steps {one}/run "
        + " ".join(prepared.words(**labels, workers_per_gpu=1)),
        f"torchrun --nproc_per_node 2 --master_port 29549 {PRETRAIN}.py {ASSOP2P} --run-dir {other} "
        + " ".join(prepared.words()),
    ]
    with ThreadPoolExecutor() as threads:
        running = [
            threads.submit(shell, commands[0], PYTHONPATH=f"{SLOW_DISK}:{ROOT}"),
            threads.submit(shell, commands[1]),
        ]
        for future in running:
            future.result()
    assert len(contents(one / "run/pseudo_labels_0", skip=["meta.json"])) == 4
    for kind in ("weak", "seeds"):
        expected = getattr(prepared, kind)
        assert contents(one / kind, skip=["meta.json"]) == contents(expected, skip=["meta.json"])
        metas = [json.loads((Path(folder) / "meta.json").read_text()) for folder in (one / kind, expected)]
        assert all(meta.pop("command") for meta in metas) and metas[0] == metas[1]
    checkpoints = [read_checkpoint(str(folder / "checkpoints/step-2.pt")) for folder in (one / "run", other)]
    assert first_difference(*checkpoints) is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    run_script("eval_miou", ASSOP2P, "--weight-path", one / "run" / BEST, "--run-dir", tmp_path, *prepared.words())
    results = [json.loads((folder / "results.json").read_text())[-1] for folder in (one / "run", tmp_path)]
    assert results[0]["scores"] == results[1]["scores"] and results[0]["environment"]["processes"] == 2
