"""`make gpu-check` and the plain network at toy size on the CPU."""

import json
import os
import subprocess
import sys

import torch

from benchmarks.gpu_check import __main__ as gpu_check
from benchmarks.made_up_batch import NUM_CLASSES, made_up_batch
from benchmarks.plain.network import PlainNetwork
from core.losses import LossWeights, loss_terms
from core.models import TwoBranchNetwork
from core.training.trainer import network_inputs, targets_of
from tests.entry import ROOT, environment


def test_all_parts_at_toy_size(prepared, tmp_path):
    (tmp_path / "data").mkdir()
    places = {"city": prepared.root, "index": prepared.index, "weak_label": prepared.weak, "seeds": prepared.seeds}
    for name, place in places.items():
        os.symlink(place, tmp_path / "data" / name)
    (tmp_path / "data/ready").touch()
    command = [sys.executable, "-m", "benchmarks.gpu_check", "--toy", "--folder", str(tmp_path)]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=700, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    written = json.loads((tmp_path / "gpu_check.json").read_text())
    assert written["wrong"] == [] and written["environment"]["torch"] == torch.__version__
    assert {number: part["status"] for number, part in written["parts"].items()} == dict.fromkeys("12345", "finished")
    found = {answer["what"]: answer["values"] for part in written["parts"].values() for answer in part["answers"]}
    assert found["step fp32, native"]["ms"] > 0 and found["training tf32, step 3"]["samples/s"] > 0
    assert found["E-step tf32"]["frames"] == found["evaluation tf32"]["frames"] == 4
    assert found["killed and resumed"]["bit for bit"] and found["gloo with one process"]["steps"] == 3
    assert "| evaluation tf32 |" in done.stdout and "nothing is wrong" in done.stdout


def test_without_a_gpu_one_line_says_so(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu_check"])
    assert gpu_check.main() == 0
    assert capsys.readouterr().out.count("\n") == 1


NARROW = {"cr": 0.125, "proj_channel": 8, "image_blocks": (1, 1, 1, 1), "dropout": 0.0}


def test_plain_network_gives_the_same_loss_and_gradients():
    batch = made_up_batch(400, (24, 40))
    results = []
    ours = TwoBranchNetwork(NUM_CLASSES, **NARROW).double()
    plain = PlainNetwork(NUM_CLASSES, **NARROW).double()
    plain.load_state_dict(ours.state_dict())
    for network in (ours, plain):
        network._prepare = lambda images: images.double()
        inputs = network_inputs(batch)
        inputs |= {"feats": inputs["feats"].double(), "pixel": inputs["pixel"].double()}
        terms = loss_terms(network(**inputs), targets_of(batch), LossWeights())
        terms["total"].backward()
        gradients = torch.stack([parameter.grad.norm().float() for parameter in network.parameters()])
        results.append((torch.stack([term.detach().float() for term in terms.values()]), gradients))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3 * float(b.abs().max()))
