"""The loop of labelling and training: a scripted annotator, repeated answers, orders and suggestions."""

import numpy as np
import pytest

from benchmarks.annotation import ALL, Loop
from benchmarks.annotation_report import read_results, summary, write_report
from benchmarks.annotator import answer_all, true_answers
from core.annotate.cutting import between_two
from core.annotate.progress import SOONEST, Repeats, suggested_iou
from core.annotate.queue import Suggestion, Suggestions
from core.annotate.requests import BadRequest
from core.label_files.files import read_weak_label
from core.labeling.annotation.journal import Answer, Point, State, read_journal
from core.labeling.annotation.proposals import read_proposal
from core.labeling.annotation.uncertainty import UNCERTAINTY
from core.running.config import load_config
from tests.annotating import ANNOTATE, PRESEG, known, serving
from tests.entry import refusal, run_script


def test_a_scripted_annotator_gives_the_labels_of_the_simulated_one(to_label, tmp_path):
    """Up to the choice of the point: all components are answered through the interface alone."""
    truth = true_answers(load_config(PRESEG, overrides=to_label.words()))
    with serving(to_label) as client:
        assert answer_all(client, truth)["components"] == len(truth)
    run_script("label_from_clicks", PRESEG, *to_label.words())
    simulated = {"proposals__journal": tmp_path / "s/clicks.jsonl", "dataset__sparse_label_path": tmp_path / "d"}
    run_script("label_from_clicks", PRESEG, "--simulate", *to_label.words(**simulated))
    counts = np.zeros((2, 256), int)
    tokens = {point.frame for answer in truth.values() for point in answer.points}
    for token in tokens:
        ours, theirs = read_weak_label(to_label.weak, token), read_weak_label(str(tmp_path / "d"), token)
        np.testing.assert_array_equal(ours.propagated, theirs.propagated)
        np.testing.assert_array_equal(ours.point_candidates(), theirs.point_candidates())
        np.testing.assert_array_equal(ours.component, theirs.component)
        counts += [np.bincount(label.sparse, minlength=256) for label in (ours, theirs)]
    np.testing.assert_array_equal(*counts)


def test_the_benchmark_labels_trains_and_orders(to_label, tmp_path):
    """A small loop: clicks grow, the network of the clicks so far orders the next ones, a second run adds none."""
    keys = {"model__name": "spvcnn", "criterion__name": "sparse", "train__validate_every": 0}
    config = load_config(PRESEG, overrides=to_label.words(**keys))
    place = tmp_path / "runs/city/window_2/seed_3"
    loop = Loop(str(place), config, 3, (0.2, 0.5))
    for order in ("random", "uncertainty", ALL):
        loop.run(order)
    panels = read_results(str(tmp_path / "runs"))
    found = {order: summary(results) for order, results in panels["city", 2].items()}
    total = sum(len(answer.points) for answer in loop.truth.values())
    for order in ("random", "uncertainty"):
        first, second = found[order]
        assert 0.2 * total <= first["clicks"] < second["clicks"] < 0.6 * total and second["miou"] > 0
    first, second = (read_journal(f"{place}/{name}/clicks.jsonl").answers for name in ("random/0.2", "uncertainty/0.5"))
    assert first.items() <= second.items()
    assert found[ALL][0]["clicks"] == total
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*")}
    Loop(str(place), config, 3, (0.2, 0.5)).run("uncertainty")
    assert {path: path.stat().st_mtime_ns for path in place.rglob("*")} == before
    text = write_report(str(tmp_path / "runs"))
    assert "made-up city, window 2, 4 iterations" in text and "| uncertainty |" in text
    assert (tmp_path / "runs/annotation_curve.png").stat().st_size > 5000


def test_repeated_answers(to_label):
    """After every second answer one of long ago; its second answer changes no label, and is undone by itself."""
    with serving(to_label, repeat=0.5) as client:
        queue = [client.target(place) for place in range(SOONEST + 2)]
        window = client.get("/api/session")["windows"][0]
        asked = [client.label(place, "road")["again"] for place in range(SOONEST + 1)]
        assert asked == [None] * (SOONEST + 1)
        again = client.label(SOONEST + 1, "road")["again"]
        assert again in ([0, queue[0]["component"]], [0, queue[1]["component"]])
        before = known(client)
        target = {"window": window["token"], "component": again[1]}
        frame = client.get(f"/api/component/{target['window']}/{again[1]}")["frame"]
        said = client.act("repeat", **target, frame=frame, classes=["sidewalk"])
        assert said["again"] is None
        assert (said["statistics"]["repeated"], said["statistics"]["agreed"]) == (1, 0)
        assert said["statistics"]["components"] == SOONEST + 2
        client.act("undo")
        assert known(client) == before and client.get("/api/session")["statistics"]["repeated"] == 0
        statistics = client.act("repeat", **target, frame=frame, classes=["road"])["statistics"]
        assert (statistics["repeated"], statistics["agreed"]) == (1, 1)
        client.act("clear", **target)
        assert client.act("repeat", **target, frame=frame, classes=["car"])["statistics"]["repeated"] == 0
        after = known(client)
    history = read_journal(to_label.more["proposals.journal"])
    assert history.answers[target["window"], again[1]].classes == ("car",)
    with serving(to_label) as client:
        assert known(client) == after


