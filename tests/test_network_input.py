"""What a network's input means is stored with its checkpoint and its labels, and compared where they are loaded."""

import os
import shutil
from dataclasses import replace

import pytest

from core.errors import UserError
from core.training.network_input import CIRCUMSTANCES, MEANING, STORED, check_input
from tests.entry import ASSOP2P, BEST, CONFIGS, ESTEP, MSTEP, PRETRAIN, logged, refusal, run_script

OWN = {
    "features": ["x", "y", "z", "intensity"],
    "classes": ["ignored", "car"],
    "voxel_size": 0.05,
    "image_normalize": False,
    "image_size": [360, 640],
    "points": "in_view",
    "precision": "float32",
}


def compared(**changes):
    """What is logged when a checkpoint with these changes is loaded."""
    with logged() as lines:
        check_input({STORED: {**OWN, **changes}}, OWN, "some.pt")
    return lines


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("image_normalize", True, "trained with dataset.image_normalize true, here it is false; set it as in training"),
        ("voxel_size", 0.1, "trained with dataset.voxel_size 0.1, here it is 0.05"),
        ("features", ["x", "y", "z", "remission"], "[x, y, z, remission], here it is [x, y, z, intensity]"),
        ("classes", ["ignored", "bus"], "[ignored, bus], here it is [ignored, car]"),
    ],
)
def test_another_meaning_is_refused(name, value, words):
    with pytest.raises(UserError) as error:
        compared(**{name: value})
    assert str(error.value).startswith("some.pt: trained with ") and words in str(error.value)


def test_other_circumstances_are_told_and_others_pass():
    for name, value, words in (
        ("image_size", [320, 480], "some.pt: trained with dataset.image_size [320, 480], here it is [360, 640]."),
        ("points", "all", "some.pt: trained with dataset.points all, here it is in_view."),
    ):
        (line,) = compared(**{name: value})
        assert line.startswith("WARNING ") and words in line
    assert compared() == [] and compared(precision="bfloat16") == []
    assert {*MEANING, *CIRCUMSTANCES, "precision"} == set(OWN)
    assert compared(more=1) == []  # what a later version adds is not compared
    check_input({STORED: {"points": "in_view"}}, OWN, "some.pt")


def test_a_published_checkpoint_loads_with_a_warning():
    with logged() as lines:
        check_input({"model": {}}, OWN, "published.pt")
    (line,) = lines
    assert "published.pt: does not hold what its network was trained on" in line
    assert "dataset.voxel_size 0.05, dataset.image_normalize false" in line


def changed(project, **keys):
    return replace(project, more={**project.more, **{key.replace("__", "."): value for key, value in keys.items()}})


def test_steps_refuse_a_checkpoint_of_another_input(prepared, trained, tmp_path):
    """Forgetting the key used to give nonsense without a word."""
    project = changed(prepared, dataset__image_normalize="true")
    words = ["--run-dir", tmp_path / "run", "--weight-path", trained / BEST, *project.words()]
    shutil.copytree(trained / "checkpoints", tmp_path / "other/checkpoints")
    line = refusal(PRETRAIN, ASSOP2P, "--run-dir", tmp_path / "other", *project.words(num_epochs=2))
    assert "step-4.pt: trained with dataset.image_normalize false, here it is true" in line
    for script, config in ((ESTEP, f"{CONFIGS}/estep/it1.yaml"), ("eval_miou", ASSOP2P)):
        line = refusal(script, config, *words)
        assert f"{trained / BEST}: trained with dataset.image_normalize false, here it is true; set it as in" in line
    assert not os.path.exists(tmp_path / "run/pseudo_labels_0") and not os.path.exists(tmp_path / "run/results.json")


def test_an_mstep_tells_of_pseudo_labels_of_another_input(prepared, trained, tmp_path):
    project = changed(prepared, dataset__image_normalize="true")
    words = ["--run-dir", tmp_path / "run", "--pseudo-label-dir", trained / "pseudo_labels_0", *project.words()]
    lines = run_script(MSTEP, f"{CONFIGS}/mstep/assop2p.yaml", *words)
    expected = "pseudo_labels_0: these pseudo-labels were made with dataset.image_normalize false, here it is true."
    assert sum(expected in line for line in lines) == 1
