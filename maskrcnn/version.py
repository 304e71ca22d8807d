"""Which code a run is made with, as its source says. Free of TensorFlow, and runs none of that code."""

import ast
import hashlib
import importlib.metadata
import importlib.util
from pathlib import Path

from maskrcnn.pieces import PIECES

TRAINING = ("maskrcnn.train", "maskrcnn.horovod_trainer", *(piece.module for piece in PIECES.values()))
INSTALLED = ("site-packages", "dist-packages")  # the folders of packages that have a version of their own


def package_version():
    """The installed version of maskrcnn-bisect, or "0+source" when it runs from a source tree."""
    try:
        return importlib.metadata.version("maskrcnn-bisect")
    except importlib.metadata.PackageNotFoundError:
        return "0+source"


def code_version():
    """Twelve hexadecimal digits that change with what a training runs of this package: with the statements of its
    modules and of all that they import of the package, and not with comments, docstrings or layout.
    """
    return _version(Path(__file__).parents[1], TRAINING)


def function_version(target):
    """The same for "module:function": of its module and what that imports from beside it. What it imports from other
    places, or reads from files, is not looked at.
    """
    module = target.partition(":")[0]
    spec = importlib.util.find_spec(module)
    if not spec or not spec.origin or not spec.origin.endswith(".py"):
        return _digest([target])
    depth = module.count(".") + (Path(spec.origin).name == "__init__.py")
    return _digest([target, _version(Path(spec.origin).parents[depth], [module])])


def _version(root, modules):
    """The digest of modules below the folder `root` and of those below it that they import, directly or not."""
    installed = any(name in root.parts for name in INSTALLED)
    own = {module.partition(".")[0] for module in modules}
    found, left = {}, list(modules)
    while left:
        module = left.pop()
        path = _file(root, module)
        if not path or path in found or (installed and module.partition(".")[0] not in own):
            continue
        found[path] = source = path.read_bytes()
        tree = _parsed(source)
        if tree:
            found[path] = ast.dump(_without_docstrings(tree)).encode()
            left += _imported(tree, module if path.name == "__init__.py" else module.rpartition(".")[0])
        left.append(module.rpartition(".")[0])  # a package runs before its modules
    return _digest(f"{path.relative_to(root).as_posix()}\0{found[path]}" for path in sorted(found))


def _file(root, module):
    path = root.joinpath(*module.split("."))
    return next((p for p in (path / "__init__.py", path.with_suffix(".py")) if module and p.is_file()), None)


def _parsed(source):
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError):
        return None  # whoever imports it will say so


def _imported(tree, package):
    """The dotted names that may be modules among what a module of `package` imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: 1 - node.level or None] if node.level else []
            name = ".".join([*filter(None, above), *([node.module] if node.module else [])])
            yield name
            yield from (f"{name}.{alias.name}" if name else alias.name for alias in node.names)


def _without_docstrings(tree):
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and ast.get_docstring(
            node, clean=False
        ):
            del node.body[0]
    return tree


def _digest(texts):
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:12]
