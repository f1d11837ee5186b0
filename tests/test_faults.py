"""Two runs in one directory, full disks, places that cannot be written, files that vanish, processes that die."""

import errno
import fcntl
import glob
import os
import resource
import shutil
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import pytest

import core.training.trainer
from core.datasets.nuscenes import NuScenes
from core.running.files import write_atomic, write_json
from core.running.locks import locked
from core.running.runtime import run_main
from core.training.checkpoint import newest_readable_checkpoint
from tests.entry import (
    ASSOP2P,
    BEST,
    CONFIGS,
    ESTEP,
    PRESEG,
    PRETRAIN,
    ROOT,
    contents,
    environment,
    logged,
    refusal,
    run_script,
    shell,
)

SUPERPIXELS = ("prepare_nusc_superpixel", f"{CONFIGS}/default.yaml")


def test_killed_preparation_goes_on(prepared, trained):
    """A short run of the script; docs/reliability.md has the long one."""
    project = [prepared.root, prepared.index, prepared.weak, prepared.seeds]
    words = ["--kills", 3, "--weights", trained / BEST, "--project", *project]
    command = [sys.executable, "-m", "tests.kill_preparation", *map(str, words)]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    assert "the same bytes" in done.stdout


def test_a_second_training_or_estep_in_a_run_directory_is_refused(prepared, trained, tmp_path):
    words = ["--run-dir", tmp_path, *prepared.words()]
    (tmp_path / ".lock").write_text("left by a killed process")
    with locked(str(tmp_path), True):
        for line in (
            refusal(PRETRAIN, ASSOP2P, *words),
            refusal(ESTEP, f"{CONFIGS}/estep/it1.yaml", "--weight-path", trained / BEST, *words),
        ):
            assert f"{tmp_path}: in use by another process (pid {os.getpid()} on " in line
    assert not (tmp_path / ".lock").exists()
    run_script(PRETRAIN, ASSOP2P, *words)


def test_a_second_preparation_in_a_directory_is_refused(prepared, tmp_path):
    project = replace(prepared, weak=str(tmp_path / "labels"), seeds=str(tmp_path / "labels"))
    with locked(str(tmp_path / "labels"), True):
        for command in (("prepare_sparse_label", PRESEG), SUPERPIXELS):
            assert "in use by another process (pid " in refusal(*command, *project.words())
    assert os.listdir(tmp_path / "labels") == []


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with logged() as lines, locked(str(tmp_path), True), locked(str(tmp_path), False):  # others than the first do not
        pass
    assert "WARNING" in lines[0] and "no locks" in lines[0]


