"""Made once and shared by the end-to-end tests: a tiny city, its labels, a trained run."""

import shutil
from dataclasses import replace

import pytest
import torch

from core.synthetic.generate import City, generate_city
from tests.entry import ASSOP2P, CONFIGS, ESTEP, PRESEG, PRETRAIN, Project, run_script

SIZES = dict(train_scenes=2, val_scenes=1, test_scenes=1, frames=2, azimuth_steps=90, image_size=(90, 160), seed=7)
CITY = City(format="nuscenes", **SIZES)


@pytest.fixture(autouse=True)
def full_precision():
    """Float32 products without TF32; the switches that a test sets are put back."""
    places = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [place.allow_tf32 for place in places], torch.backends.cudnn.benchmark
    for place in places:
        place.allow_tf32 = False
    yield
    for place, allowed in zip(places, before[0], strict=True):
        place.allow_tf32 = allowed
    torch.backends.cudnn.benchmark = before[1]


@pytest.fixture(scope="session")
def city(tmp_path_factory):
    """Root of a city of four training frames, two validation frames and two test frames. Nobody changes it."""
    root = tmp_path_factory.mktemp("tiny") / "city"
    generate_city(str(root), CITY)
    return root


@pytest.fixture(scope="session")
def prepared(city, tmp_path_factory):
    """The city with weak labels and superpixels, made in one process without workers. Nobody changes it."""
    folder = tmp_path_factory.mktemp("prepared")
    project = Project(str(city), str(folder / "index"), str(folder / "weak"), str(folder / "seeds"))
    run_script("prepare_sparse_label", PRESEG, *project.words())
    run_script("prepare_nusc_superpixel", f"{CONFIGS}/default.yaml", *project.words())
    return project


@pytest.fixture(scope="session")
def trained(prepared, tmp_path_factory):
    """A run directory after pretraining and the first E-step. Nobody changes it."""
    run = tmp_path_factory.mktemp("trained") / "run"
    run_script(PRETRAIN, ASSOP2P, "--run-dir", run, *prepared.words())
    checkpoint = run / "checkpoints/max-iou-vox-val.pt"
    run_script(ESTEP, f"{CONFIGS}/estep/it1.yaml", "--run-dir", run, "--weight-path", checkpoint, *prepared.words())
    return run


@pytest.fixture
def own(prepared, tmp_path):
    """A copy of the city and its labels that the test may damage; the index is the same."""
    project = replace(prepared, root=str(tmp_path / "city"), weak=str(tmp_path / "weak"), seeds=str(tmp_path / "seeds"))
    for name in ("root", "weak", "seeds"):
        shutil.copytree(getattr(prepared, name), getattr(project, name))  # keeps the tables' times: same index
    return project
