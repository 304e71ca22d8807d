"""That what is declared is what is there: versions, dependencies, prerequisites, and what is light to import."""

import ast
import configparser
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from bisect_cli.trainers import requirements as training

PACKAGES = ("bisect_cli", "maskrcnn")
PYTHONS = [f"3.{minor}" for minor in range(7, 16)]
# Of the training, imported by the tool, which is installed without what the training takes.
LIGHT_MODULES = ["errors", "pieces", "config", "faults", "version"]
# Imported by every `--check`, or by those who look at results: they must answer at once.
QUICK_MODULES = ["settings", "key", "detections", "draw", "data.coco", "data.shapes"]
HEAVY_MODULES = ("tensorflow", "tensorpack", "horovod", "keras")
DISTRIBUTION_OF = {module: Requirement(text).name for module, text in training.MODULES.items()}


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


# Python 3.10 does not know yet what came with 3.11.
STDLIB = {*getattr(sys, "stdlib_module_names", ()), "tomllib"}


def imports(root, package):
    """{what the modules of a package import from elsewhere, by what pip calls it: the files that do}."""
    found = {}
    for path in sorted((root / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            else:
                continue
            for top in {name.partition(".")[0] for name in names} - STDLIB - set(PACKAGES):
                found.setdefault(DISTRIBUTION_OF.get(top, top), []).append(str(path.relative_to(root)))
    return found


@pytest.mark.skipif(sys.version_info < (3, 10), reason="Python 3.9 has no list of its own modules")
def test_every_import_is_declared_and_the_tool_declares_no_more(root, setup_cfg):
    light = set(requirements(setup_cfg["options"]["install_requires"]))
    assert light == set(imports(root, "bisect_cli"))
    extras = setup_cfg["options.extras_require"]
    declared = {*light, *requirements(extras["maskrcnn"]), *requirements(extras["horovod"])}
    assert {name: files for name, files in imports(root, "maskrcnn").items() if name not in declared} == {}


def test_the_training_is_looked_for_by_all_that_its_extra_brings(setup_cfg):
    light, extra = (
        requirements(setup_cfg["options"]["install_requires"]),
        setup_cfg["options.extras_require"]["maskrcnn"],
    )
    assert {Requirement(text).name for text in training.MODULES.values()} == set(requirements(extra)) - set(light)
    assert next(iter(requirements(extra))) == "tensorflow", (
        "where there is none, pip has to end before it builds others"
    )
    assert not any(r.marker for r in requirements(extra).values()), "with markers half of it would be installed"


def test_every_python_is_declared_everywhere(setup_cfg):
    declared = [v for v in PYTHONS if v in SpecifierSet(setup_cfg["options"]["python_requires"])]
    classifiers = re.findall(r"Python :: (3\.\d+)", setup_cfg["metadata"]["classifiers"])
    assert declared == classifiers == PYTHONS[PYTHONS.index("3.9") : PYTHONS.index("3.13") + 1]


def test_every_folder_of_modules_is_installed(root):
    missing = {str(p.parent.relative_to(root)) for p in sources(root) if not (p.parent / "__init__.py").exists()}
    assert not missing, "without an __init__.py they are left out of the package"


def test_console_script_exists(setup_cfg):
    script = setup_cfg["options.entry_points"]["console_scripts"].strip()
    assert script == "maskrcnn-bisect = bisect_cli.cli:main"
    from bisect_cli.cli import main

    assert callable(main)


# --- what is installed


def test_the_installed_tool_brings_nothing_of_the_training(setup_cfg):
    found = list(map(Requirement, importlib.metadata.requires("maskrcnn-bisect")))
    assert {r.name: r.specifier for r in found if "extra" not in str(r.marker)} == {
        name: r.specifier for name, r in requirements(setup_cfg["options"]["install_requires"]).items()
    }


@pytest.mark.training  # brings setuptools, with which it is built as it stands, without a registry
def test_a_wheel_holds_both_packages_and_says_what_it_takes(root, tmp_path, setup_cfg):
    source = tmp_path / "source"
    skipped = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for package in PACKAGES:
        shutil.copytree(root / package, source / package, ignore=skipped)
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / name, source)
    code = 'from setuptools import build_meta; print(f\'"{build_meta.build_wheel(".")}"\')'
    status, name, stderr = run_python(code, cwd=source)
    assert status == 0, stderr
    with zipfile.ZipFile(source / name) as wheel:
        files = set(wheel.namelist())
        info = next(name for name in files if name.endswith("METADATA"))
        metadata = Parser().parsestr(wheel.read(info).decode())
    assert {name for name in files if name.endswith(".py")} == {str(path.relative_to(root)) for path in sources(root)}
    assert {name.partition("/")[0] for name in files} == {*PACKAGES, info.partition("/")[0]}
    assert metadata["Requires-Python"] and SpecifierSet(metadata["Requires-Python"]) == SpecifierSet(
        setup_cfg["options"]["python_requires"]
    )
    taken = list(map(Requirement, metadata.get_all("Requires-Dist")))
    plain = [r.name for r in taken if "extra" not in str(r.marker)]
    assert plain == list(requirements(setup_cfg["options"]["install_requires"]))
    extra = [r.name for r in taken if r.marker and r.marker.evaluate({"extra": "maskrcnn"}) and r.name not in plain]
    assert extra == [
        name for name in requirements(setup_cfg["options.extras_require"]["maskrcnn"]) if name not in plain
    ]


# --- what the tool says where the training is not installed


@pytest.fixture
def here(monkeypatch):
    """Makes this Python one of some version, in which some modules are not installed."""

    def make(version, *absent):
        monkeypatch.setattr(sys, "version_info", (*version, 0, "final", 0))
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in absent else name)

    return make


