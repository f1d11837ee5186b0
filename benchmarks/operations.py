"""Operations of one training step, and those that make the host wait for a GPU, counted on a CPU.

    python3 -m benchmarks.operations

Runs the step as on a GPU (`core.sparse.rows.as_on_gpu`) under a dispatch mode that sees every operation, in the forward
pass, the losses, the backward pass and the update. Views and allocations, which start nothing on a GPU, do not count.
The counts hardly depend on sizes, so small ones are the default; `--steps` repeats with other voxels. With
`--synchronised` the network is wrapped as for training with several GPUs (in a group of one process): batch norm over
all processes, whose arithmetic is several operations on a CPU and one on a GPU.
"""

import argparse
from collections import Counter
from typing import Any

import torch
import torch.distributed
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.common import machine, table
from benchmarks.made_up_batch import NUM_CLASSES, made_up_batch
from core.losses import LossWeights
from core.models import TwoBranchNetwork
from core.models.synchronized_norm import synchronize_batch_norm
from core.sparse.rows import as_on_gpu
from core.training.trainer import SegmentationTrainer

WAITING = {
    "_local_scalar_dense",  # .item(), .tolist(), bool(tensor)
    "nonzero",
    "masked_select",
    "bincount",
    "_unique2",
    "unique_dim",
    "unique_consecutive",
    "equal",
    "lift_fresh",  # torch.tensor(...): a copy from the host's memory
}
FREE = {
    "detach",
    "scalar_tensor",
    "empty",
    "empty_like",
    "new_empty",
    "empty_strided",
    "new_empty_strided",
    "alias",
    "resize_",
}


class Counting(TorchDispatchMode):
    """Counts operations by name.

    Attributes:
        operations: what starts work.
        waits: what makes the host wait for a GPU that has the tensors.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations: Counter[str] = Counter()
        self.waits: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.split("::")[-1]
        if not (_is_view(func) or name in FREE):
            self.operations[name] += 1
        if name in WAITING or _indexes_by_booleans(name, args) or _repeats_unknown(name, func, args, kwargs):
            self.waits[name] += 1
        return func(*args, **kwargs)


def _is_view(func: Any) -> bool:
    return any(value.alias_info is not None and not value.alias_info.is_write for value in func._schema.returns)


def _indexes_by_booleans(name: str, args: Any) -> bool:
    """tensor[mask] and tensor[mask] = value: the host must know how many there are."""
    indices = args[1] if name in ("index", "index_put", "index_put_", "_index_put_impl_") else ()
    return any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in indices)


def _repeats_unknown(name: str, func: Any, args: Any, kwargs: Any) -> bool:
    return name == "repeat_interleave" and kwargs.get("output_size") is None and isinstance(args[-1], torch.Tensor)


def count(trainer: SegmentationTrainer, batch: Any) -> Counting:
    """Counts a training step's operations, as a GPU would see them."""
    with as_on_gpu(), Counting() as counting:
        trainer.update(batch)
    return counting


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--voxels", type=int, default=2000, help="voxels of a sample")
    parser.add_argument("--image-size", type=int, nargs=2, default=(90, 160), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--names", type=int, default=12, help="show so many of the most frequent operations")
    parser.add_argument("--synchronised", action="store_true", help="as with several GPUs")
    arguments = parser.parse_args()
    network = TwoBranchNetwork(NUM_CLASSES).train()
    model: torch.nn.Module = network
    if arguments.synchronised:
        torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
        model = DistributedDataParallel(
            synchronize_batch_norm(network), broadcast_buffers=False, gradient_as_bucket_view=True
        )
    optimizer = torch.optim.SGD(
        network.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4, nesterov=True, fused=True
    )
    trainer = SegmentationTrainer(model, LossWeights(), optimizer, lambda step: 1.0, torch.device("cpu"))
    rows = []
    for step in range(arguments.steps):
        batch = made_up_batch(arguments.voxels, tuple(arguments.image_size), arguments.batch_size, seed=step)
        counting = count(trainer, batch)
        rows.append(
            {
                "step": f"{step + 1}",
                "operations": f"{counting.operations.total()}",
                "the host waits": f"{counting.waits.total()}",
                "at": ", ".join(f"{name} {number}" for name, number in counting.waits.most_common()),
            }
        )
    print(machine())
    print(table(rows))
    print(", ".join(f"{name} {number}" for name, number in counting.operations.most_common(arguments.names)))


if __name__ == "__main__":
    main()
