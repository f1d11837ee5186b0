"""The one-line errors about label files: which file, what was expected, which command mends it."""

import glob
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from core.errors import UserError
from core.running.files import why_absent

WEAK_LABEL = "weak_label"
SUPERPIXEL = "superpixel"
PSEUDO_LABEL = "pseudo_label"
IMAGE_CACHE = "image_cache"
PROPOSAL = "proposal"
PREDICTION = "prediction"

SUFFIXES = {IMAGE_CACHE: ".npy", PREDICTION: ""}  # of the others .npz
NOUNS = {
    WEAK_LABEL: "weak label",
    SUPERPIXEL: "superpixel map",
    PSEUDO_LABEL: "pseudo-label",
    IMAGE_CACHE: "image cache",
    PROPOSAL: "proposal",
    PREDICTION: "prediction",
}
COMMANDS = {
    WEAK_LABEL: "python3 prepare_sparse_label.py configs/{dataset}/pretrain/preseg.yaml",
    SUPERPIXEL: "python3 prepare_nusc_superpixel.py configs/{dataset}/default.yaml",
    PSEUDO_LABEL: "python3 train_lc_estep_nusc.py configs/{dataset}/estep/it1.yaml --run-dir RUN --weight-path FILE",
    IMAGE_CACHE: "python3 prepare_nusc_superpixel.py configs/{dataset}/default.yaml --cache-images "
    "--dataset.image_cache DIR",
    PROPOSAL: "python3 prepare_sparse_label.py configs/{dataset}/pretrain/preseg.yaml --dataset.annotator clicks",
    PREDICTION: "python3 predict.py configs/{dataset}/pretrain/assop2p.yaml --weight-path FILE --output DIR",
}
META_NAME = "meta.json"
UNFINISHED_NAME = "unfinished.json"  # describes the directory until meta.json does


class BrokenFile(UserError):
    """A label file that is missing, damaged or of another frame: the preparing command makes it anew."""


class ForeignFile(UserError):
    """A label file of another format or of other parameters: it has to be removed before preparing anew."""


def label_path(directory: str, kind: str, token: str) -> str:
    """The file of one frame."""
    return os.path.join(directory, token + SUFFIXES.get(kind, ".npz"))


def mending_command(directory: str, kind: str, dataset: str = "DATASET") -> str:
    """The command that fills `directory`: the one that its meta.json names, else the usual one."""
    for name in (META_NAME, UNFINISHED_NAME):
        try:
            with open(os.path.join(directory, name), encoding="utf-8") as file:
                return str(json.load(file)["command"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    command = COMMANDS[kind].format(dataset=dataset)
    if kind == PSEUDO_LABEL and os.path.basename(os.path.normpath(directory)).endswith("_1"):
        command = command.replace("train_lc_estep_nusc.py", "train_lc_estep_nusc_2.py").replace("it1.yaml", "it2.yaml")
    if kind == IMAGE_CACHE:  # one folder per split in DIR
        command = command.replace("DIR", os.path.dirname(os.path.normpath(directory)))
    return command


def missing(path: str, kind: str, hint: str = "") -> BrokenFile:
    """The error for a file that is not there. It may be raised for every frame, and so lists no directory."""
    command = mending_command(os.path.dirname(path), kind)
    return BrokenFile(f"{path}: no {NOUNS[kind]} file here{hint}; make it with: {command}")


def missing_of_many(absent: Sequence[str], kind: str, num_files: int) -> BrokenFile:
    """The error for files that are not there; names the first, and a file of another format that lies in its place."""
    path, reason = absent[0], why_absent(absent[0])
    stem, suffix = os.path.splitext(path)
    others = [os.path.basename(p) for p in sorted(glob.glob(glob.escape(stem) + "*")) if not p.endswith(suffix)]
    hints = [f"{len(absent)} of {num_files} are missing"] if len(absent) > 1 else []
    hints += [f"it {reason}"] if reason != "is missing" else []
    hints += [f"{others[0]} beside it is of another format"] if others else []
    return missing(path, kind, f" ({'; '.join(hints)})" if hints else "")


def broken(path: str, kind: str, what: str, dataset: str = "DATASET") -> BrokenFile:
    """The error for a damaged file or one of another frame."""
    command = mending_command(os.path.dirname(path), kind, dataset)
    return BrokenFile(f"{path}: {what}; make it anew with: {command}")


def foreign(path: str, kind: str, what: str) -> ForeignFile:
    """The error for a file of another format or of other parameters."""
    directory = os.path.dirname(path)
    command = mending_command(directory, kind)
    return ForeignFile(f"{path}: {what}; remove {directory} (or choose another path) and run: {command}")


@contextmanager
def writing(path: str) -> Iterator[None]:
    """Turns a failure to write (full disk, no permission) into a UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); make room or choose another path") from error
