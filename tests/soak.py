"""A thousand training steps on a tiny city: memory flat, no descriptor leaked, losses finite.

python -m tests.soak
python -m tests.soak --amp
"""

import argparse
import json
import math
import os
import sys
import tempfile
from pathlib import Path
from unittest.mock import patch

import numpy as np

from core.synthetic.generate import generate_city
from core.training.trainer import SegmentationTrainer
from tests.conftest import CITY
from tests.entry import ASSOP2P, PRETRAIN, Project, prepare, run_script

SMALL = {"dataset__voxel_size": 0.6, "dataset__image_size": "[32,56]", "model__cr": 0.125, "eval_batch_size": 2}
_TRIGGER = SegmentationTrainer._trigger_epoch


def used() -> tuple[float, int]:
    """Resident memory of this process, MB, and its open files, sockets and pipes."""
    with open("/proc/self/statm") as file:
        memory = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    return memory, len(os.listdir("/proc/self/fd"))


def soak(project: Project, run: Path, steps: int, amp: bool) -> dict:
    """Trains for about so many steps; memory (MB) and descriptors after each epoch, and the losses."""
    measured = []
    with patch.object(SegmentationTrainer, "_trigger_epoch", autospec=True) as trigger:
        trigger.side_effect = lambda trainer: (
            _TRIGGER(trainer),
            measured.append((trainer.global_step, *used())),
        )
        changes = {"num_epochs": math.ceil(steps / 4), "train__validate_every": 25, "train__log_every": 1}
        words = project.words(**changes, amp_enabled=str(amp).lower())
        run_script(PRETRAIN, ASSOP2P, "--run-dir", run, *words)
    lines = [json.loads(line) for line in (run / "scalars.jsonl").read_text().splitlines()]
    losses = [line["loss/total"] for line in lines if "loss/total" in line]
    return {"measured": measured, "losses": losses}


def check(found: dict, steps: int) -> str:
    """Raises AssertionError where something leaked or broke (in a short run memory still finds its level); returns the
    figures."""
    losses, measured = found["losses"], np.array(found["measured"])
    assert len(losses) >= steps and all(loss is not None and math.isfinite(loss) for loss in losses)
    later = measured[len(measured) // 5 :]  # after the caches are warm
    growth = np.polyfit(later[:, 0], later[:, 1], 1)[0] * 1000
    opened = later[:, 2]
    assert growth < 20, f"memory grows by {growth:.1f} MB in 1000 steps"
    assert opened.max() - opened.min() <= 2 and opened[-1] <= opened[0] + 1, f"descriptors: {opened}"
    first, last = np.mean(losses[:20]), np.mean(losses[-20:])
    return (
        f"{len(losses)} steps: loss {first:.2f} -> {last:.2f}, all finite; memory {later[0, 1]:.0f} -> "
        f"{later[-1, 1]:.0f} MB ({growth:+.1f} MB in 1000 steps); descriptors {opened[0]:.0f} -> {opened[-1]:.0f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--amp", action="store_true", help="bfloat16")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        project = Project(*(str(folder / part) for part in ("city", "index", "weak", "seeds")))
        project.more.update({key.replace("__", "."): value for key, value in SMALL.items()})
        generate_city(project.root, CITY)
        prepare(project)
        print(check(soak(project, folder / "run", arguments.steps, arguments.amp), arguments.steps))


if __name__ == "__main__":
    sys.exit(main())
