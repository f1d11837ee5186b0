"""Proposals, the journal of clicks, and the labels that are made of both."""

import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest

from core.errors import UserError
from core.label_files.files import ANNOTATED_IGNORED, read_weak_label
from core.labeling.annotation.clicks import read_windows
from core.labeling.annotation.journal import Answer, Point, append, label_action, read_journal
from core.labeling.annotation.proposals import read_proposal
from core.labeling.annotation.windows import windows_of
from core.synthetic.generate import City, generate_city
from tests.entry import ROOT, Project, logged, refusal, run_script

PRESEG = f"{ROOT}/configs/recordings/pretrain/preseg.yaml"
SIZES = dict(train_scenes=2, val_scenes=1, test_scenes=0, frames=3, azimuth_steps=90, image_size=(32, 48), seed=7)
SPLITS = {f"dataset.splits.{split}": f'["{split}_*"]' for split in ("train", "val")}


@pytest.fixture(scope="module")
def street(tmp_path_factory):
    """Two training recordings of three frames; nobody changes it."""
    root = tmp_path_factory.mktemp("street") / "city"
    generate_city(str(root), City(format="recordings", **SIZES))
    return str(root)


@pytest.fixture
def own(street, tmp_path):
    names = {key: str(tmp_path / key) for key in ("index", "weak", "seeds")}
    more = {
        **SPLITS,
        "dataset.small_component_class": 9,
        "proposals.path": str(tmp_path / "proposals"),
        "proposals.journal": str(tmp_path / "clicks.jsonl"),
    }
    return Project(street, more=more, **names)


def reader_of(project, **changes):
    from core import builder
    from core.running.config import load_config

    return builder.make_reader(load_config(PRESEG, overrides=project.words(**changes)), "train")


def labels_of(project, folder=None):
    tokens = sorted(name.removesuffix(".npz") for name in os.listdir(folder or project.weak) if name.endswith(".npz"))
    return [read_weak_label(folder or project.weak, token) for token in tokens]


@pytest.mark.parametrize("window", [1, 2])
def test_simulated_clicks_give_the_labels_of_the_simulated_annotator(own, tmp_path, window, capsys):
    """Up to the choice of the point; the journal alone makes them, without dense labels."""
    words = own.words(proposals__window=window)
    run_script("prepare_sparse_label", PRESEG, *words)
    assert "components to click on" in capsys.readouterr().out
    run_script("label_from_clicks", PRESEG, "--simulate", *words)
    with open(tmp_path / "weak/meta.json") as file:
        statistics = json.load(file)["statistics"]
    assert statistics["human"]["people"] == ["simulated"] and statistics["propagated_accuracy"] is None
    direct = own.words(
        proposals__window=window, dataset__annotator="simulated", dataset__sparse_label_path=tmp_path / "d"
    )
    run_script("prepare_sparse_label", PRESEG, *direct)
    pairs = list(zip(labels_of(own), labels_of(own, str(tmp_path / "d")), strict=True))
    assert len(pairs) == 6
    counts = np.zeros((2, 256), int)
    for ours, theirs in pairs:
        np.testing.assert_array_equal(ours.propagated, theirs.propagated)
        np.testing.assert_array_equal(ours.point_candidates(), theirs.point_candidates())
        np.testing.assert_array_equal(ours.component >= 0, theirs.component >= 0)
        counts += [np.bincount(label.sparse, minlength=256) for label in (ours, theirs)]
        assert window > 1 or np.array_equal(np.bincount(ours.sparse), np.bincount(theirs.sparse))
    np.testing.assert_array_equal(*counts)

    bare = tmp_path / "bare"  # without labels
    shutil.copytree(own.root, bare, ignore=shutil.ignore_patterns("labels"))
    again = replace(own, root=str(bare), weak=str(tmp_path / "again")).words(proposals__window=window)
    run_script("label_from_clicks", PRESEG, *again)
    for ours, theirs in zip(labels_of(own), labels_of(own, str(tmp_path / "again")), strict=True):
        np.testing.assert_array_equal(ours.sparse, theirs.sparse)


def test_a_window_is_one_component_over_frames(own):
    run_script("prepare_sparse_label", PRESEG, *own.words(proposals__window=3))
    reader = reader_of(own)
    windows = list(read_windows(reader, own.more["proposals.path"]))
    assert [len(window.frames) for window in windows] == [3, 3]
    counts = [np.bincount(p.component[p.component >= 0], minlength=len(p.sizes)) for p in windows[0].proposals]
    np.testing.assert_array_equal(np.sum(counts, 0), windows[0].proposals[0].sizes)
    assert ((np.array(counts) > 0).sum(0) == 3).mean() > 0.3  # most of what stands is seen in all of them
    assert [list(window) for window in windows_of(reader, 2)] == [[0, 1], [2], [3, 4], [5]]
    queue = windows[0].proposals[0].queue(5)
    assert (np.diff(windows[0].proposals[0].sizes[queue]) <= 0).all()


