"""E-step: runs the network over the training frames and writes pseudo-labels."""

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader
from torchpack import distributed as dist
from torchpack.utils.logging import logger

from core.comm import barrier, in_first_process, sum_over_processes
from core.datasets.base import Reader
from core.datasets.collate import Batch
from core.datasets.frame import Frame
from core.datasets.label_files import (
    PSEUDO_LABEL,
    describe,
    read_pseudo_label,
    read_weak_label,
    write_meta,
    write_pseudo_label,
)
from core.datasets.sample import SegmentationDataset
from core.errors import UserError
from core.labeling.prepare import claim_directory, finish_directory
from core.labeling.pseudo_labels import PseudoLabelRules, pseudo_labels
from core.metrics import confusion_matrix
from core.models.two_branch import Outputs
from core.network_input import STORED
from core.progress import progress

Infer = Callable[[Batch], Outputs]


def run_estep(
    infer: Infer,
    dataset: SegmentationDataset,
    make_loader: Callable[[list[int]], DataLoader],
    directory: str,
    rules: PseudoLabelRules,
    checkpoint_hash: str,
    network_input: Mapping[str, Any],
    command: str | None = None,
) -> dict[str, Any] | None:
    """Writes one pseudo-label file per frame, then meta.json with the statistics.

    Frames that are complete already are skipped, so that an interrupted run goes on where it stopped.

    Args:
        infer: the network in evaluation mode.
        dataset: the training frames in mode "estep".
        make_loader: batches of given frames.
        directory: where the files go.
        rules: of this round.
        checkpoint_hash: of the checkpoint that the network was loaded from.
        network_input: what it takes, and its precision (see core/network_input.py).
    Returns the statistics on the first process, None on the others.
    """
    reader = dataset.reader
    parameters = {
        "rules": vars(rules),
        "checkpoint": checkpoint_hash,
        "labels": sorted(dataset.label_hashes.values()),
        STORED: dict(network_input),
    }
    description = describe(PSEUDO_LABEL, parameters, None, reader)
    identity = description["parameters_hash"]
    in_first_process(lambda: claim_directory(directory, description))

    share = range(dist.rank(), len(dataset), dist.size())
    remaining = [i for i in share if not _is_whole(directory, reader.frame(i).token, identity)]
    if len(remaining) < len(share):
        logger.info(f"{directory}: {len(share) - len(remaining)} frames of this process are there already.")
    loader = make_loader(remaining)
    for batch in progress(loader, len(loader), f"E-step {os.path.basename(directory)}"):
        _label_batch(infer(batch), batch, dataset, directory, rules, identity)
    barrier()
    statistics = _statistics(reader, dataset, directory, rules, share)
    if not dist.is_master():
        return None
    write_meta(directory, PSEUDO_LABEL, parameters, None, reader, statistics, command=command)
    finish_directory(directory)
    return statistics


def _is_whole(directory: str, token: str, identity: str) -> bool:
    try:
        read_pseudo_label(directory, token, parameters_hash=identity)
    except UserError:
        return False
    return True


def _label_batch(
    outputs: Outputs, batch: Batch, dataset: SegmentationDataset, directory: str, rules: PseudoLabelRules, identity: str
) -> None:
    begin = 0
    for i, size in enumerate(batch.sizes):
        voxels = slice(begin, begin + size)
        begin += size
        sparse, candidates, previous = (
            tensor[voxels].to(outputs.x_vox.device).long()
            for tensor in (batch.sparse_label, batch.candidates, batch.pseudo_label)
        )
        label = pseudo_labels(
            outputs.x_vox[voxels].float(), outputs.features[voxels].float(), sparse, candidates, previous, rules
        )
        rows = batch.point_rows[i].numpy()
        points = np.zeros(batch.num_points[i], np.uint8)
        points[rows] = label.cpu().numpy().astype(np.uint8)[batch.point_voxel[i].numpy()]
        seen = seen_points(dataset.reader, dataset.reader.frame(batch.indices[i]))
        points[~to_be_written(dataset.weak_label_dir, batch.tokens[i], rules, seen)] = 0
        write_pseudo_label(directory, batch.tokens[i], points, identity)


