"""Pseudo-labels from dense labels, on the points that the round may label, as of a network that is never wrong.

    python3 -m benchmarks.perfect_pseudo_labels configs/nuscenes/estep/it1.yaml --run-dir RUN

An M-step with them tells what better rules could bring in this round. A point has the label that most points of its
voxel have.
"""

from dataclasses import replace

import torch
from torch.nn.functional import one_hot
from torchpack import distributed as dist
from torchpack.utils.logging import logger

from core import builder
from core.estep import quality_table, run_estep
from core.loader.collate import Batch
from core.models.two_branch import Outputs
from core.running.arguments import argument_parser
from core.running.comm import in_first_process
from core.running.locks import locked
from core.running.runtime import run_main, start
from core.scores.evaluation import batch_points

_CERTAIN = 50.0  # logit of the right class, and its feature; the others have 0


def main() -> None:
    parser = argument_parser("Pseudo-labels of dense labels, on the points that the round may label.")
    parser.add_argument("--run-dir", required=True, help="pseudo-labels go there")
    run = start(parser)
    config = run.config
    assert run.run_dir is not None
    reader = builder.make_reader(config, "train")

    def infer(batch: Batch) -> Outputs:
        points, num_classes = batch_points(batch), reader.classes.num_classes
        inside = points.voxel >= 0
        counts = torch.zeros(sum(batch.sizes), num_classes, device=run.device)
        counts.index_add_(0, points.voxel[inside], one_hot(points.label[inside].long(), num_classes).float())
        counts[:, 0] = 0.5  # the ignored class is taken where there is no other
        right = _CERTAIN * one_hot(counts.argmax(1), num_classes).float()
        return Outputs(x_vox=right, x_pix=None, embedding_vox=None, embedding_pix=None, features=right)

    with locked(run.run_dir, dist.is_master()):
        in_first_process(reader.check_files)
        dataset = builder.make_dataset(config, reader, "estep", run.run_dir, None)
        statistics = run_estep(
            infer,
            dataset,
            lambda indices: builder.make_remaining_loader(config, dataset, indices),
            builder.pseudo_label_dir(run.run_dir, config.step.round),
            replace(builder.make_rules(config), foreground_classes=()),  # no veto of the prototypes
            "dense labels",
            builder.network_input(config, reader),
            device=run.device,
        )
    if statistics is not None:
        logger.info(f"Perfect pseudo-labels, on the points that this round labels:\n{quality_table(statistics)}")


if __name__ == "__main__":
    run_main(main)
