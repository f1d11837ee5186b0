"""Code that cannot be written, no home, a long TMPDIR: as in a container of a read-only image."""

import os
import shutil
import subprocess
import sys
import tempfile

import numba
import numpy as np
import pytest

from core import builder
from core.running import compiled
from core.running.compiled import njit
from tests.entry import ROOT, environment, shell


@pytest.fixture
def read_only(tmp_path):
    """A copy of the code in which numba finds no place for its cache, root or not, and the environment for it."""
    code = tmp_path / "code"
    shutil.copytree(f"{ROOT}/core", code / "core", ignore=shutil.ignore_patterns("__pycache__"))
    for folder, _, _ in os.walk(code / "core"):
        open(os.path.join(folder, "__pycache__"), "w").close()  # a file where the folder would be
    (tmp_path / "tmp").mkdir()
    home = {"HOME": "/proc/none", "XDG_CACHE_HOME": "/proc/none", "TMPDIR": str(tmp_path / "tmp")}
    variables = environment(**home, PYTHONDONTWRITEBYTECODE="1", NUMBA_CACHE_DIR="")
    # coverage would count the copy's lines as lines that no test reached
    return code, {name: value for name, value in variables.items() if not name.startswith("COV_CORE_")}


def python(code, variables, program):
    done = subprocess.run([sys.executable, "-c", program], cwd=code, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


VOXELS = """
import numpy as np
from core.datasets.voxelize import voxelize
print(voxelize(np.zeros((3, 3)), 0.1, None).coords.tolist())
"""


def test_compiled_code_is_kept_in_a_temporary_folder(read_only, tmp_path):
    code, variables = read_only
    assert python(code, variables, VOXELS) == "[[0, 0, 0]]\n"
    (folder,) = (tmp_path / "tmp").iterdir()
    assert folder.name == f"iupc-numba-{os.getuid()}" and folder.stat().st_mode & 0o777 == 0o700
    kept = {path: path.stat().st_mtime_ns for path in folder.rglob("*.nbc")}
    assert kept
    python(code, variables, VOXELS)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.nbc")} == kept  # found, not made again


def test_code_that_somebody_else_may_have_put_there_is_not_run(read_only, tmp_path):
    code, variables = read_only
    folder = tmp_path / f"tmp/iupc-numba-{os.getuid()}"
    folder.mkdir()
    folder.chmod(0o777)
    assert python(code, variables, VOXELS) == "[[0, 0, 0]]\n"
    assert not list(folder.iterdir())


def test_compiled_without_any_place(monkeypatch):
    """Each process compiles for itself then."""

    def njit_without_place(*arguments, cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return numba_njit(*arguments, **options)

    def no_folder():
        raise FileNotFoundError("No usable temporary directory found")

    numba_njit = numba.njit
    monkeypatch.setattr(numba, "njit", njit_without_place)
    monkeypatch.setattr(tempfile, "gettempdir", no_folder)
    compiled._keep_in_temporary_folder.cache_clear()
    try:
        assert njit(cache=True, nogil=True)(lambda x: x + 1)(np.int64(1)) == 2
    finally:
        compiled._keep_in_temporary_folder.cache_clear()


HELP = """
import glob, runpy, sys
for script in sorted(glob.glob("*.py")):
    sys.argv = [script, "--help"]
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        print("status", end.code, "numba" in sys.modules)
"""


def test_help_compiles_nothing(read_only):
    """Scripts take arguments before they import what numba compiles; only the city's sizes stand in such modules."""
    code, variables = read_only
    scripts = sorted(name for name in os.listdir(ROOT) if name.endswith(".py"))
    for name in scripts:
        shutil.copy(f"{ROOT}/{name}", code)
    lines = [line for line in python(code, variables, HELP).splitlines() if line.startswith("status ")]
    assert len(scripts) >= 8
    last = scripts.index("prepare_synthetic_nusc.py")
    assert lines[:last] == ["status 0 False"] * last
    assert [line[:8] for line in lines] == ["status 0"] * len(scripts)


SOCKETS = """
if __name__ == "__main__":
    import multiprocessing, tempfile
    from core.running.temporary import make_room_for_sockets
    print(tempfile.gettempdir())
    make_room_for_sockets()
    with multiprocessing.get_context("forkserver").Pool(1) as pool:
        print(pool.map(len, ["ab"]))
"""


def test_processes_with_a_long_temporary_folder(tmp_path, monkeypatch):
    folder = tmp_path / ("x" * (115 - len(str(tmp_path))))
    folder.mkdir()
    program = tmp_path / "program.py"
    program.write_text(SOCKETS)
    output = shell(f"{sys.executable} {program}", TMPDIR=str(folder), PYTHONPATH=ROOT)
    assert output.splitlines() == [str(folder), "[2]"] and len(str(folder)) == 116

    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    builder.worker_context()
    assert tempfile.gettempdir() == os.environ["TMPDIR"] == "/tmp"
