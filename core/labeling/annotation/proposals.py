"""Proposals: the components that a person, or the simulated annotator, clicks on. They hold nothing of classes."""

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.datasets.base import Reader
from core.datasets.frame import Frame
from core.label_files.archive import FORMATS, check_identity, read_archive, write_archive
from core.label_files.errors import PROPOSAL, BrokenFile, broken, label_path
from core.labeling.annotation.parameters import WeakLabelParameters
from core.labeling.annotation.weak_label import check_packages
from core.labeling.annotation.windows import Window, frame_rng, pre_segment_window, windows_of

AFTER_THE_CLICK = (
    "small_component_sizes",
    "small_component_class",
    "rare_class_shares",
    "point_per_class",
    "annotator",
)
"""Parameters that decide what becomes of a click; proposals do not depend on them."""
_MEMBERS: dict[str, type] = {"component": np.int32, "sizes": np.int64}


@dataclass(frozen=True, eq=False)
class Proposal:
    """The components of one frame.

    Attributes:
        component: int32 [N], component of each point, counted in the window; -1 = none.
        sizes: int64 [K], points of each of the window's components, over all its frames.
        num_ground: the first so many of them are ground.
        window: token of the window's first frame.
        frames: tokens of its frames.
        identity: hash of all that was proposed in the window; clicks refer to it.
        cloud: hash of the frame's points.
        parents: of the last components, which a person cut off others: off which.
    """

    component: NDArray[np.int32]
    sizes: NDArray[np.int64]
    num_ground: int
    window: str
    frames: tuple[str, ...]
    identity: str
    cloud: str
    parents: tuple[int, ...] = ()

    @cached_property
    def ground(self) -> NDArray[np.bool_]:
        """bool [K], which components are ground; the part of one is what the whole was."""
        proposed = len(self.sizes) - len(self.parents)
        ground = np.arange(len(self.sizes)) < self.num_ground
        for part, parent in enumerate(self.parents, proposed):
            ground[part] = ground[parent]
        return ground

    def queue(self, smallest: int) -> NDArray[np.int64]:
        """The components to ask for, largest first: all ground, and clusters of at least `smallest` points."""
        wanted = self.ground | (self.sizes >= smallest)
        order = np.argsort(-self.sizes, kind="stable")
        return order[wanted[order]]


def proposal_parameters(parameters: WeakLabelParameters) -> dict[str, Any]:
    """What proposals depend on."""
    return {k: v for k, v in dataclasses.asdict(parameters).items() if k not in AFTER_THE_CLICK}


def cloud_hash(points: NDArray[np.float32]) -> str:
    """16 hexadecimal digits of the coordinates of points [N, >= 3]."""
    return hashlib.sha256(np.ascontiguousarray(points[:, :3], "<f4").tobytes()).hexdigest()[:16]


def read_proposal(
    directory: str, token: str, num_points: int | None = None, parameters_hash: str | None = None
) -> Proposal:
    """Reads one frame's proposals, checked to be of this frame, of `num_points` points and of `parameters_hash`.

    Raises BrokenFile or ForeignFile (both UserError), naming the file and the command that makes it anew.
    """
    path = label_path(directory, PROPOSAL, token)
    header, arrays = read_archive(path, PROPOSAL, _MEMBERS)
    check_identity(path, PROPOSAL, header, token, parameters_hash)
    component, sizes = arrays["component"], arrays["sizes"]
    if num_points is not None and len(component) != num_points:
        raise broken(path, PROPOSAL, f"has {len(component)} points, the frame {num_points}")
    if len(component) and (component.min() < -1 or component.max() >= len(sizes)):
        raise broken(path, PROPOSAL, f"component ids should lie in -1..{len(sizes) - 1}")
    try:
        fields = {name: header[name] for name in ("num_ground", "window", "identity", "cloud")}
        return Proposal(component, sizes, frames=tuple(header["frames"]), **fields)
    except (KeyError, TypeError) as error:
        raise broken(path, PROPOSAL, f"its header lacks {error}") from None