def test_windows_need_poses(own, tmp_path):
    shutil.copytree(own.root, tmp_path / "bare", ignore=shutil.ignore_patterns("poses.txt"))
    line = refusal("prepare_sparse_label", PRESEG, *replace(own, root=tmp_path / "bare").words(proposals__window=2))
    assert "has no pose, which proposals.window above 1 needs" in line


def answer(project, component=None, classes=("car",), complete=True, frame=0, rows=None):
    """An answer to a component of the first frame: by default its largest cluster."""
    reader = reader_of(project)
    token = reader.tokens()[frame]
    proposal = read_proposal(project.more["proposals.path"], token)
    if component is None:
        component = int(np.argmax(np.where(np.arange(len(proposal.sizes)) < proposal.num_ground, 0, proposal.sizes)))
    inside = np.flatnonzero(proposal.component == component)
    points = tuple(Point(token, proposal.cloud, int(inside[i]), name) for i, name in enumerate(classes))
    return Answer(token, component, proposal.identity, tuple(classes), points, complete)


def press(project, *answers):
    append(project.more["proposals.journal"], [label_action(a, "anna", 1000.0, 1.5) for a in answers])


def test_what_a_person_says_becomes_labels(own, capsys):
    run_script("prepare_sparse_label", PRESEG, *own.words())
    proposal = read_proposal(own.more["proposals.path"], reader_of(own).tokens()[0])
    largest = np.argsort(-proposal.sizes)
    pure, mixed, partly, ignored, tiny = (*map(int, largest[:4]), int(largest[-1]))
    assert proposal.sizes[tiny] < 10 and tiny >= proposal.num_ground
    press(
        own,
        answer(own, pure, ["building"]),
        answer(own, mixed, ["road", "sidewalk"]),
        answer(own, partly, ["terrain", "pole"], complete=False),
        answer(own, ignored, ["ignored"]),
        answer(own, tiny, ["vegetation"]),
    )
    run_script("label_from_clicks", PRESEG, *own.words())
    assert "1 of 6 frames" in capsys.readouterr().out
    label = labels_of(own)[0]
    names = reader_of(own).classes.names
    inside = {k: proposal.component == k for k in (pure, mixed, partly, ignored, tiny)}
    assert (label.propagated[inside[pure]] == names.index("building")).all()
    bits = sum(1 << names.index(name) for name in ("road", "sidewalk"))
    assert (label.point_candidates()[inside[mixed]] == bits).all() and not label.propagated[inside[mixed]].any()
    assert sorted(names[c] for c in label.sparse[inside[partly]] if c) == ["pole", "terrain"]
    assert (label.component[inside[partly]] == -1).all()
    assert label.sparse[inside[ignored]].max() == ANNOTATED_IGNORED and not label.propagated[inside[ignored]].any()
    assert not label.sparse[inside[tiny]].any()  # too small for what is no thing
    with open(os.path.join(own.weak, "meta.json")) as file:
        human = json.load(file)["statistics"]["human"]
    assert human == {
        "annotator": "human", "people": ["anna"], "components": 5, "clicks": 7, "median_seconds": 1.5, "left_out": 0
    }  # fmt: skip

    press(own, answer(own, pure, ["pole"]))  # another opinion: the labels are made anew in the same place
    run_script("label_from_clicks", PRESEG, *own.words())
    assert (labels_of(own)[0].propagated[inside[pure]] == names.index("pole")).all()


def test_undo_redo_skip_clear(tmp_path):
    path = str(tmp_path / "clicks.jsonl")
    one, two = (Answer("w", k, "p", ("car",), (Point("w", "c", k, "car"),)) for k in (1, 2))
    steps = [
        (label_action(one, "a", 1.0), {1}),
        (label_action(two, "a", 2.0), {1, 2}),
        ({"format": 1, "action": "undo"}, {1}),
        ({"format": 1, "action": "redo"}, {1, 2}),
        ({"format": 1, "action": "clear", "window": "w", "component": 1}, {2}),
        ({"format": 1, "action": "undo"}, {1, 2}),
        ({"format": 1, "action": "skip", "window": "w", "component": 2}, {1, 2}),
        ({"format": 1, "action": "undo"}, {1, 2}),
        ({"format": 1, "action": "undo"}, {1}),
        ({"format": 1, "action": "undo"}, set()),
        ({"format": 1, "action": "undo"}, set()),
        ({"format": 1, "action": "redo"}, {1}),
        (label_action(two, "a", 2.0), {1, 2}),
        ({"format": 1, "action": "redo"}, {1, 2}),
    ]
    for action, expected in steps:
        append(path, [action])
        assert {key[1] for key in read_journal(path).answers} == expected


