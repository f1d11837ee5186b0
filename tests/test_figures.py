"""Figures: what they show, and that what is missing is skipped."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core import builder
from core.datasets.nuscenes import CLASSES
from core.errors import UserError
from core.estep import quality
from core.figures import make_figures
from core.figures.confusion import draw_confusion
from core.figures.superpixels import pixel_targets
from core.figures.training import read_scalars
from core.label_files.files import PSEUDO_LABEL, write_meta
from core.running.config import load_config
from core.scores.predictions import PredictionWriter
from core.scores.results import SCOPES, result_row, save_row
from tests.fake_labels import fake_config, write_all_superpixels, write_pseudo_labels, write_weak_labels
from tests.fake_nuscenes import write_fake_nuscenes

CONFIG = str(Path(__file__).parents[1] / "configs/nuscenes/pretrain/assop2p.yaml")
ALL = ["projection", "birds_eye_view", "superpixels", "pseudo_labels", "confusion_matrix", "results", "training"]


def texts(figure):
    found = [text.get_text() for axes in figure.axes for text in axes.texts]
    found += [axes.get_title("left") for axes in figure.axes]
    return found + [text.get_text() for legend in figure.legends for text in legend.get_texts()]


@pytest.fixture(autouse=True)
def _low_resolution(monkeypatch):
    """Tests draw quickly."""
    monkeypatch.setattr("core.figures.style.DPI", 60)


def test_targets_are_spread_over_superpixels_of_one_class():
    ids = np.array([[0, 0, 1], [2, 2, 1]], np.uint16)
    targets = pixel_targets(ids, np.array([0, 1, 2, 2]), np.array([4, 5, 6, 7], np.uint8))
    # superpixel 2 has annotated points of two classes
    assert targets.tolist() == [[4, 4, 5], [0, 0, 5]]


def test_confusion_is_normalised_by_rows():
    confusion = np.array([[9, 9, 9], [0, 3, 1], [0, 0, 0]])
    figure = draw_confusion(confusion, ["ignored", "car", "bus"], "title")
    assert np.ma.filled(figure.axes[0].images[0].get_array(), -1).tolist() == [[75, 25], [-1, -1]]
    assert {"75", "25", "4", "none"} <= set(texts(figure))
    figure = draw_confusion(np.array([[0, 0], [1, 3]]), ["ignored", "car"], "title")  # one predicted as ignored
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["car", "ignored"]


def test_scalars_of_repeated_steps_are_the_newer_ones(tmp_path):
    path = tmp_path / "scalars.jsonl"
    lines = [
        {"stage": "train", "step": 2, "loss/total": 1.0},
        {"stage": "train", "step": 1, "loss/total": 3.0},
        {"stage": "train", "step": 2, "loss/total": 2.0},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"stage": "tr')
    assert [line["loss/total"] for line in read_scalars(str(path))["train"]] == [3.0, 2.0]
    assert read_scalars(str(tmp_path / "none")) == {}


def made_up_row(checkpoint, split="val"):
    confusion = np.random.default_rng(1).integers(0, 50, (CLASSES.num_classes, CLASSES.num_classes))
    return result_row(checkpoint, split, "in_view", 2, dict.fromkeys(SCOPES, confusion), CLASSES.names, {})


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """A data set with weak labels, superpixels; "run" with all else lies beside it."""
    root = tmp_path_factory.mktemp("figures")
    write_fake_nuscenes(root / "nuscenes")
    config = fake_config(CONFIG, root)
    reader = builder.make_reader(config, "train")
    write_weak_labels(config, reader)
    write_all_superpixels(config, reader)
    write_pseudo_labels(builder.pseudo_label_dir(str(root / "run"), 1), reader)
    _write_run(config, root)
    return config


def _write_run(config, root):
    confusion = np.eye(CLASSES.num_classes, dtype=np.int64)
    statistics = {"points": 9, "labelled": 3} | quality(confusion, CLASSES.names)
    reader = builder.make_reader(config, "train")
    write_meta(builder.pseudo_label_dir(str(root / "run"), 1), PSEUDO_LABEL, {}, None, reader, statistics)
    save_row(str(root / "run/results.json"), made_up_row(str(root / "run/checkpoints/max-iou-vox-val.pt")))
    line = {"stage": "train", "epoch": 1, "step": 10, "loss/total": 2.0, "iou/vox/val": 5.0}
    (root / "run/scalars.jsonl").write_text(json.dumps(line) + "\n")
    reader = builder.make_reader(config, "val")
    writer = PredictionWriter(str(root / "predictions"), reader)
    for frame in reader:
        writer.write(frame.token, np.full(len(reader.load_points(frame)), 15, np.uint8))
    writer.finish("a.pt")


def test_a_whole_run_gives_all_figures(config, tmp_path):
    root = Path(config.dataset.root).parent
    written = make_figures(config, str(root / "run"), str(root / "predictions"), str(tmp_path))
    assert written == [str(tmp_path / f"{name}.png") for name in ALL]
    for path in written:
        with Image.open(path) as image:
            assert min(image.size) > 200


def test_what_is_missing_is_skipped(config, tmp_path):
    root = Path(config.dataset.root).parent
    (tmp_path / "run").mkdir()
    assert make_figures(config, str(tmp_path / "run"), None, str(tmp_path)) == [str(tmp_path / "superpixels.png")]
    bare = load_config(CONFIG, [], ["--dataset.root", str(tmp_path / "none")])
    assert make_figures(bare, str(tmp_path / "run"), str(root / "predictions"), str(tmp_path)) == []


@pytest.mark.parametrize("content", [b"\x01\x02", bytes([99]) * 400])
def test_predictions_that_do_not_fit_are_named(config, tmp_path, content):
    reader = builder.make_reader(config, "val")
    writer = PredictionWriter(str(tmp_path / "predictions"), reader)
    for frame in reader:
        (tmp_path / "predictions" / f"{frame.token}.bin").write_bytes(content)
    writer.finish("a.pt")
    with pytest.raises(UserError, match=r"predictions.*\.bin: expected 400 labels of 0\.\.16"):
        make_figures(config, str(tmp_path), str(tmp_path / "predictions"), str(tmp_path))
    PredictionWriter(str(tmp_path / "train"), builder.make_reader(config, "train")).finish("a.pt")
    with pytest.raises(UserError, match=r"meta\.json: split should be that of"):
        make_figures(config, str(tmp_path), str(tmp_path / "train"), str(tmp_path))
