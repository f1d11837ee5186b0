"""E-step: runs the network over the training frames and writes pseudo-labels."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader
from torchpack import distributed as dist
from torchpack.utils.logging import logger

from core.datasets.file_points import BatchPoints, describe_points, join_points
from core.datasets.sample import SegmentationDataset
from core.errors import UserError
from core.label_files.files import (
    PSEUDO_LABEL,
    describe,
    read_pseudo_label,
    read_weak_label,
    write_meta,
    write_pseudo_label,
)
from core.labeling.over_data_set.prepare import claim_directory, finish_directory
from core.labeling.pseudo_labels import PseudoLabelRules, pseudo_labels
from core.loader.collate import Batch
from core.models.two_branch import Outputs, without_unread_heads
from core.models.views import View, average
from core.running.comm import barrier, in_first_process, sum_over_processes
from core.running.progress import progress
from core.scores.evaluation import ConfusionCounts, batch_points, labels_of_points
from core.training.network_input import STORED
from core.training.precision import reproducible_float32

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
    device: torch.device | str = "cpu",
    inferred: Mapping[str, Any] | None = None,
) -> dict[str, Any] | None:
    """Writes one pseudo-label file per frame, then meta.json with the statistics.

    Each frame is gone over once: its label is made, counted and written. Frames that are complete already are skipped,
    so that an interrupted run goes on where it stopped; they are read for the statistics alone.

    Args:
        infer: the network in evaluation mode, on `device`.
        dataset: the training frames in mode "estep".
        make_loader: batches of given frames.
        directory: where the files go.
        rules: of this round.
        checkpoint_hash: of the checkpoint that the network was loaded from.
        network_input: what it takes, and its precision (see core/training/network_input.py).
        device: where labels are made and counted.
        inferred: how, where it is not as published (see `builder.describe_inference`).
    Returns the statistics on the first process, None on the others.
    """
    reader = dataset.reader
    parameters = {
        "rules": vars(rules),
        "checkpoint": checkpoint_hash,
        "labels": sorted(dataset.labels.hashes.values()),
        STORED: dict(network_input),
        **(inferred or {}),
    }
    description = describe(PSEUDO_LABEL, parameters, None, reader)
    identity = description["parameters_hash"]
    in_first_process(lambda: claim_directory(directory, description))

    statistics = Statistics(rules, reader.classes.num_classes, device)
    share = range(dist.rank(), len(dataset), dist.size())
    whole = {i for i in share if _is_whole(directory, reader.frame(i).token, identity)}
    if whole:
        logger.info(f"{directory}: {len(whole)} frames of this process are there already.")
    for index in progress(sorted(whole), len(whole), "their statistics") if whole else ():
        _count_written(statistics, dataset, directory, index, device)
    loader = make_loader([i for i in share if i not in whole])
    for batch in progress(loader, len(loader), f"E-step {os.path.basename(directory)}"):
        batch = batch.to(device, non_blocking=True)
        label = _batch_labels(infer(batch), batch, rules)
        statistics.add(label, batch_points(batch))
        frames = np.split(label.cpu().numpy(), np.cumsum(batch_points(batch).sizes)[:-1])
        for token, points in zip(batch.tokens, frames, strict=True):
            write_pseudo_label(directory, token, points, identity)
    barrier()
    summary = statistics.summary(reader.classes.names)
    if not dist.is_master():
        return None
    write_meta(directory, PSEUDO_LABEL, parameters, None, reader, summary, command=command)
    finish_directory(directory)
    return summary


def _is_whole(directory: str, token: str, identity: str) -> bool:
    try:
        read_pseudo_label(directory, token, parameters_hash=identity)
    except UserError:
        return False
    return True


def _batch_labels(outputs: Outputs, batch: Batch, rules: PseudoLabelRules) -> Tensor:
    """uint8 [T]: pseudo-labels of all points of the batch's LiDAR files; each sample's depend on itself alone."""
    parts = [
        pseudo_labels(logits.float(), features.float(), sparse, candidates, previous, rules)
        for logits, features, sparse, candidates, previous in zip(
            *(
                tensor.split(batch.sizes)
                for tensor in (
                    outputs.x_vox,
                    outputs.features,
                    batch.sparse_label,
                    batch.candidates,
                    batch.pseudo_label,
                )
            ),
            strict=True,
        )
    ]
    points = batch_points(batch)
    return labels_of_points(torch.cat(parts), points) * to_be_written(points, rules)


def to_be_written(points: BatchPoints, rules: PseudoLabelRules) -> Tensor:
    """bool [T]: which points this round labels.

    With the candidates' filter (round 1) the points of components with candidates, else (round 2) the points that are
    annotated from (see `Reader.annotated`) and that have no weak label.
    """
    return points.mixed if rules.filter_by_candidates else points.annotated & ~points.weak


def _count_written(
    statistics: "Statistics", dataset: SegmentationDataset, directory: str, index: int, device: torch.device | str
) -> None:
    """Counts the labels of a frame that an earlier run has written."""
    reader, folder = dataset.reader, dataset.labels.weak_label_dir
    frame = reader.frame(index)
    label = read_pseudo_label(directory, frame.token)
    weak = read_weak_label(folder, frame.token, len(label)) if folder is not None else None
    truth = reader.load_labels(frame, len(label)) if reader.has_labels(frame) else None
    annotated = reader.annotated(frame, reader.load_points(frame))
    points = describe_points(np.full(len(label), -1, np.int32), annotated, weak, truth)
    statistics.add(torch.from_numpy(label).to(device), join_points([points], [0]).map(lambda field: field.to(device)))


class Statistics:
    """Share of labelled points and, where there are dense labels, the quality per class.

    Counted on the device, batch by batch, and read at the end.
    """

    def __init__(self, rules: PseudoLabelRules, num_classes: int, device: torch.device | str):
        self.rules = rules
        self.points = self.scored_frames = 0
        self.labelled = torch.zeros((), dtype=torch.int64, device=device)
        self.confusion = ConfusionCounts((1,), num_classes, device)

    def add(self, label: Tensor, points: BatchPoints) -> None:
        """Counts pseudo-labels uint8 [T] of the points of whole frames; all on the device."""
        self.points += len(label)
        self.scored_frames += points.labelled_frames
        self.labelled += (label > 0).sum()
        self.confusion.add(0, points.label, label, to_be_written(points, self.rules) & points.labelled)

    def summary(self, names: tuple[str, ...]) -> dict[str, Any]:
        """The statistics of all processes together; called by all of them."""
        mine = np.array([self.points, self.scored_frames, int(self.labelled)])
        points, frames, labelled = sum_over_processes(mine).tolist()
        confusion = sum_over_processes(self.confusion.numpy()[0])
        result: dict[str, Any] = {"points": points, "labelled": labelled, "scored_frames": frames}
        return result | quality(confusion, names) if frames else result


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


def no_grad_inference(
    network: torch.nn.Module,
    device: torch.device | str,
    image_head: bool = True,
    views: Sequence[View] = (View(),),
) -> Infer:
    """Runs the network in evaluation mode, in float32 whatever training uses, and with the same result in every run.

    Args:
        image_head: its logits are wanted.
        views: of the points, over which outputs are averaged.
    """
    from core.training.trainer import network_inputs

    network.eval()

    def infer(batch: Batch) -> Outputs:
        with torch.no_grad(), reproducible_float32(), without_unread_heads(network, image_head):
            return average(network, network_inputs(batch.to(device, non_blocking=True)), views)

    return infer