def seen_points(reader: Reader, frame: Frame) -> NDArray[np.bool_]:
    """bool [N]: which points of a frame are annotated from: those that a camera sees, or all."""
    return reader.annotated(frame, reader.load_points(frame))


def to_be_written(
    weak_label_dir: str | None, token: str, rules: PseudoLabelRules, seen: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """bool [N]: which points of a frame this round labels.

    With the candidates' filter (round 1) the points of components with candidates, else (round 2) the points in view
    that are neither annotated nor propagated.
    """
    if weak_label_dir is None:
        raise ValueError("an E-step needs weak labels")
    weak = read_weak_label(weak_label_dir, token, len(seen))
    if rules.filter_by_candidates:
        return weak.point_candidates() != 0
    return seen & (weak.sparse == 0) & (weak.propagated == 0)


def _statistics(
    reader: Reader, dataset: SegmentationDataset, directory: str, rules: PseudoLabelRules, share: range
) -> dict[str, Any]:
    """Share of labelled points and, where the dense labels are at hand, the quality per class; over all processes."""
    num_classes = reader.classes.num_classes
    counts = np.zeros(3, np.int64)  # points, points labelled, frames with dense labels
    confusion = np.zeros((num_classes, num_classes), np.int64)
    for index in share:
        frame = reader.frame(index)
        pseudo = read_pseudo_label(directory, frame.token)
        counts[:2] += len(pseudo), np.count_nonzero(pseudo)
        if not reader.has_labels(frame):
            continue
        label = reader.load_labels(frame, len(pseudo))
        eligible = to_be_written(dataset.weak_label_dir, frame.token, rules, seen_points(reader, frame))
        confusion += confusion_matrix(label[eligible], pseudo[eligible], num_classes)
        counts[2] += 1
    counts, confusion = sum_over_processes(counts), sum_over_processes(confusion)
    statistics: dict[str, Any] = {"points": int(counts[0]), "labelled": int(counts[1]), "scored_frames": int(counts[2])}
    if counts[2]:
        statistics |= quality(confusion, reader.classes.names)
    return statistics


def quality(confusion: NDArray[np.int64], names: tuple[str, ...]) -> dict[str, Any]:
    """Per class: shares of its points (of those that this round labels) that got the right label, a wrong one, none.

    Args:
        confusion: [C, C], row = true class, column = pseudo-label (0 = none).
    """
    total = confusion.sum(1)
    classes = {}
    for c in range(1, len(names)):
        if total[c]:
            right, none = confusion[c, c], confusion[c, 0]
            classes[names[c]] = {
                "points": int(total[c]),
                "correct": float(right / total[c]),
                "wrong": float((total[c] - right - none) / total[c]),
                "ignored": float(none / total[c]),
            }
    labelled = confusion[1:, 1:].sum()
    accuracy = float(np.trace(confusion[1:, 1:]) / labelled) if labelled else None
    return {"accuracy": accuracy, "classes": classes, "confusion": confusion.tolist()}


def quality_table(statistics: dict[str, Any]) -> str:
    """The statistics as text."""
    if "classes" not in statistics:
        return "No dense labels at hand: the pseudo-labels are not scored."
    lines = [f"{'class':<24}{'points':>10}{'correct %':>11}{'wrong %':>10}{'ignored %':>11}"]
    for name, row in statistics["classes"].items():
        correct, wrong, ignored = (100 * row[key] for key in ("correct", "wrong", "ignored"))
        lines.append(f"{name:<24}{row['points']:>10}{correct:>11.1f}{wrong:>10.1f}{ignored:>11.1f}")
    if statistics["accuracy"] is not None:
        lines.append(f"accuracy of labelled points: {100 * statistics['accuracy']:.1f} %")
    return "\n".join(lines)


def no_grad_inference(network: torch.nn.Module, device: torch.device, amp_dtype: torch.dtype | None) -> Infer:
    """Runs the network in evaluation mode on batches that are on the CPU."""
    from core.trainers import network_inputs

    network.eval()

    def infer(batch: Batch) -> Outputs:
        with torch.no_grad(), torch.autocast(device.type, dtype=amp_dtype, enabled=amp_dtype is not None):
            return network(**network_inputs(batch.to(device, non_blocking=True)))

    return infer
