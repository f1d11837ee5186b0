"""What a training step keeps for its backward pass, by batch size and precision, counted on a CPU.

    python3 -m benchmarks.activation_memory --batch-sizes 1 2

Runs the forward pass and the losses as on a GPU and adds up the tensors that are saved for the gradient, each once. A
GPU needs this, the weights with gradients and momentum (0.1 GiB), and room for the backward pass to work in.
"""

import argparse

import torch

from benchmarks.common import machine, table
from benchmarks.made_up_batch import NUM_CLASSES, made_up_batch
from core.losses import LossWeights, loss_terms
from core.models import TwoBranchNetwork
from core.sparse.rows import as_on_gpu
from core.training.trainer import network_inputs, targets_of


def kept_bytes(network: TwoBranchNetwork, voxels: int, image_size: tuple[int, int], batch_size: int, bf16: bool) -> int:
    """Bytes of the tensors that one step saves for its gradients, without the weights."""
    batch = made_up_batch(voxels, image_size, batch_size, seed=0)
    weights = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    kept: dict[int, tuple[int, torch.Tensor]] = {}  # the tensors stay alive, so that no two have one address

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes(), tensor
        return tensor

    with as_on_gpu(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            outputs = network(**network_inputs(batch))
        loss_terms(outputs, targets_of(batch), LossWeights())
    return sum(size for size, _ in kept.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--voxels", type=int, default=25_000, help="voxels of a sample")
    parser.add_argument("--image-size", type=int, nargs=2, default=(360, 640), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=(1, 2))
    arguments = parser.parse_args()
    network = TwoBranchNetwork(NUM_CLASSES).train()
    rows = []
    for checkpoint_stem in (False, True):
        network.pix_branch.checkpoint_stem = checkpoint_stem
        for bf16 in (False, True):
            row = {"model.checkpoint_stem": str(checkpoint_stem).lower(), "precision": "bf16" if bf16 else "fp32, tf32"}
            for batch_size in arguments.batch_sizes:
                size = kept_bytes(network, arguments.voxels, tuple(arguments.image_size), batch_size, bf16)
                row[f"batch {batch_size}, GiB"] = f"{size / 2**30:.2f}"
            rows.append(row)
    print(machine())
    print(table(rows))


if __name__ == "__main__":
    main()
