"""Annotation of components, simulated from dense labels (paper, section "pre-segmentation and annotation")."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from core.label_files.files import ANNOTATED_IGNORED, WeakLabel
from core.labeling.annotation.parameters import WeakLabelParameters


def annotate(
    component: NDArray[np.int32],
    num_ground: int,
    labels: NDArray[np.uint8],
    num_classes: int,
    things: Sequence[int],
    parameters: WeakLabelParameters,
    rng: np.random.Generator,
) -> WeakLabel:
    """Annotates a few points of each component; propagates its class where it has one, else notes the candidates.

    Args:
        component: int32 [N], ground components 0..num_ground-1, then clusters; -1 = none.
        labels: uint8 [N], dense classes, 0 = ignored.
        things: ids of the thing classes.

    Returns:
        The weak label of the N points; its components are those of `component` that were not skipped, renumbered.
    """
    inside = np.flatnonzero(component >= 0)
    num_components = int(component.max(initial=-1)) + 1
    group = component[inside].astype(np.int64) * num_classes + labels[inside]  # one group per component and class
    counts = np.bincount(group, minlength=num_components * num_classes).reshape(num_components, num_classes)
    remaining = remaining_classes(counts, num_ground, things, parameters)

    quota = annotations_per_class(remaining, parameters.point_per_class)
    picked = inside[pick_per_group(group, quota.ravel(), rng)]
    sparse = np.zeros(len(component), np.uint8)
    sparse[picked] = np.where(labels[picked] == 0, ANNOTATED_IGNORED, labels[picked])

    num_remaining = remaining.sum(1)
    only_class = np.where(num_remaining == 1, remaining.argmax(1), 0).astype(np.uint8)
    bits = np.uint32(1) << np.arange(num_classes, dtype=np.uint32)
    candidates = np.where(num_remaining > 1, remaining @ bits, 0).astype(np.uint32)

    kept = num_remaining > 0
    new_id = np.append(np.where(kept, np.cumsum(kept) - 1, -1), -1).astype(np.int32)  # the last serves component -1
    propagated = np.append(only_class, np.uint8(0))[component]
    return WeakLabel(sparse, propagated, new_id[component], candidates[kept])


def remaining_classes(
    counts: NDArray[np.integer], num_ground: int, things: Sequence[int], parameters: WeakLabelParameters
) -> NDArray[np.bool_]:
    """The classes of each component that the annotator sees, bool [K, C]; none for a skipped component.

    Args:
        counts: [K, C], points of each class in each component; the first `num_ground` components are ground.
    """
    is_ground = np.arange(len(counts)) < num_ground
    remaining = noticed_classes(counts, num_ground, things, parameters)
    only_ignored = ~(counts[:, 1:] > 0).any(1)
    too_small = ~is_ground & (counts.sum(1) < smallest_size(counts > 0, things, parameters))
    remaining[only_ignored | too_small] = False
    return remaining


def noticed_classes(
    counts: NDArray[np.integer], num_ground: int, things: Sequence[int], parameters: WeakLabelParameters
) -> NDArray[np.bool_]:
    """The classes of each component that are not too rare in it to be noticed, bool [K, C]; all of them on ground."""
    is_ground = np.arange(len(counts)) < num_ground
    size = np.maximum(counts.sum(1), 1)
    rare = counts / size[:, None] <= rare_share(counts, things, parameters)[:, None]
    return (counts > 0) & (is_ground[:, None] | ~rare)


def smallest_size(
    present: NDArray[np.bool_], things: Sequence[int], parameters: WeakLabelParameters
) -> NDArray[np.int64]:
    """int64 [K]: clusters of fewer points are skipped, by the classes present in them (bool [K, C])."""
    with_thing, with_class, without = parameters.small_component_sizes
    has_thing = present[:, list(things)].any(1)
    special = parameters.small_component_class
    has_class = present[:, special] if 0 < special < present.shape[1] else np.zeros(len(present), bool)
    return np.where(has_thing, with_thing, np.where(has_class, with_class, without))


def rare_share(
    counts: NDArray[np.integer], things: Sequence[int], parameters: WeakLabelParameters
) -> NDArray[np.float64]:
    """float64 [K]: classes with at most this share of a cluster are dropped, by the thing classes in it."""
    no_thing, majority_thing, minority_thing, several_things = parameters.rare_class_shares
    num_things = (counts[:, list(things)] > 0).sum(1)
    thing_is_majority = np.isin(counts.argmax(1), list(things))
    one_thing = np.where(thing_is_majority, majority_thing, minority_thing)
    return np.where(num_things == 0, no_thing, np.where(num_things == 1, one_thing, several_things))


def annotations_per_class(remaining: NDArray[np.bool_], point_per_class: int) -> NDArray[np.int64]:
    """int64 [K, C]: points to annotate; one only for the ignored class and for the only class of a component."""
    wanted = np.full(remaining.shape, point_per_class)
    wanted[:, 0] = 1
    wanted[remaining.sum(1) == 1] = 1
    return np.where(remaining, wanted, 0)


def pick_per_group(group: NDArray[np.int64], quota: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Draws `quota[g]` random rows of each group g, or all where it has fewer; indices into `group`."""
    order = np.lexsort((rng.random(len(group)), group))  # by group, at random in it
    ordered = group[order]
    first = np.searchsorted(ordered, np.arange(len(quota)))  # where each group starts
    return order[np.arange(len(order)) - first[ordered] < quota[ordered]]
