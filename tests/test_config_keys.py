"""Configurations: layers, overrides, and the declaration of keys, which is enforced when a command starts."""

import glob
import json
import math
import os
import re

import pytest
import torch

from core import builder
from core.running import config_table
from core.running.config import load_config
from core.running.config_keys import KEYS
from core.running.config_rules import Choice, Flag, List, Number, Text, Tuple
from core.sparse.engines import _CONVOLVE
from tests.entry import ASSOP2P, ROOT
from tests.helpers import refused

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
    write(tree / "sub/deep/leaf.yaml", "# only a remark\n")
    assert load_config(leaf(tree)).name == "sub"


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("1e-4", "optimizer.lr", 1e-4),
        ("-1.5", "number", -1.5),
        ("3", "number", 3.0),
        ("7", "count", 7),
        ("true", "switch", True),
        ("null", "nothing", None),
        ("[3, 4]", "nothing", [3, 4]),
        ("[3, 4]", "items", [3, 4]),
        ("2024", "name", "2024"),  # a shell gives no quotes to say that it is a text
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
        (["--items", "3"], "items should be a list"),
        (["--optimizer", "sgd"], "unknown key 'optimizer'"),
        (["--optimiser.lr", "1"], "command line: unknown key 'optimiser.lr'; did you mean 'optimizer.lr'"),
        (["--number"], "--number has no value"),
        (["--number", "--count", "3"], "--number has no value"),
        (["--count", "3", "4"], "unexpected '4'"),
        (["--optimizer", "sgd", "--optimizer.lr", "1"], "optimizer"),
        (["--optimizer.lr", "1", "--optimizer.lr.x", "1"], "optimizer.lr"),
    ],
)
def test_bad_overrides(tree, overrides, message):
    refused(lambda: load_config(leaf(tree), overrides=overrides), message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "not valid YAML"),
        ("\udcff", "not valid YAML"),
        ("a: 2024-99-99", "not valid YAML"),
        ("a: " + "9" * 5000, "not valid YAML"),
        ("a: " + "[" * 2000, "not valid YAML"),
        ("- 1", "expected keys and values, found list"),
        ("items: 3", "items should be a list (its default is [1, 2]), found 3"),
        ("count: null", "count should be a whole number"),
        ("cuont: 1", "unknown key 'cuont'; did you mean 'count'"),
    ],
)
def test_broken_files(tree, text, message):
    (tree / "sub/deep/leaf.yaml").write_bytes(text.encode(errors="surrogateescape"))
    refused(lambda: load_config(leaf(tree)), "leaf.yaml", message)


def test_files_that_are_not_there_and_values_that_defaults_do_not_take(tree):
    for name in ("sub/none.yaml", "sub/deep"):
        for layers in ([str(tree / name)], [leaf(tree), [str(tree / name)]]):
            refused(lambda layers=layers: load_config(*layers), os.path.basename(name))
    refused(lambda: load_config(write(tree.parent / "alone/alone.yaml", "a: 1")), "no default.yaml")
    write(tree / "default.yaml", "dataset: {voxel_size: nan}")
    refused(lambda: load_config(leaf(tree)), "default.yaml: dataset.voxel_size should be a number from", "found 'nan'")


def test_published_keys_and_values():
    config = load_config(ASSOP2P)
    assert (config.data.num_classes, config.data.ignore_label, config.train.seed) == (None, 0, 1588147245)
    dataset = {"voxel_size": 0.05, "image_crop_rate": 0.4, "pts_sr": 1.0, "superpixel": "data/nuscenes/seeds_1024"}
    dataset |= {"sparse_label_path": "data/nuscenes/weak_label", "version": "v1.0-trainval"}
    dataset |= {"use_color": False, "use_augment": False}
    assert {key: config.dataset[key] for key in dataset} == dataset
    assert config.model.imagenet_pretrain == "pretrained/resnet18-5c106cde.pth"
    assert (config.model.cr, config.model.in_channel, config.model.proj_channel) == (0.64, None, 256)
    assert (config.num_epochs, config.batch_size, config.workers_per_gpu) == (25, 4, 4)
    expected = {"name": "sgd", "lr": 0.24, "weight_decay": 1e-4, "momentum": 0.9, "nesterov": True}
    assert config.optimizer.dict() == expected
    assert (config.amp_enabled, config.ddp, config.scheduler.name) == (False, True, "cosine_warmup")


