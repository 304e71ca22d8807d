"""That what is declared is what is there: versions, dependencies, prerequisites, and what is light to import."""

import ast
import configparser
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

PACKAGES = ("bisect_cli", "maskrcnn")
# Imported by the tool, by every `--check`, or by those who look at results: they must answer at once.
LIGHT_MODULES = ["errors", "pieces", "config", "faults", "version", "detections", "draw", "data.coco", "data.shapes"]
HEAVY_MODULES = ("tensorflow", "tensorpack", "horovod", "keras")
DISTRIBUTION_OF = {"cv2": "opencv-python-headless", "yaml": "pyyaml"}


@pytest.fixture(scope="module")
def setup_cfg(root):
    parser = configparser.ConfigParser()
    assert parser.read(root / "setup.cfg")
    return parser


def requirements(text):
    return {r.name: r for r in map(Requirement, text.split("\n")[1:])}


def sources(root):
    return [path for package in PACKAGES for path in sorted((root / package).rglob("*.py"))]


# --- what setup.cfg says


def test_installed_version_is_the_declared_one(setup_cfg):
    from maskrcnn.version import package_version

    try:
        installed = importlib.metadata.version("maskrcnn-bisect")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("runs from a source tree that is not installed")
    assert installed == setup_cfg["metadata"]["version"] == package_version()


def test_every_requirement_is_bounded_and_has_its_reason(root, setup_cfg):
    lists = [setup_cfg["options"]["install_requires"], *setup_cfg["options.extras_require"].values()]
    lines = (root / "setup.cfg").read_text().splitlines()
    for requirement in (r for text in lists for r in requirements(text).values()):
        operators = {s.operator for s in requirement.specifier}
        assert operators & {"<", "=="}, f"{requirement} has no upper bound"
        place = next(i for i, line in enumerate(lines) if line.strip().startswith(requirement.name))
        above = lines[place - 1].strip().startswith("#") or lines[place - 2].strip().startswith("#")
        assert above, f"{requirement} has no reason above it"


@pytest.mark.skipif(sys.version_info < (3, 10), reason="Python 3.9 has no list of its own modules")
def test_every_import_is_declared(root, setup_cfg):
    declared = set(requirements(setup_cfg["options"]["install_requires"])) | set(setup_cfg["options.extras_require"])
    undeclared = {}
    for path in sources(root):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            else:
                continue
            for top in {name.partition(".")[0] for name in names}:
                own = top in sys.stdlib_module_names or top in PACKAGES
                if not own and DISTRIBUTION_OF.get(top, top) not in declared:
                    undeclared.setdefault(top, []).append(str(path.relative_to(root)))
    assert not undeclared


def test_every_folder_of_modules_is_installed(root):
    missing = {str(p.parent.relative_to(root)) for p in sources(root) if not (p.parent / "__init__.py").exists()}
    assert not missing, "without an __init__.py they are left out of the package"


def test_console_script_exists(setup_cfg):
    script = setup_cfg["options.entry_points"]["console_scripts"].strip()
    assert script == "maskrcnn-bisect = bisect_cli.cli:main"
    from bisect_cli.cli import main

    assert callable(main)


# --- what must not be imported


def run_python(code, *arguments, cwd):
    """Runs `code` in a fresh interpreter. -> (exit code, what it printed last as JSON, stderr)."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=cwd, capture_output=True, text=True, timeout=120
    )
    lines = done.stdout.splitlines()
    return done.returncode, json.loads(lines[-1]) if lines else None, done.stderr


def test_light_modules_do_not_import_tensorflow(tmp_path):
    code = """
import importlib, json, pkgutil, sys
import bisect_cli
names = [m.name for m in pkgutil.walk_packages(bisect_cli.__path__, "bisect_cli.") if not m.name.endswith("__main__")]
names += ["maskrcnn." + name for name in sys.argv[1].split()]
for name in names:
    importlib.import_module(name)
print(json.dumps([len(names), [m for m in sys.argv[2].split() if m in sys.modules]]))
"""
    status, answer, stderr = run_python(code, " ".join(LIGHT_MODULES), " ".join(HEAVY_MODULES), cwd=tmp_path)
    assert status == 0, stderr
    count, heavy = answer
    assert count > len(LIGHT_MODULES)
    assert heavy == []


@pytest.mark.parametrize("arguments", ["--help", "flags", "list", "status"])
def test_commands_that_only_look_do_not_import_tensorflow(tmp_path, arguments):
    code = """
import json, sys
from bisect_cli.cli import main
status = 0
try:
    main()
except SystemExit as end:
    status = end.code
