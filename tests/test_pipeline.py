"""The steps, end to end on a tiny city: without labels, started anyhow, configured otherwise.

All five numbered commands run in `test_light_imports`, by two processes in `test_launchers_agree`, interrupted in
`test_resume`.
"""

import json
import multiprocessing

import pytest

import core.training.trainer
from tests.entry import ASSOP2P, BEST, CONFIGS, PRETRAIN, run_script


def scalars(run):
    with open(run / "scalars.jsonl") as file:
        return [json.loads(line) for line in file]


def test_loader_processes_of_validation_do_not_live_beside_those_of_training(prepared, tmp_path, monkeypatch):
    alive = {"train": set(), "validate": set()}

    def counted(name, method):
        def call(trainer, batch):
            alive[name].add(len(multiprocessing.active_children()))
            return method(trainer, batch)

        return call

    trainer = core.training.trainer.SegmentationTrainer
    monkeypatch.setattr(trainer, "_run_step", counted("train", trainer._run_step))
    monkeypatch.setattr(trainer, "evaluation_step", counted("validate", trainer.evaluation_step))
    run_script(PRETRAIN, ASSOP2P, "--run-dir", tmp_path, *prepared.words(workers_per_gpu=1, num_epochs=2))
    assert alive == {"train": {1}, "validate": {1}} and not multiprocessing.active_children()


HEADS = ("vox", "pix")
WEAK = {f"{term}/{head}" for term in ("sparse", "propagated", "negative") for head in HEADS}
NO_LABELS = {"dataset__superpixel": "/none", "dataset__sparse_label_path": "/none"}
OTHERS = {
    **{"dataset__use_color": "true", "model__in_channel": 7, "dataset__use_augment": "true", "dataset__points": "all"},
    **{"optimizer__name": "adamw", "scheduler__name": "constant", "optimizer__lr": 0.001, "amp_enabled": "true"},
    **{"dataset__pts_sr": 0.5, "batch_size": 2, "train__deterministic": "true"},
}


@pytest.mark.parametrize(
    ("config", "changes", "terms"),
    [
        ("sparse_baseline", {"dataset__superpixel": "/none"}, WEAK),
        ("full", NO_LABELS, {f"dense/{head}" for head in HEADS}),
        ("assop2p", OTHERS, WEAK | {"walker", "visit"}),
    ],
)
def test_configurations_train(prepared, tmp_path, config, changes, terms):
    """An epoch and its scores, with the label files that the criterion needs and no others; its loss terms."""
    words = [f"{CONFIGS}/pretrain/{config}.yaml", *prepared.words(**changes)]
    run_script(PRETRAIN, *words, "--run-dir", tmp_path)
    run_script("eval_miou", *words, "--weight-path", tmp_path / BEST)
    found = json.loads((tmp_path / "results.json").read_text())[-1]["scores"]
    assert set(found) == {"vox/in_view", "pix/in_view", "vox/all"}
    assert all(0 <= row["miou"] <= 100 for row in found.values())
    last = [line for line in scalars(tmp_path) if "loss/total" in line][-1]
    assert {name.removeprefix("loss/") for name in last if name.startswith("loss/")} == terms | {"total"}
