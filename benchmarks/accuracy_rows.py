"""The rows and data sets of `benchmarks.accuracy`: what is trained on what."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Row:
    """A training of the matrix.

    Attributes:
        title: in the table.
        config: below the data set's configurations.
        keys: configuration keys of this row.
        after: the row that it goes on from, in the same run directory, by an E-step.
        estep: script, or module after -m, and configuration of the E-step before an M-step.
        stage: name of the training in scalars.jsonl.
        checkpoints: folder of its checkpoints in the run directory.
        overlays: files laid over this row's configurations.
    """

    title: str
    config: str
    keys: dict[str, str] = field(default_factory=dict)
    after: str | None = None
    estep: tuple[str, str] | None = None
    stage: str = "train"
    checkpoints: str = "checkpoints"
    overlays: tuple[str, ...] = ()


BASELINE, STRONG = "pretrain/sparse_baseline.yaml", ("configs/strong.yaml",)
PERFECT = "-m benchmarks.perfect_pseudo_labels"


def rounds(prefix: str, **fields: Any) -> dict[str, Row]:
    """Iterations 1 and 2 on top of the row PREFIXassociation; fields are further ones of each."""
    title = prefix.replace("_", ", ")
    return {
        f"{prefix}iteration_1": Row(
            f"{title}iteration 1",
            "mstep/assop2p.yaml",
            after=f"{prefix}association",
            estep=("train_lc_estep_nusc.py", "estep/it1.yaml"),
            stage="train_mstep_0",
            checkpoints="checkpoints_mstep_0",
            **fields,
        ),
        f"{prefix}iteration_2": Row(
            f"{title}iteration 2",
            "mstep/assop2p_it2.yaml",
            after=f"{prefix}iteration_1",
            estep=("train_lc_estep_nusc_2.py", "estep/it2.yaml"),
            stage="train_mstep_1",
            checkpoints="checkpoints_mstep_1",
            **fields,
        ),
    }


ROWS = {
    "full": Row("full supervision", "pretrain/full.yaml"),
    "sparse": Row(
        "sparse labels alone", BASELINE, {"criterion.propagated_weight": "0", "criterion.negative_weight": "0"}
    ),
    "propagated": Row("+ propagated labels", BASELINE, {"criterion.negative_weight": "0"}),
    "negative": Row("+ negative labels", BASELINE),
    "association": Row("+ association (iteration 0)", "pretrain/assop2p.yaml"),
    **rounds(""),
    "lidar": Row("LiDAR alone, weak labels", BASELINE, {"model.name": "spvcnn"}),
    "lidar_full": Row("LiDAR alone, full supervision", "pretrain/full.yaml", {"model.name": "spvcnn"}),
    "strong_association": Row("strong, iteration 0", "pretrain/assop2p.yaml", overlays=STRONG),
    **rounds("strong_", overlays=STRONG),
    "strong_perfect": Row(
        "strong, perfect pseudo-labels",
        "mstep/assop2p.yaml",
        estep=(PERFECT, "estep/it1.yaml"),
        stage="train_mstep_0",
        checkpoints="checkpoints_mstep_0",
        overlays=STRONG,
    ),
}


@dataclass(frozen=True)
class Data:
    """A data set of the benchmark: folder of its configurations, files laid over them, command that makes its root.

    imported: from --source, which is needed.
    """

    configs: str
    overlays: tuple[str, ...]
    make: tuple[str, ...]
    imported: bool = False


_NUSCENES = ("prepare_synthetic_nusc.py", "--root", "{root}")


def pandaset(size: str) -> Data:
    """PandaSet with the sizes of a file in benchmarks/configs."""
    overlays = ("configs/recordings/pandaset.yaml", f"benchmarks/configs/{size}.yaml")
    make = ("import_recording.py", "{source}/002", "{root}", "--from", "pandaset")
    return Data("configs/recordings", overlays, make, imported=True)


DATA = {
    "city": Data("configs/nuscenes", ("benchmarks/configs/city.yaml",), _NUSCENES),
    "city-large": Data(
        "configs/nuscenes",
        ("benchmarks/configs/city_large.yaml",),
        (*_NUSCENES, "--train-scenes", "28", "--val-scenes", "8", "--test-scenes", "0", "--image-size", "180", "320"),
    ),
    "pandaset": pandaset("pandaset"),
    "pandaset-large": pandaset("pandaset_large"),
}


def first_row(name: str) -> str:
    """The row that a row's rounds begin with."""
    while (after := ROWS[name].after) is not None:
        name = after
    return name


def with_ancestors(names: Iterable[str]) -> list[str]:
    """The rows, and those that they go on from, in the order of ROWS."""
    wanted = set[str]()
    for name in names:
        step: str | None = name
        while step is not None:
            wanted.add(step)
            step = ROWS[step].after
    return [name for name in ROWS if name in wanted]


def chains(names: Iterable[str]) -> list[list[str]]:
    """The rows in the order of ROWS, those together that go on from each other."""
    found: dict[str, list[str]] = {}
    for name in with_ancestors(names):
        found.setdefault(first_row(name), []).append(name)
    return list(found.values())