def write_window(directory: str, window: Window, parameters_hash: str) -> None:
    """Writes the proposals of a window's frames."""
    clouds = [cloud_hash(points) for points in window.points]
    spread = [np.full(len(points), -1, np.int32) for points in window.points]
    digest = hashlib.sha256()
    for frame, cloud, rows, own, component in zip(
        window.frames, clouds, window.rows, window.component, spread, strict=True
    ):
        component[rows] = own
        digest.update(f"{frame.token} {cloud} {window.num_ground} ".encode() + component.tobytes())
    together = {
        "window": window.frames[0].token,
        "frames": [frame.token for frame in window.frames],
        "num_ground": window.num_ground,
        "identity": digest.hexdigest()[:16],
    }
    for frame, cloud, rows, component in zip(window.frames, clouds, window.rows, spread, strict=True):
        header = {
            "kind": PROPOSAL,
            "format": FORMATS[PROPOSAL],
            "token": frame.token,
            "parameters": parameters_hash,
            "statistics": {"annotated": len(rows), "proposed": int((component >= 0).sum())},
            "cloud": cloud,
            **together,
        }
        arrays: dict[str, NDArray[Any]] = {"component": component, "sizes": window.sizes.astype(np.int64)}
        write_archive(label_path(directory, PROPOSAL, frame.token), header, arrays)


@dataclass
class ProposalJob:
    """Proposals: one file per frame; those of a window are made together, with its first frame."""

    reader: Reader
    directory: str
    labels: WeakLabelParameters
    seed: int
    identity: str = ""
    kind: str = PROPOSAL

    @property
    def parameters(self) -> dict[str, Any]:
        """See Job."""
        return proposal_parameters(self.labels)

    def check_packages(self) -> dict[str, Any]:
        """See Job."""
        return check_packages(self.labels)

    @cached_property
    def windows(self) -> dict[int, range]:
        """{index of its first frame: indices of its frames} of each window."""
        return {window.start: window for window in windows_of(self.reader, self.labels.window)}

    def make(self, index: int) -> bool:
        """See Job."""
        frames = [self.reader.frame(i) for i in self.windows.get(index, range(0))]
        if self._are_whole(frames):
            return False
        rng = frame_rng(self.seed, frames[0].token)
        write_window(self.directory, pre_segment_window(self.reader, frames, self.labels, rng), self.identity)
        return True

    def _are_whole(self, frames: Sequence[Frame]) -> bool:
        """Whether the frames' files are there, and of the same window."""
        tokens = tuple(frame.token for frame in frames)
        try:
            found = [read_proposal(self.directory, token, parameters_hash=self.identity) for token in tokens]
        except BrokenFile:
            return False
        return all(proposal.frames == tokens for proposal in found)

    def statistics(self) -> dict[str, Any]:
        """See Job."""
        components, shares = 0, []
        smallest = min(self.labels.small_component_sizes)
        for token in self.reader.tokens():
            path = label_path(self.directory, PROPOSAL, token)
            header, _ = read_archive(path, PROPOSAL, {})
            counts = header["statistics"]
            shares.append(counts["proposed"] / max(counts["annotated"], 1))
            if header["window"] == token:
                components += len(read_proposal(self.directory, token).queue(smallest))
        frames = len(self.reader)
        return {"frames": frames, "components": components, "proposed": float(np.mean(shares)) if frames else None}

    def summary(self, statistics: dict[str, Any]) -> str:
        """See Job."""
        if not statistics["frames"]:
            return "no frames to propose components for"
        each = statistics["components"] / statistics["frames"]
        return (
            f"proposals for {statistics['frames']} frames: {statistics['components']} components to click on, "
            f"{each:.1f} a frame; {100 * statistics['proposed']:.1f} % of the points are in one"
        )
