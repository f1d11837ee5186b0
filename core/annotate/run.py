"""From proposals and journal to a page that is served: the step behind annotate.py."""

import getpass
import os

from torchpack.utils.logging import logger

from core import builder
from core.annotate.frames import Frames
from core.annotate.queue import ORDERS, Suggestions, Window, ordered, read_suggestions
from core.annotate.server import Server
from core.annotate.session import Session
from core.datasets.base import Reader
from core.errors import UserError
from core.label_files.archive import read_archive
from core.label_files.errors import PROPOSAL, label_path
from core.labeling.annotation.proposals import read_proposal
from core.labeling.over_data_set.label_clicks import check_proposals
from core.running.locks import locked
from core.running.progress import progress
from core.running.runtime import Run


def annotate(run: Run) -> None:
    """Serves the page until it is interrupted."""
    arguments, journal = run.arguments, run.config.proposals.journal
    with locked(os.path.dirname(os.path.abspath(journal)), True):
        server = make_server(run)
        if arguments.host != "127.0.0.1":
            logger.warning(f"--host {arguments.host}: whoever reaches it and has the address below can label; no TLS.")
        print(f"Open in a browser: {server.address}\nCtrl+C ends; each answer is in {journal}.", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            statistics = server.session.since(0)["statistics"]
            print(f"\n{statistics['components']} of {statistics['all_components']} components labelled.", flush=True)
        finally:
            server.server_close()


def make_server(run: Run) -> Server:
    """The server of a configuration's training frames; listens, and answers once it is told to serve.

    Raises:
        UserError: proposals, suggestions or journal are missing, broken or do not fit.
    """
    config, arguments = run.config, run.arguments
    if arguments.order == "uncertainty" and arguments.suggestions is None:
        raise UserError("--order uncertainty: needs --suggestions DIR, written by predict.py --uncertainty")
    reader = builder.make_reader(config, "train")
    if not len(reader):
        raise UserError("dataset.splits.train: has no frames, and nothing to label")
    reader.check_files(labels=False)
    parameters = builder.weak_label_parameters(config)
    identity = check_proposals(reader, config.proposals.path, parameters)
    windows, num_points = read_queue(reader, config.proposals.path, identity, min(config.dataset.small_component_sizes))
    suggestions = Suggestions()
    if arguments.suggestions is not None:
        suggestions = read_suggestions(arguments.suggestions, windows, reader.classes.num_classes)
    order = arguments.order or ("uncertainty" if suggestions.of else "size")
    frames = Frames(reader, config.proposals.path, identity)
    queue = ordered(windows, ORDERS[order], config.train.seed, suggestions)
    who = arguments.who or getpass.getuser()
    journal = config.proposals.journal
    session = Session(reader.classes, windows, queue, suggestions, frames, journal, who, num_points, arguments.repeat)
    if session.changed_since:
        logger.warning(
            f"{config.proposals.journal}: {session.changed_since} answers are to components that were proposed anew "
            "since; they are asked for again."
        )
    return Server(arguments.host, arguments.port, session, frames)


def read_queue(reader: Reader, directory: str, identity: str, smallest: int) -> tuple[list[Window], int]:
    """All windows of a reader's frames, and the number of points that labels are wanted for.

    Args:
        smallest: clusters of fewer points are not asked for.

    Raises:
        UserError: proposals are missing or broken, or were made with other frames.
    """
    windows, num_points = [], 0
    tokens = reader.tokens()
    for token in progress(tokens, len(tokens), "proposals"):
        path = label_path(directory, PROPOSAL, token)
        header, _ = read_archive(path, PROPOSAL, {})
        num_points += int(header["statistics"]["annotated"])
        if header["window"] != token:
            continue
        proposal = read_proposal(directory, token, parameters_hash=identity)
        if not set(proposal.frames) <= set(tokens):
            raise UserError(
                f"{path}: made with frames that split '{reader.split}' does not have now; choose another "
                "proposals.path for other splits"
            )
        queue = proposal.queue(smallest)
        windows.append(Window(token, proposal.frames, proposal.identity, proposal.sizes, proposal.num_ground, queue))
    return windows, num_points