def test_nothing_is_missing_where_all_is_installed(here):
    for version in ((3, 9), (3, 11)):
        here(version)
        assert training.missing() == ""


def test_what_is_missing_is_said_in_a_line(here):
    here((3, 10), *training.MODULES)
    said = training.missing()
    assert "install tensorflow, tensorpack, pycocotools, opencv-python-headless, psutil and setuptools<81 with" in said
    assert "pip install 'maskrcnn-bisect[maskrcnn]'" in said and "Python 3.9 to 3.11" in said and "\n" not in said
    here((3, 10), "cv2")
    assert "install opencv-python-headless with" in training.missing()


@pytest.mark.parametrize("version", [(3, 8), (3, 12), (3, 13)])
def test_another_python_is_said_first(here, version):
    here(version, *training.MODULES)
    said = training.missing()
    assert f"this is Python 3.{version[1]}" in said and "Python 3.9 to 3.11" in said and "\n" not in said
    assert "pip install 'maskrcnn-bisect[maskrcnn]'" in said


def test_looking_for_the_training_imports_nothing_of_it(tmp_path):
    code = f"""
import json, sys
from bisect_cli.trainers import requirements
requirements.missing(), requirements.absent()
print(json.dumps([m for m in {(*training.MODULES, *HEAVY_MODULES)} if m in sys.modules]))
"""
    assert run_python(code, cwd=tmp_path)[:2] == (0, [])


# --- what must not be imported


def run_python(code, *arguments, cwd):
    """Runs `code` in a fresh interpreter. -> (exit code, what it printed last as JSON, stderr)."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=cwd, capture_output=True, text=True, timeout=120
    )
    lines = done.stdout.splitlines()
    return done.returncode, json.loads(lines[-1]) if lines else None, done.stderr


IMPORTER = """
import importlib, json, pkgutil, sys
names, absent, heavy = map(str.split, sys.argv[1:])
sys.modules.update(dict.fromkeys(absent))  # None there makes an import fail
import bisect_cli
names += [m.name for m in pkgutil.walk_packages(bisect_cli.__path__, "bisect_cli.") if not m.name.endswith("__main__")]
for name in names:
    importlib.import_module(name)
