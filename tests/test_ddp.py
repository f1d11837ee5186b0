"""Two processes train together, whatever the keys, the launcher and the file system."""

import itertools
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from core import builder
from core.errors import UserError
from core.running.config import load_config
from core.training.checkpoint import read_checkpoint
from tests.entry import (
    ASSOP2P,
    BEST,
    PRETRAIN,
    ROOT,
    contents,
    environment,
    first_difference,
    overrides,
    run_script,
    shell,
)

LABELS = ("sparse", "propagated", "negative", "pseudo", "dense")
CRITERIA = ("sparse", "sparse_assop2p", "sparse_assop2p_mstep", "full")
NETWORKS = ("spvcnn_swiftnet18", "spvcnn_swiftnet18_assop2p")
WITHOUT_LABELS = {f"criterion.{name}_weight": 0 for name in LABELS}
WEIGHTS: tuple[dict, ...] = (
    {},
    {"criterion.asso_weight": 0},
    {"criterion.visit_weight": 0},
    WITHOUT_LABELS,
    {f"criterion.{name}_weight": 0 for name in ("sparse", "dense", "pseudo")},
)
OTHERS: tuple[dict, ...] = (
    {"model.is_estep": "true", "criterion.asso_weight": 0},
    {"model.proj_channel": 0, "criterion.asso_weight": 0},
    {"amp_enabled": "true", **WITHOUT_LABELS},
    {"optimizer.name": "adamw", "optimizer.lr": 0.001, "criterion.asso_weight": 0},
    {"model.channels_last": "false", "dataset.image_normalize": "true"},
    {"ddp": "false", "criterion.name": "full"},
    {"model.name": "spvcnn"},
    {"criterion.asso_ramp": 3, "criterion.normalize": "true"},
    {"model.name": "spvcnn_swiftnet34_assop2p", "criterion.name": "sparse", "model.dropout": 0},
)


def combinations():
    """Overrides of every combination of criterion, network and weights that is not refused, and of some others."""
    products = itertools.product(CRITERIA, NETWORKS, WEIGHTS)
    found = [{"criterion.name": c, "model.name": n, **weights} for c, n, weights in products] + list(OTHERS)
    return [keys for keys in found if is_allowed(configuration(keys))]


def is_allowed(config):
    try:
        builder.check_criterion(config)
    except UserError:
        return False
    return True


def representatives():
    """One of the combinations whose terms reach the same parts of the same network: every term on labels reaches both
    heads, those of the association both projections."""
    kinds = {}
    for keys in combinations():
        weights = builder.make_loss_weights(configuration(keys))
        reached = (weights.association > 0, any(getattr(weights, name) for name in LABELS))
        others = tuple((key, value) for key, value in keys.items() if not key.startswith("criterion."))
        kinds[reached, others] = keys
    return list(kinds.values())


def configuration(keys):
    small = {"model.cr": 0.125, "model.proj_channel": 8, "model.imagenet_pretrain": "null", "optimizer.lr": 0.01}
    small |= {"data.num_classes": 17, "model.in_channel": 4}
    return load_config(ASSOP2P, overrides=overrides({**small, **keys}))


def test_what_is_refused():
    kept = combinations()
    assert len(kept) == 26 + len(OTHERS)
    with pytest.raises(UserError, match="every weight that takes part in 'full' is 0"):
        builder.check_criterion(configuration({"criterion.name": "full", **WITHOUT_LABELS}))


