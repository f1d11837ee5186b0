"""Going on as if nothing had happened: after SIGKILL, after a signal that asks to stop, from a damaged checkpoint."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from torchpack.callbacks import LambdaCallback

import core.training.trainer
from core.errors import RESUME_STATUS, Preempted
from core.running import runtime
from core.training.checkpoint import newest_readable_checkpoint, read_checkpoint, save_checkpoint
from core.training.preemption import Preemption
from core.training.resume import EXACT_STATE, CheckpointSaver
from core.training.state import epoch_seed
from tests import made_up
from tests.entry import ASSOP2P, BEST, PRETRAIN, ROOT, environment, refusal, run_script
from tests.test_callbacks import make_trainer


def test_killed_and_asked_training_ends_as_one_that_was_not(prepared):
    """Short runs of the script, by one process and by two, at once; docs/reliability.md has the long ones."""
    project = [prepared.root, prepared.index, prepared.weak, prepared.seeds]
    started = []
    for ranks, kills in ((1, 2), (2, 1)):
        words = ["--kills", kills, "--requests", 1, "--ranks", ranks, "--epochs", 2, "--seed", 3, "--project", *project]
        command = [sys.executable, "-m", "tests.kill_training", *map(str, words)]
        started.append(subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=-1, stderr=-2, text=True))
    for process in started:
        output, _ = process.communicate(timeout=280)
        assert process.returncode == 0, output[-5000:]
        assert " kills (" in output and "bit for bit" in output


def test_a_signal_to_one_process_stops_all_under_dist_run(prepared, tmp_path):
    """Every process leaves with the status that the launcher hands on; the lock names the process to send to."""
    run = tmp_path / "run"
    words = [ASSOP2P, "--run-dir", run, *prepared.words(num_epochs=40)]
    command = ["torchpack", "dist-run", "-np", "2", "python3", f"{PRETRAIN}.py", *map(str, words)]
    with open(tmp_path / "output", "w") as output:
        job = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=output, stderr=subprocess.STDOUT)
        end = time.monotonic() + 120
        while not (run / "scalars.jsonl").exists() and job.poll() is None and time.monotonic() < end:
            time.sleep(0.1)
        pid = int((run / ".lock").read_text().split()[1])
        os.kill(pid, signal.SIGUSR1)
        assert job.wait(60) == RESUME_STATUS, (tmp_path / "output").read_text()[-3000:]
    assert "Stopped by SIGUSR1 after step" in (tmp_path / "output").read_text()
    path, state = newest_readable_checkpoint(str(run / "checkpoints"))
    last = json.loads((run / "scalars.jsonl").read_text().splitlines()[-1])
    assert state["global_step"] == last["step"] and path.endswith(f"step-{last['step']}.pt")
    assert len(state[EXACT_STATE]["processes"]) == 2 and not (run / ".lock").exists()


@pytest.fixture
def resumable(prepared, trained, tmp_path):
    """A copy of a finished training, and the words that train one more epoch."""
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    return run, [ASSOP2P, "--run-dir", run, *prepared.words(num_epochs=2)]


def flip(path):
    """Changes one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_training_goes_on_from_a_published_checkpoint(trained, prepared, tmp_path):
    """Of the published keys alone and with NumPy's numbers, as the published code writes it: the end of an epoch."""
    state = read_checkpoint(str(trained / BEST))
    state.pop(EXACT_STATE, None)
    for group in state["optimizer"]["param_groups"]:
        group["lr"], group["initial_lr"] = np.float64(group["lr"]), np.float64(group["initial_lr"])
    state["scheduler"]["_last_lr"] = [np.float64(rate) for rate in state["scheduler"]["_last_lr"]]
    state["callbacks"] = {"maxsaver.5": {"step": np.int64(4), "best": (4, np.float64(76.7))}}
    state["model"] = {f"module.{name}": value for name, value in state["model"].items()}
    torch.save(state, tmp_path / "published.pt")
    words = ["--run-dir", tmp_path / "run", "--weight-path", tmp_path / "published.pt"]
    lines = run_script(PRETRAIN, ASSOP2P, *words, *prepared.words(num_epochs=2))
    assert any("Going on from" in line and "epoch 1 of 2" in line for line in lines)
    assert any("Epoch 2/2 started" in line for line in lines) and not any("Epoch 1/2 started" in line for line in lines)
    assert read_checkpoint(str(tmp_path / "run/checkpoints/step-8.pt"))["epoch_num"] == 2


