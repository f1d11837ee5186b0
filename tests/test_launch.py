"""Launchers: what their variables say, and processes that find each other under each of them."""

import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch

from core.errors import UserError
from core.running import processes
from core.running.cpus import available_cpus, share_of_cpus
from core.running.launch import Launch, first_host, read_launch, tasks_per_node
from tests.entry import ASSOP2P, ROOT, environment

OPEN_MPI = {
    "OMPI_COMM_WORLD_RANK": "3",
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
}
ONE_MACHINE = {**OPEN_MPI, "OMPI_COMM_WORLD_LOCAL_SIZE": "4", "PMIX_NAMESPACE": "17"}
TORCHRUN = {
    "RANK": "5",
    "WORLD_SIZE": "8",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "4",
    "MASTER_ADDR": "node7",
    "MASTER_PORT": "29500",
    "TORCHELASTIC_RUN_ID": "none",
}
SRUN = {
    "SLURM_PROCID": "5",
    "SLURM_STEP_NUM_TASKS": "6",
    "SLURM_LOCALID": "2",
    "SLURM_NODEID": "1",
    "SLURM_STEP_TASKS_PER_NODE": "3(x2)",
    "SLURM_STEP_NODELIST": "gpu[03-04]",
    "SLURM_JOB_ID": "77",
    "SLURM_STEP_ID": "0",
}


@pytest.mark.parametrize(
    ("variables", "expected", "url"),
    [
        ({}, Launch(), None),
        ({**OPEN_MPI, "MASTER_HOST": "node1:4321"}, Launch(3, 4, 1, 2, "node1:4321"), "tcp://node1:4321"),
        ({**OPEN_MPI, "MASTER_ADDR": "a", "MASTER_PORT": "9"}, Launch(3, 4, 1, 2, "a:9"), "tcp://a:9"),
        (TORCHRUN, Launch(5, 8, 1, 4, "node7:29500", True), "env://"),
        ({**OPEN_MPI, **TORCHRUN}, Launch(5, 8, 1, 4, "node7:29500", True), "env://"),  # a torchrun on each machine
        (
            {key: TORCHRUN[key] for key in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")},
            Launch(5, 8, 0, 1, "node7:29500", True),
            "env://",
        ),
        ({**SRUN, "MASTER_PORT": "1"}, Launch(5, 6, 2, 3, "gpu03:1"), "tcp://gpu03:1"),
        ({**SRUN, **OPEN_MPI, "MASTER_HOST": "h:1"}, Launch(3, 4, 1, 2, "h:1"), "tcp://h:1"),  # dist-run within srun
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, Launch(), None),  # a batch script's one process
        ({"WORLD_SIZE": "1", "PMI_SIZE": "0"}, Launch(), None),
    ],
)
def test_variables_of_launchers(variables, expected, url):
    found = read_launch(variables)
    assert found == expected
    assert url is None or found.url == url


def test_ports_differ_between_launches_and_agree_within_one():
    ports = {read_launch({**SRUN, "SLURM_STEP_ID": str(step)}).address for step in range(50)}
    assert len(ports) > 45 and len({read_launch({**SRUN, "SLURM_PROCID": str(k)}).address for k in range(6)}) == 1
    first, other = (read_launch({**ONE_MACHINE, "PMIX_NAMESPACE": name}).address for name in ("17", "18"))
    assert first.startswith("127.0.0.1:") and first != other


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"PMI_RANK": "1", "PMI_SIZE": "2"}, "PMI_SIZE: 2 processes were started, but by none of the launchers"),
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE: 2 processes"),
        ({"MV2_COMM_WORLD_SIZE": "8"}, "MV2_COMM_WORLD_SIZE: 8 processes"),
        (OPEN_MPI, "MASTER_ADDR: not set, and mpirun started processes on several machines"),
        ({**TORCHRUN, "RANK": "x"}, "RANK: 'x', expected a number"),
        ({"OMPI_COMM_WORLD_RANK": "0"}, "OMPI_COMM_WORLD_SIZE: not set, expected a number"),
    ],
)
def test_several_processes_that_are_not_understood(variables, message):
    with pytest.raises(UserError) as error:
        read_launch(variables)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("a", "a"), ("a,b", "a"), ("gpu[03-05,09],big1", "gpu03"), ("n[1-2]-ib", "n1-ib"), ("gpu3,gpu[1-2]", "gpu3")],
)
def test_lists_of_slurm(nodes, first):
    assert first_host(nodes) == first
    assert tasks_per_node("2(x3),1") == [2, 2, 2, 1]


