"""Weak labels of a whole data set from the journal of clicks: what label_from_clicks.py runs."""

import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from core.datasets.base import Reader
from core.errors import UserError
from core.label_files.errors import META_NAME, PROPOSAL, UNFINISHED_NAME
from core.label_files.files import (
    WEAK_LABEL,
    check_directory,
    describe,
    read_weak_label_statistics,
    write_meta,
    write_weak_label,
)
from core.labeling.annotation.clicks import (
    ProposedWindow,
    check_answer,
    human_statistics,
    labels_of_window,
    read_windows,
    simulated_answers,
)
from core.labeling.annotation.cuts import cut_proposals
from core.labeling.annotation.journal import Answer, History, Key, append, label_action, read_journal
from core.labeling.annotation.parameters import WeakLabelParameters
from core.labeling.annotation.proposals import proposal_parameters
from core.labeling.annotation.statistics import average_statistics, frame_statistics
from core.labeling.annotation.windows import windows_of
from core.labeling.over_data_set.prepare import claim_directory, finish_directory
from core.running.files import make_folder, write_json
from core.running.locks import locked
from core.running.progress import progress

SIMULATED = "simulated"
"""Who answers from dense labels."""


def label_from_clicks(
    reader: Reader,
    directory: str,
    proposals: str,
    journal: str,
    parameters: WeakLabelParameters,
    seed: int,
    skip_changed: bool = False,
    command: str | None = None,
) -> dict[str, Any]:
    """Makes the weak labels of all frames in `directory`, in the place of those of an older journal.

    Args:
        proposals: directory of the proposals that were clicked on.
        journal: of the clicks.
        parameters: of the labels; what they say of proposals must be what those were made with.
        skip_changed: leave out clicks on clouds or components that have changed since; else they are refused.
    Returns statistics, with "human": see `human_statistics`. They claim no accuracy.
    Raises UserError: proposals or journal are missing, broken or do not fit; the directory holds other labels.
    """
    identity = check_proposals(reader, proposals, parameters)
    history = read_journal(journal)
    if not history.answers:
        raise UserError(f"{journal}: no clicks in it; label components first, or give --simulate")
    with locked(directory, True):
        extra = {"journal": _hash(history)}
        description = describe(WEAK_LABEL, parameters, seed, reader, extra)
        _take_over(directory, description)
        left_out = 0
        windows = read_windows(reader, proposals, identity)
        for window in progress(windows, _count(reader, parameters), "labels from clicks"):
            window = cut_window(reader, journal, window, history, skip_changed)
            answers, changed = _fitting(journal, history, window, skip_changed)
            left_out += changed
            labels = labels_of_window(journal, window, answers, reader.classes, parameters)
            for frame, label in zip(window.frames, labels, strict=True):
                region = reader.annotated(frame, reader.load_points(frame))
                nothing = np.zeros(label.num_points, np.uint8)
                counts = vars(frame_statistics(label, region, nothing, reader.classes.num_classes))
                zeros = [0] * reader.classes.num_classes  # nothing is known of which are right
                counts |= {"correct": zeros, "total": zeros}
                write_weak_label(directory, frame.token, label, counts, description["parameters_hash"])
        frames = [read_weak_label_statistics(directory, token) for token in reader.tokens()]
        statistics = average_statistics(frames, reader.classes.names)
        statistics["human"] = {**human_statistics(history), "left_out": left_out}
        statistics["frames_with_labels"] = sum(frame["sparse"] > 0 for frame in frames)
        write_meta(directory, WEAK_LABEL, parameters, seed, reader, statistics, extra, command)
        finish_directory(directory)
    print(click_line(statistics), flush=True)
    return statistics


def simulate_clicks(reader: Reader, proposals: str, journal: str, parameters: WeakLabelParameters, seed: int) -> int:
    """Answers every component that has no answer yet from the dense labels, into the journal; the number of answers."""
    identity = check_proposals(reader, proposals, parameters)
    history, count = read_journal(journal), 0
    windows = read_windows(reader, proposals, identity)
    for window in progress(windows, _count(reader, parameters), "simulated clicks"):
        window = cut_window(reader, journal, window, history, skip_changed=False)
        answers = list(simulated_answers(reader, window, history, parameters, seed))
        append(journal, (label_action(answer, SIMULATED, time.time()) for answer in answers))
        count += len(answers)
    return count


