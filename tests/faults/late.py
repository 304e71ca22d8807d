"""A shared folder that is seen late: what nodes have written there appears to the controller only some seconds after
they wrote it, as over NFS. The runs are jobs of the Slurm of tests/fake_slurm.py.
"""

import io
import os
import pathlib
import stat
import sys
import time
from pathlib import Path

import fake_slurm
from bisecting import BLOCK

from faults.kind import Kind

# A client may know one folder as it was long ago, and another as it is: so results are the last to be seen.
SHARES = {"result.json": 1, "metrics.jsonl": 1, "exit.json": 0.3, "claim.json": 0.3, "heartbeat": 0.3}  # of the delay
DELAYS = (0.3, 1.0, 2.0)  # seconds; the launcher is told of 3
WORDS = ("--launcher", "slurm", "--launcher-option", "poll_seconds=.1", "--launcher-option", "vanish_seconds=3")
START = ("start", "--flags", ",".join(BLOCK), "--name", "c", "--slots", "3", "--no-parity", *WORDS)
REAL = {"open": os.open, "stat": os.stat, "file": io.open}


class Late:
    """Hides what others write from this process until it has been there for so many seconds."""

    def __init__(self, delay):
        self.delay, self.seen = delay, set()

    def install(self):
        os.open, os.stat, io.open = self.open, self.stat, self.file
        if getattr(pathlib, "_NormalAccessor", None):  # of Pythons before 3.11, which keeps functions of its own
            pathlib._NormalAccessor.stat = staticmethod(self.stat)

    def hide(self, path):
        """Raises FileNotFoundError while a file cannot be seen yet."""
        share = None if isinstance(path, int) else SHARES.get(os.path.basename(os.fsdecode(path)))
        if share is None or path in self.seen:
            return
        if time.time() < REAL["stat"](path).st_mtime + share * self.delay:
            raise FileNotFoundError(2, "not seen yet", str(path))
        self.seen.add(path)

    def open(self, path, flags, *more, **named):
        if not flags & (os.O_WRONLY | os.O_RDWR):
            self.hide(path)
        return REAL["open"](path, flags, *more, **named)

    def stat(self, path, **named):
        self.hide(path)
        return REAL["stat"](path, **named)

    def file(self, path, mode="r", *more, **named):
        if mode.startswith("r"):
            self.hide(path)
        return REAL["file"](path, mode, *more, **named)


def put_slurm(site):
    """Puts a Slurm into a site."""
    site.clear()
    site.start = START
    (site.folder / "slurm" / "bin").mkdir(parents=True)
    for name in ("sbatch", "squeue", "scontrol", "scancel"):
        path = site.folder / "slurm" / "bin" / name
        path.write_text(f"#!{sys.executable} -IS\n{Path(fake_slurm.__file__).read_text()}")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    (site.folder / "slurm" / "faults.json").write_text("{}")


def before(site, delay):
    """What a command of such a site does first."""
    os.environ["FAKE_SLURM"] = str(site.folder / "slurm")
    os.environ["PATH"] = os.pathsep.join((str(site.folder / "slurm" / "bin"), os.environ["PATH"]))
    Late(delay).install()


def points(site):
    """(delay, the operation of the controller at which it is killed, None for never)"""
    return [(delay, at) for at in (None, 60, 110, 160, 210, 260) for delay in DELAYS]


def struck(site, point):
    delay, at = point
    put_slurm(site)

    def late():
        before(site, delay)

    plan = {"at": at, "do": "kill"} if at else None
    first = site.do(*site.start, plan=plan, before=late)
    calls = [first] if first.code == 0 else [first, *site.resume(before=late)]
    return site.judge(calls)


KINDS = (Kind("shared folder seen late (Slurm)", points, struck, 0.04),)