SCRIPT = textwrap.dedent("""
    import torch
    from torchpack import distributed as dist
    from core.running.comm import all_objects
    from core.running.arguments import argument_parser
    from core.running.runtime import run_main, start

    def main():
        run = start(argument_parser("Processes."))
        found = all_objects([dist.rank(), dist.size(), dist.local_rank(), dist.local_size(), torch.get_num_threads()])
        if dist.is_master():
            print("found", found, run.device, flush=True)

    run_main(main)
""")
ALONE = ("OMP_NUM_THREADS", *TORCHRUN, *OPEN_MPI, *SRUN, "MASTER_HOST")


def srun(count, *command, env):
    """The output of `count` processes with the variables that srun sets."""
    slurm = {"SLURM_STEP_NUM_TASKS": str(count), "SLURM_STEP_TASKS_PER_NODE": str(count), "SLURM_NODEID": "0"}
    slurm |= {"SLURM_STEP_NODELIST": "localhost", "SLURM_JOB_ID": str(os.getpid()), "SLURM_STEP_ID": "0"}
    ranks = [{**env, **slurm, "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)} for rank in range(count)]
    started = [subprocess.Popen(command, env=own, stdout=subprocess.PIPE, text=True) for own in ranks]
    outputs = [process.communicate(timeout=120)[0] for process in started]
    assert not any(process.returncode for process in started)
    return "".join(outputs)


def test_two_processes_find_each_other(tmp_path):
    """Under every launcher; all are started at once."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    env = {key: value for key, value in environment(PYTHONPATH=ROOT).items() if key not in ALONE}

    def launched(launcher, **more):
        if launcher == "srun":
            return srun(2, sys.executable, str(script), ASSOP2P, env=env)
        command = [*launcher.split(), str(script), ASSOP2P]
        done = subprocess.run(command, cwd=tmp_path, env=env | more, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    own = max(1, available_cpus() // 2)
    dist_run, torchrun = "torchpack dist-run -np 2 python3", "torchrun --nproc_per_node 2 --master_port 29541"
    with ThreadPoolExecutor() as threads:
        running = [
            (threads.submit(launched, dist_run), own),
            (threads.submit(launched, dist_run, OMP_NUM_THREADS="2"), 2),
            (threads.submit(launched, torchrun), 1),  # which sets it itself
            (threads.submit(launched, "srun"), own),
        ]
        for output, each in running:
            assert f"found [[0, 2, 0, 2, {each}], [1, 2, 1, 2, {each}]] cpu" in output.result()


@pytest.mark.parametrize(
    ("own", "of_processes", "threads"),
    [
        (range(16), [range(16)] * 4, 4),
        (range(4), [range(4), range(4, 8)], 4),  # a scheduler gave each its own
        ([0], [[0], [0], [0]], 1),
        (range(3), [range(3)] * 2, 1),
        (range(6), [range(6), range(4, 6)], 5),
    ],
)
def test_share_of_cpus(own, of_processes, threads):
    assert share_of_cpus(own, of_processes) == threads


@pytest.mark.parametrize(
    ("local_size", "gpus", "same", "message"),
    [
        (3, ["a", "b"], None, "3 processes on this machine but 2 GPUs"),
        (2, ["a"], True, "2 processes on this machine but 1 GPUs"),
        (2, ["a"], False, None),  # each is shown its own
        (2, ["a", "b"], False, None),
    ],
)
def test_more_processes_than_gpus(monkeypatch, local_size, gpus, same, message):
    chosen = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(gpus))
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: chosen[-1])
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid=gpus[chosen[-1]]))
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    monkeypatch.setattr(processes, "_join", lambda launch, backend: chosen.append(backend) or chosen.pop())
    monkeypatch.setattr(processes, "_second_connection", lambda launch: None)
    monkeypatch.setattr(processes, "StallWatch", lambda *_: SimpleNamespace(start=lambda: None))
    monkeypatch.setattr(processes, "all_objects", lambda own: [own, own if same else {**own, "gpu": "another"}])
    monkeypatch.setattr(processes, "_group", SimpleNamespace(watch=None))
    launch = Launch(1, local_size, 1, local_size, "localhost:1")
    if message is None:
        assert processes.start_processes(launch, True, print) == torch.device("cuda", 1 % len(gpus))
    else:
        with pytest.raises(UserError, match=message):
            processes.start_processes(launch, True, print)


def test_processes_that_do_not_come(monkeypatch):
    monkeypatch.setattr(processes, "MEETING", processes.timedelta(seconds=1))
    launch = Launch(0, 2, 0, 2, "localhost:29543")
    with pytest.raises(UserError, match="localhost:29543: the 2 processes did not meet there"):
        processes.start_processes(launch, False, print)