print("\\n" + json.dumps([status, [m for m in ("tensorflow", "tensorpack", "horovod", "keras") if m in sys.modules]]))
"""
    exit_code, answer, stderr = run_python(code, *arguments.split(), cwd=tmp_path)
    assert exit_code == 0 and "Traceback" not in stderr, stderr
    status, heavy = answer
    assert heavy == []
    assert status in (None, 0, 2), "2: there is no campaign here yet"


# --- what `make` asks for before it begins


@pytest.fixture
def machine(tmp_path, root):
    """A machine with nothing but the commands one puts on it; calling it runs scripts/prerequisites.sh."""

    class Machine:
        def put(self, name, script):
            path = tmp_path / name
            path.write_text(f"#!/bin/sh\n{script}\n")
            path.chmod(0o755)

        def put_python(self, name, version, venv=True):
            self.put(name, f'case "$2" in *venv*) exit {0 if venv else 1} ;; *) echo {version} ;; esac')

        def __call__(self, *arguments, **environment):
            command = [shutil.which("sh"), str(root / "scripts" / "prerequisites.sh"), *arguments]
            environment["PATH"] = str(tmp_path)
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30)
            return done.returncode, done.stdout.strip(), done.stderr.splitlines()

    return Machine()


@pytest.mark.parametrize("minor", range(7, 15))
def test_prerequisites_accept_the_declared_pythons(machine, setup_cfg, minor):
    version = f"3.{minor}"
    fits = version in SpecifierSet(setup_cfg["options"]["python_requires"])
    assert fits == (f"Programming Language :: Python :: {version}" in setup_cfg["metadata"]["classifiers"].splitlines())
    machine.put_python("python3", version)
    status, found, errors = machine()
    if fits:
        assert (status, found, errors) == (0, "python3", [])
    else:
        assert (status, found, len(errors)) == (2, "", 1)
        assert f"python3 is Python {version}" in errors[0] and "PYTHON=" in errors[0]


def test_prerequisites_take_the_newest_python_that_runs(machine):
    machine.put("python3.11", "exit 127")  # as a pyenv shim of a version that is not chosen
    machine.put_python("python3.10", "3.10")
    machine.put_python("python3.9", "3.9")
    machine.put_python("python3", "3.13")
    assert machine() == (0, "python3.10", [])
    assert machine(PYTHON="python3.9") == (0, "python3.9", [])


def test_prerequisites_name_the_package_that_is_missing(machine):
    status, found, errors = machine("horovod")
    assert (status, found) == (2, "")
    for error, package in zip(errors, ("python3.11", "g++", "cmake", "make")):
        assert f"apt-get install {package}" in error
    assert len(errors) == 4

    machine.put_python("python3.11", "3.11", venv=False)
    assert "python3.11-venv" in machine()[2][0]
    status, found, errors = machine(PYTHON="elsewhere/python")
    assert (status, found) == (2, "")
    assert "elsewhere/python" in errors[0]


def test_prerequisites_are_content_with_any_compiler(machine):
    machine.put_python("python3.11", "3.11")
    for name in ("clang++", "cmake", "make"):
        machine.put(name, "exit 0")
    assert machine("horovod") == (0, "python3.11", [])
    status, _, errors = machine("horovod", CXX="icpx")
    assert status == 2
    assert "icpx" in errors[0]


# --- what the repository must not carry


# Each is written so that it does not match itself.
FORBIDDEN = {
    "a path of somebody's machine": r"(?<![\w.~/-])/(?:home|root|work|opt|mnt|Users|tmp)/\w",
    "a package index": r"index[-]url|find[-]links|pypi[.]org|python[h]osted",
    "a number of a tracker": r"\b[Ii]ssue [#]?\d",
}


def test_tracked_files_name_no_machine(root):
    if not (root / ".git").exists():
        pytest.skip("not a git checkout")
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout.split("\0")
    read, found = 0, []
    for name in filter(None, names):
        try:
            text = (root / name).read_text()
        except (UnicodeDecodeError, FileNotFoundError, IsADirectoryError):
            continue  # a picture, or a file that was deleted and not yet committed
        read += 1
        for number, line in enumerate(text.splitlines(), 1):
            found += [f"{name}:{number}: {what}" for what, pattern in FORBIDDEN.items() if re.search(pattern, line)]
    assert read > 20
    assert not found


def test_only_the_readme_of_runs_is_tracked(root):
    if not (root / ".git").exists():
        pytest.skip("not a git checkout")
    command = ["git", "-c", "safe.directory=*", "check-ignore", "--no-index", "--quiet"]
    paths = ("runs/demo/events.jsonl", "runs/README.md")
    assert [subprocess.run([*command, path], cwd=root).returncode == 0 for path in paths] == [True, False]


def test_ci_script_is_executable(root):
    assert os.access(root / ".ci" / "run", os.X_OK)
