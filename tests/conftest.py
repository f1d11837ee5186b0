"""Made once and shared by the end-to-end tests: a tiny city, its labels, a trained run."""

import shutil
from dataclasses import replace
from functools import partial

import pytest
import torch

from core.synthetic.generate import City, generate_city
from tests.annotating import proposed_street, to_label  # noqa: F401 (fixtures)
from tests.entry import ASSOP2P, BEST, CONFIGS, ESTEP, PRETRAIN, Project, logged, prepare, run_script

SIZES = dict(train_scenes=2, val_scenes=1, test_scenes=1, frames=2, azimuth_steps=90, image_size=(90, 160), seed=7)
CITY = City(format="nuscenes", **SIZES)
torch.set_num_threads(1)  # as each of two processes has: results are equal to the last bit


@pytest.fixture(autouse=True)
def switches():
    """Each test finds float32 products without TF32, and leaves PyTorch's switches as they were."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    places = ((matmul, "allow_tf32"), (cudnn, "allow_tf32"), (cudnn, "benchmark"), (cudnn, "deterministic"))
    algorithms = partial(
        torch.use_deterministic_algorithms, warn_only=torch.is_deterministic_algorithms_warn_only_enabled()
    )
    kept = [
        *((partial(setattr, place, name), getattr(place, name)) for place, name in places),
        (algorithms, torch.are_deterministic_algorithms_enabled()),
        (torch.set_float32_matmul_precision, torch.get_float32_matmul_precision()),
        (torch.set_default_dtype, torch.get_default_dtype()),
        (torch.set_num_threads, torch.get_num_threads()),
    ]
    matmul.allow_tf32 = cudnn.allow_tf32 = False
    yield
    for put_back, value in kept:
        put_back(value)


@pytest.fixture
def log():
    """What is logged, as "LEVEL message"."""
    with logged() as lines:
        yield lines


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
    prepare(project)
    return project


@pytest.fixture(scope="session")
def trained(prepared, tmp_path_factory):
    """A run directory after pretraining and the first E-step. Nobody changes it."""
    run = tmp_path_factory.mktemp("trained") / "run"
    run_script(PRETRAIN, ASSOP2P, "--run-dir", run, *prepared.words())
    run_script(ESTEP, f"{CONFIGS}/estep/it1.yaml", "--run-dir", run, "--weight-path", run / BEST, *prepared.words())
    return run


@pytest.fixture
def own(prepared, tmp_path):
    """A copy of the city and its labels that the test may damage; the index is the same."""
    project = replace(prepared, root=str(tmp_path / "city"), weak=str(tmp_path / "weak"), seeds=str(tmp_path / "seeds"))
    for name in ("root", "weak", "seeds"):
        shutil.copytree(getattr(prepared, name), getattr(project, name))  # keeps the tables' times: same index
    return project
