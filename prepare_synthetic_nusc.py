"""Makes a small made-up city in a data set's own format: LiDAR, cameras, labels, calibration, poses.

python3 prepare_synthetic_nusc.py --root data/demo/nuscenes
"""

import argparse
from typing import Any

from core.errors import run_alone
from core.running.cpus import available_cpus
from core.synthetic.formats import find_format, format_names


def main() -> None:
    formats = {name: find_format(name) for name in format_names()}
    sizes = "\n".join(f"  {name}: {writer.full_size}" for name, writer in formats.items())
    defaults = "\n".join(f"  {name}: {_typed(writer.small)}" for name, writer in formats.items())
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"Default sizes:\n{defaults}\nSizes of the real sensors:\n{sizes}\n"
        "Run it again after an interruption: it goes on where it stopped.",
    )
    parser.add_argument("--format", choices=list(formats), default="nuscenes", help="default: nuscenes")
    parser.add_argument("--root", required=True, help="data root to make; one of the real data set is refused")
    parser.add_argument("--train-scenes", type=int, help="scenes of each split (defaults: see below)")
    parser.add_argument("--val-scenes", type=int)
    parser.add_argument("--test-scenes", type=int, help="they have no labels")
    parser.add_argument("--frames", type=int, help="key frames a scene, half a second apart")
    parser.add_argument("--azimuth-steps", type=int, help="of a LiDAR turn")
    parser.add_argument("--image-size", type=int, nargs=2, metavar=("H", "W"))
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same files")
    parser.add_argument(
        "--num-workers", type=int, default=available_cpus(), help="processes (default: all CPUs that may be used)"
    )
    arguments = parser.parse_args()

    from core.synthetic.generate import City, generate_city, shares  # only where needed: workers load this file too

    writer = formats[arguments.format]
    given = {name: getattr(arguments, name) for name in writer.small}
    chosen = {name: writer.small[name] if value is None else value for name, value in given.items()}
    chosen["image_size"] = tuple(chosen["image_size"])
    city = City(format=arguments.format, seed=arguments.seed, **chosen)
    counts = generate_city(arguments.root, city, arguments.num_workers)
    print("Share of points by class (% of all but the vehicle's own)")
    table = {split: shares(found, writer.own_class) for split, found in counts.items()}
    print(f"{'':40}" + "".join(f"{split:>8}" for split in table))
    for name in sorted({name for column in table.values() for name in column}):
        print(f"{name:40}" + "".join(f"{100 * column.get(name, 0.0):8.2f}" for column in table.values()))


def _typed(sizes: dict[str, Any]) -> str:
    """Sizes as words of the command line."""
    texts = {name: " ".join(map(str, size)) if isinstance(size, tuple) else size for name, size in sizes.items()}
    return " ".join(f"--{name.replace('_', '-')} {text}" for name, text in texts.items())


if __name__ == "__main__":
    run_alone(main)