def _count(reader: Reader, parameters: WeakLabelParameters) -> int:
    return len(windows_of(reader, parameters.window))


def check_proposals(reader: Reader, proposals: str, parameters: WeakLabelParameters) -> str:
    """Hash that each file of the proposals must carry."""
    expected = {"parameters": proposal_parameters(parameters)}
    meta = check_directory(proposals, PROPOSAL, reader.tokens(), expected, reader.name)
    identity: str = meta["parameters_hash"]
    return identity


def _fitting(
    journal: str, history: History, window: ProposedWindow, skip_changed: bool
) -> tuple[dict[Key, Answer], int]:
    """The answers of a window that fit it, and the number of those that were left out."""
    own = {key: answer for key, answer in history.answers.items() if key[0] == window.token}
    fitting = {}
    for key, answer in own.items():
        try:
            check_answer(journal, answer, window)
        except UserError:
            if not skip_changed:
                raise
            continue
        fitting[key] = answer
    return fitting, len(own) - len(fitting)


def cut_window(
    reader: Reader, journal: str, window: ProposedWindow, history: History, skip_changed: bool
) -> ProposedWindow:
    """A window after the cuts of a journal.

    Raises UserError: a cut of components that were proposed anew since, or that are not there.
    """
    cuts = history.cuts.get(window.token, [])
    fitting = [cut for cut in cuts if cut.proposal == window.identity]
    if len(fitting) < len(cuts) and not skip_changed:
        line = next(cut.line for cut in cuts if cut.proposal != window.identity)
        raise UserError(
            f"{journal}: line {line} cuts other components of {window.token}; restore the proposals, or leave such "
            "lines out with --skip-changed"
        )
    if not fitting:
        return window
    for part, cut in enumerate(fitting, len(window.proposals[0].sizes)):
        if not 0 <= cut.component < part:
            raise UserError(f"{journal}: line {cut.line} cuts component {cut.component}, which is not there; remove it")
    clouds = [reader.load_points(frame) for frame in window.frames]
    tokens = [frame.token for frame in window.frames]
    return replace(window, proposals=cut_proposals(tokens, window.proposals, clouds, fitting))


def _take_over(directory: str, description: Mapping[str, Any]) -> None:
    """Makes the directory ready for the labels of this journal; those of an older one are written over."""
    make_folder(directory)
    for name in (META_NAME, UNFINISHED_NAME):
        path = os.path.join(directory, name)
        try:
            with open(path, encoding="utf-8") as file:
                found = json.load(file)
        except (OSError, ValueError):
            continue
        if found.get("kind") == WEAK_LABEL and found.get("journal"):
            write_json(os.path.join(directory, UNFINISHED_NAME), description)
            if name == META_NAME:
                os.remove(path)
    claim_directory(directory, description)


def _hash(history: History) -> str:
    lines = sorted(
        f"{a.window} {a.component} {a.proposal} {a.classes} {a.complete} {a.points}" for a in history.answers.values()
    )
    cuts = [f"{c.component} {c.proposal} {c.planes}" for window in sorted(history.cuts) for c in history.cuts[window]]
    lines += cuts
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def click_line(statistics: Mapping[str, Any]) -> str:
    """The statistics in one line."""
    human = statistics["human"]
    shares = ", ".join(f"{name} {100 * statistics[name]:.2f} %" for name in ("sparse", "propagated", "negative"))
    seconds = "" if human["median_seconds"] is None else f", {human['median_seconds']:.1f} s a component (median)"
    left_out = f", {human['left_out']} changed ones left out" if human["left_out"] else ""
    return (
        f"weak labels from clicks, {statistics['frames_with_labels']} of {statistics['frames']} frames: {shares}; "
        f"{human['components']} components, {human['clicks']} clicks by {', '.join(human['people'])}{seconds}{left_out}"
    )