def test_a_line_that_was_cut_off_loses_nothing_else(tmp_path):
    """Killed while writing: the line is told of; what comes after it is whole."""
    path = tmp_path / "clicks.jsonl"
    one, two, three = (Answer("w", k, "p", ("car",), (Point("w", "c", k, "car"),)) for k in (1, 2, 3))
    append(str(path), [label_action(one, "a", 1.0), label_action(two, "a", 2.0)])
    whole = path.read_bytes()
    for length in range(whole.index(b"\n") + 2, len(whole) - 1, 17):
        path.write_bytes(whole[:length])
        append(str(path), [label_action(three, "a", 3.0)])
        with logged() as lines:
            assert {key[1] for key in read_journal(str(path)).answers} == {1, 3}
        assert len(lines) == 1 and "line 2 is not whole" in lines[0]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"format": 2, "action": "undo"}', "line 1 is of format 2"),
        ('{"format": 1, "action": "dance", "window": "w", "component": 1}', "unknown action 'dance'"),
        ('{"format": 1, "action": "label", "window": "w", "component": 1}', "is no action"),
        ("[]", "line 1 is of format None"),
    ],
)
def test_journals_that_are_refused(tmp_path, line, words):
    path = tmp_path / "clicks.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(UserError, match=words):
        read_journal(str(path))


def test_clicks_that_do_not_fit_are_refused_by_name(own, tmp_path):
    words = own.words()
    assert "no such directory of proposal files" in refusal("label_from_clicks", PRESEG, *words)
    run_script("prepare_sparse_label", PRESEG, *words)
    assert "no clicks in it" in refusal("label_from_clicks", PRESEG, *words)
    good = answer(own)
    journal = own.more["proposals.journal"]
    for bad, message in [
        (replace(good, proposal="0" * 16), "is of other components of train_000_000000"),
        (replace(good, points=(replace(good.points[0], cloud="f" * 16),)), "000000.bin (hash ffff"),
        (replace(good, points=(replace(good.points[0], row=10**6),)), "clicks on point 1000000"),
        (replace(good, component=0), "on a point of another component"),
        (answer(own, classes=["tram"]), "names the class 'tram', which the data set does not have"),
    ]:
        press(own, bad)
        line = refusal("label_from_clicks", PRESEG, *words)
        assert message in line and journal in line
        os.remove(journal)
    assert not os.path.exists(os.path.join(own.weak, "meta.json"))

    press(own, good, replace(answer(own, frame=1), proposal="0" * 16))
    run_script("label_from_clicks", PRESEG, "--skip-changed", *words)
    assert labels_of(own)[0].propagated.any() and not labels_of(own)[1].propagated.any()


def test_a_cloud_that_changed_is_named(own, tmp_path):
    root = tmp_path / "changed"
    shutil.copytree(own.root, root)
    own = replace(own, root=str(root))
    run_script("prepare_sparse_label", PRESEG, *own.words())
    press(own, answer(own))
    path = root / "train_000/lidar/000000.bin"
    points = np.fromfile(path, np.float32)
    points[0] += 0.01
    points.tofile(path)
    line = refusal("label_from_clicks", PRESEG, *own.words())
    assert str(path) in line and "changed since its proposals were made" in line
    os.remove(os.path.join(own.more["proposals.path"], "train_000_000000.npz"))
    run_script("prepare_sparse_label", PRESEG, *own.words())
    assert "line 1 is of another" in refusal("label_from_clicks", PRESEG, *own.words())


def test_proposals_know_nothing_of_classes(own):
    """Neither other classes nor the rules after the click make them anew; they stay, and so do the clicks."""
    run_script("prepare_sparse_label", PRESEG, *own.words())
    press(own, answer(own))
    changed = own.words(dataset__small_component_class=0, dataset__point_per_class=2)
    run_script("prepare_sparse_label", PRESEG, *changed)
    run_script("label_from_clicks", PRESEG, *changed)
    line = refusal("prepare_sparse_label", PRESEG, *own.words(dataset__ps_dis_th=0.3))
    assert "parameters.ps_dis_th = 0.2, now it is 0.3" in line
