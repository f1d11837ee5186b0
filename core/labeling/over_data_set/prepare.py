"""Running a job over a whole data set: shared out, resumable, with the same bytes every time."""

import glob
import os
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

from core.datasets.base import Reader
from core.errors import UserError
from core.label_files.errors import META_NAME, UNFINISHED_NAME
from core.label_files.meta import describe, first_difference, write_meta
from core.labeling.over_data_set.jobs import Job
from core.running.files import UNFINISHED, check_room, read_json, remove_unfinished, write_json
from core.running.locks import locked
from core.running.progress import progress
from core.running.workers import make_all


def check_image_cache_room(readers: Mapping[str, Reader], image_size: tuple[int, int], rank: int = 0) -> None:
    """Says how much room the image caches of {directory: reader} take; UserError where the disk has less."""
    missing = 0
    for directory, reader in readers.items():
        sizes = [len(frame.cameras) * 3 * image_size[0] * image_size[1] for frame in reader]
        missing += sum(sizes[len(glob.glob(os.path.join(glob.escape(directory), "*.npy"))) :])
        if rank == 0:
            print(f"{directory}: images of {len(sizes)} frames, {sum(sizes) / 1e9:.2f} GB", flush=True)
    check_room(next(iter(readers)), missing)


def prepare(
    job: Job,
    rank: int = 0,
    world_size: int = 1,
    num_workers: int = 0,
    barrier: Callable[[], None] = lambda: None,
    command: str | None = None,
) -> dict[str, Any] | None:
    """Makes the label files of all frames of a job's reader; what is there already and whole stays.

    Args:
        rank, world_size: this process makes frames rank, rank + world_size, ...; `barrier` waits for the others.
        num_workers: processes beside this one; 0 = all in this one. Speed only: the files are the same.
        command: the command to name in errors, recorded in meta.json.
    Returns statistics over all frames (see the job's `statistics`) on rank 0; None on the others.
    Raises UserError: the directory cannot be written or holds files of something else; a package or data file is
    missing.
    """
    packages = job.check_packages()
    description = describe(job.kind, job.parameters, job.seed, job.reader, packages)
    job.identity = description["parameters_hash"]
    with locked(job.directory, rank == 0):
        if rank == 0:
            claim_directory(job.directory, description)
        barrier()  # nobody writes before the first process holds the lock and has looked at what is there
        own = range(rank, len(job.reader), world_size)
        made = sum(progress(make_all(job, own, num_workers), len(own), job.kind.replace("_", " ") + "s"))
        barrier()
        if rank > 0:
            return None
        if made == 0:
            print(f"{job.directory}: all files were there already", flush=True)
        statistics = job.statistics()
        write_meta(job.directory, job.kind, job.parameters, job.seed, job.reader, statistics, packages, command)
        finish_directory(job.directory)
    print(job.summary(statistics), flush=True)
    return statistics


def claim_directory(directory: str, description: Mapping[str, Any]) -> None:
    """Makes sure that `directory` can be written and holds nothing but files of `description` (see `describe`). One
    process does so, before any other writes there.

    Until meta.json is written, `unfinished.json` holds the description, so that an interrupted run is not continued
    with other parameters.
    """
    _check_writable(directory)
    entries = [name for name in os.listdir(directory) if not name.startswith(".")]
    for name in (META_NAME, UNFINISHED_NAME):
        if name in entries:
            _check_same(directory, name, description)
    if entries and META_NAME not in entries and UNFINISHED_NAME not in entries:
        raise UserError(
            f"{directory}: holds files of something else ({min(entries)}); remove it or choose another path"
        )
    if META_NAME not in entries:
        write_json(os.path.join(directory, UNFINISHED_NAME), description)


def _check_same(directory: str, name: str, description: Mapping[str, Any]) -> None:
    path = os.path.join(directory, name)
    found = read_json(path, f"remove {directory} or choose another path")
    own = {key: value for key, value in description.items() if key != "parameters_hash"}
    difference = first_difference(own, found)
    if difference is not None:
        key, wanted, other = difference
        raise UserError(
            f"{path}: the files there were made with {key} = {other}, now it is {wanted}; "
            f"remove {directory} or choose another path"
        )


def _check_writable(directory: str) -> None:
    try:
        os.makedirs(directory, exist_ok=True)
        with tempfile.TemporaryFile(prefix=UNFINISHED, dir=directory):
            pass
    except OSError as error:
        raise UserError(f"{directory}: cannot be written ({error.strerror}); choose another path") from error


def finish_directory(directory: str) -> None:
    """Removes what is there only until meta.json is."""
    remove_unfinished(directory)
    unfinished = os.path.join(directory, UNFINISHED_NAME)
    if os.path.exists(unfinished):
        os.remove(unfinished)
