"""What every test shares, and which tests can run here. Imports nothing heavy, so that those of the tool stay quick.

The tool installs without TensorFlow. Where the training lacks anything, the test files that import what it takes, be it
through other modules, are left out, and so are tests marked `training`; the header says which. With --expect-training,
as `make test` has it, that is an error instead.
"""

import ast
import importlib.util
import os
import tempfile
from pathlib import Path

import pytest

from bisect_cli.trainers import requirements

ROOT = Path(__file__).resolve().parents[1]
TESTS = Path(__file__).parent
PLACES = (ROOT, TESTS, ROOT / "benchmarks", ROOT / "benchmarks" / "search", ROOT / "scripts")  # of modules of our own
MISSING = requirements.missing()

# Before anything imports TensorFlow: no chatter, and no test takes the whole memory of a GPU from the next.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
# Processes that tests start import this checkout, from whatever folder they run in.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
# What says that a campaign is the user's own is kept out of the home folder of whoever runs the tests.
STATE_HOME = tempfile.TemporaryDirectory(prefix="maskrcnn-bisect-tests-")
os.environ["XDG_STATE_HOME"] = STATE_HOME.name
# Campaigns of tests run as on a machine without GPUs, as many runs at once as a test says.
os.environ["PATH"] = os.pathsep.join((str(TESTS / "no_gpus"), os.environ["PATH"]))


@pytest.fixture(scope="session")
def root():
    """The root of the repository."""
    return ROOT


@pytest.fixture
def read_bytes(monkeypatch):
    """How many bytes have been read of all files, as os.pread reads them."""
    count, pread = [0], os.pread

    def counting(descriptor, size, offset):
        data = pread(descriptor, size, offset)
        count[0] += len(data)
        return data

    monkeypatch.setattr(os, "pread", counting)
    return lambda: count[0]


# --- what can run here


def imported(path, lazily=False):
    """The names of all modules that a file imports, each with the packages around it: as it is imported itself or, with
    `lazily`, within its functions as well. Of `from a import b` it cannot be seen whether b is a module, so a.b is one.
    """
    names, left = set(), [ast.parse(path.read_text())]
    while left:
        node = left.pop()
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
        if lazily or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            left += ast.iter_child_nodes(node)
    parts = [name.split(".") for name in names]
    return {".".join(part[:n]) for part in parts for n in range(1, len(part) + 1)}


def takes(path, modules):
    """Whether a test imports one of these modules, itself or through modules of our own."""
    seen, left = set(), imported(path, lazily=True)
    while left:
        name = left.pop()
        if name in modules:
            return True
        seen.add(name)
        tail = name.replace(".", "/")
        files = (place / f"{tail}{end}" for place in PLACES for end in (".py", "/__init__.py"))
        left |= {one for file in files if file.exists() for one in imported(file)} - seen
    return False


LEFT_OUT = [path.name for path in sorted(TESTS.glob("test_*.py")) if MISSING and takes(path, requirements.MODULES)]
collect_ignore = LEFT_OUT


def pytest_addoption(parser):
    group = parser.getgroup("maskrcnn-bisect")
    group.addoption("--expect-training", action="store_true", help="fail if what the training takes is missing")
    group.addoption("--part", metavar="K/N", help="run every Nth test only, from the Kth on")


def pytest_configure(config):
    if config.getoption("--expect-training"):
        if MISSING:
            raise pytest.UsageError(MISSING)
        if importlib.util.find_spec("horovod") is None:
            raise pytest.UsageError("horovod is missing: `make test` builds it.")


def pytest_report_header():
    if not MISSING:
        return None
    return [f"left out are {len(LEFT_OUT)} files of the training ({' '.join(LEFT_OUT)}):", f"  {MISSING}"]


def pytest_collection_modifyitems(config, items):
    chosen = [item for item in items if not (MISSING and item.get_closest_marker("training"))]
    for cluster in {"slurm", "ray"} - {config.option.markexpr}:
        chosen = [item for item in chosen if not item.get_closest_marker(cluster)]
    if config.getoption("--part"):
        first, every = map(int, config.getoption("--part").split("/"))
        chosen = chosen[first - 1 :: every]
    kept = set(chosen)
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = chosen
