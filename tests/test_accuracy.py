"""The accuracy benchmark: its commands at toy size, and its table of made-up scores."""

import json
import sys
import threading
from concurrent.futures import Executor, Future
from dataclasses import replace
from unittest.mock import patch

import pytest

from benchmarks import accuracy
from benchmarks.accuracy_report import markdown, mean_and_spread, read_scores, scores_of, summary
from core.errors import UserError
from tests.entry import SHRINK, overrides, run_script


class InThisThread(Executor):
    """Runs at once what it is given: training commands listen for signals, which the main thread alone can."""

    def __init__(self, jobs):
        assert jobs == 1

    def submit(self, function, *arguments):
        done = Future()
        done.set_result(function(*arguments))
        return done


@pytest.fixture
def commands(monkeypatch):
    """The benchmark's commands as it gives them; they run in this process."""
    given = []

    def run(words, processes=1, log=None):
        given.append(list(words))
        module, *rest = words[1:] if words[0] == "-m" else words
        run_script(module.removesuffix(".py"), *rest)

    monkeypatch.setattr(accuracy, "run_script", run)
    monkeypatch.setattr(accuracy, "ThreadPoolExecutor", InThisThread)
    return given


def benchmark(*words):
    with patch.object(sys, "argv", ["accuracy", *map(str, words)]):
        accuracy.main()


def test_rows_of_the_city_are_trained_and_tabled(commands, city, tmp_path, capsys, monkeypatch):
    """Full supervision, LiDAR alone, perfect pseudo-labels, and a round on top of the association that it needs; again,
    nothing is trained."""
    keys = {**SHRINK, "dataset.image_crop_rate": 0.4, "num_epochs": 2, "train.gradients_every": 3}
    run = tmp_path / "run"
    words = ["--run-dir", run, "--source", city, "--seeds", 3, *overrides(keys)]
    benchmark(*words, "--rows", "iteration_1", "full", "lidar", "strong_perfect")
    trained = [words[1] for words in commands if words[0].startswith("train_")]
    names = [
        "pretrain/full",
        "pretrain/assop2p",
        "estep/it1",
        "mstep/assop2p",
        "pretrain/sparse_baseline",
        "mstep/assop2p",
    ]
    assert trained == [f"configs/nuscenes/{name}.yaml" for name in names]
    table = capsys.readouterr().out
    assert "8 iterations (2 epochs) a training" in table and "LiDAR alone, weak labels" in table
    content = json.loads((run / "accuracy.json").read_text())
    assert list(content["rows"]) == ["full", "association", "iteration_1", "lidar", "strong_perfect"]
    assert content["rows"]["full"]["share_of_full"][0] == pytest.approx(100)
    for row in content["trainings"].values():
        assert [step for step, _ in row["3"]["curve"]] == [4, 8]
    assert content["trainings"]["lidar"]["3"]["image_head"] is None
    assert (run / "accuracy.md").read_text() in table and (run / "accuracy.png").stat().st_size > 5000
    lines = (run / "seed_3/association/scalars.jsonl").read_text()
    assert "gradient/point/walker" in lines and "gradient/image/visit" in lines

    perfect = json.loads((run / "seed_3/strong_perfect/pseudo_labels_0/meta.json").read_text())["statistics"]
    assert perfect["accuracy"] > 0.98 and all(row["correct"] > 0.8 for row in perfect["classes"].values())

    before = lines
    benchmark(*words, "--rows", "association")
    assert (run / "seed_3/association/scalars.jsonl").read_text() == before
    assert list(json.loads((run / "accuracy.json").read_text())["rows"]) == list(content["rows"])
    with pytest.raises(
        UserError, match=r"settings.json: 'num_epochs' of all rows was 2 .* now it is 3; give the same, or"
    ):
        benchmark(*words, "--num_epochs", 3)
    monkeypatch.setitem(accuracy.ROWS, "lidar", replace(accuracy.ROWS["lidar"], keys={}))
    with pytest.raises(UserError, match=r"'model.name' of lidar was spvcnn in earlier commands"):
        benchmark(*words, "--rows", "lidar")
    for refused in (("--train.seed", 4), ("--dataset.root=x",), ("--jobs", 0), ("--processes", 0)):
        with pytest.raises(SystemExit):
            benchmark(*words, *refused)


def test_each_row_differs_from_full_weak_supervision_by_what_its_title_says(monkeypatch, tmp_path):
    given = {}
    monkeypatch.setattr(
        accuracy, "run_script", lambda words, processes, log: given.setdefault(words[-1], []).append(words)
    )
    matrix = accuracy.Matrix(accuracy.DATA["pandaset"], "RUN", [], "ROOT", 2)
    matrix.prepare([5])
    for chain in accuracy.chains(accuracy.ROWS):
        matrix.train(chain, 5)
    commands = [words for found in given.values() for words in found]
    assert len(commands) == 2 + len(accuracy.ROWS) + 5  # labels, superpixels; E-steps
    assert all("RUN/seed_5/weak_label" in words for words in commands if words[0] != "prepare_nusc_superpixel.py")
    assert all("ROOT" in words for words in commands)
    assert given["spvcnn"][0][1:] != given["spvcnn"][1][1:]
    esteps = [words for words in commands if "--weight-path" in words]
    assert [words[words.index("--weight-path") + 1] for words in esteps] == [
        f"RUN/seed_5/{start}/checkpoints{k}/max-iou-vox-val.pt"
        for start in ("association", "strong_association")
        for k in ("", "_mstep_0")
    ]
    strong = [words for words in commands if "configs/strong.yaml" in words]
    folders = [words[words.index("--run-dir") + 1] for words in strong]
    assert folders == ["RUN/seed_5/strong_association"] * 5 + ["RUN/seed_5/strong_perfect"] * 2


