"""Part 1: the tests that are parametrised by device, on the GPU."""

import os
from collections import Counter
from typing import Any

import pytest

from benchmarks.gpu_check.answers import Answers, Task, run_part

_TESTS = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "tests")


class Outcomes:
    """Chooses the tests of a device and writes each module's outcomes down.

    Args:
        answers: where.
        device: "cuda": tests with that parameter or with the mark `gpu`; "cpu": with that parameter.
    """

    def __init__(self, answers: Answers, device: str) -> None:
        self.answers, self.device = answers, device
        self.module = ""
        self.counts: Counter[str] = Counter()
        self.failures: list[str] = []

    def pytest_collection_modifyitems(self, config: Any, items: list[Any]) -> None:
        """Keeps the tests of this device."""
        chosen = [item for item in items if self._is_for_device(item)]
        config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
        items[:] = chosen

    def _is_for_device(self, item: Any) -> bool:
        values = item.callspec.params.values() if hasattr(item, "callspec") else ()
        marked = self.device == "cuda" and item.get_closest_marker("gpu") is not None
        return marked or any(isinstance(value, str) and value == self.device for value in values)

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Counts an outcome."""
        module = report.nodeid.split("::")[0]
        if module != self.module:
            self.write()
            self.module = module
        if report.failed:
            self.counts["failed"] += 1
            self.failures.append(f"{report.nodeid}: {_last_line(report)}")
        elif report.skipped or report.when == "call":
            self.counts[report.outcome] += 1

    def pytest_sessionfinish(self) -> None:
        """The last module's outcomes."""
        self.write()

    def write(self) -> None:
        """The outcomes of the module that is done."""
        if self.module and (self.counts or self.failures):
            values = {name: self.counts[name] for name in ("passed", "failed", "skipped")}
            self.answers.add(self.module, values, "; ".join(self.failures))
        self.counts, self.failures = Counter(), []


def _last_line(report: Any) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    return (crash.message if crash else str(report.longrepr)).splitlines()[0][:200]


def device_test_files() -> list[str]:
    """Test modules that know of devices."""
    files = []
    for name in sorted(os.listdir(_TESTS)):
        if name.startswith("test_") and name.endswith(".py"):
            with open(os.path.join(_TESTS, name), encoding="utf-8") as file:
                text = file.read()
            if "import DEVICES" in text or "mark.gpu" in text:
                files.append(os.path.join(_TESTS, name))
    return files


def main(task: Task, answers: Answers) -> None:
    """Runs them; of the toy size those of the sparse operations alone."""
    files = [name for name in device_test_files() if not task.toy or name.endswith("test_pseudo_labels.py")]
    status = pytest.main(["-q", "-p", "no:cacheprovider", *files], plugins=[Outcomes(answers, task.device)])
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        answers.add("pytest", {}, f"ended with status {int(status)}; see the log")


if __name__ == "__main__":
    run_part(1, main)
