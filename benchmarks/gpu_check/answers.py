"""What a part finds, a JSON line each, written at once."""

import argparse
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

Values = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """One finding of a part.

    Attributes:
        part: number of the part.
        what: what was looked at.
        values: figures by name, with their units in the names.
        wrong: what is wrong with it; "" where nothing is.
    """

    part: int
    what: str
    values: Values
    wrong: str = ""

    def line(self) -> str:
        """As one line of text."""
        figures = ", ".join(
            f"{name} {value}" for name, value in self.values.items() if not isinstance(value, list | dict)
        )
        wrong = f"  WRONG: {self.wrong}" if self.wrong else ""
        return f"{self.part} | {self.what}: {figures}{wrong}"


class Answers:
    """The file of a part's answers."""

    def __init__(self, folder: str, part: int) -> None:
        self.path, self.part = os.path.join(folder, f"part-{part}.jsonl"), part

    def add(self, what: str, values: Values, wrong: str = "") -> None:
        """Appends an answer; it is in the file when this returns."""
        line = {"what": what, "values": values, "wrong": wrong}
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    @contextmanager
    def trying(self, what: str) -> Iterator[None]:
        """An exception becomes an answer; what follows it is still tried."""
        try:
            yield
        except Exception as error:
            import traceback

            traceback.print_exc()
            self.add(what, {}, f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:300])

    def read(self) -> list[Answer]:
        """All whole answers so far."""
        if not os.path.exists(self.path):
            return []
        with open(self.path, encoding="utf-8") as file:
            lines = [line for line in file if line.endswith("\n")]
        return [Answer(self.part, **json.loads(line)) for line in lines]


@dataclass(frozen=True)
class Task:
    """What a part is told.

    Attributes:
        folder: for results, logs and data.
        device: "cuda"; "cpu" in tests.
        toy: sizes for tests.
        seconds: the part's cap.
    """

    folder: str
    device: str
    toy: bool
    seconds: float


def run_part(part: int, work: Callable[[Task, Answers], None]) -> None:
    """The main function of a part's process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--toy", action="store_true")
    parser.add_argument("--seconds", type=float, default=600)
    task = Task(**vars(parser.parse_args()))
    if task.device == "cpu":
        import torch

        torch.set_num_threads(1)
    work(task, Answers(task.folder, part))