def test_other_data_sets_differ_where_the_method_does():
    config = load_config(f"{ROOT}/configs/semantic_kitti/pretrain/assop2p.yaml")
    assert config.dataset.image_size == [368, 1224] and config.dataset.small_component_class == 13
    assert (config.dataset.seeds.num_superpixels, config.dataset.flip, config.dataset.num_sweeps) == (2048, 0.5, 0)
    assert config.model.name == "spvcnn_swiftnet34_assop2p" and "resnet34" in config.model.imagenet_pretrain
    for name, last in (("it1", 9), ("it2", 13)):
        config = load_config(f"{ROOT}/configs/semantic_kitti/estep/{name}.yaml")
        assert config.estep.foreground_classes == list(range(1, last))
    things = [1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13]
    for name in ("pretrain/assop2p", "estep/it1", "mstep/assop2p", "estep/it2", "mstep/assop2p_it2"):
        config = load_config(f"{ROOT}/configs/waymo/{name}.yaml")
        assert config.criterion.temperature == 1.0 and config.dataset.points == "all"
        assert config.dataset.small_component_class == 14 and config.dataset.near_rings == 0
        ground = [17, 18, 19, 20, 22] if name == "estep/it2" else []
        assert config.estep.foreground_classes == things + ground


def test_every_key_is_declared_and_every_declaration_has_a_default():
    """Besides config_keys.py a key has a line in a default.yaml, below a comment that says what it means."""
    paths = glob.glob(f"{ROOT}/configs/**/default.yaml", recursive=True)
    entries = [entry for path in paths for entry in config_table.entries(path)]
    assert {entry.key for entry in entries} == set(KEYS)
    common, config = config_table.entries(f"{ROOT}/configs/default.yaml"), load_config(f"{ROOT}/configs/default.yaml")
    known = {entry.key for entry in common}
    assert not [entry.key for entry in entries if entry.key not in known and not entry.meaning]
    for entry in common:
        node = config.dict()
        for name in entry.key.split("."):
            node = node[name]
        assert node == entry.default and entry.meaning
    with open(config_table.PATH, encoding="utf-8") as file:
        assert file.read() == config_table.table(), "write it with: python3 -m core.running.config_table"


def wrong_values(rule):
    """Values that the rule does not take."""
    if isinstance(rule, Flag):
        wrong = [0, 1, 0.5, "maybe", "", [True]]
    elif isinstance(rule, Text):
        wrong = [3, 0.5, True, ["a"], "a\0b"] + [""] * (not rule.empty)
    elif isinstance(rule, Choice):
        wrong = ["nonsense", "", rule.names[0].upper(), 3, True, [rule.names[0]]]
    elif isinstance(rule, Number):
        wrong = [math.nan, math.inf, -math.inf, 10**400, -(10**400), "much", "", True, [rule.least], "nan", "1e999"]
        if rule.whole:
            wrong += [rule.least - 1, rule.most + 1, rule.least + 0.5, str(rule.least)]
        else:
            wrong.append(rule.least if rule.above else math.nextafter(rule.least, -math.inf))
            wrong.append(rule.most if rule.below else math.nextafter(rule.most, math.inf))
    elif isinstance(rule, Tuple):
        right = lowest(rule)
        wrong = [[], right[:-1], [*right, right[-1]], right[0], "text", 3]
        for k, item in enumerate(rule.items):
            wrong += [[*right[:k], value, *right[k + 1 :]] for value in wrong_values(item)]
        wrong += [[highest(rule.items[0]), lowest(rule.items[1])]] * rule.ascending
    else:
        wrong = ["text", 3, True, *([lowest(rule.item), value] for value in wrong_values(rule.item))]
    return wrong if rule.nullable else [*wrong, None]