def test_the_newest_readable_checkpoint_is_taken(resumable):
    """None that can be read is not the same as none. Scalars of steps that run again are taken out."""
    run, words = resumable
    older, newest = run / "checkpoints/step-4.pt", run / "checkpoints/step-7.pt"
    content = older.read_bytes()
    flip(older)
    assert "none of its 1 step-*.pt can be read; remove them to train" in refusal(PRETRAIN, *words)
    newest.write_bytes(older.read_bytes())
    older.write_bytes(content)
    before = (run / "scalars.jsonl").read_text()
    again = '{"stage": "train", "epoch": 2, "step": 5, "loss/total": 0}\n'
    other = '{"stage": "train_mstep_0", "epoch": 2, "step": 5, "loss/total": 0}\n'
    (run / "scalars.jsonl").write_text(before + again + other + '{"stage": "train", "ep')
    lines = run_script(PRETRAIN, *words)
    (warning,) = [line for line in lines if line.startswith("WARNING")]
    assert str(newest) in warning and "not a readable checkpoint" in warning
    assert any(f"Going on from {older}, epoch 1 of 2" in line for line in lines)
    assert read_checkpoint(str(run / "checkpoints/step-8.pt"))["global_step"] == 8
    text = (run / "scalars.jsonl").read_text()
    assert text.startswith(before + other) and again not in text
    steps = [json.loads(line)["step"] for line in text.splitlines() if "loss/total" in line and '"train"' in line]
    assert steps == list(range(1, 9))


def test_other_numbers_of_processes_and_frames_a_step(resumable):
    """Not exactly, but at the place in the epoch: six of its eight frames were seen, half a step is seen twice."""
    run, words = resumable
    path = str(run / "checkpoints/step-4.pt")
    state = read_checkpoint(path)
    state[EXACT_STATE].update(epoch_finished=False, shape={"processes": 3, "batch size": 1, "frames": 4})
    save_checkpoint(path, {**state, "local_step": 1})
    lines = run_script(PRETRAIN, *words)
    (warning,) = [line for line in lines if line.startswith("WARNING")]
    assert "processes 3 -> 1" in warning and "not exactly" in warning
    assert read_checkpoint(str(run / "checkpoints/step-5.pt"))["local_step"] == 4  # one frame was left
    assert read_checkpoint(str(run / "checkpoints/step-9.pt"))["epoch_num"] == 2


def test_handlers_of_signals_are_put_back(tmp_path):
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)]
    trainer = make_trainer()
    saver = CheckpointSaver(str(tmp_path), 2)
    preemption = Preemption(saver)
    ask = LambdaCallback(trigger_step=lambda _: os.kill(os.getpid(), signal.SIGTERM))

    with pytest.raises(Preempted, match="SIGTERM after step 1: .*step-1.pt is written"):
        trainer.train(made_up.loader(), num_epochs=1, callbacks=[ask, preemption, saver])
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)] == before
    assert os.listdir(tmp_path) == ["step-1.pt"]


def test_no_process_repeats_anothers_dropout():
    """Neither in the same epoch nor in another one."""
    seeds = {epoch_seed(5 + rank, rank, epoch) for rank in range(8) for epoch in range(30)}
    assert len(seeds) == 8 * 30

    def masks(rank, monkeypatch):
        found = []
        monkeypatch.setattr(core.training.trainer.dist, "rank", lambda: rank)
        runtime.seed_everything(5 + rank, False)  # as `start` does
        trainer = make_trainer()
        draw = LambdaCallback(before_step=lambda _, batch: found.append(torch.rand(4).tolist()))
        trainer.train(made_up.loader(), num_epochs=3, callbacks=[draw])
        return found[::2]  # the first of each epoch

    with pytest.MonkeyPatch.context() as patch:
        drawn = [tuple(values) for rank in range(3) for values in masks(rank, patch)]
    assert len(set(drawn)) == 9
