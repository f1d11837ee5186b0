"""The E-step's loop: which points are written, statistics, and going on after an interruption."""

import os
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks.operations import Counting
from core import builder
from core.datasets.projection import project
from core.errors import UserError
from core.estep import Statistics, _batch_labels, no_grad_inference, quality, quality_table, run_estep
from core.label_files.files import read_pseudo_label
from core.labeling.pseudo_labels import PseudoLabelRules
from core.scores.evaluation import count_in_view, head_labels
from core.training.trainer import network_inputs
from tests import made_up
from tests.fake_labels import fake_config, write_pseudo_labels, write_weak_labels
from tests.fake_nuscenes import POINTS, write_fake_nuscenes
from tests.helpers import HERE

CONFIGS = os.path.join(os.path.dirname(HERE), "configs/nuscenes/estep")
THINGS_VETO = PseudoLabelRules(tuple(range(1, 11)))


class Step:
    """An E-step on a fake data set; its network says `answer` of every voxel, and its features say nothing."""

    def __init__(self, root, step_round=1, answer=2, *overrides):
        self.config = fake_config(os.path.join(CONFIGS, f"it{step_round}.yaml"), root, *overrides)
        self.reader = builder.make_reader(self.config, "train")
        self.weak = write_weak_labels(self.config, self.reader)
        self.directory, self.answer, self.calls = str(root / f"out_{step_round}"), answer, []
        previous = str(root / "previous")
        self.previous = write_pseudo_labels(previous, self.reader)
        self.dataset = builder.make_dataset(self.config, self.reader, "estep", None, previous)

    def infer(self, batch):
        self.calls.append(batch.tokens)
        size = len(batch.coords)
        return made_up.certain_outputs(np.full(size, self.answer), features=np.zeros((size, 4)))

    def run(self, checkpoint="hash", rules=None, normalize=False):
        def loader(indices):
            return builder.make_remaining_loader(self.config, self.dataset, indices)

        rules = rules or builder.make_rules(self.config)
        taken = {"image_normalize": normalize}
        return run_estep(self.infer, self.dataset, loader, self.directory, rules, checkpoint, taken, "the command")

    def frames(self):
        """(weak label, previous label, seen, pseudo-label) of each frame."""
        for frame in self.reader:
            seen = project(self.reader.load_points(frame), frame.cameras).seen
            label = read_pseudo_label(self.directory, frame.token, POINTS)
            yield self.weak[frame.token], self.previous[frame.token], seen, label

    def contents(self):
        names = [name for name in os.listdir(self.directory) if name.endswith(".npz")]
        return {name: open(os.path.join(self.directory, name), "rb").read() for name in names}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_fake_nuscenes(tmp_path_factory.mktemp("data"))


@pytest.fixture
def root(data, tmp_path):
    (tmp_path / "nuscenes").symlink_to(data)
    return tmp_path


def trained(sparse):
    """Annotated classes as training sees them: "annotated as ignored" is none."""
    return np.where(sparse == 255, 0, sparse)


@pytest.mark.parametrize("answer", [2, 16, 1])
def test_round_1(root, answer):
    """Points of components with candidates: the annotated class, else the network's choice if a candidate."""
    step = Step(root, 1, answer)
    statistics = step.run()
    assert builder.make_dataset(step.config, step.reader, "estep", str(root / "RUN")).labels.pseudo_label_dir is None
    for weak, _, seen, label in step.frames():
        candidates = weak.point_candidates()
        allowed = (candidates >> answer) & 1 == 1
        choice = np.where(allowed, answer, 0)
        expected = np.where(trained(weak.sparse) > 0, trained(weak.sparse), choice)
        np.testing.assert_array_equal(label, np.where(seen & (candidates != 0), expected, 0))
        assert 0 < np.count_nonzero(label) < np.count_nonzero(seen)
    assert statistics["points"] == 2 * POINTS and statistics["scored_frames"] == 2
    assert statistics["labelled"] == sum(np.count_nonzero(label) for *_, label in step.frames())


@pytest.mark.parametrize("answer", [2, 16])
def test_round_2(root, answer):
    """Points in view, neither annotated (255 counts) nor propagated: round 1's label, else the network's choice."""
    step = Step(root, 2, answer)
    step.run()
    for weak, previous, seen, label in step.frames():
        written = seen & (weak.sparse == 0) & (weak.propagated == 0)
        np.testing.assert_array_equal(label, np.where(written, np.where(previous > 0, previous, answer), 0))
        assert (weak.sparse == 255).any() and not label[weak.sparse == 255].any()


def test_a_crash_in_the_middle(root, monkeypatch):
    step = Step(root)
    tokens, infer = step.reader.tokens(), step.infer

    def crash(batch):
        if batch.tokens == [tokens[1]]:
            raise KeyboardInterrupt
        return infer(batch)

    monkeypatch.setattr(step, "infer", crash)
    with pytest.raises(KeyboardInterrupt):
        step.run()
    assert sorted(os.listdir(step.directory)) == sorted([f"{tokens[0]}.npz", "unfinished.json"])
    with pytest.raises(UserError, match="checkpoint = hash, now it is other"):
        step.run("other")
    monkeypatch.setattr(step, "infer", infer)
    step.run()
    assert step.calls == [[tokens[0]], [tokens[1]]]
    assert "unfinished.json" not in os.listdir(step.directory)


