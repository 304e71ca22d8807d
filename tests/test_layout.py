"""The rules of the house: what may import what, who knows the Mask R-CNN, and how large anything grows."""

import ast
import re
from typing import NamedTuple

import pytest

from maskrcnn.config import PRESETS
from maskrcnn.pieces import PIECES, PREFIX

PACKAGE = "bisect_cli"
ADAPTER = "trainers.maskrcnn"  # the only module that knows the Mask R-CNN
MOST_LINES = {"class": 170, "function": 50}

# From the top down: each part may use those after it. The others stand at the side.
LEVELS = ("cli", "run", "report", "analysis", "search", "evidence", "campaign")
SIDE = ("storage", "trainers", "launchers")
# Whoever may use them; they themselves use `campaign` and one another.
ABOVE_SIDE = ("cli", "run", "report")
MAY_USE = {
    **{part: (*LEVELS[i:], *(SIDE if part in ABOVE_SIDE else ())) for i, part in enumerate(LEVELS)},
    **{part: (*SIDE, "campaign") for part in SIDE},
    "__main__": ("cli",),
    "": ("run",),  # the package itself: what it has for programs
    "errors": (),
}

# Without clock, disk and process: what these say follows from what they are given.
PURE = ("campaign", "evidence", "search", "analysis", "run.schedule")
IMPURE = {
    *("os", "pathlib", "time", "datetime", "subprocess", "socket", "signal", "tempfile", "shutil", "sys", "io", "glob"),
    *("threading", "multiprocessing", "asyncio", "fcntl", "select", "logging", "importlib", "pkgutil"),
}
IMPURE_CALLS = {"open", "print", "input", "exec", "eval", "__import__"}
ALLOWED = {"search": {"importlib", "pkgutil"}}  # it finds searches by their names

# Names that only the adapter may have: flags and groups wherever they stand in a text, presets as a text of their own.
NAMES = re.compile(rf"\b(?:{PREFIX})?(?:{'|'.join(PIECES)})\b|\bL\dB\d+\b")


class Import(NamedTuple):
    """An import statement's one name: which line, of what module, and which name of that, "" for the module itself."""

    line: int
    module: str
    name: str