def test_repeats_are_of_long_ago_and_come_once():
    answer = Answer("w", 0, "", ("car",), (Point("w", "", 0, "car"),))
    states = {("w", k): State(answer) for k in range(200)}
    repeats, asked = Repeats(0.1, [], seed=1), []
    for k in range(200):
        again = repeats.after(("w", k), states)
        assert (again is None) == (k % 10 != 9 or k < SOONEST)
        if again is not None:
            assert again[1] <= k - SOONEST
            states[again] = State(answer, again=answer)
            asked.append(again)
    assert len(set(asked)) == len(asked) == 17
    assert all(Repeats(0, [], 1).after(("w", k), states) is None for k in range(50))


def test_suggestions_are_judged_by_later_answers_alone():
    def state(name, seconds, *more):
        points = tuple(Point("w", "", 0, label) for label in (name, *more))
        return State(Answer("w", 0, "", (name, *more), points), time=seconds)

    names = ["ignored", "car", "road"]
    states = {("w", 0): state("car", 9), ("w", 1): state("car", 11), ("w", 2): state("road", 12)}
    states |= {("w", 3): state("ignored", 13), ("w", 4): state("car", 14, "road"), ("w", 5): state("road", 15)}
    sizes = dict.fromkeys(states, 10) | {("w", 2): 30}
    of = {("w", k): Suggestion(2, 0.9, 0.1) for k in range(5)}  # all of them road; nothing of the last one
    found = suggested_iou(states, sizes, Suggestions(of, since=10), names)
    assert found == {"judged": 2, "suggested_miou": pytest.approx(100 * (0 + 30 / 40) / 2)}
    assert suggested_iou(states, sizes, Suggestions(), names) == {"judged": 0, "suggested_miou": None}


def test_a_split_into_two_clusters(to_label):
    rng = np.random.default_rng(3)
    pair = np.concatenate([rng.normal((5, 0, 0), 0.3, (50, 3)), rng.normal((5, 4, 0), 0.3, (200, 3))])
    *normal, offset = between_two(pair.astype(np.float32))
    front = pair @ np.array(normal) + offset > 0
    assert len(set(front[:50])) == len(set(front[50:])) == 1 and front[0] != front[-1]
    with pytest.raises(BadRequest):
        between_two(np.ones((4, 3)))
    with serving(to_label) as client:
        before = client.get("/api/session")["queue"]
        target = client.target(0)
        shown = client.get(f"/api/component/{target['window']}/{target['component']}")["frame"]
        assert client.act("cut", **target, frame=shown)["cut"]
        (_, _, rest), (_, _, part) = client.get("/api/session")["queue"][:2]
        assert rest + part == before[0][2] and min(rest, part) > 0
        client.act("undo")
        assert client.get("/api/session")["queue"] == before


def test_orders_and_suggestions(to_label, tmp_path):
    with serving(to_label, order=None) as client:
        sizes = [size for _, _, size in client.get("/api/session")["queue"]]
        assert sizes == sorted(sizes, reverse=True)
    with serving(to_label) as client:
        overview = client.get("/api/session")
        windows = [window for window, _, _ in overview["queue"]]
        assert windows == sorted(windows)
    with serving(to_label, order="random") as client:
        shuffled = client.get("/api/session")["queue"]
        assert shuffled != overview["queue"] and sorted(shuffled) == sorted(overview["queue"])
    assert "needs --suggestions" in refusal("annotate", ANNOTATE, *to_label.words(), "--order", "uncertainty")
    line = refusal("annotate", ANNOTATE, *to_label.words(), "--suggestions", tmp_path)
    assert "write them with predict.py --uncertainty" in line

    token = overview["windows"][1]["token"]
    proposal = read_proposal(to_label.more["proposals.path"], token)
    ids, points = np.unique(proposal.component[proposal.component >= 0], return_counts=True)
    doubtful = int(ids[len(ids) // 2])
    fields = dict(
        component=ids, points=points, label=np.full(len(ids), 3, np.uint8), confidence=np.full(len(ids), 0.75)
    )
    fields |= {"entropy": np.where(ids == doubtful, 1, 1e-6), "spread": np.zeros(len(ids))}
    np.savez(tmp_path / (token + UNCERTAINTY), window=token, identity=proposal.identity, **fields)
    with serving(to_label, order=None, suggestions=str(tmp_path)) as client:
        overview = client.get("/api/session")
        assert overview["queue"][0][:2] == [1, doubtful]
        assert [1, doubtful, 3, 0.75] in overview["suggestions"] and len(overview["suggestions"]) == len(ids)
    np.savez(tmp_path / (token + UNCERTAINTY), window=token, identity="other", **fields)
    assert "of other components" in refusal("annotate", ANNOTATE, *to_label.words(), "--suggestions", tmp_path)
