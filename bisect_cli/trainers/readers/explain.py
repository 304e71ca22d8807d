"""Why a metric was not found: in words that lead to the mistake."""

import os
import stat

from bisect_cli.errors import nearest
from bisect_cli.trainers.readers.files import is_regular, size

MOST_PATHS = 3  # in a message
MOST_NAMES = 8
MOST_FILES = 20  # that are looked into


def nothing(reader, looked_at):
    """A sentence on what a Reader sought and did not find at these paths."""
    if not looked_at:
        return f"no {reader.sought}: no attempt of the run has written anything"
    there = [path for path in looked_at if is_regular(path)]
    if not there:
        return f"no {reader.sought}: {'; '.join(map(_absence, looked_at[:MOST_PATHS]))}"
    if not any(map(size, there)):
        return f"no {reader.sought}: {_listed(there)} {'is' if len(there) == 1 else 'are'} empty"
    if not any(os.access(path, os.R_OK) for path in there):
        return f"no {reader.sought}: {_listed(there)} may not be read"
    return f"no {reader.sought} in {_listed(there)}; {reader.instead(there[-MOST_FILES:])}"


def _listed(paths):
    names = [short(path) for path in paths[:MOST_PATHS]]
    more = [f"{len(paths) - MOST_PATHS} more"] if len(paths) > MOST_PATHS else []
    return " and ".join(filter(None, (", ".join([*names, *more][:-1]), [*names, *more][-1])))


def short(path, most=3):
    """The end of a path, which is enough to know it."""
    return os.path.join(*path.parts[-most:])


def _absence(path):
    """What there is in place of a file."""
    try:
        kind = stat.S_IFMT(os.stat(path).st_mode)
    except OSError:
        return f"{short(path)} is not there{_beside(path)}"
    return f"{short(path)} is {'a folder' if kind == stat.S_IFDIR else 'no regular file'}"


def _beside(path):
    """What the folder has that the file should be in, or the first folder above that is there."""
    folder = next((folder for folder in path.parents if folder.is_dir()), None)
    if folder is None:
        return ""
    wanted = path.relative_to(folder).parts[0]
    try:
        names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError:
        return ""
    if not names:
        return f"; {short(folder)} is empty"
    near = nearest(wanted, names)
    shown = list(dict.fromkeys([*near, *names]))[:MOST_NAMES]
    more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    hint = f": did you mean {' or '.join(near)}?" if near else ""
    return f"; {short(folder)} has {', '.join(shown)}{more}{hint}"