def lowest(rule):
    """The least value of a number or of each place of a list; some text."""
    if isinstance(rule, Tuple):
        return [lowest(item) for item in rule.items]
    if isinstance(rule, Text):
        return "text"
    return math.nextafter(rule.least, math.inf) if rule.above else rule.least


def highest(rule):
    """The greatest one."""
    if isinstance(rule, Tuple):
        return [highest(item) for item in rule.items]
    if isinstance(rule, Text):
        return "other text"
    return math.nextafter(rule.most, -math.inf) if rule.below else rule.most


@pytest.mark.parametrize("key", KEYS)
def test_a_key_takes_the_values_in_its_range_and_no_others(key):
    rule = KEYS[key]
    edges = {Flag: lambda: [False, True], Choice: lambda: list(rule.names), Text: list}
    edges[List] = lambda: [[], [lowest(rule.item)], [highest(rule.item)]]
    for value in edges.get(type(rule), lambda: [lowest(rule), highest(rule)])():
        assert rule.check(value) == value
    wrong = wrong_values(rule)
    assert len(wrong) >= 6
    for value in wrong:
        with pytest.raises(ValueError):
            rule.check(value)


def test_wrong_values_on_the_command_line_are_one_line():
    """Of one key of each kind; of a text, only an empty one, which is YAML's null, is wrong as one types it."""
    default = f"{ROOT}/configs/default.yaml"
    known = {entry.key: KEYS[entry.key] for entry in config_table.entries(default)}
    full = {key: rule for key, rule in known.items() if not (isinstance(rule, Text) and (rule.empty or rule.nullable))}
    for key in {type(rule): key for key, rule in full.items()}.values():
        rule, value = KEYS[key], [value for value in wrong_values(KEYS[key]) if value is not None][0]
        typed = value if isinstance(value, str) else re.sub("(NaN|-?Infinity)", ".nan", json.dumps(value))
        typed = "" if isinstance(rule, Text) else typed
        line = refused(lambda key=key, typed=typed: load_config(default, overrides=[f"--{key}={typed}"]), "), found ")
        assert line.startswith(f"command line: {key} should be {rule.words} (its default is ") and len(line) < 500


@pytest.mark.parametrize("text", ["2024-99-99", "9" * 5000, "[" * 2000, "{a", "!!python/object:os.system x", "*a"])
def test_whatever_is_typed_is_one_line(text):
    for key in ("dataset.voxel_size", "amp_enabled"):
        work = lambda key=key: load_config(ASSOP2P, overrides=[f"--{key}={text}"])  # noqa: E731
        assert len(refused(work, f"command line: {key} should be")) < 300


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("--data.num_classes=17 --dataset.small_component_class=17", "dataset.small_component_class is 17"),
        ("--data.num_classes=12", "dataset.small_component_class is 15, expected a class id below"),
        ("--data.num_classes=17 --estep.foreground_classes=[1,17]", "holds 17, expected class ids below"),
        ("--step.kind=mstep", "step.round is 0, which is pretraining's; expected 1 or 2 for step.kind mstep"),
        ("--optimizer.momentum=0", "optimizer.momentum is 0, expected one above 0 for optimizer.nesterov true"),
    ],
)
def test_values_that_do_not_go_together(overrides, message):
    refused(lambda: load_config(ASSOP2P, overrides=overrides.split()), message)


def names(key):
    assert isinstance(KEYS[key], Choice)
    return set(KEYS[key].names)


def test_names_are_those_that_are_built():
    """What is declared as a choice is known where it is made, and the other way round."""
    assert names("model.name") == {"auto", builder.LIDAR_ALONE, *builder.NETWORKS}
    assert names("model.sparse_engine") == {"auto", *_CONVOLVE}
    for key in ("criterion.name", "optimizer.name", "scheduler.name", "amp_dtype"):
        for name in names(key):
            config = load_config(ASSOP2P, overrides=[f"--{key}={name}", "--model.imagenet_pretrain=null"])
            builder.make_loss_weights(config)
            builder.make_optimizer(config, torch.nn.Linear(1, 1))
            builder.make_schedule(config, 4)
            builder.amp_dtype(config)
