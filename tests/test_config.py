"""Configurations: layers, overrides, and errors that name the nearest known key."""

import os

import pytest

from core.errors import UserError
from core.running.config import load_config
from tests.helpers import HERE

ROOT = os.path.dirname(HERE)
PRETRAIN = os.path.join(ROOT, "configs/nuscenes/pretrain/assop2p.yaml")

TOP = """
number: 0.5
count: 4
switch: false
name: top
items: [1, 2]
nothing: null
optimizer: {lr: 0.24, name: sgd}
"""


@pytest.fixture
def tree(tmp_path):
    """A configuration folder: default.yaml, sub/default.yaml, sub/deep/leaf.yaml."""
    write(tmp_path / "default.yaml", TOP)
    write(tmp_path / "sub/default.yaml", "count: 5\nname: sub\nextra: {key: 1}\n")
    write(tmp_path / "sub/deep/leaf.yaml", "name: leaf\noptimizer: {lr: 1}\n")
    return tmp_path


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def leaf(tree):
    return str(tree / "sub/deep/leaf.yaml")


def test_later_layers_win(tree):
    config = load_config(leaf(tree))
    assert (config.number, config.count, config.name, config.extra.key) == (0.5, 5, "leaf", 1)
    assert config.optimizer.dict() == {"lr": 1.0, "name": "sgd"}
    overlays = [write(tree / "a.yaml", "count: 6\nname: a"), write(tree / "b.yaml", "name: b")]
    config = load_config(leaf(tree), overlays)
    assert (config.count, config.name) == (6, "b")
    config = load_config(leaf(tree), overlays, ["--name", "line", "--optimizer.lr=0.1"])
    assert (config.count, config.name, config.optimizer.lr) == (6, "line", 0.1)


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("1e-4", "optimizer.lr", 1e-4),
        ("-1.5", "number", -1.5),
        ("3", "number", 3.0),
        ("7", "count", 7),
        ("true", "switch", True),
        ("false", "switch", False),
        ("null", "nothing", None),
        ("[3, 4]", "nothing", [3, 4]),
        ("[3, 4]", "items", [3, 4]),
        ("some/path", "name", "some/path"),
    ],
)
def test_overrides_have_types(tree, text, key, value):
    for overrides in ([f"--{key}", text], [f"--{key}={text}"]):
        node = load_config(leaf(tree), overrides=overrides)
        for name in key.split("."):
            node = node[name]
        assert node == value and type(node) is type(value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["--switch", "1"], "switch should be true or false"),
        (["--count", "4.5"], "count should be a whole number"),
        (["--count", "true"], "count should be a whole number"),
        (["--number", "much"], "number should be a number"),
        (["--number", "true"], "number should be a number"),
        (["--items", "3"], "items should be a list"),
        (["--optimizer", "sgd"], "unknown key 'optimizer'"),
        (["--number"], "--number has no value"),
        (["--number", "--count", "3"], "--number has no value"),
        (["--count", "3", "4"], "unexpected '4'"),
        (["--optimizer", "sgd", "--optimizer.lr", "1"], "optimizer"),
        (["--optimizer.lr", "1", "--optimizer.lr.x", "1"], "optimizer.lr"),
    ],
)
def test_bad_overrides(tree, overrides, message):
    with pytest.raises(UserError, match=message):
        load_config(leaf(tree), overrides=overrides)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "not valid YAML"),
        ("a: b: c", "not valid YAML"),
        ("\udcff", "not valid YAML"),
        ("- 1", "expected keys and values, found list"),
        ("items: 3", r"items should be a list \(its default is \[1, 2\]\), found 3"),
        ("count: null", "count should be a whole number"),
        ("cuont: 1", r"unknown key 'cuont'; did you mean 'count'"),
    ],
)
def test_broken_files(tree, text, message):
    (tree / "sub/deep/leaf.yaml").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UserError, match=message) as error:
        load_config(leaf(tree))
    assert "leaf.yaml" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["sub/none.yaml", "sub/deep"])
def test_missing_files(tree, name):
    for layers in ([str(tree / name)], [leaf(tree), [str(tree / name)]]):
        with pytest.raises(UserError, match=os.path.basename(name)):
            load_config(*layers)
    with pytest.raises(UserError, match=r"no default\.yaml"):
        load_config(write(tree.parent / "alone/alone.yaml", "a: 1"))


def test_published_keys_and_values():
    config = load_config(PRETRAIN)
    assert (config.data.num_classes, config.data.ignore_label, config.train.seed) == (None, 0, 1588147245)
    assert (config.dataset.voxel_size, config.dataset.image_crop_rate, config.dataset.pts_sr) == (0.05, 0.4, 1.0)
    assert config.dataset.superpixel == "data/nuscenes/seeds_1024"
    assert config.dataset.sparse_label_path == "data/nuscenes/weak_label"
    assert (config.dataset.use_color, config.dataset.use_augment, config.dataset.version) == (
        False,
        False,
        "v1.0-trainval",
    )
    assert config.model.imagenet_pretrain == "pretrained/resnet18-5c106cde.pth"
    assert (config.model.cr, config.model.in_channel, config.model.proj_channel) == (0.64, None, 256)
    assert (config.num_epochs, config.batch_size, config.workers_per_gpu) == (25, 4, 4)
    expected = {"name": "sgd", "lr": 0.24, "weight_decay": 1e-4, "momentum": 0.9, "nesterov": True}
    assert config.optimizer.dict() == expected
    assert (config.amp_enabled, config.ddp, config.scheduler.name) == (False, True, "cosine_warmup")


def test_values_of_semantic_kitti():
    config = load_config(os.path.join(ROOT, "configs/semantic_kitti/pretrain/assop2p.yaml"))
    assert config.dataset.image_size == [368, 1224]
    assert (config.dataset.seeds.num_superpixels, config.dataset.flip, config.dataset.num_sweeps) == (2048, 0.5, 0)
    assert config.dataset.small_component_class == 13
    assert config.model.name == "spvcnn_swiftnet34_assop2p" and "resnet34" in config.model.imagenet_pretrain
    foreground = [
        load_config(os.path.join(ROOT, f"configs/semantic_kitti/estep/{name}.yaml")).estep.foreground_classes
        for name in ("it1", "it2")
    ]
    assert foreground == [list(range(1, 9)), list(range(1, 13))]


def test_waymo_configurations_differ_where_the_method_does():
    """Things, foreground, building, temperature, both returns' points."""
    things = [1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13]
    for name in ("pretrain/assop2p", "estep/it1", "mstep/assop2p", "estep/it2", "mstep/assop2p_it2"):
        config = load_config(os.path.join(ROOT, f"configs/waymo/{name}.yaml"))
        assert config.dataset.name == "waymo"
        assert config.criterion.temperature == 1.0 and config.dataset.points == "all"
        assert config.dataset.small_component_class == 14 and config.dataset.near_rings == 0
        ground = [17, 18, 19, 20, 22] if name == "estep/it2" else []
        assert config.estep.foreground_classes == things + ground
