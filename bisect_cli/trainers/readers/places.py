"""Where a run writes: the names in braces, and the files that a path with stars in it means."""

import os
import re
from pathlib import Path
from typing import NamedTuple

from bisect_cli.errors import unknown

PLACEHOLDER = re.compile(r"\{\{|\}\}|\{(\w+)\}")
STAR = "\0"  # a star of the user's, as against one in a folder's own name: no path has a NUL in it


class Places(NamedTuple):
    """out: the run's folder. attempts: the folders with stdout.txt and stderr.txt of each attempt, in their order.
    values: what further placeholders stand for (seed, trial ...). base: where relative paths begin.
    """

    out: Path
    attempts: tuple = ()
    values: dict = {}  # noqa: RUF012 - never written to
    base: Path = Path(".")

    def fill(self, text):
        """The text with what its placeholders stand for, `{{` and `}}` for braces. Raises UserError for an unknown
        one.
        """
        known = {**self.values, "out": self.out}

        def filled(match):
            if match[1] is None:
                return match[0][0]
            if match[1] not in known:
                raise unknown("placeholder", match[0], [f"{{{name}}}" for name in known])
            return str(known[match[1]])

        return PLACEHOLDER.sub(filled, text)

    def paths(self, text):
        """The paths that a text means. Without a star it is one, be it there or not. With stars they are those that are
        there, in the order of their names: `*` is any part of a name, `**` any folders in between; neither is hidden.
        """
        path = self.base / self.fill(text.replace("*", STAR))
        if STAR not in str(path):
            return (path,)
        first, *parts = path.parts if path.is_absolute() else (".", *path.parts)
        return tuple(sorted(set(_matches(Path(first), parts)), key=natural))

    def shown(self, text):
        """The one path that stands for all in messages, stars included."""
        return self.base / self.fill(text)


def natural(path):
    """Sorts paths by their names, with numbers in them by their size: version_2 before version_10."""
    return [_natural(part) for part in Path(path).parts]


def _natural(name):
    words = re.split("([0-9]+)", name)
    return [(word, 0) if i % 2 == 0 else (int(word), word) for i, word in enumerate(words)]


def _matches(folder, parts):
    """What lies beneath a folder along these parts of a path."""
    if not parts:
        yield folder
        return
    part, rest = parts[0], parts[1:]
    if part == STAR * 2:
        for inner in folders_within(folder):
            yield from _matches(inner, rest or [STAR])
    elif STAR in part:
        name_is = re.compile(".*".join(map(re.escape, re.split(f"{STAR}+", part))), re.DOTALL)
        for name in _names(folder):
            if name_is.fullmatch(name) and name.startswith(".") <= part.startswith("."):
                yield from _matches(folder / name, rest)
    elif os.path.lexists(folder / part):
        yield from _matches(folder / part, rest)


def folders_within(folder):
    """A folder and all within it, but hidden ones and links, which may lead in a circle."""
    for inner, names, _ in os.walk(folder):
        names[:] = [name for name in names if not name.startswith(".")]
        yield Path(inner)


def _names(folder):
    try:
        return os.listdir(folder)
    except OSError:
        return []
