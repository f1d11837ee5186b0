"""The declaration of configuration keys: complete, enforced when a command starts, and what the docs' table is of."""

import glob
import json
import os
import re
from functools import lru_cache

import pytest
import torch

from core import builder
from core.errors import UserError
from core.running import config_table
from core.running.config import load_config
from core.running.config_keys import KEYS
from core.running.config_rules import Choice, List, Text, Tuple
from core.sparse.engines import _CONVOLVE
from tests.config_values import edge_values, wrong_values
from tests.helpers import HERE

ROOT = os.path.dirname(HERE)
PRETRAIN = os.path.join(ROOT, "configs/nuscenes/pretrain/assop2p.yaml")


def declared_files():
    return glob.glob(os.path.join(ROOT, "configs/**/default.yaml"), recursive=True)


def test_every_key_is_declared_and_every_declaration_has_a_default():
    """Besides config_keys.py a key has a line in a default.yaml, below a comment that says what it means."""
    entries = [entry for path in declared_files() for entry in config_table.entries(path)]
    assert {entry.key for entry in entries} == set(KEYS)
    common = config_table.entries(os.path.join(ROOT, "configs/default.yaml"))
    assert [entry.key for entry in common if not entry.meaning] == []
    own = [entry for entry in entries if entry.key not in {entry.key for entry in common}]
    assert [entry.key for entry in own if not entry.meaning] == []


def test_the_table_of_keys_is_up_to_date():
    with open(config_table.PATH, encoding="utf-8") as file:
        assert file.read() == config_table.table(), "write it with: python3 -m core.running.config_table"


@pytest.mark.parametrize("key", KEYS)
def test_a_key_takes_the_values_in_its_range_and_no_others(key):
    rule = KEYS[key]
    for value in edge_values(rule):
        assert rule.check(value) == value
    wrong = list(wrong_values(rule))
    assert len(wrong) >= 6
    for value in wrong:
        with pytest.raises(ValueError):
            rule.check(value)


def typed(rule):
    """A value that the key does not take, as one types it; of a text, only an empty one, which is YAML's null, is."""
    values = [value for value in wrong_values(rule) if value is not None]
    if isinstance(rule, Text):
        return None if rule.empty or rule.nullable else ""
    value = values[-1] if isinstance(rule, Tuple | List) else values[0]
    return value if isinstance(value, str) else re.sub("(NaN|-?Infinity)", r".nan", json.dumps(value))


@lru_cache
def knower(key):
    """A default.yaml that knows the key."""
    return next(path for path in reversed(declared_files()) if key in {e.key for e in config_table.entries(path)})


@pytest.mark.parametrize("key", [key for key, rule in KEYS.items() if typed(rule) is not None])
def test_wrong_values_on_the_command_line_are_one_line(key):
    rule = KEYS[key]
    with pytest.raises(UserError) as error:
        load_config(knower(key), overrides=[f"--{key}={typed(rule)}"])
    line = str(error.value)
    assert line.startswith(f"command line: {key} should be {rule.words} (its default is ") and "\n" not in line
    assert "), found " in line and len(line) < 500


@pytest.mark.parametrize("layer", ["default.yaml", "sub/default.yaml", "sub/leaf.yaml"])
def test_wrong_values_in_a_file_name_it(tmp_path, layer):
    (tmp_path / "sub").mkdir()
    for name in ("default.yaml", "sub/default.yaml", "sub/leaf.yaml"):
        size = "nan" if name == layer else 0.1
        (tmp_path / name).write_text(f"dataset: {{voxel_size: {size}}}\n")
    with pytest.raises(UserError, match=rf"{layer}: dataset.voxel_size should be a number from .*, found 'nan'"):
        load_config(str(tmp_path / "sub/leaf.yaml"))


@pytest.mark.parametrize(
    "text", ["2024-99-99", "9" * 5000, "[" * 2000, "{a", "!!python/object:os.system x", "*a", "\t"]
)
@pytest.mark.parametrize("key", ["dataset.voxel_size", "batch_size", "dataset.scale", "amp_enabled"])
def test_whatever_is_typed_is_one_line(key, text):
    with pytest.raises(UserError, match=f"command line: {key} should be") as error:
        load_config(PRETRAIN, overrides=[f"--{key}={text}"])
    assert "\n" not in str(error.value) and len(str(error.value)) < 300


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["--data.num_classes", "17", "--dataset.small_component_class", "17"], "dataset.small_component_class is 17"),
        (["--data.num_classes", "12"], "dataset.small_component_class is 15, expected a class id below"),
        (
            ["--data.num_classes", "17", "--estep.foreground_classes", "[1, 17]"],
            "estep.foreground_classes holds 17, expected class ids below",
        ),
        (["--step.kind", "mstep"], "step.round is 0, which is pretraining's; expected 1 or 2 for step.kind mstep"),
        (["--optimizer.momentum", "0"], "optimizer.momentum is 0, expected one above 0 for optimizer.nesterov true"),
    ],
)
def test_values_that_do_not_go_together(overrides, message):
    with pytest.raises(UserError) as error:
        load_config(PRETRAIN, overrides=overrides)
    assert message in str(error.value) and "\n" not in str(error.value)


def names(key):
    rule = KEYS[key]
    assert isinstance(rule, Choice)
    return set(rule.names)


def test_names_are_those_that_are_built():
    """What is declared as a choice is known where it is made, and the other way round."""
    assert names("model.name") == {"auto", builder.LIDAR_ALONE, *builder.NETWORKS}
    assert names("model.sparse_engine") == {"auto", *_CONVOLVE}
    for key in ("criterion.name", "optimizer.name", "scheduler.name", "amp_dtype"):
        for name in names(key):
            config = load_config(PRETRAIN, overrides=[f"--{key}={name}", "--model.imagenet_pretrain=null"])
            builder.make_loss_weights(config)
            builder.make_optimizer(config, torch.nn.Linear(1, 1))
            builder.make_schedule(config, 4)
            builder.amp_dtype(config)
