"""Which code a run was made with. Free of TensorFlow."""

import hashlib
import importlib.metadata
from pathlib import Path


def package_version():
    """The installed version of maskrcnn-bisect, or "0+source" when it runs from a source tree."""
    try:
        return importlib.metadata.version("maskrcnn-bisect")
    except importlib.metadata.PackageNotFoundError:
        return "0+source"


def code_version():
    """Twelve hexadecimal digits that change whenever a .py file of this package does."""
    digest = hashlib.sha256()
    package = Path(__file__).parent
    for path in sorted(package.rglob("*.py")):
        digest.update(f"{path.relative_to(package).as_posix()}\0".encode())
        digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]
