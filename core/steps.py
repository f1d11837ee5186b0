"""The steps of the method as the entry scripts run them."""

import os
import shlex
import sys
from typing import Any

from torchpack import distributed as dist
from torchpack.callbacks import Callback, ConsoleWriter, EstimatedTimeLeft
from torchpack.utils.logging import logger

from core import builder
from core.datasets.base import Reader
from core.datasets.sample import SegmentationDataset
from core.errors import UserError
from core.estep import no_grad_inference, quality_table, run_estep
from core.label_files.files import PSEUDO_LABEL, read_meta
from core.running.comm import in_first_process
from core.running.locks import locked
from core.running.runtime import Run
from core.scores.evaluation import HEADS
from core.training.callbacks import BestSaver, EventWriter, ScalarsWriter, StepBar, Validation
from core.training.checkpoint import file_hash, load_weights
from core.training.network_input import check_labels_input
from core.training.precision import say_float32
from core.training.preemption import Preemption
from core.training.resume import EXACT_STATE, CheckpointSaver, Resume, find_checkpoint, is_finished
from core.training.trainer import SegmentationTrainer


def train(run: Run) -> None:
    """Pretraining or an M-step: trains from the newest checkpoint of the run directory, or from scratch.

    A finished one says so and stops.
    """
    assert run.run_dir is not None
    with locked(run.run_dir, dist.is_master()):
        _train(run, run.run_dir)


def _train(run: Run, run_dir: str) -> None:
    config, device = run.config, run.device
    folder = builder.checkpoint_dir(config, run_dir)
    builder.check_criterion(config)
    newest = find_checkpoint(folder)
    start = newest[0] if newest else run.arguments.weight_path
    if newest and run.arguments.weight_path:
        logger.warning(f"--weight-path {run.arguments.weight_path}: not read, since {newest[0]} is there.")
    if newest and _is_finished(*newest, config.num_epochs):
        return
    del newest

    readers = {split: builder.make_reader(config, split) for split in ("train", "val")}
    dense = builder.make_loss_weights(config).dense > 0
    in_first_process(lambda: readers["train"].check_files(labels=dense))
    validated = _has_labels(readers["val"])
    in_first_process(lambda: readers["val"].check_files(labels=validated))
    given = getattr(run.arguments, "pseudo_label_dir", None)
    train_data = builder.make_dataset(config, readers["train"], "train", run_dir, given)
    network_input = builder.network_input(config, readers["train"], builder.training_precision(config, device))
    _compare_pseudo_labels(train_data, network_input)
    logger.info(
        f"{len(train_data)} training frames, {len(readers['val'])} validation frames, "
        f"{dist.size()} process(es) on {device.type}."
    )

    network = builder.make_model(config, device, imagenet=start is None)
    model = builder.distribute(config, network, device)
    trainer = SegmentationTrainer(
        model,
        builder.make_loss_weights(config),
        builder.make_optimizer(config, model),
        builder.make_schedule(config, len(train_data)),
        device,
        amp_dtype=builder.amp_dtype(config),
        log_every=config.train.log_every,
        network_input=network_input,
        gradients_every=config.train.gradients_every,
    )
    stage = os.path.basename(folder).replace("checkpoints", "train")
    saver = CheckpointSaver(folder, config.train.checkpoints_to_keep, config.train.checkpoint_every_steps)
    preemption = Preemption(saver, config.train.patience)
    validation = Callback()  # stands in its place where there is none: states of callbacks go by their place
    if validated:
        val_data = builder.make_dataset(config, readers["val"], "eval")
        val_loader = builder.make_loader(config, val_data, config.batch_size)
        names = readers["val"].classes.names
        every = config.train.validate_every
        validation = Validation(val_loader, names, every, preemption.check)
    trainer.train(
        builder.make_loader(config, train_data),
        num_epochs=config.num_epochs,
        callbacks=[
            Resume(start),
            validation,  # before the writers, so that an epoch's scores are written with that epoch
            *(BestSaver(folder, head, validated) for head in HEADS),
            ConsoleWriter(["loss/total", "iou/vox/val", "iou/pix/val", "lr"]),
            EventWriter(save_dir=os.path.join(run_dir, "tensorboard", stage)),
            ScalarsWriter(os.path.join(run_dir, "scalars.jsonl"), stage),
            StepBar(["loss/total"]),
            EstimatedTimeLeft(),
            preemption,
            saver,
        ],
    )


