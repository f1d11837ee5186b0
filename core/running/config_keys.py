"""The values that each configuration key takes. Its default and its meaning, in the comment above it, stand in
configs/default.yaml, or in the default.yaml of the one data set that knows it."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from core.running.config_rules import Rule, above, below, choice, flag, items, many, number, text, whole

MAX_CLASSES = 32
"""Candidates of a component are the bits of a uint32."""

KEYS: dict[str, Rule] = {
    "step.kind": choice("pretrain", "estep", "mstep"),
    "step.round": whole(0, 99),
    "data.num_classes": whole(2, MAX_CLASSES, nullable=True),
    "data.ignore_label": whole(0, 0),
    "train.seed": whole(0, 2**32 - 1),
    "train.deterministic": flag(),
    "train.tf32": flag(),
    "train.log_every": whole(1, 1_000_000),
    "train.gradients_every": whole(0, 1_000_000),
    "train.ema": below(0, 1),
    "train.validate_every": whole(0, 1_000_000),
    "train.checkpoint_every_steps": whole(0, 1_000_000),
    "train.patience": number(0, 100_000),
    "train.checkpoints_to_keep": whole(1, 1_000_000),
    "dataset.name": text(),
    "dataset.root": text(),
    "dataset.version": text(),
    "dataset.test_version": text(),
    "dataset.index_path": text(),
    "dataset.frames": choice("all", "available"),
    "dataset.superpixel": text(),
    "dataset.sparse_label_path": text(),
    "dataset.image_cache": text(nullable=True),
    # a training sample
    "dataset.voxel_size": number(0.005, 10),
    "dataset.image_crop_rate": number(0.01, 4),
    "dataset.image_size": items(whole(1, 8192), whole(1, 8192), nullable=True),
    "dataset.image_normalize": flag(),
    "dataset.use_color": flag(),
    "dataset.use_augment": flag(),
    "dataset.color_jitter": items(number(0, 10), number(0, 10), number(0, 10), number(0, 0.5)),
    "dataset.color_jitter_prob": number(0, 1),
    "dataset.grayscale_prob": number(0, 1),
    "dataset.rotation": number(0, 2 * math.pi),
    "dataset.scale": items(number(0.1, 10), number(0.1, 10), ascending=True),
    "dataset.flip": number(0, 1),
    "dataset.mix": number(0, 1),
    "dataset.points": choice("in_view", "all"),
    "dataset.invalid_points": choice("refuse", "drop"),
    "dataset.annotate": choice("in_view", "all", "auto"),
    "dataset.pts_sr": above(0, 1),
    # superpixels
    "dataset.seeds.implementation": choice("numba", "opencv"),
    "dataset.seeds.num_superpixels": whole(1, 65535),
    "dataset.seeds.num_levels": whole(2, 16),
    "dataset.seeds.prior": whole(0, 5),
    "dataset.seeds.histogram_bins": whole(1, 40),
    "dataset.seeds.double_step": flag(),
    "dataset.seeds.iterations": whole(0, 1000),
    # weak labels
    "dataset.num_sweeps": whole(0, 10),
    "dataset.own_vehicle_box": number(0, 100),
    "dataset.grid_size": items(number(0.1, 1000), number(0.001, 1)),
    "dataset.ps_std_th": number(0, 1000),
    "dataset.ps_min_num": whole(0, 1_000_000),
    "dataset.ps_max_tries": whole(1, 1000),
    "dataset.ps_first_try_share": number(0, 1),
    "dataset.ps_norm_th": number(0, 1),
    "dataset.near_norm_th": number(0, 1),
    "dataset.near_rings": whole(0, 10_000),
    "dataset.near_bins": many(whole(0, 10_000)),
    "dataset.ps_dis_th": above(0, 100),
    "dataset.ps_outlier_th": number(0, 1),
    "dataset.plane_fitter": choice("numba", "open3d"),
    "dataset.ransac_points": whole(3, 1000),
    "dataset.ransac_iterations": whole(1, 1_000_000),
    "dataset.clusterer.name": choice("hdbscan"),
    "dataset.clusterer.min_cluster_size": whole(2, 1_000_000),
    "dataset.clusterer.cluster_selection_epsilon": number(0, 1000),
    "dataset.annotator": choice("simulated", "clicks"),
    "dataset.point_per_class": whole(1, 1000),
    "dataset.small_component_sizes": items(*3 * [whole(0, 1_000_000)]),
    "dataset.small_component_class": whole(0, MAX_CLASSES - 1),
    "dataset.rare_class_shares": items(*4 * [number(0, 1)]),
    "proposals.path": text(),
    "proposals.journal": text(),
    "proposals.window": whole(1, 1000),
    "proposals.voxel": above(0, 10),
    # keys of a single data set
    "dataset.test_frames": text(),
    "dataset.submission.account_name": text(empty=True),
    "dataset.submission.unique_method_name": text(),
    "dataset.submission.authors": many(text()),
    "dataset.submission.affiliation": text(empty=True),
    "dataset.submission.description": text(empty=True),
    "dataset.submission.method_link": text(empty=True),
    "dataset.columns": many(text()),
    "dataset.classes": text(nullable=True),
    "dataset.splits.train": many(text()),
    "dataset.splits.val": many(text()),
    "dataset.splits.test": many(text()),
    "dataset.time_tolerance": number(0, 1_000_000),
    "model.name": choice(
        "spvcnn_swiftnet18",
        "spvcnn_swiftnet18_assop2p",
        "spvcnn_swiftnet34",
        "spvcnn_swiftnet34_assop2p",
        "spvcnn_swiftnet18_nusc",
        "spvcnn_swiftnet18_nusc_assop2p",
        "spvcnn",
        "auto",
    ),
    "model.in_channel": whole(3, 64, nullable=True),
    "model.proj_channel": whole(0, 4096),
    "model.cr": number(0.125, 8),
    "model.dropout": below(0, 1),
    "model.is_estep": flag(nullable=True),
    "model.imagenet_pretrain": text(nullable=True),
    "model.sparse_engine": choice("auto", "native", "torchsparse", "spconv"),
    "model.channels_last": flag(),
    "model.compile": flag(),
    "model.checkpoint_stem": flag(),
    "criterion.name": choice("sparse", "sparse_assop2p", "sparse_assop2p_mstep", "full"),
    "criterion.ignore_index": whole(0, 0),
    "criterion.sparse_weight": number(0, 1000),
    "criterion.propagated_weight": number(0, 1000),
    "criterion.negative_weight": number(0, 1000),
    "criterion.pseudo_weight": number(0, 1000),
    "criterion.dense_weight": number(0, 1000),
    "criterion.asso_weight": number(0, 1000),
    "criterion.visit_weight": number(0, 1000),
    "criterion.asso_ramp": whole(0, 100_000_000),
    "criterion.normalize": flag(),
    "criterion.temperature": number(0.001, 1000),
    "estep.foreground_classes": many(whole(0, MAX_CLASSES - 1), nullable=True),
    "estep.threshold": number(0, 1),
    "estep.score_margin": number(0, 1),
    "estep.probability_margin": number(0, 1),
    "estep.filter_by_candidates": flag(),
    "estep.ignored_prototype": flag(),
    "num_epochs": whole(1, 100_000),
    "batch_size": whole(1, 1024),
    "workers_per_gpu": whole(0, 256),
    "eval_batch_size": whole(1, 1024),
    "eval_weights": choice("auto", "model", "teacher"),
    "eval_turns": whole(1, 4),
    "eval_flips": flag(),
    "optimizer.name": choice("sgd", "adamw"),
    "optimizer.lr": number(0, 100),
    "optimizer.weight_decay": number(0, 100),
    "optimizer.momentum": below(0, 1),
    "optimizer.nesterov": flag(),
    "scheduler.name": choice("cosine_warmup", "constant"),
    "scheduler.warmup_iterations": whole(0, 100_000_000),
    "amp_enabled": flag(),
    "amp_dtype": choice("bfloat16", "float16"),
    "ddp": flag(),
}


def conflicts(values: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong between keys that are right by themselves, a line each; `values` by dotted key."""
    num_classes = values.get("data.num_classes") or MAX_CLASSES
    small = values.get("dataset.small_component_class", 0)
    if small >= num_classes:
        yield f"dataset.small_component_class is {small}, expected a class id below data.num_classes ({num_classes})"
    beyond = [c for c in values.get("estep.foreground_classes") or [] if c >= num_classes]
    if beyond:
        yield f"estep.foreground_classes holds {beyond[0]}, expected class ids below data.num_classes ({num_classes})"
    if values.get("step.kind", "pretrain") != "pretrain" and values.get("step.round") == 0:
        yield f"step.round is 0, which is pretraining's; expected 1 or 2 for step.kind {values['step.kind']}"
    nesterov = values.get("optimizer.name") == "sgd" and values.get("optimizer.nesterov")
    if nesterov and values.get("optimizer.momentum") == 0:
        yield "optimizer.momentum is 0, expected one above 0 for optimizer.nesterov true; set optimizer.nesterov false"
