"""What each kind of label, the association and the rounds are worth: all of them trained alike, on one data set.

    python3 -m benchmarks.accuracy --data city --run-dir runs/accuracy/city
    python3 -m benchmarks.accuracy --data pandaset --source PANDASET --run-dir runs/accuracy/pandaset

Makes the data, weak labels of each seed and superpixels, trains every row of ROWS with each seed for the same number of
iterations, and writes a table (accuracy.json, accuracy.md) and the curves (accuracy.png) to the run directory. What is
there already stays: after an interruption run it again. Commands with other --seeds or --rows may share a run directory
one after the other; the table is of all trainings that have finished. Sizes are in benchmarks/configs: city and
pandaset are for CPU cores, city-large and pandaset-large for a GPU; any key can be overridden. With --jobs several
trainings run at the same time, each with its output in a log beside its run directory.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

from benchmarks.accuracy_report import write_report
from benchmarks.accuracy_rows import DATA, ROWS, Data, Row, chains, first_row, with_ancestors
from core.errors import UserError, run_alone
from core.running.arguments import split_overrides
from core.running.config import load_config
from core.running.files import make_folder, write_json

PRETRAIN, MSTEP = "train_lc_sparse_assop2p_nusc.py", "train_lc_sparse_assop2p_mstep_nusc.py"
SEEDS = (1588147245, 1, 2)
OWN_KEYS = ("dataset.root", "dataset.index_path", "dataset.superpixel", "dataset.sparse_label_path", "train.seed")
"""Those that the commands are given by the benchmark itself."""


class Matrix:
    """Runs the commands of the rows.

    Args:
        data: which data set.
        run_dir: where everything goes.
        words: of the command line, `--with FILE` and overrides, for all commands.
        root: data root.
        processes: that train together.
    """

    def __init__(self, data: Data, run_dir: str, words: Sequence[str], root: str, processes: int):
        self.configs, self.run_dir, self.words, self.processes = data.configs, run_dir, list(words), processes
        self.failed = threading.Event()
        self.keys = {
            "dataset.root": root,
            "dataset.index_path": f"{run_dir}/index",
            "dataset.superpixel": f"{run_dir}/superpixels",
        }

    def prepare(self, seeds: Iterable[int]) -> None:
        """Superpixels, and the weak labels of the seeds."""
        self._call("prepare_nusc_superpixel.py", "default.yaml", [])
        for seed in seeds:
            self._call("prepare_sparse_label.py", "pretrain/preseg.yaml", [], seed)

    def train(self, names: Iterable[str], seed: int, log: str | None = None) -> None:
        """The rows with the weak labels of a seed, one after the other; their output is added to the file `log`.

        After a failure no further command is begun, here or by other threads.
        """
        for name in names:
            row, into = ROWS[name], ["--run-dir", self.folder(name, seed)]
            if row.estep is not None:
                weights = [] if row.after is None else ["--weight-path", self.weights(row.after, seed)]
                self._call(*row.estep, [*into, *weights], seed, log, overlays=row.overlays)
            script = PRETRAIN if row.estep is None else MSTEP
            self._call(script, row.config, into, seed, log, row.keys, row.overlays)

    def weights(self, name: str, seed: int) -> str:
        """The best checkpoint of a row's point head."""
        return f"{self.folder(name, seed)}/{ROWS[name].checkpoints}/max-iou-vox-val.pt"

    def folder(self, name: str, seed: int) -> str:
        """Run directory of a row: that of the row it goes on from, where it does."""
        return f"{self.run_dir}/seed_{seed}/{first_row(name)}"

    def _call(
        self,
        script: str,
        config: str,
        arguments: list[str],
        seed: int | None = None,
        log: str | None = None,
        keys: dict[str, str] | None = None,
        overlays: Sequence[str] = (),
    ) -> None:
        if self.failed.is_set():
            return
        own = dict(self.keys)
        if seed is not None:
            own |= {
                "dataset.sparse_label_path": f"{self.run_dir}/seed_{seed}/weak_label",
                "train.seed": str(seed),
            }
        given = [word for key, value in {**own, **(keys or {})}.items() for word in (f"--{key}", value)]
        laid = [word for path in overlays for word in ("--with", path)]
        words = [*script.split(), f"{self.configs}/{config}", *arguments, *laid, *self.words, *given]
        try:
            run_script(words, self.processes, log)
        except BaseException:
            self.failed.set()
            raise