def _compare_pseudo_labels(dataset: SegmentationDataset, network_input: dict[str, Any]) -> None:
    """Says where the network behind the pseudo-labels that are read had another input."""
    directory = dataset.labels.pseudo_label_dir
    if directory is not None and dist.is_master():
        check_labels_input(read_meta(directory, PSEUDO_LABEL)["parameters"], network_input, directory)


def _has_labels(reader: Reader) -> bool:
    """Whether the split has dense labels. With none at all, training goes without validation and says so."""
    found = len(reader) > 0 and any(frame.label_path and os.path.exists(frame.label_path) for frame in reader)
    if not found:
        logger.warning(
            f"No dense labels of split '{reader.split}': training goes without validation, and the newest "
            "weights are saved as max-iou-vox-val.pt and max-iou-pix-val.pt."
        )
    return found


def estep(run: Run) -> None:
    """An E-step: pseudo-labels for the training frames from a trained network."""
    config = run.config
    if config.step.kind != "estep":
        raise UserError(
            f"{run.arguments.config}: step.kind is '{config.step.kind}'; this command needs estep: take a "
            "configuration of configs/*/estep"
        )
    assert run.run_dir is not None
    with locked(run.run_dir, dist.is_master()):
        _estep(run, run.run_dir)


def _estep(run: Run, run_dir: str) -> None:
    config, device = run.config, run.device
    say_float32(config.amp_enabled, "E-step")
    directory = builder.pseudo_label_dir(run_dir, config.step.round)
    reader = builder.make_reader(config, "train")
    in_first_process(lambda: reader.check_files(labels=False))
    given = getattr(run.arguments, "pseudo_label_dir", None)
    dataset = builder.make_dataset(config, reader, "estep", run_dir, given)
    network = builder.make_model(config, device, imagenet=False)
    network_input = builder.network_input(config, reader)
    _compare_pseudo_labels(dataset, network_input)
    load_weights(network, run.arguments.weight_path, network_input)
    statistics = run_estep(
        no_grad_inference(network, device, image_head=False, views=builder.inference_views(config)),
        dataset,
        lambda indices: builder.make_remaining_loader(config, dataset, indices),
        directory,
        builder.make_rules(config),
        file_hash(run.arguments.weight_path),
        network_input,
        command=command_line(),
        device=device,
        inferred=builder.describe_inference(config),
    )
    if statistics is not None:
        share = statistics["labelled"] / max(statistics["points"], 1)
        logger.info(f"Pseudo-labels written to {directory}: {100 * share:.1f} % of all points.")
        logger.info(f"Their quality, on the points that this round labels:\n{quality_table(statistics)}")


def command_line() -> str:
    """The command of this process, as one would type it; without what does not change its results."""
    words = [os.path.basename(sys.argv[0]), *sys.argv[1:]]
    if "--workers_per_gpu" in words:
        place = words.index("--workers_per_gpu")
        del words[place : place + 2]
    return shlex.join(["python3", *words])


def _is_finished(path: str, state: dict[str, Any], num_epochs: int) -> bool:
    epoch = state.get("epoch_num", 0)
    if not is_finished(epoch, state.get(EXACT_STATE), num_epochs):
        return False
    logger.info(
        f"Finished already: {path} is of epoch {epoch} of {num_epochs}. Remove {os.path.dirname(path)} to train anew, "
        "or raise num_epochs."
    )
    return True
