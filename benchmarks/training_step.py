"""One training step of the full network: ours in each engine and precision, against the published order of work.

    python3 -m benchmarks.training_step --voxels 5000 --image-size 90 160 --threads 2
    python3 -m benchmarks.training_step --voxels 25000 --image-size 360 640 --threads 2

Prints seconds of forward pass (with the loss), backward pass and whole step (with the update), ratios to the plain
rendering in the same run, and peak memory. Variants run in turn, each in a process of its own, so that each has its own
memory and allocator; the least of the repeats counts, and the plain one is run by the same rule.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from benchmarks.common import machine, table
from benchmarks.made_up_batch import NUM_CLASSES, made_up_batch
from benchmarks.plain.network import PlainNetwork
from core.losses import LossWeights, loss_terms
from core.memory import keep_freed_memory
from core.models import TwoBranchNetwork
from core.sparse import available_engines, choose_engine
from core.trainers import network_inputs, targets_of

CPU_PRECISIONS = ("fp32", "bf16")
GPU_PRECISIONS = ("fp32", "tf32", "bf16", "fp16")