class Module:
    """A file of the tool. name: without the package's own, "search.bayes" for bisect_cli/search/bayes/__init__.py."""

    def __init__(self, name, source):
        self.name, self.part = name, name.partition(".")[0]
        self.tree = ast.parse(source)
        self.imports = list(self._imports())

    def _imports(self):
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (Import(node.lineno, alias.name, "") for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert not node.level, f"{self.name}:{node.lineno}: write the whole name of the module"
                yield from (Import(node.lineno, node.module, alias.name) for alias in node.names)

    def of_the_house(self, names):
        """{module of the tool that this one imports: line}, `names` being those of all modules."""
        found = {}
        for one in self.imports:
            if one.module.partition(".")[0] == PACKAGE:
                module = one.module[len(PACKAGE) + 1 :]
                inner = f"{module}.{one.name}".lstrip(".")
                found.setdefault(inner if inner in names else module, one.line)
        return found

    def foreign(self):
        """(line, package) of each import from elsewhere."""
        tops = [(one.line, one.module.partition(".")[0]) for one in self.imports]
        return [(line, top) for line, top in tops if top != PACKAGE]

    def texts(self):
        """(line, text) of each string literal that is no docstring."""
        documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        bodies = [node.body for node in ast.walk(self.tree) if isinstance(node, documented) and node.body]
        docstrings = {body[0].value for body in bodies if isinstance(body[0], ast.Expr)}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in docstrings:
                yield node.lineno, node.value


def belongs(name, parts):
    """Whether a module is one of these, or in one."""
    return any(name == part or name.startswith(f"{part}.") for part in parts)


# --- the rules: {name of a module: Module} -> what breaks them, a line each


def against_the_arrows(modules):
    for module in modules.values():
        for target, line in module.of_the_house(modules).items():
            part = target.partition(".")[0]
            if part not in ("errors", module.part, *MAY_USE.get(module.part, ())):
                yield f"{module.name}:{line} imports {target or PACKAGE}"


def in_circles(modules):
    uses = {name: set(module.of_the_house(modules)) - {name} for name, module in modules.items()}
    while True:  # whoever uses nothing that is left, or is used by nothing that is left, stands in no circle
        used = set().union(*uses.values()) if uses else set()
        kept = {name: targets & set(uses) for name, targets in uses.items() if targets & set(uses) and name in used}
        if kept == uses:
            return [f"{name} imports {', '.join(sorted(targets))}" for name, targets in sorted(uses.items())]
        uses = kept


def impure(modules):
    for module in modules.values():
        if belongs(module.name, PURE):
            forbidden = IMPURE - ALLOWED.get(module.name, set())
            yield from (f"{module.name}:{line} imports {top}" for line, top in module.foreign() if top in forbidden)
            for node in ast.walk(module.tree):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in IMPURE_CALLS:
                    yield f"{module.name}:{node.lineno} calls {node.func.id}"


def knowing_the_training(modules):
    for module in modules.values():
        if module.name != ADAPTER:
            yield from (f"{module.name}:{line} imports it" for line, top in module.foreign() if top == "maskrcnn")


def naming_pieces(modules):
    for module in modules.values():
        if module.name != ADAPTER:
            for line, text in module.texts():
                found = NAMES.findall(text) + ([text] if text in PRESETS else [])
                yield from (f"{module.name}:{line} has {name}" for name in found)


def too_large(modules):
    kinds = {ast.ClassDef: "class", ast.FunctionDef: "function", ast.AsyncFunctionDef: "function"}
    for module in modules.values():
        for node in ast.walk(module.tree):
            kind = kinds.get(type(node))
            lines = kind and node.end_lineno - node.lineno + 1
            if kind and lines > MOST_LINES[kind]:
                yield f"{module.name}:{node.lineno} {node.name} has {lines} lines"


RULES = (against_the_arrows, in_circles, impure, knowing_the_training, naming_pieces, too_large)


@pytest.fixture(scope="module")
def house(root):
    found = {}
    for path in sorted((root / PACKAGE).rglob("*.py")):
        *folders, stem = path.relative_to(root / PACKAGE).with_suffix("").parts
        name = ".".join(folders if stem == "__init__" else [*folders, stem])
        found[name] = Module(name, path.read_text())
    return found


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_house_keeps_its_rules(house, rule):
    broken = list(rule(house))
    assert not broken, "\n".join(broken)


def test_the_house_is_what_the_rules_are_about(house):
    assert {module.part for module in house.values()} == set(MAY_USE)
    assert all(name in house for name in ("run.schedule", ADAPTER))
    assert any(top == "maskrcnn" for _, top in house[ADAPTER].foreign())


# --- that the rules find what breaks them


def small_house(**sources):
    """Of {name of a module, `__` for the dot: its source}."""
    named = {name.replace("__", "."): source for name, source in sources.items()}
    return {name: Module(name, source) for name, source in named.items()}


SOUND = small_house(
    errors="class UserError(Exception): pass",
    campaign__state="import dataclasses\nfrom bisect_cli.errors import UserError",
    search="import importlib\nfrom bisect_cli.campaign import state\nfrom bisect_cli.evidence.judge import Verdict",
    search__bayes="from bisect_cli.search import Question",
    evidence__judge='"""Not of MASK_LOSS, nor of L2B5."""\nimport math',
    storage__store="import os\nfrom bisect_cli.campaign import state\nfrom bisect_cli.launchers import process",
    launchers__process="import os",
    trainers__maskrcnn="from maskrcnn import pieces\nNAMES = 'MASK_LOSS', 'L2B5', 'shapes'",
    analysis="from bisect_cli import search",
    run__schedule="from bisect_cli import search",
    cli__start="def main():\n    from bisect_cli.run import schedule\n    print('drawn shapes', open)",
)

BROKEN = {
    against_the_arrows: [
        ("campaign__state", "from bisect_cli.evidence import judge", "imports evidence.judge"),
        ("report__table", "def show():\n    import bisect_cli.run.schedule", ":2 imports run.schedule"),
        ("analysis", "from bisect_cli.storage import store", "imports storage.store"),
        ("storage__store", "from bisect_cli.search import Question", "imports search"),
        ("errors", "from bisect_cli.campaign import state", "imports campaign.state"),
        ("search__new", "from bisect_cli import analysis", "imports analysis"),
        ("extra__new", "from bisect_cli.campaign import state", "imports campaign.state"),
    ],
    in_circles: [
        ("search", "from bisect_cli.search.bayes import search", "search imports search.bayes"),
        ("launchers__process", "def f():\n    from bisect_cli.storage.store import x", "imports storage.store"),
    ],
    impure: [
        ("campaign__state", "import os.path", "imports os"),
        ("search__new", "import importlib", "imports importlib"),
        ("analysis", "def f():\n    from time import time", ":2 imports time"),
        ("run__schedule", "import subprocess", "imports subprocess"),
        ("evidence__judge", "def f(path):\n    return open(path)", ":2 calls open"),
    ],
    knowing_the_training: [
        ("trainers__runfiles", "import maskrcnn.config", "imports it"),
        ("cli__flags", "def f():\n    from maskrcnn.pieces import PIECES", ":2 imports it"),
    ],
    naming_pieces: [
        ("cli__start", "HELP = f'{x} such as L2B5'", "has L2B5"),
        ("evidence__judge", "def f(preset):\n    return preset == 'coco'", ":2 has coco"),
        (
            "search__new",
            "def f(flag):\n    '''Of RPN_HEAD.'''\n    return flag in ('BATCH_RPN_HEAD',)",
            ":3 has BATCH_RPN",
        ),
    ],
    too_large: [
        ("run__session", "class Session:\n" + "    x = 1\n" * 171, "Session has 172 lines"),
        ("cli__start", "def main():\n" + "    x = 1\n" * 50, "main has 51 lines"),
    ],
}


def test_a_sound_house_keeps_all_rules():
    assert [broken for rule in RULES for broken in rule(SOUND)] == []


@pytest.mark.parametrize(
    "rule, name, source, said", [(rule, *one) for rule, all_of in BROKEN.items() for one in all_of]
)
def test_a_rule_finds_what_breaks_it(rule, name, source, said):
    found = list(rule({**SOUND, **small_house(**{name: source})}))
    assert any(said in line for line in found), found
