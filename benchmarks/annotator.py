"""A scripted annotator: it answers through the annotation page's own interface, from the dense labels.

    python3 -m benchmarks.annotator CONFIG [--with FILE] [--dataset.root DIR ...]

Starts the server that annotate.py starts, asks it for the queue as the page does, and answers every component that has
no answer yet as the simulated annotator would: its class, or several with a point of each. What holds the ignored class
alone is skipped. CONFIG is of a data set with dense labels and proposals; label_from_clicks.py makes the weak labels
afterwards.
"""

import argparse
import http.client
import json
import sys
import threading
import time
from argparse import Namespace
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np
import torch
from numpy.typing import NDArray
from torchpack.utils.config import Config

from core import builder
from core.labeling.annotation.clicks import read_windows, simulated_answers
from core.labeling.annotation.journal import Answer, History, Key
from core.running.arguments import split_overrides
from core.running.config import load_config
from core.running.runtime import Run

SIMULATED = "simulated"


class Client:
    """Asks a server as the page does.

    Args:
        address: that annotate.py prints.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.netloc = urlsplit(address).netloc
        self.headers = {"Authorization": "Bearer " + address.split("token=")[1], "Content-Type": "application/json"}

    def ask(
        self, method: str, path: str, body: str | bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Status and content of a request."""
        connection = http.client.HTTPConnection(self.netloc, timeout=30)
        try:
            connection.request(method, path, body, self.headers if headers is None else headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def get(self, path: str) -> Any:
        """What the server knows of something."""
        status, content = self.ask("GET", path)
        assert status == 200, content
        return json.loads(content)

    def cloud(self, token: str) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Points [N, 3] and components [N] of a frame."""
        status, content = self.ask("GET", f"/api/frame/{quote(token)}")
        assert status == 200, content
        count = int(np.frombuffer(content, "<u4", 1)[0])
        xyz = np.frombuffer(content, "<f4", 3 * count, 4).reshape(-1, 3)
        return xyz, np.frombuffer(content, "<i4", count, 4 + 12 * count)

    def act(self, action: str, status: int = 200, **more: Any) -> Any:
        """Carries out an action; what the server says."""
        found, content = self.ask("POST", "/api/action", json.dumps({"action": action, **more}))
        assert found == status, content
        return json.loads(content)


@contextmanager
def serving(config: Config, **arguments: Any) -> Iterator[Client]:
    """A client of a server in this process; `arguments` are those of annotate.py."""
    from core.annotate.run import make_server

    given = {
        "order": "file",
        "suggestions": None,
        "repeat": 0.0,
        "who": SIMULATED,
        "host": "127.0.0.1",
        "port": 0,
    } | arguments
    server = make_server(Run(config, Namespace(**given), None, torch.device("cpu")))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield Client(server.address)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def true_answers(config: Config) -> dict[Key, Answer]:
    """What the simulated annotator would say of each component."""
    reader = builder.make_reader(config, "train")
    reader.check_files(labels=True)
    parameters, seed = builder.weak_label_parameters(config), config.train.seed
    windows = read_windows(reader, config.proposals.path)
    found = (answer for window in windows for answer in simulated_answers(reader, window, History(), parameters, seed))
    return {(answer.window, answer.component): answer for answer in found}


def answer_all(client: Client, truth: Mapping[Key, Answer]) -> dict[str, Any]:
    """Answers the queue from its beginning to its end; the page's statistics afterwards.

    Of a component of one class the page clicks a point itself; of a mixed one the annotator's points are clicked.
    """
    overview = client.get("/api/session")
    answered = {(i, k) for i, k, state in overview["states"] if state is not None}
    statistics: dict[str, Any] = overview["statistics"]
    for index, component, _ in overview["queue"]:
        target = {"window": overview["windows"][index]["token"], "component": component}
        answer = truth.get((target["window"], component))
        if (index, component) in answered:
            continue
        if answer is None:
            said = client.act("skip", **target)
        elif len(answer.classes) == 1:
            shown = client.get(f"/api/component/{quote(answer.window)}/{component}")["frame"]
            said = client.act("label", **target, classes=list(answer.classes), frame=shown)
        else:
            points = [{"frame": p.frame, "row": p.row, "class": p.label} for p in answer.points]
            said = client.act("label", **target, classes=list(answer.classes), points=points)
        statistics = said["statistics"]
    return statistics


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("config")
    parser.add_argument("--with", dest="overlays", action="append", default=[])
    own, overrides = split_overrides(parser, sys.argv[1:])
    arguments = parser.parse_args(own)
    config = load_config(arguments.config, arguments.overlays, overrides)
    truth = true_answers(config)
    begin = time.perf_counter()
    with serving(config) as client:
        statistics = answer_all(client, truth)
    seconds = time.perf_counter() - begin
    print(
        f"{statistics['components']} of {statistics['all_components']} components labelled by {statistics['clicks']} "
        f"clicks, {100 * statistics['points'] / statistics['all_points']:.1f} % of the points; {seconds:.0f} s"
    )


if __name__ == "__main__":
    main()
