"""Makes a small made-up city in nuScenes' own format: LiDAR, six cameras, labels, all tables.

python3 prepare_synthetic_nusc.py --root data/demo
"""

import argparse
import os
import sys

from core.errors import UserError


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Sizes of the real data set: "
        "--azimuth-steps 1084 --image-size 900 1600. Run it again after an interruption: it goes on where it stopped.",
    )
    parser.add_argument("--root", required=True, help="data root to make; a real nuScenes root is refused")
    parser.add_argument("--train-scenes", type=int, default=10)
    parser.add_argument("--val-scenes", type=int, default=4)
    parser.add_argument("--test-scenes", type=int, default=1, help="go to version v1.0-test, without labels")
    parser.add_argument("--frames", type=int, default=5, help="key frames a scene, half a second apart (default 5)")
    parser.add_argument("--azimuth-steps", type=int, default=360, help="of a LiDAR turn with 32 beams (default 360)")
    parser.add_argument("--image-size", type=int, nargs=2, default=(360, 640), metavar=("H", "W"))
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same files")
    parser.add_argument("--num-workers", type=int, default=os.cpu_count() or 1, help="processes (default: all CPUs)")
    arguments = parser.parse_args()

    from core.synthetic.generate import City, generate_city, shares  # only where needed: workers load this file too

    city = City(
        train_scenes=arguments.train_scenes,
        val_scenes=arguments.val_scenes,
        test_scenes=arguments.test_scenes,
        frames=arguments.frames,
        azimuth_steps=arguments.azimuth_steps,
        image_size=tuple(arguments.image_size),
        seed=arguments.seed,
    )
    counts = generate_city(arguments.root, city, arguments.num_workers)
    print("Share of points by class (% of all but the vehicle's own)")
    table = {split: shares(found) for split, found in counts.items()}
    print(f"{'':40}" + "".join(f"{split:>8}" for split in table))
    for name in sorted({name for column in table.values() for name in column}):
        print(f"{name:40}" + "".join(f"{100 * column.get(name, 0.0):8.2f}" for column in table.values()))


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted: run the same command again to go on", file=sys.stderr)
        sys.exit(130)
