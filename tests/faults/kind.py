"""A kind of fault."""

from typing import Callable, NamedTuple


class Kind(NamedTuple):
    """points(site): all points at which it may strike, plain values. strike(site, point): the Outcome of a campaign
    struck there, None if it had ended before. share: of the time there is.
    """

    name: str
    points: Callable
    strike: Callable
    share: float


_counted = {}


def counted(site, what, run):
    """The names of the operations that run(file) counts into a file. They are about the same each time, so this is done
    once in a process for the same `what`.
    """
    if what not in _counted:
        _counted[what] = list(_count(site, run))
    return _counted[what]


def _count(site, run):
    site.clear()
    file = site.folder / "count.txt"
    done = run(str(file))
    assert file.exists(), done.text
    return [line.split(" ")[0] for line in file.read_text().splitlines()]