def test_files_of_another_origin_are_refused(root):
    """Of another checkpoint, other rules, a network of another input, or of nothing that is known."""
    step = Step(root)
    step.run()
    before = step.contents()
    for options, words in (
        ({"checkpoint": "other"}, "checkpoint = hash, now it is other; remove"),
        ({"rules": replace(THINGS_VETO, threshold=0.6)}, "threshold = 0.5, now it is 0.6"),
        ({"normalize": True}, r"parameters\.network_input\.image_normalize = False, now it is True"),
    ):
        with pytest.raises(UserError, match=words):
            step.run(**options)
    assert step.contents() == before and len(step.calls) == 2
    os.remove(os.path.join(step.directory, "meta.json"))
    with pytest.raises(UserError, match="holds files of something else"):
        step.run()


def test_quality_is_that_of_the_points_that_the_round_labels(root):
    step = Step(root, 1, 2)
    statistics = step.run()
    confusion = np.zeros((17, 17), int)
    for frame, (weak, _, _, label) in zip(step.reader, step.frames(), strict=True):
        truth = step.reader.load_labels(frame, POINTS)
        for t, p in zip(truth[weak.point_candidates() != 0], label[weak.point_candidates() != 0], strict=True):
            confusion[t, p] += 1
    assert statistics["confusion"] == confusion.tolist()


def test_quality_by_hand():
    """Class a: 6 right, 1 taken for b, 3 without label. Class b: 2 right, 2 without. Class c is absent."""
    confusion = np.array([[0, 5, 0, 0], [3, 6, 1, 0], [2, 0, 2, 0], [0, 0, 0, 0]])
    result = quality(confusion, ("ignored", "a", "b", "c"))
    assert result["classes"] == {
        "a": {"points": 10, "correct": 0.6, "wrong": 0.1, "ignored": 0.3},
        "b": {"points": 4, "correct": 0.5, "wrong": 0.0, "ignored": 0.5},
    }
    assert result["accuracy"] == pytest.approx(8 / 9)  # of the labelled points whose class is not the ignored one
    lines = quality_table(result).splitlines()
    assert lines[1].split() == ["a", "10", "60.0", "10.0", "30.0"]
    assert lines[-1].split()[-2:] == ["88.9", "%"]


@pytest.mark.parametrize("image_head", [True, False])
def test_inference_leaves_out_what_is_not_read(image_head):
    """And the network as it was."""
    network, batch = made_up.network(dropout=0.5), made_up.batch()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    ours = no_grad_inference(network, "cpu", image_head)(batch)
    with torch.no_grad():
        whole = network.eval()(**network_inputs(batch))
    assert whole.embedding_vox is not None and whole.embedding_pix is not None
    assert ours.embedding_vox is None and ours.embedding_pix is None and (ours.x_pix is not None) == image_head
    for name in ("x_vox", "features", *(["x_pix"] if image_head else [])):
        assert torch.equal(getattr(ours, name), getattr(whole, name)), name
    assert not ours.features.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("step_round", [1, 2])
def test_labels_and_counts_wait_for_no_gpu(step_round):
    batch = made_up.batch()
    outputs = made_up.certain_outputs(batch.dense_label.numpy())
    rules = replace(THINGS_VETO, filter_by_candidates=step_round == 1, ignored_prototype=step_round == 2)
    with Counting() as counting:
        label = _batch_labels(outputs, batch, rules)
        statistics = Statistics(rules, 17, "cpu")
        statistics.add(label, batch.points)
        count_in_view(statistics.confusion, {"vox": head_labels(outputs, batch.points)["vox"]}, batch.points)
    assert not counting.waits and label.shape == (2 * made_up.NUM_POINTS,)
    with Counting() as counting:
        label[label > 0].sum().item()
    assert counting.waits.total() == 2  # such operations are noted


def test_a_sample_does_not_depend_on_its_batch(root, monkeypatch):
    """Prototypes and peaks are those of the sample alone."""
    step = Step(root)
    rng = np.random.default_rng(0)
    table = rng.normal(size=(POINTS, 17 + 4)) * 2

    def infer(batch):
        begins = np.cumsum([0, *batch.points.sizes])[:-1].repeat(batch.sizes)
        rows = np.flatnonzero(batch.points.voxel.numpy() >= 0)
        assert batch.points.voxel[rows].tolist() == list(range(len(batch.coords)))  # one point a voxel
        rows = rows - begins  # in the frame's own file
        logits, features = (torch.from_numpy(x[rows]).float() for x in (table[:, :17], table[:, 17:]))
        return SimpleNamespace(x_vox=logits, features=features)

    monkeypatch.setattr(step, "infer", infer)
    step.run()
    one = step.contents()
    step.directory += "_pairs"
    step.config.eval_batch_size = 2
    step.run()
    assert step.contents() == one and len(one) == 2
