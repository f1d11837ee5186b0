"""The values that each configuration key takes. Its default and its meaning, in the comment above it, stand in
configs/default.yaml, or in the default.yaml of the one data set that knows it."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from core.running.config_rules import Choice, Flag, List, Number, Rule, Text, Tuple, whole

MAX_CLASSES = 32
"""Candidates of a component are the bits of a uint32."""

KEYS: dict[str, Rule] = {
    "step.kind": Choice(("pretrain", "estep", "mstep")),
    "step.round": whole(0, 99),
    "data.num_classes": whole(2, MAX_CLASSES, nullable=True),
    "data.ignore_label": whole(0, 0),
    "train.seed": whole(0, 2**32 - 1),
    "train.deterministic": Flag(),
    "train.tf32": Flag(),
    "train.log_every": whole(1, 1_000_000),
    "train.gradients_every": whole(0, 1_000_000),
    "train.validate_every": whole(0, 1_000_000),
    "train.checkpoint_every_steps": whole(0, 1_000_000),
    "train.patience": Number(0, 100_000),
    "train.checkpoints_to_keep": whole(1, 1_000_000),
    "dataset.name": Text(),
    "dataset.root": Text(),
    "dataset.version": Text(),
    "dataset.test_version": Text(),
    "dataset.index_path": Text(),
    "dataset.frames": Choice(("all", "available")),
    "dataset.superpixel": Text(),
    "dataset.sparse_label_path": Text(),
    "dataset.image_cache": Text(nullable=True),
    # a training sample
    "dataset.voxel_size": Number(0.005, 10),
    "dataset.image_crop_rate": Number(0.01, 4),
    "dataset.image_size": Tuple((whole(1, 8192), whole(1, 8192)), nullable=True),
    "dataset.image_normalize": Flag(),
    "dataset.use_color": Flag(),
    "dataset.use_augment": Flag(),
    "dataset.color_jitter": Tuple((Number(0, 10), Number(0, 10), Number(0, 10), Number(0, 0.5))),
    "dataset.color_jitter_prob": Number(0, 1),
    "dataset.grayscale_prob": Number(0, 1),
    "dataset.rotation": Number(0, 2 * math.pi),
    "dataset.scale": Tuple((Number(0.1, 10), Number(0.1, 10)), ascending=True),
    "dataset.flip": Number(0, 1),
    "dataset.points": Choice(("in_view", "all")),
    "dataset.invalid_points": Choice(("refuse", "drop")),
    "dataset.annotate": Choice(("in_view", "all", "auto")),
    "dataset.pts_sr": Number(0, 1, above=True),
    # superpixels
    "dataset.seeds.implementation": Choice(("numba", "opencv")),
    "dataset.seeds.num_superpixels": whole(1, 65535),
    "dataset.seeds.num_levels": whole(2, 16),
    "dataset.seeds.prior": whole(0, 5),
    "dataset.seeds.histogram_bins": whole(1, 40),
    "dataset.seeds.double_step": Flag(),
    "dataset.seeds.iterations": whole(0, 1000),
    # weak labels
    "dataset.num_sweeps": whole(0, 10),
    "dataset.own_vehicle_box": Number(0, 100),
    "dataset.grid_size": Tuple((Number(0.1, 1000), Number(0.001, 1))),
    "dataset.ps_std_th": Number(0, 1000),
    "dataset.ps_min_num": whole(0, 1_000_000),
    "dataset.ps_max_tries": whole(1, 1000),
    "dataset.ps_first_try_share": Number(0, 1),
    "dataset.ps_norm_th": Number(0, 1),
    "dataset.near_norm_th": Number(0, 1),
    "dataset.near_rings": whole(0, 10_000),
    "dataset.near_bins": List(whole(0, 10_000)),
    "dataset.ps_dis_th": Number(0, 100, above=True),
    "dataset.ps_outlier_th": Number(0, 1),
    "dataset.plane_fitter": Choice(("numba", "open3d")),
    "dataset.ransac_points": whole(3, 1000),
    "dataset.ransac_iterations": whole(1, 1_000_000),
    "dataset.clusterer.name": Choice(("hdbscan",)),
    "dataset.clusterer.min_cluster_size": whole(2, 1_000_000),
    "dataset.clusterer.cluster_selection_epsilon": Number(0, 1000),
    "dataset.annotator": Choice(("simulated", "clicks")),
    "dataset.point_per_class": whole(1, 1000),
    "dataset.small_component_sizes": Tuple(3 * (whole(0, 1_000_000),)),
    "dataset.small_component_class": whole(0, MAX_CLASSES - 1),
    "dataset.rare_class_shares": Tuple(4 * (Number(0, 1),)),
    "proposals.path": Text(),
    "proposals.journal": Text(),
    "proposals.window": whole(1, 1000),
    "proposals.voxel": Number(0, 10, above=True),
    # keys of a single data set
    "dataset.test_frames": Text(),
    "dataset.submission.account_name": Text(empty=True),
    "dataset.submission.unique_method_name": Text(),
    "dataset.submission.authors": List(Text()),
    "dataset.submission.affiliation": Text(empty=True),
    "dataset.submission.description": Text(empty=True),
    "dataset.submission.method_link": Text(empty=True),
    "dataset.columns": List(Text()),
    "dataset.classes": Text(nullable=True),
    "dataset.splits.train": List(Text()),
    "dataset.splits.val": List(Text()),
    "dataset.splits.test": List(Text()),
    "dataset.time_tolerance": Number(0, 1_000_000),
    "model.name": Choice(
        (
            "spvcnn_swiftnet18",
            "spvcnn_swiftnet18_assop2p",
            "spvcnn_swiftnet34",
            "spvcnn_swiftnet34_assop2p",
            "spvcnn_swiftnet18_nusc",
            "spvcnn_swiftnet18_nusc_assop2p",
            "spvcnn",
            "auto",
        )
    ),
    "model.in_channel": whole(3, 64, nullable=True),
    "model.proj_channel": whole(0, 4096),
    "model.cr": Number(0.125, 8),
    "model.dropout": Number(0, 1, below=True),
    "model.is_estep": Flag(nullable=True),
    "model.imagenet_pretrain": Text(nullable=True),
    "model.sparse_engine": Choice(("auto", "native", "torchsparse", "spconv")),
    "model.channels_last": Flag(),
    "model.compile": Flag(),
    "model.checkpoint_stem": Flag(),
    "criterion.name": Choice(("sparse", "sparse_assop2p", "sparse_assop2p_mstep", "full")),
    "criterion.ignore_index": whole(0, 0),
    "criterion.sparse_weight": Number(0, 1000),
    "criterion.propagated_weight": Number(0, 1000),
    "criterion.negative_weight": Number(0, 1000),
    "criterion.pseudo_weight": Number(0, 1000),
    "criterion.dense_weight": Number(0, 1000),
    "criterion.asso_weight": Number(0, 1000),
    "criterion.visit_weight": Number(0, 1000),
    "criterion.asso_ramp": whole(0, 100_000_000),
    "criterion.normalize": Flag(),
    "criterion.temperature": Number(0.001, 1000),
    "estep.foreground_classes": List(whole(0, MAX_CLASSES - 1), nullable=True),
    "estep.threshold": Number(0, 1),
    "estep.score_margin": Number(0, 1),
    "estep.probability_margin": Number(0, 1),
    "estep.filter_by_candidates": Flag(),
    "estep.ignored_prototype": Flag(),
    "num_epochs": whole(1, 100_000),
    "batch_size": whole(1, 1024),
    "workers_per_gpu": whole(0, 256),
    "eval_batch_size": whole(1, 1024),
    "eval_turns": whole(1, 4),
    "optimizer.name": Choice(("sgd", "adamw")),
    "optimizer.lr": Number(0, 100),
    "optimizer.weight_decay": Number(0, 100),
    "optimizer.momentum": Number(0, 1, below=True),
    "optimizer.nesterov": Flag(),
    "scheduler.name": Choice(("cosine_warmup", "constant")),
    "scheduler.warmup_iterations": whole(0, 100_000_000),
    "scheduler.warmup_one_process": Flag(),
    "amp_enabled": Flag(),
    "amp_dtype": Choice(("bfloat16", "float16")),
    "ddp": Flag(),
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
