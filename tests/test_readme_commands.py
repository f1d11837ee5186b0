"""The numbered commands as the README has them, run on a tiny city; what they leave behind, and its evaluation."""

import glob
import json
import os
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml

from core.datasets.nuscenes import NuScenes
from core.running.config import load_config
from core.scores.metrics import class_iou, confusion_matrix
from core.scores.results import SCOPES
from core.training.checkpoint import read_checkpoint
from tests.entry import (
    ASSOP2P,
    CONFIGS,
    ESTEP,
    ESTEP_2,
    MSTEP,
    PRETRAIN,
    ROOT,
    SHRINK,
    Project,
    contents,
    overrides,
    run_script,
    shell,
)

RUN = "runs/iupc_nusc/assop2pw0p5_visw0p5_sybn"
TRAIN = "torchpack dist-run -np 3 python3 train_lc_"
COMMANDS = f"""\
python3 prepare_sparse_label.py configs/nuscenes/pretrain/preseg.yaml
python3 prepare_nusc_superpixel.py
RUN={RUN}
{TRAIN}sparse_assop2p_nusc.py configs/nuscenes/pretrain/assop2p.yaml --run-dir $RUN
{TRAIN}estep_nusc.py configs/nuscenes/estep/it1.yaml --run-dir $RUN --weight-path $RUN/checkpoints/max-iou-vox-val.pt
{TRAIN}sparse_assop2p_mstep_nusc.py configs/nuscenes/mstep/assop2p.yaml --run-dir $RUN
{TRAIN}estep_nusc_2.py configs/nuscenes/estep/it2.yaml --run-dir $RUN \
--weight-path $RUN/checkpoints_mstep_0/max-iou-vox-val.pt
{TRAIN}sparse_assop2p_mstep_nusc.py configs/nuscenes/mstep/assop2p_it2.yaml --run-dir $RUN
""".splitlines()
TERMS = {f"loss/{term}/{head}" for term in ("sparse", "propagated", "negative") for head in ("vox", "pix")}
TERMS |= {"loss/walker", "loss/visit", "loss/total"}
TRAININGS = {"train": "checkpoints", "train_mstep_0": "checkpoints_mstep_0", "train_mstep_1": "checkpoints_mstep_1"}


@pytest.fixture(scope="module")
def done(city, tmp_path_factory):
    """All seven commands, if they stand in the README, in a folder that looks like a fresh clone with nuScenes."""
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as file:
        blocks = re.findall(r"^```sh\n(.*?)^```", file.read(), re.DOTALL | re.MULTILINE)
    assert [line for block in blocks for line in block.splitlines() if not line.startswith("#")] == COMMANDS
    folder = tmp_path_factory.mktemp("clone")
    for path in [*glob.glob(f"{ROOT}/*.py"), f"{ROOT}/configs"]:
        os.symlink(path, folder / os.path.basename(path))
    data = shutil.copytree(city, folder / "data/nuscenes")
    write_resnet(folder / "pretrained/resnet18-5c106cde.pth")
    outputs = []
    for line in COMMANDS:
        if line.startswith("RUN="):
            continue
        workers = {} if "prepare_sparse_label" in line else {"workers_per_gpu": int(PRETRAIN in line)}
        shrink = {key: value for key, value in SHRINK.items() if key != "workers_per_gpu"} | workers
        line = f"RUN={RUN}; {line.replace('-np 3', '-np 2')} {' '.join(overrides(shrink))}"
        outputs.append(shell(line, cwd=folder))
    project = Project(str(data), *(str(data / name) for name in ("index", "weak_label", "seeds_1024")))
    return SimpleNamespace(folder=folder, run=folder / RUN, outputs=outputs, project=project)


def write_resnet(path):
    """A file as torchvision's, with random weights."""
    from torchvision.models import resnet18

    path.parent.mkdir()
    torch.save(resnet18(weights=None).state_dict(), path)


def read_json(path):
    with open(path) as file:
        return json.load(file)


