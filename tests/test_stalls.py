"""Processes that wait say for whom; in training they give up after a time."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from core.running import stalls
from core.running.stalls import StallWatch, mark, set_patience
from tests.entry import ASSOP2P, ROOT, environment, logged


class Store(dict):
    """The store of the processes, in memory."""

    def check(self, keys):
        return all(key in self for key in keys)

    set, get = dict.__setitem__, dict.__getitem__


@pytest.fixture
def watch(monkeypatch):
    """The watch of process 0 of three, and what it gives up with."""
    monkeypatch.setattr(stalls, "progress", stalls._Progress())
    ended = []
    watch = StallWatch(Store(), 0, 3, ended.append)
    return watch, ended


def say(watch, rank, count, silent=0.0):
    said = {"count": count, "at": "core/training/trainer.py:80, _run_step", "host": f"node{rank}", "pid": 100 + rank}
    watch.store.set(str(rank), json.dumps({**said, "time": time.time() - silent}))


def test_who_is_behind_is_named(watch):
    """And nobody by the process that the others wait for."""
    watch, ended = watch
    say(watch, 1, 3)
    say(watch, 2, 3)
    watch.exchange()
    with logged() as lines:
        watch.look(3000)
    assert lines == [] and watch.waited_for() == ""
    for _ in range(7):
        mark()
    say(watch, 1, 6)
    say(watch, 2, 7)
    watch.exchange()
    with logged() as lines:
        for waited in (5, 59, 61, 100, 125):
            watch.look(waited)
    one = "process 1 (node1, pid 101, at core/training/trainer.py:80, _run_step)"
    assert lines == [f"WARNING Waiting for {one}, for 1 min so far.", f"WARNING Waiting for {one}, for 2 min so far."]
    assert not ended
    assert "core/running/stalls.py:" in json.loads(watch.store["0"])["at"]


def test_a_stopped_process_is_silent(watch, monkeypatch):
    watch, _ = watch
    say(watch, 1, 0, silent=300)
    say(watch, 2, 0)
    watch.exchange()
    assert "process 1 (node1" in watch.waited_for() and "silent for 300 s" in watch.waited_for()
    assert "process 2" not in watch.waited_for()
    watch.read_at -= 100  # the store does not answer
    assert "process 0, through which the processes talk" in watch.waited_for()


def test_patience_ends(watch):
    watch, ended = watch
    set_patience(1800)
    say(watch, 1, -1)
    watch.exchange()
    watch.look(1799)
    assert not ended
    watch.look(1801)
    assert (
        "No process came on for 30 minutes (train.patience)" in ended[0] and "this one waits for process 1" in ended[0]
    )
    say(watch, 1, 0)
    watch.exchange()
    watch.look(1801)
    assert "nobody in particular: process 0 is at " in ended[1]
    set_patience(None)
    watch.look(80000)
    assert len(ended) == 2


SCRIPT = textwrap.dedent("""
    import os, signal, sys, time
    import torch
    from torchpack import distributed as dist
    from core.running import stalls
    from core.running.comm import barrier
    from core.running.arguments import argument_parser
    from core.running.runtime import run_main, start
    stalls.PERIOD = 0.2

    def sleep_deep_inside():
        print("stalled", flush=True)
        if os.environ["HOW"] == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        time.sleep(120)

    def main():
        parser = argument_parser("Processes.")
        parser.add_argument("--run-dir")
        start(parser)
        barrier()
        stalls.set_patience(3)
        if dist.rank() == int(os.environ["WHO"]):
            sleep_deep_inside()
        stalls.mark()
        torch.distributed.all_reduce(torch.zeros(1))

    run_main(main)
""")


def start_two(folder, port, how, who):
    """Two processes of the script, of which `who` stalls."""
    (folder / "script.py").write_text(SCRIPT)
    command = [sys.executable, str(folder / "script.py"), ASSOP2P, "--run-dir", str(folder / "run")]
    group = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": port}
    ranks = [
        environment(RANK=rank, LOCAL_RANK=rank, HOW=how, WHO=str(who), PYTHONPATH=ROOT, **group) for rank in ("0", "1")
    ]
    return [subprocess.Popen(command, cwd=ROOT, env=own, stdout=-1, stderr=-2, text=True) for own in ranks]


def test_a_stalled_process_ends_all_and_is_named(tmp_path):
    """Also the first one, whose store the others talk through, and which is stopped altogether. Both cases at once."""
    cases = {"sleep": 1, "stop": 0}
    for how in cases:
        (tmp_path / how).mkdir()
    started = {how: start_two(tmp_path / how, f"2954{7 + who}", how, who) for how, who in cases.items()}
    for how, who in cases.items():
        try:
            assert started[how][1 - who].wait(timeout=100) == 1
        finally:
            os.kill(started[how][who].pid, signal.SIGKILL)
            outputs = [process.communicate()[0] for process in started[how]]
        logs = "".join(path.read_text() for path in (tmp_path / how / "run/logging").glob(f"*-rank{1 - who}.log"))
        if how == "sleep":
            assert "this one waits for process 1 (" in logs and "script.py" not in logs, outputs
        else:
            assert "this one waits for process 0, through which the processes talk" in logs, outputs
