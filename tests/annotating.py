"""A made-up street to annotate, and a client of the page's server."""

import os
import subprocess
import sys
from contextlib import contextmanager
from urllib.parse import quote

import pytest

from benchmarks import annotator
from core.running.config import load_config
from core.synthetic.generate import City, generate_city
from tests.entry import ROOT, Project, environment, run_script

OWN = f"{ROOT}/configs/recordings"
PRESEG, ANNOTATE = f"{OWN}/pretrain/preseg.yaml", f"{OWN}/annotate.yaml"
SIZES = dict(train_scenes=2, val_scenes=1, test_scenes=0, frames=2, azimuth_steps=90, image_size=(32, 48), seed=7)


@pytest.fixture(scope="module")
def proposed_street(tmp_path_factory):
    """Two training recordings of two frames with their proposals, two frames a window; nobody changes them."""
    place = tmp_path_factory.mktemp("street")
    generate_city(str(place / "city"), City(format="recordings", **SIZES))
    more = {f"dataset.splits.{split}": f'["{split}_*"]' for split in ("train", "val")}
    more |= {"proposals.path": str(place / "proposals"), "proposals.window": 2, "dataset.small_component_class": 9}
    names = {key: str(place / key) for key in ("index", "weak", "seeds")}
    project = Project(str(place / "city"), more=more, **names)
    run_script("prepare_sparse_label", PRESEG, *project.words())
    return project


@pytest.fixture
def to_label(proposed_street, tmp_path):
    more = {**proposed_street.more, "proposals.journal": str(tmp_path / "clicks.jsonl")}
    return Project(proposed_street.root, proposed_street.index, str(tmp_path / "weak"), proposed_street.seeds, more)


@contextmanager
def serving(project, **arguments):
    """A client of a server in this process."""
    config = load_config(ANNOTATE, overrides=project.words())
    with annotator.serving(config, **{"who": "anna", **arguments}) as client:
        yield Client(client.address)


class Client(annotator.Client):
    """Labels by places in the queue."""

    def target(self, place):
        """Window and component of a place in the queue."""
        overview = self.get("/api/session")
        window, component, _ = overview["queue"][place]
        return {"window": overview["windows"][window]["token"], "component": component}

    def label(self, place, *names, **more):
        target = self.target(place)
        shown = self.get(f"/api/component/{quote(target['window'])}/{target['component']}")
        return self.act("label", **target, classes=list(names), frame=shown["frame"], **more)


def known(client):
    """[window, component, state] of all components of which anything is known."""
    return sorted((s for s in client.get("/api/session")["states"] if s[2] is not None), key=lambda s: s[:2])


def size_of(path):
    return os.path.getsize(path) if os.path.exists(path) else 0


def start_server(project):
    command = [sys.executable, f"{ROOT}/annotate.py", ANNOTATE, *project.words(), "--port", "0"]
    process = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if line.startswith("Open in a browser: "):
            return process, Client(line.split()[-1])
    raise AssertionError("the server ended")