def test_jobs_begin_with_the_longest_and_stop_after_a_failure(monkeypatch, tmp_path):
    """Rows that go on from each other stay together and in order; each set of them has its own log."""
    begun, together = [], threading.Barrier(2, timeout=20)

    def run(words, processes=1, log=None):
        if log is not None:
            begun.append(log)
            if len(set(begun)) <= 2 and begun.count(log) == 1:
                together.wait()
            if "mstep" in words[1]:
                raise UserError("stopped")

    monkeypatch.setattr(accuracy, "run_script", run)
    with pytest.raises(UserError, match="stopped"):
        benchmark(
            "--run-dir", tmp_path, "--seeds", 7, "--jobs", 2, "--rows", "full", "negative", "iteration_2", "lidar"
        )
    assert begun.count(f"{tmp_path}/seed_7/association.log") == 3  # iteration 0, E-step, M-step
    assert f"{tmp_path}/seed_7/full.log" in begun
    assert accuracy.chains(["iteration_1", "lidar", "sparse"]) == [
        ["sparse"],
        ["association", "iteration_1"],
        ["lidar"],
    ]


def test_after_a_failure_nothing_is_begun(monkeypatch, tmp_path, capsys):
    begun = []

    def run(words, processes=1, log=None):
        begun.append(words[1])
        if words[1].endswith("full.yaml"):
            raise UserError("stopped")

    monkeypatch.setattr(accuracy, "run_script", run)
    words = ["--run-dir", tmp_path, "--source", tmp_path, "--seeds", 7, 8, "--rows", "full", "negative", "lidar"]
    with pytest.raises(UserError, match="stopped"):
        benchmark(*words)
    assert [path for path in begun if "pretrain/" in path and "preseg" not in path] == [
        "configs/nuscenes/pretrain/full.yaml"
    ]
    assert "no further command is begun" in capsys.readouterr().out
    (tmp_path / "settings.json").write_text('{"num_epochs": 8}')
    with pytest.raises(UserError, match="settings.json: of an earlier version of this benchmark; give another"):
        benchmark(*words)


def test_a_users_file_is_laid_over_the_rows_own(monkeypatch):
    given = []
    monkeypatch.setattr(accuracy, "run_script", lambda words, processes, log: given.append(words))
    matrix = accuracy.Matrix(accuracy.DATA["city"], "RUN", ["--with", "mine.yaml"], "ROOT", 1)
    matrix.train(["strong_association"], 5)
    assert given[0].index("configs/strong.yaml") < given[0].index("mine.yaml")


def test_a_command_that_stops_is_named(tmp_path):
    words = ["eval_miou.py", str(tmp_path / "none.yaml"), "--weight-path", "none.pt"]
    with pytest.raises(UserError, match="eval_miou.py .*none.yaml: stopped, the reason stands above"):
        accuracy.run_script(words)
    with pytest.raises(UserError, match=f"the reason stands in {tmp_path}/log"):
        accuracy.run_script(words, log=f"{tmp_path}/log")
    assert "none.yaml" in (tmp_path / "log").read_text()


def lines(*values, image=None):
    return [
        {
            "epoch": k + 1,
            "step": 10 * (k + 1),
            "iou/vox/val": value,
            **({} if image is None else {"iou/pix/val": image}),
        }
        for k, value in enumerate(values)
    ]


def test_scores_of_a_training():
    scores = scores_of([{"epoch": 1, "step": 3, "loss/total": 1.0}, *lines(10, 40, 50, 50, 48, image=7)], 5)
    assert (scores["best"], scores["best_epoch"], scores["last"], scores["image_head"]) == (50, 3, 48, 7)
    assert scores["late_gain"] == -2 and scores["curve"][1] == [20, 40]
    assert scores_of(lines(10, 40), 3) is None and scores_of([], 1) is None
    assert scores_of(lines(10), 1)["image_head"] is None


def test_table_has_mean_spread_and_share_of_full():
    found = {
        "full": {1: scores_of(lines(30, 50), 2), 2: scores_of(lines(20, 40), 2)},
        "sparse": {1: scores_of(lines(25, 20), 2), 2: scores_of(lines(10, 30), 2), 3: scores_of(lines(1, 35), 2)},
    }
    numbers = summary(found)
    assert numbers["sparse"]["best"] == mean_and_spread([25, 30, 35]) == (30, 5)
    assert numbers["sparse"]["share_of_full"] == pytest.approx((62.5, 17.678), abs=1e-3)  # 25/50 and 30/40
    text = markdown(numbers, accuracy.ROWS)
    assert "| 45.0 ± 7.1 " in text and "| 62.5 ± 17.7 " in text and text.count("\n") == 3
    alone = summary({"sparse": {1: scores_of(lines(25, 20), 2)}})
    assert alone["sparse"]["best"] == (25, None) and "| 25.0 " in markdown(alone, accuracy.ROWS)


def test_unfinished_trainings_are_left_out(tmp_path):
    for seed, values in ((1, (10, 20)), (2, (10,))):
        folder = tmp_path / f"seed_{seed}/full"
        folder.mkdir(parents=True)
        text = "".join(json.dumps({"stage": "train", **line}) + "\n" for line in lines(*values))
        (folder / "scalars.jsonl").write_text(text)
    matrix = accuracy.Matrix(accuracy.DATA["city"], str(tmp_path), [], "ROOT", 1)
    found = read_scores(str(tmp_path), accuracy.ROWS, matrix.folder, 2)
    assert {name: list(seeds) for name, seeds in found.items()} == {"full": [1]}
