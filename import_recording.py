"""Imports recordings of other formats, once: python3 import_recording.py SOURCE DEST --from pandaset"""

import argparse
import os

from core.errors import run_alone

KINDS = ("pandaset", "kitti-raw", "rosbag", "nuscenes")
LIDARS = ("spinning", "forward", "both")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="Run it again after an interruption: it goes on where it stopped."
    )
    parser.add_argument("source", metavar="SOURCE", help="folder or file to import")
    parser.add_argument("dest", metavar="DEST", nargs="?", help="folder of the recordings (dataset.root)")
    parser.add_argument("--from", dest="kind", choices=KINDS, help="what SOURCE is")
    parser.add_argument("--lidar", choices=LIDARS, default="spinning", help="PandaSet: whose points")
    parser.add_argument("--version", default="v1.0-trainval", help="nuScenes: which tables (default: v1.0-trainval)")
    parser.add_argument("--points-topic", metavar="TOPIC", help="bags: PointCloud2 to read (default: the only one)")
    parser.add_argument(
        "--image-topics", nargs="*", metavar="TOPIC", help="bags: pictures (default: all with a CameraInfo)"
    )
    parser.add_argument("--calibration", metavar="FILE", help="bags: a calibration.yaml in the place of tf_static")
    parser.add_argument(
        "--poses",
        choices=("kiss-icp",),
        help="compute the poses of recordings that have none; without --from, of the recording SOURCE itself",
    )
    arguments = parser.parse_args()

    from core.datasets.recordings.importers import open_sources  # after the arguments: --help needs none of it
    from core.datasets.recordings.importers.odometry import write_poses
    from core.datasets.recordings.importers.writing import write_recording

    if arguments.kind is None or arguments.dest is None:
        if not arguments.poses or arguments.kind or arguments.dest:
            parser.error("give SOURCE DEST --from FORMAT, or SOURCE --poses kiss-icp")
        write_poses(arguments.source)
        return
    for source in open_sources(arguments.kind, arguments.source, vars(arguments)):
        written = write_recording(arguments.dest, source)
        print(f"{arguments.dest}/{source.name}: {written} files written, the others were there", flush=True)
        if arguments.poses:
            write_poses(os.path.join(arguments.dest, source.name))


if __name__ == "__main__":
    run_alone(main)