def test_labels_are_there_and_the_same_bytes_with_four_workers(done, prepared):
    """The README's first command ran with the default number of workers, `prepared` without."""
    assert "weak labels of 4 frames: sparse" in done.outputs[0]
    assert "superpixels of 24 images of 4 frames" in done.outputs[1]
    for ours, theirs in ((done.project.weak, prepared.weak), (done.project.seeds, prepared.seeds)):
        assert len(glob.glob(f"{ours}/*.npz")) == 4 and os.path.exists(f"{ours}/meta.json")
        assert contents(ours, skip=["meta.json"]) == contents(theirs, skip=["meta.json"])


def test_checkpoints_and_pseudo_labels_are_there(done):
    for folder in TRAININGS.values():
        assert sorted(os.listdir(done.run / folder)) == ["max-iou-pix-val.pt", "max-iou-vox-val.pt", "step-2.pt"]
        state = read_checkpoint(str(done.run / folder / "step-2.pt"))
        assert (state["epoch_num"], state["global_step"]) == (1, 2)  # four frames, two processes
        assert not any(name.startswith("module.") for name in state["model"])
    logs = b"".join(contents(done.run / "logging").values()).decode()
    assert len(re.findall(r"ImageNet weights: 1\d\d tensors taken from pretrained/resnet18-5c106cde.pth", logs)) == 6
    for k in (0, 1):
        folder = done.run / f"pseudo_labels_{k}"
        assert len(glob.glob(f"{folder}/*.npz")) == 4 and not glob.glob(f"{folder}/*unfinished*")
        statistics = read_json(folder / "meta.json")["statistics"]
        assert statistics["scored_frames"] == 4 and statistics["labelled"] > 0
        assert f"Pseudo-labels written to {RUN}/pseudo_labels_{k}" in done.outputs[3 + 2 * k]


def test_scalars_of_every_training_are_written(done):
    """To scalars.jsonl and for TensorBoard."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    lines = [json.loads(line) for line in (done.run / "scalars.jsonl").read_text().splitlines()]
    for stage in TRAININGS:
        rows = [line for line in lines if line["stage"] == stage]
        terms = TERMS | ({"loss/pseudo/vox", "loss/pseudo/pix"} if "mstep" in stage else set())
        steps = [line for line in rows if "loss/total" in line]
        assert [line["step"] for line in steps] == [1, 2]
        assert all(terms == {name for name in line if name.startswith("loss/")} and line["lr"] > 0 for line in steps)
        (scored,) = [line for line in rows if "iou/vox/val" in line]
        assert (scored["step"], scored["epoch"]) == (2, 1)
        assert 0 <= scored["iou/pix/val"] <= 100 and 0 <= scored["iou/vox/val/driveable_surface"] <= 100
        (path,) = glob.glob(f"{done.run}/tensorboard/{stage}/events.*")
        tags = {value.tag for event in EventFileLoader(path).Load() for value in event.summary.value}
        assert terms | {"lr", "iou/vox/val", "iou/pix/val"} <= tags


def test_configurations_environments_and_logs_are_saved(done):
    for script, name, count in (
        (PRETRAIN, "pretrain/assop2p", 1),
        (ESTEP, "estep/it1", 1),
        (ESTEP_2, "estep/it2", 1),
        (MSTEP, "mstep/assop2p", 2),
    ):
        paths = sorted(glob.glob(f"{done.run}/metainfo/*-{script}.yaml"))
        with open(paths[0]) as file:
            found = yaml.safe_load(file)
        expected = load_config(f"{CONFIGS}/{name}.yaml", overrides=overrides(SHRINK)).dict()
        assert found == {**expected, "workers_per_gpu": found["workers_per_gpu"]}
        environment = read_json(paths[0].replace(".yaml", ".json"))
        assert environment["processes"] == 2 and environment["command"][0].endswith(f"{script}.py")
        assert environment["torch"] == torch.__version__
        for rank in (0, 1):
            logs = glob.glob(f"{done.run}/logging/*-{script}-rank{rank}.log")
            assert len(logs) == len(paths) == count and all(map(os.path.getsize, logs))


@pytest.mark.parametrize(("script", "number", "folder"), [(ESTEP, 1, ""), (ESTEP_2, 2, "_mstep_0")])
def test_one_process_gives_the_same_pseudo_labels(done, monkeypatch, script, number, folder):
    """The README's commands ran with two."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    best = done.run / f"checkpoints{folder}/max-iou-vox-val.pt"
    words = ["--run-dir", done.folder / "one", "--weight-path", best]
    words += ["--pseudo-label-dir", done.run / "pseudo_labels_0"] * (number - 1)
    run_script(script, f"{CONFIGS}/estep/it{number}.yaml", *words, *done.project.words())
    one, two = (run / f"pseudo_labels_{number - 1}" for run in (done.folder / "one", done.run))
    assert contents(one, skip=["meta.json"]) == contents(two, skip=["meta.json"])
    statistics = [read_json(directory / "meta.json")["statistics"] for directory in (one, two)]
    assert statistics[0] == statistics[1] and statistics[0]["labelled"] > 0