def run_script(words: Sequence[str], processes: int = 1, log: str | None = None) -> None:
    """Runs an entry script, and prints how long it took; its output is added to the file `log`, where one is given."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    command = [sys.executable, *(launcher if processes > 1 else []), *words]
    begin = time.perf_counter()
    if log is None:
        print(f"\n$ python3 {shlex.join(words)}", flush=True)
        status = subprocess.run(command, check=False).returncode
    else:
        with open(log, "a", encoding="utf-8") as output:
            status = subprocess.run(command, check=False, stdout=output, stderr=output).returncode
    name = " ".join(words[: 3 if words[0] == "-m" else 2])
    if status:
        place = f"the reason stands in {log}" if log else "the reason stands above"
        raise UserError(f"{name}: stopped, {place}; run the same command again to resume")
    print(f"{time.perf_counter() - begin:.0f} s: {name}", flush=True)


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of nested keys by dotted keys."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def settings_of(
    data: Data, rows: Iterable[str], overlays: Sequence[str], overrides: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """The values of all keys by dotted keys, as JSON holds them, of the commands for all rows and for each row."""

    def values(config: str, row: Row | None = None) -> dict[str, Any]:
        laid, keys = (row.overlays, row.keys) if row is not None else ((), {})
        own = [word for key, value in keys.items() for word in (f"--{key}", value)]
        found = load_config(f"{data.configs}/{config}", [*laid, *overlays], [*overrides, *own])
        return json.loads(json.dumps(flat(found.dict())))

    settings = {"all rows": values("default.yaml")}
    for name in rows:
        row = ROWS[name]
        if row.estep is not None:
            settings[f"the E-step of {name}"] = values(row.estep[1], row)
        settings[name] = values(row.config, row)
    return settings


def check_settings(path: str, settings: dict[str, dict[str, Any]]) -> None:
    """Writes down the settings of a run directory; raises UserError where an earlier command had others."""
    earlier: dict[str, dict[str, Any]] = {}
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            earlier = json.load(file)
        if not all(isinstance(part, dict) for part in earlier.values()):
            raise UserError(f"{path}: of an earlier version of this benchmark; give another --run-dir")
    for part, now in settings.items():
        before = earlier.get(part, {})
        for key in now:
            if key in before and now[key] != before[key]:  # a key that only one has is of another version
                raise UserError(
                    f"{path}: '{key}' of {part} was {before[key]} in earlier commands of this run directory, now it is "
                    f"{now[key]}; give the same, or another --run-dir"
                )
    write_json(path, {**earlier, **settings})


def parse(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """The benchmark's own arguments, and overrides of configuration keys."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--data", choices=DATA, default="city")
    parser.add_argument("--run-dir", required=True)
    parser.add_argument(
        "--source", help="of pandaset: folder of its scenes; of the city: a city that is there, in place of a new one"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, help="of weak labels and training")
    parser.add_argument("--rows", choices=ROWS, nargs="+", default=list(ROWS), help="default: all")
    parser.add_argument("--processes", type=int, default=1, help="that train together (default: 1)")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at the same time (default: 1)")
    parser.add_argument("--with", dest="overlays", metavar="FILE", action="append", default=[])
    own, overrides = split_overrides(parser, argv)
    arguments = parser.parse_args(own)
    if DATA[arguments.data].imported and arguments.source is None:
        parser.error(f"--data {arguments.data} needs --source, the folder of PandaSet's scenes")
    for name in ("jobs", "processes"):
        if getattr(arguments, name) < 1:
            parser.error(f"--{name} is at least 1, not {getattr(arguments, name)}")
    for word in overrides:
        if word.removeprefix("--").split("=")[0] in OWN_KEYS:
            parser.error(f"{word.split('=')[0]} is set by the benchmark itself")
    return arguments, overrides


def main() -> None:
    arguments, overrides = parse(sys.argv[1:])
    data, run = DATA[arguments.data], arguments.run_dir
    overlays = [*data.overlays, *arguments.overlays]
    settings = settings_of(data, with_ancestors(arguments.rows), overlays, overrides)
    num_epochs = settings["all rows"]["num_epochs"]
    make_folder(run)
    check_settings(
        f"{run}/settings.json",
        {"the command": {"--data": arguments.data, "--processes": arguments.processes}, **settings},
    )
    root = f"{run}/data"
    if arguments.source is not None and not data.imported:
        root = arguments.source
    else:
        run_script([word.format(root=root, source=arguments.source) for word in data.make])
    words = [*(word for path in overlays for word in ("--with", path)), *overrides]
    matrix = Matrix(data, run, words, root, arguments.processes)
    matrix.prepare(arguments.seeds)
    # one seed after the other, but where several train: there the longest first, so that none is waited for at the end
    tasks = [(chain, seed) for seed in arguments.seeds for chain in chains(arguments.rows)]
    if arguments.jobs > 1:
        tasks.sort(key=lambda task: -len(task[0]))
        together = arguments.jobs * arguments.processes
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // together)))
    with ThreadPoolExecutor(arguments.jobs) as pool:
        logs = [f"{matrix.folder(chain[0], seed)}.log" if arguments.jobs > 1 else None for chain, seed in tasks]
        trainings = [pool.submit(matrix.train, *task, log) for task, log in zip(tasks, logs, strict=True)]
        try:
            for training in as_completed(trainings):
                training.result()
                print(write_report(run, ROWS, matrix.folder, num_epochs), flush=True)
        except BaseException:
            matrix.failed.set()
            print("Stopped: no further command is begun; those that run are waited for.", flush=True)
            raise


if __name__ == "__main__":
    run_alone(main)
