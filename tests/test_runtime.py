"""What all entry scripts share: arguments, errors, the run directory, seeds."""

import json
import os
import random
import re
import sys

import numpy as np
import pytest
import torch
import yaml
from torch.utils.data import DataLoader, Dataset
from torchpack.utils.logging import logger

from core.errors import UserError
from core.estep import no_grad_inference
from core.running import arguments, environment, runtime
from core.running.config import load_config
from tests import made_up
from tests.helpers import HERE

ROOT = os.path.dirname(HERE)
CONFIG = os.path.join(ROOT, "configs/nuscenes/pretrain/assop2p.yaml")
SEED = 1588147245


def parser(config_default=None):
    parser = arguments.argument_parser("A script.", config_default)
    parser.add_argument("--run-dir", required=True)
    parser.add_argument("--weight-path")
    return parser


@pytest.mark.parametrize(
    ("argv", "own", "overrides"),
    [
        (["x.yaml", "--run-dir", "RUN"], ["x.yaml", "--run-dir", "RUN"], []),
        (["x.yaml", "--run-dir=RUN", "--a.b", "1"], ["x.yaml", "--run-dir=RUN"], ["--a.b", "1"]),
        (["--a.b", "-1", "x.yaml", "--non-dist"], ["x.yaml", "--non-dist"], ["--a.b", "-1"]),
        (["--a.b=1", "x.yaml"], ["x.yaml"], ["--a.b=1"]),
        (["x.yaml", "--a", "--run-dir", "R"], ["x.yaml", "--run-dir", "R"], ["--a"]),
        (["x.yaml", "--with", "y.yaml", "--with", "z.yaml"], ["x.yaml", "--with", "y.yaml", "--with", "z.yaml"], []),
        (["x.yaml", "--run", "RUN"], ["x.yaml"], ["--run", "RUN"]),
    ],
)
def test_split_overrides(argv, own, overrides):
    assert arguments.split_overrides(parser(), argv) == (own, overrides)


def test_start(tmp_path, log):
    overlay = tmp_path / "over.yaml"
    overlay.write_text("batch_size: 2\n")
    run_dir = tmp_path / "runs/RUN"
    argv = [CONFIG, "--run-dir", f"{run_dir}/", "--with", str(overlay), "--optimizer.lr", "1e-3"]
    argv += ["--weight-path", "w.pt"]
    run = runtime.start(parser(), argv, needs_device=False)
    assert (run.config.batch_size, run.config.optimizer.lr) == (2, 1e-3)
    assert (run.run_dir, run.arguments.weight_path, run.device.type) == (str(run_dir), "w.pt", "cpu")
    assert torch.initial_seed() == SEED

    (resolved,) = (run_dir / "metainfo").glob("*.yaml")
    assert yaml.safe_load(resolved.read_text()) == run.config.dict()
    assert load_config(CONFIG, [str(resolved)]).dict() == run.config.dict()
    (environment,) = (run_dir / "metainfo").glob("*.json")
    found = json.loads(environment.read_text())
    assert found["torch"] == torch.__version__ and found["processes"] == 1 and found["command"] == sys.argv
    assert found["git"] is None or re.fullmatch("[0-9a-f]{40}", found["git"])

    logger.info("a message")
    (text,) = (path.read_text() for path in (run_dir / "logging").glob("*-rank0.log"))
    assert "INFO a message" in text


class BrokenData(Dataset):
    """A data set whose only sample cannot be read."""

    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise UserError("file.bin: truncated; run this command")


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (UserError("{braces} <tag> 100 %s"), 2, ["ERROR {braces} <tag> 100 %s"]),
        (None, 2, ["ERROR file.bin: truncated; run this command"]),  # of a loader process
        (KeyboardInterrupt(), 130, None),
        (ZeroDivisionError("surprise"), 1, None),
    ],
)
def test_how_errors_end_a_command(log, error, status, words):
    def main():
        if error is None:
            list(DataLoader(BrokenData(), num_workers=1))
        raise error

    with pytest.raises(SystemExit) as stopped:
        runtime.run_main(main)
    assert stopped.value.code == status and words in (None, log)
    if status == 1:
        assert "Process 0 failed" in log[0] and "ZeroDivisionError: surprise" in log[0]
    runtime.run_main(lambda: None)  # success does not exit


def draws():
    return random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002


def test_seeds():
    runtime.seed_everything(SEED + 1, False)
    other = draws()
    runtime.seed_everything(SEED, False)
    first = draws()
    assert all(a != b for a, b in zip(other, first, strict=True)) and draws() != first
    runtime.seed_everything(SEED, False)
    assert draws() == first


def test_deterministic(monkeypatch):
    calls = []
    monkeypatch.setattr(torch, "use_deterministic_algorithms", lambda *args, **options: calls.append((args, options)))
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    runtime.seed_everything(2**32 + 5, True)
    assert calls == [((True,), {"warn_only": True})] and not torch.backends.cudnn.benchmark


@pytest.mark.parametrize(
    "variables",
    [
        {"PATH": "/none"},
        {"GIT_TEST_ASSUME_DIFFERENT_OWNER": "1", "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null"},
    ],
    ids=["no git", "a checkout of another owner"],
)
def test_environment_of_a_checkout_that_git_does_not_describe(monkeypatch, variables):
    """Unknown, and not "no changes"."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = environment.environment()
    assert found["git"] is None and found["uncommitted_changes"] is None


def test_e_steps_and_scores_are_computed_in_reproducible_float32(monkeypatch):
    """Whatever training uses, which is as before afterwards, after an error too."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    settings = [(cudnn, "benchmark"), (cudnn, "allow_tf32"), (matmul, "allow_tf32"), (cudnn, "deterministic")]

    def state():
        return [getattr(place, name) for place, name in settings]

    for (place, name), value in zip(settings, (True, True, True, False), strict=True):
        monkeypatch.setattr(place, name, value)
    seen = []

    class Network(torch.nn.Module):
        def forward(self, **_):
            seen.append((*state(), torch.is_autocast_enabled("cpu"), torch.is_grad_enabled()))
            raise KeyboardInterrupt

    infer = no_grad_inference(Network(), "cpu")
    with pytest.raises(KeyboardInterrupt):
        infer(made_up.batch())
    assert seen == [(False, False, False, True, False, False)] and state() == [True, True, True, False]
