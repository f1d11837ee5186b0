"""A made-up street to annotate, and a client of the page's server."""

import http.client
import json
import os
import subprocess
import sys
import threading
from argparse import Namespace
from contextlib import contextmanager
from urllib.parse import quote, urlsplit

import numpy as np
import pytest
import torch

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
    from core.annotate.run import make_server
    from core.running.config import load_config
    from core.running.runtime import Run

    given = dict(order=None, suggestions=None, who="anna", host="127.0.0.1", port=0) | arguments
    config = load_config(ANNOTATE, overrides=project.words())
    server = make_server(Run(config, Namespace(**given), None, torch.device("cpu")))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield Client(server.address)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Client:
    """Asks a server as the page does."""

    def __init__(self, address):
        self.address = address
        self.netloc = urlsplit(address).netloc
        self.headers = {"Authorization": "Bearer " + address.split("token=")[1], "Content-Type": "application/json"}

    def ask(self, method, path, body=None, headers=None):
        """(status, content)"""
        connection = http.client.HTTPConnection(self.netloc, timeout=30)
        try:
            connection.request(method, path, body, self.headers if headers is None else headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def get(self, path):
        status, content = self.ask("GET", path)
        assert status == 200, content
        return json.loads(content)

    def cloud(self, token):
        """float32 [N, 3] and int32 [N]: points and components of a frame."""
        status, content = self.ask("GET", f"/api/frame/{quote(token)}")
        assert status == 200, content
        count = int(np.frombuffer(content, "<u4", 1)[0])
        xyz = np.frombuffer(content, "<f4", 3 * count, 4).reshape(-1, 3)
        return xyz, np.frombuffer(content, "<i4", count, 4 + 12 * count)

    def act(self, action, status=200, **more):
        """Carries out an action; what the server says."""
        found, content = self.ask("POST", "/api/action", json.dumps({"action": action, **more}))
        assert found == status, content
        return json.loads(content)

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
