"""Making proposals for a whole data set."""

from collections.abc import Callable
from typing import Any

from core.datasets.base import Reader
from core.errors import UserError
from core.labeling.annotation.parameters import WeakLabelParameters
from core.labeling.annotation.proposals import ProposalJob, proposal_parameters
from core.labeling.over_data_set.prepare import no_barrier, prepare


def prepare_proposals(
    reader: Reader,
    directory: str,
    parameters: WeakLabelParameters,
    seed: int,
    rank: int = 0,
    world_size: int = 1,
    num_workers: int = 0,
    barrier: Callable[[], None] = no_barrier,
    command: str | None = None,
) -> dict[str, Any] | None:
    """Makes the proposals of all frames in `directory`; arguments as for `prepare_weak_labels`.

    Returns:
        {"frames", "components", "proposed": share of the points in a component} on rank 0; None on the others.
    """
    if not len(reader):
        raise UserError(f"split '{reader.split}' has no frames to propose components for")
    job = ProposalJob(reader, directory, parameters, seed)
    own = proposal_parameters(parameters)
    statistics = prepare(job, own, seed, rank, world_size, num_workers, barrier, command)
    if statistics is not None:
        each = statistics["components"] / statistics["frames"]
        share = 100 * statistics["proposed"]
        what = f"proposals for {statistics['frames']} frames: {statistics['components']} components to click on"
        print(f"{what}, {each:.1f} a frame; {share:.1f} % of the points are in one", flush=True)
    return statistics
