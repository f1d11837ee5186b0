"""The teacher: its average, and who takes it."""

import json

import pytest
import torch

from core.label_files.files import PSEUDO_LABEL, read_meta
from core.training.checkpoint import load_weights, read_checkpoint
from core.training.resume import TRAINING_STATE
from core.training.teacher import TEACHER, Teacher
from tests import made_up
from tests.entry import ASSOP2P, BEST, CONFIGS, ESTEP, PRETRAIN, refusal, run_script
from tests.test_callbacks import make_trainer, train


def test_average_by_hand():
    """The decay is at most (1 + k) / (10 + k); a swap exchanges the values, and again."""
    network = torch.nn.Linear(1, 1, bias=False)
    network.weight.data.fill_(0)
    teacher = Teacher(network, 0.15)
    network.weight.data.fill_(1)
    teacher.update(0)
    assert teacher.state["weight"].item() == pytest.approx(0.9)  # keeps 1/10
    network.weight.data.fill_(0)
    teacher.update(1)
    assert teacher.state["weight"].item() == pytest.approx(0.9 * 0.15)  # 2/11 would be more
    with teacher.in_place():
        assert network.weight.item() == pytest.approx(0.135)
    assert network.weight.item() == 0 and teacher.state["weight"].item() == pytest.approx(0.135)


def test_teacher_changes_nothing_in_training_and_is_what_is_validated(tmp_path):
    """Weights end up the same with it and without; evaluation gives its logits, batch norm statistics included."""
    with_teacher, plain = train(tmp_path / "a", 2, ema=0.8), train(tmp_path / "b", 2)
    for name, value in plain.network.state_dict().items():
        assert torch.equal(value, with_teacher.network.state_dict()[name]), name
    batch = made_up.batch()
    student, teacher = plain.evaluation_step(batch), with_teacher.evaluation_step(batch)
    assert not torch.equal(student.x_vox, teacher.x_vox)
    network = made_up.SmallNetwork()
    assert load_weights(network, str(tmp_path / "a/step-4.pt")) == TEACHER
    loaded = make_trainer()
    loaded.model = network
    assert torch.equal(loaded.evaluation_step(batch).x_vox, teacher.x_vox)
    assert load_weights(network, str(tmp_path / "a/step-4.pt"), weights="model") == "model"
    assert torch.equal(loaded.evaluation_step(batch).x_vox, student.x_vox)
    assert "points.1.running_mean" in with_teacher.teacher.state


def test_evaluation_and_estep_take_the_teacher(prepared, trained, tmp_path):
    """Beside the published keys, which stay; results of both weights stand side by side."""
    run = tmp_path / "run"
    words = ["--run-dir", run, *prepared.words()]
    run_script(PRETRAIN, ASSOP2P, *words, "--train.ema", "0.5")
    ours, published = (read_checkpoint(str(folder / BEST)) for folder in (run, trained))
    assert set(ours) - set(published) == {TEACHER} and set(published) >= set(TRAINING_STATE)
    assert all(torch.equal(value, published["model"][name]) for name, value in ours["model"].items())

    given = [ASSOP2P, "--weight-path", run / BEST, *prepared.words()]
    lines = run_script("eval_miou", *given)
    assert any("the teacher's weights are taken (eval_weights auto)" in line for line in lines)
    run_script("eval_miou", *given, "--eval_weights", "model")
    rows = json.loads((run / "results.json").read_text())
    assert [row.get("weights") for row in rows] == ["teacher", None]
    scored = [json.loads(line).get("iou/vox/val") for line in (run / "scalars.jsonl").read_text().splitlines()]
    assert [round(value, 3) for value in scored if value is not None] == [
        round(rows[0]["scores"]["vox/in_view"]["miou"], 3)
    ]

    run_script(ESTEP, f"{CONFIGS}/estep/it1.yaml", *words, "--weight-path", run / BEST)
    parameters = [read_meta(str(folder / "pseudo_labels_0"), PSEUDO_LABEL)["parameters"] for folder in (run, trained)]
    assert parameters[0]["weights"] == TEACHER and "weights" not in parameters[1]
    bad = ["--weight-path", trained / BEST, *prepared.words(), "--eval_weights", "teacher"]
    message = refusal("eval_miou", ASSOP2P, *bad)
    assert "holds no teacher's weights; train with train.ema > 0, or set eval_weights to auto" in message