@pytest.fixture(scope="module")
def evaluated(done):
    """The last iteration scored on the validation split, with predictions and submissions."""
    out, best = done.folder / "out", done.run / "checkpoints_mstep_1/max-iou-vox-val.pt"
    words = ["--submission", out / "submission", "--weight-path", best, *done.project.words()]
    run_script("eval_miou", ASSOP2P, "--split", "val", "--save-predictions", out / "predictions", *words)
    run_script("eval_miou", ASSOP2P, "--split", "test", *words)
    return out


@pytest.fixture(scope="module")
def reader(done):
    return NuScenes(done.project.root, "v1.0-trainval", "val", done.project.index)


def counted(reader, pattern):
    """Confusion matrix of labels in files."""
    counts = np.zeros((17, 17), np.int64)
    for frame in reader:
        label = np.fromfile(str(pattern).format(frame.token), np.uint8)
        counts += confusion_matrix(reader.load_labels(frame, len(label)), label, 17)
    return counts


def test_results_have_a_row_which_a_second_evaluation_replaces(done, evaluated, reader):
    (row,) = read_json(done.run / "results.json")
    assert (row["stage"], row["split"], row["points"], row["frames"]) == ("iteration 2", "val", "in_view", 2)
    assert row["environment"]["torch"] == torch.__version__ and set(row["scores"]) == set(SCOPES)
    for score in row["scores"].values():
        defined = [value for value in score["iou"].values() if value is not None]
        assert len(score["iou"]) == 16 and score["miou"] == pytest.approx(np.mean(defined), abs=1e-3)
    assert read_json(evaluated / "predictions/meta.json")["classes"] == list(reader.classes.names)
    assert row["scores"]["vox/all"]["confusion"] == counted(reader, evaluated / "predictions/{}.bin").tolist()
    for name in ("checkpoints_mstep_1/max-iou-vox-val.pt", "checkpoints/step-2.pt"):
        run_script("eval_miou", ASSOP2P, "--weight-path", done.run / name, *done.project.words())
    again, other = read_json(done.run / "results.json")
    assert again["scores"] == row["scores"] and other["stage"] == "iteration 0"


@pytest.mark.parametrize(("version", "split"), [("v1.0-trainval", "val"), ("v1.0-test", "test")])
def test_the_devkit_accepts_the_submission(done, evaluated, version, split):
    from nuscenes import NuScenes as Devkit
    from nuscenes.eval.lidarseg.validate_submission import validate_submission

    validate_submission(Devkit(version, done.project.root, verbose=False), str(evaluated / "submission"), split)
    assert len(os.listdir(evaluated / f"submission/lidarseg/{split}")) == 2


def test_the_official_score_is_ours(done, evaluated, reader):
    """On the submission, which never holds 0; classes without ground truth count in neither mean."""
    from nuscenes import NuScenes as Devkit
    from nuscenes.eval.lidarseg.evaluate import LidarSegEval

    devkit = Devkit("v1.0-trainval", done.project.root, verbose=False)
    official = LidarSegEval(devkit, str(evaluated / "submission"), "val").evaluate()["iou_per_class"]
    counts = counted(reader, evaluated / "submission/lidarseg/val/{}_lidarseg.bin")
    ours, theirs = class_iou(counts), np.array(list(official.values()))
    present = [c for c in range(1, 17) if counts[c].sum()]
    assert not counts[:, 0].any() and len(present) > 8 and np.isfinite(ours[present]).all()
    np.testing.assert_allclose(ours[present], theirs[present], atol=1e-12)
    np.testing.assert_allclose(np.nanmean(ours), np.mean(theirs[present]), atol=1e-12)
    assert list(official)[1:] == list(reader.classes.names)[1:]