print(json.dumps([len(names), [m for m in heavy if sys.modules.get(m)]]))
"""


def import_all(cwd, modules, absent):
    """Imports the tool and modules of the training, as if others were not installed. -> which of HEAVY_MODULES came."""
    names = [f"maskrcnn.{name}" for name in modules]
    status, answer, stderr = run_python(IMPORTER, " ".join(names), " ".join(absent), " ".join(HEAVY_MODULES), cwd=cwd)
    assert status == 0, stderr
    count, heavy = answer
    assert count > len(names) + 10
    return heavy


def test_the_tool_imports_nothing_of_what_the_training_takes(tmp_path):
    assert import_all(tmp_path, LIGHT_MODULES, [*training.MODULES, *HEAVY_MODULES]) == []


@pytest.mark.training
def test_quick_modules_of_the_training_do_not_import_tensorflow(tmp_path):
    assert import_all(tmp_path, QUICK_MODULES, []) == []


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


def test_the_training_without_its_packages_says_so_in_one_line(tmp_path):
    (tmp_path / "cv2.py").write_text("raise ModuleNotFoundError(\"No module named 'cv2'\", name='cv2')")
    done = subprocess.run(
        [sys.executable, "-c", "import sys; sys.path.insert(0, '.'); import runpy; runpy.run_module('maskrcnn')"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (
        done.returncode == 2 and done.stderr.count("\n") == 1 and "which is not installed: pip install" in done.stderr
    )


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
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
            return done.returncode, done.stdout.strip(), done.stderr.splitlines()

    return Machine()


@pytest.mark.parametrize("version", PYTHONS)
def test_prerequisites_accept_the_pythons_of_the_training(machine, version):
    fits = training.PYTHONS[0] <= tuple(map(int, version.split("."))) <= training.PYTHONS[1]
    machine.put_python("python3", version)
    status, found, errors = machine()
    if fits:
        assert (status, found, errors) == (0, "python3", [])
    else:
        assert (status, found, len(errors)) == (2, "", 1)
        assert f"python3 is Python {version}" in errors[0] and "PYTHON=" in errors[0]


def test_prerequisites_find_every_python_for_the_tool(machine, setup_cfg):
    for version in PYTHONS:
        machine.put_python(f"python{version}", version)
    fitting = [v for v in PYTHONS if v in SpecifierSet(setup_cfg["options"]["python_requires"])]
    assert machine("core") == (0, "\n".join(f"python{version}" for version in fitting), [])
    assert machine("core", PYTHON="python3.12 python3.9") == (0, "python3.12\npython3.9", [])


def test_prerequisites_pass_over_pythons_unless_they_are_named(machine):
    machine.put("python3.9", "exit 127")
    machine.put_python("python3.10", "3.10", venv=False)
    machine.put_python("python3.12", "3.12")
    machine.put_python("python3.14", "3.14")
    status, found, errors = machine("core")
    assert (status, found, len(errors)) == (0, "python3.12", 1) and "python3.10-venv" in errors[0]
    status, found, errors = machine("core", PYTHON="python3.9 python3.10 python3.12 python3.14")
    assert (status, found, len(errors)) == (2, "python3.12", 3)
    assert "python3.9 does not run" in errors[0] and "python3.14 is Python 3.14" in errors[2]


def test_prerequisites_want_one_python_for_the_tool(machine):
    status, found, errors = machine("core")
    assert (status, found, len(errors)) == (2, "", 1)
    assert "apt-get install python3" in errors[0]


def test_prerequisites_look_behind_the_shims_of_pyenv(machine, tmp_path):
    for version in ("3.9", "3.11", "3.13"):
        machine.put(f"python{version}", "exit 127")  # of a version that is not chosen
    machine.put_python("chosen-3.11", "3.11")
    machine.put_python("chosen-3.13", "3.13")
    behind = f'echo "{tmp_path}/older"; echo "{tmp_path}/chosen-${{3#python}}"'
    machine.put("pyenv", f"case $3 in python3.11 | python3.13) {behind} ;; *) exit 1 ;; esac")
    assert machine() == (0, f"{tmp_path}/chosen-3.11", [])
    assert machine("core") == (0, f"{tmp_path}/chosen-3.11\n{tmp_path}/chosen-3.13", [])


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
