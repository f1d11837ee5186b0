"""Packs downloaded files of Waymo Open v2 for quick reading: the frames with labels, a row at a time.

python3 prepare_waymo.py --download data/waymo_download --root data/waymo
"""

import argparse
import os

from core.errors import UserError, run_alone


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="The room that it takes is said first. Run it again after an interruption: it goes on where it stopped.",
    )
    parser.add_argument("--download", required=True, help="folder of the downloaded training/, validation/, testing/")
    parser.add_argument("--root", required=True, help="data root to make, to be dataset.root (default: data/waymo)")
    parser.add_argument("--splits", nargs="+", choices=("train", "val", "test"), default=["train", "val"])
    parser.add_argument("--test-frames", metavar="FILE", help="the frames of the test split, as dataset.test_frames")
    parser.add_argument(
        "--num-sweeps",
        type=int,
        choices=range(11),
        default=0,
        help="earlier turns of each frame, as dataset.num_sweeps",
    )
    parser.add_argument(
        "--frames",
        choices=("all", "available"),
        default="all",
        help="available: of an incomplete download the segments whose files are all there, as dataset.frames",
    )
    parser.add_argument("--num-workers", type=int, default=len(os.sched_getaffinity(0)), help="default: all CPUs")
    arguments = parser.parse_args()

    from core.datasets.waymo.files import read_test_frames  # only where needed: workers load this file too
    from core.datasets.waymo.pack import pack_split

    if "test" in arguments.splits and arguments.test_frames is None:
        raise UserError("--splits test needs --test-frames FILE, the list of frames to submit")
    for split in arguments.splits:
        wanted = read_test_frames(arguments.test_frames) if split == "test" else None
        pack_split(
            arguments.download,
            arguments.root,
            split,
            wanted,
            arguments.num_sweeps,
            max(arguments.num_workers, 0),
            arguments.frames == "available",
        )


if __name__ == "__main__":
    run_alone(main)