def train_all():
    """Trains each kind of combination for two steps, as one of two processes; weights end up the same in both.

    DDP notices in the second step what got no gradient in the first.
    """
    import torch
    from torch.utils.data import DataLoader
    from torchpack import distributed as dist

    from core.loader.collate import collate
    from core.running.comm import all_objects
    from core.running.launch import read_launch
    from core.running.processes import introduce, leave_group, start_processes
    from core.training.trainer import SegmentationTrainer
    from tests import made_up

    launch, device = read_launch(), torch.device("cpu")
    introduce(launch)
    start_processes(launch, False, print)
    builder.network.IMAGE_BLOCKS = {name: (1, 1, 1, 1) for name in builder.network.IMAGE_BLOCKS}
    for keys in representatives():
        config = configuration(keys)
        torch.manual_seed(dist.rank())
        network = builder.make_model(config, device)
        model = builder.distribute(config, network, device)
        weights, amp = builder.make_loss_weights(config), builder.amp_dtype(config)
        optimizer = builder.make_optimizer(config, model)
        options = {"amp_dtype": amp, "gradients_every": 2}  # which does not disturb DDP
        trainer = SegmentationTrainer(model, weights, optimizer, lambda k: 1.0, device, **options)
        before = [parameter.clone() for parameter in network.parameters()]
        samples = [made_up.sample(2 * dist.rank() + index) for index in range(2)]  # others in each process
        trainer.train(DataLoader(samples, 1, collate_fn=collate), num_epochs=1)
        parameters = list(network.named_parameters())
        moved = [name for (name, p), old in zip(parameters, before, strict=True) if not torch.equal(p, old)]
        assert moved == [name for name, p in parameters if p.requires_grad], keys
        sums = all_objects([float(p.detach().double().sum()) for p in network.parameters()])
        assert (sums[0] == sums[1]) == bool(config.ddp), keys
        if dist.is_master():
            print("trained", keys, flush=True)
    leave_group()
    os._exit(0)


def test_every_combination_trains_with_two_processes():
    variables = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "29545"}
    started = []
    for rank in ("0", "1"):
        env = environment(RANK=rank, LOCAL_RANK=rank, **variables)
        command = [sys.executable, "-c", "from tests.test_ddp import train_all; train_all()"]
        started.append(subprocess.Popen(command, cwd=ROOT, env=env, stdout=-1, stderr=subprocess.STDOUT, text=True))
    outputs = [process.communicate(timeout=240)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0], outputs[0][-3000:] + outputs[1][-3000:]
    assert outputs[0].count("trained ") == len(representatives())


SLOW_DISK = os.path.join(ROOT, "tests", "slow_disk")


def test_launchers_agree_on_any_file_system(prepared, tmp_path, monkeypatch):
    """`dist-run` takes all steps, with loader processes, where deleting is slow and files without a name are missing;
    `torchrun` trains, in one process each, where they are not; one process scores. Both launchers at once."""
    one, other = tmp_path / "one", tmp_path / "other"
    labels = {"dataset__sparse_label_path": one / "weak", "dataset__superpixel": one / "seeds"}
    commands = [
        f"torchpack dist-run -np 2 python3 -m tests.all_steps {one}/run "
        + " ".join(prepared.words(**labels, workers_per_gpu=1)),
        f"torchrun --nproc_per_node 2 --master_port 29549 {PRETRAIN}.py {ASSOP2P} --run-dir {other} "
        + " ".join(prepared.words()),
    ]
    with ThreadPoolExecutor() as threads:
        running = [
            threads.submit(shell, commands[0], PYTHONPATH=f"{SLOW_DISK}:{ROOT}"),
            threads.submit(shell, commands[1]),
        ]
        for future in running:
            future.result()
    assert len(contents(one / "run/pseudo_labels_0", skip=["meta.json"])) == 4
    for kind in ("weak", "seeds"):
        expected = getattr(prepared, kind)
        assert contents(one / kind, skip=["meta.json"]) == contents(expected, skip=["meta.json"])
        metas = [json.loads((Path(folder) / "meta.json").read_text()) for folder in (one / kind, expected)]
        assert all(meta.pop("command") for meta in metas) and metas[0] == metas[1]
    checkpoints = [read_checkpoint(str(folder / "checkpoints/step-2.pt")) for folder in (one / "run", other)]
    assert first_difference(*checkpoints) is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    run_script("eval_miou", ASSOP2P, "--weight-path", one / "run" / BEST, "--run-dir", tmp_path, *prepared.words())
    results = [json.loads((folder / "results.json").read_text())[-1] for folder in (one / "run", tmp_path)]
    assert results[0]["scores"] == results[1]["scores"] and results[0]["environment"]["processes"] == 2