@contextmanager
def files_of_at_most(size):
    """As on a disk with so little room."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@contextmanager
def small_disk(path, size):
    """A file system of its own, if this process may make one."""
    path.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path], capture_output=True).returncode:
        pytest.skip("mounting needs root")
    try:
        yield
    finally:
        subprocess.run(["umount", path], check=True)


def test_a_disk_that_fills_while_training(prepared, trained, tmp_path):
    """What was there stays, nothing half written is left, and with more room the same command goes on."""
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    before = contents(run / "checkpoints")
    words = [ASSOP2P, "--run-dir", run, *prepared.words(num_epochs=2)]
    with files_of_at_most(300_000):
        line = refusal(PRETRAIN, *words, begun=True)
    assert "max-iou" in line or "step-8.pt" in line
    assert "cannot be written (File too large); earlier ones are intact" in line
    assert contents(run / "checkpoints") == before
    run_script(PRETRAIN, *words)
    assert newest_readable_checkpoint(str(run / "checkpoints"))[1]["global_step"] == 8


def test_a_disk_that_fills_while_preparing(prepared, tmp_path):
    disk = tmp_path / "disk"
    with small_disk(disk, "20k"):
        project = replace(prepared, seeds=str(disk / "seeds"))
        line = refusal(*SUPERPIXELS, *project.words())
        assert f"{disk}/seeds" in line and "cannot be written (No space left on device)" in line
        found, whole = contents(project.seeds), contents(prepared.seeds)
        assert 0 < len(found) < len(whole) and "meta.json" not in found
        assert all(whole[name] == content for name, content in found.items() if name != "unfinished.json")


@pytest.mark.parametrize("name", ["checkpoints", "scalars.jsonl", "metainfo"])
def test_places_of_another_kind(prepared, tmp_path, name):
    """A file where a folder should be, and the other way round."""
    if name == "scalars.jsonl":
        (tmp_path / name).mkdir()
    else:
        (tmp_path / name).write_text("")
    line = refusal(PRETRAIN, ASSOP2P, "--run-dir", tmp_path, *prepared.words(), begun=True)
    assert str(tmp_path) in line and "cannot be" in line


def test_other_failures_to_write_are_one_line_too(tmp_path):
    """Whatever writes: the file is named, its old content stays."""
    path = tmp_path / "results.json"
    write_json(str(path), 1)

    def main():
        with write_atomic(str(path)) as file:
            file.write(bytes(200_000))

    with logged() as lines, files_of_at_most(100_000), pytest.raises(SystemExit) as stop:
        run_main(main)
    assert stop.value.code == 2 and f"{path}: cannot be read or written (File too large)" in lines[0]
    assert os.listdir(tmp_path) == ["results.json"] and path.read_text() == "1\n"


@pytest.mark.parametrize("kind", ["image", "weak label", "validation label"])
def test_a_file_that_vanishes_while_training(own, tmp_path, monkeypatch, kind):
    train, val = (NuScenes(own.root, "v1.0-trainval", split, own.index) for split in ("train", "val"))
    paths = {
        "image": [frame.cameras[1].image_path for frame in train],
        "weak label": glob.glob(f"{own.weak}/*.npz"),
        "validation label": [frame.label_path for frame in val],
    }[kind]
    step = core.training.trainer.SegmentationTrainer._run_step

    def vanish(trainer, batch):
        if trainer.global_step == 2:
            for path in paths:
                os.remove(path)
        return step(trainer, batch)

    monkeypatch.setattr(core.training.trainer.SegmentationTrainer, "_run_step", vanish)
    words = own.words(train__checkpoint_every_steps=1, num_epochs=2)
    line = refusal(PRETRAIN, ASSOP2P, "--run-dir", tmp_path, *words, begun=True)
    assert any(path in line for path in paths)
    last = 4 if kind == "validation label" else 2
    assert newest_readable_checkpoint(str(tmp_path / "checkpoints"))[1]["global_step"] == last


RANKS = textwrap.dedent("""
    import os, sys, time
    import torch
    from torchpack import distributed as dist
    from core.errors import UserError
    from core.running.comm import all_objects, any_process, min_over_processes
    from core.running.arguments import argument_parser
    from core.running.runtime import run_main, start

    def fail_deep_inside():
        if os.environ["HOW"] == "kill":
            os.kill(os.getpid(), 9)
        if os.environ["HOW"] == "refuse":
            raise UserError("some.jpg does not decode")
        raise ZeroDivisionError("surprise")

    def main():
        parser = argument_parser("Processes.")
        parser.add_argument("--run-dir")
        start(parser)
        rank = dist.rank()
        assert any_process(rank == 1) and not any_process(False)
        assert min_over_processes(5 - rank) == 4 and all_objects([rank]) == [[0], [1]]
        if rank == 1:
            fail_deep_inside()
        torch.distributed.all_reduce(torch.zeros(1))

    run_main(main)
""")


def test_a_dying_process_ends_all_and_shows_why(tmp_path):
    """By a bug, by bad input, or killed: three launches at once."""
    (tmp_path / "ranks.py").write_text(RANKS)
    command = f"torchpack dist-run -np 2 python3 {tmp_path}/ranks.py {ASSOP2P} --run-dir {tmp_path}"
    statuses = {"raise": 1, "refuse": 2, "kill": 137}
    with ThreadPoolExecutor() as threads:
        started = {
            how: threads.submit(shell, f"{command}/{how}", status=status, HOW=how, PYTHONPATH=ROOT)
            for how, status in statuses.items()
        }
    output = {how: future.result() for how, future in started.items()}
    assert "Process 1 failed: Traceback" in output["raise"] and "in fail_deep_inside" in output["raise"]
    assert "ZeroDivisionError: surprise" in output["raise"] and "Exit code:    137" in output["kill"]
    assert "Process 1 failed: some.jpg does not decode" in output["refuse"] and "Traceback" not in output["refuse"]
    (log,) = glob.glob(f"{tmp_path}/refuse/logging/*rank1.log")
    with open(log) as file:
        assert "some.jpg does not decode" in file.read()
    assert not glob.glob(f"{tmp_path}/*/logging/.failed-*")
