"""One controller at a time holds a campaign.

The lease is a lock on the file `lease.json` (the system drops it when its holder dies), and what the file says is for
people and for other machines: which process, on which host. It is empty when nobody holds it.
"""

import contextlib
import errno
import fcntl
import json
import os
import re
import secrets
import stat
import time
from pathlib import Path
from typing import NamedTuple, Optional

from bisect_cli import launchers
from bisect_cli.errors import UserError
from bisect_cli.launchers import process
from bisect_cli.storage import untrusted

FILE = "lease.json"
MOST_HOST = 255  # signs of a host's name
TOKEN = re.compile("[0-9a-f]{1,64}")


class Holder(NamedTuple):
    """Who holds a lease. alive is None if the process is of another host or container, where it cannot be looked at.
    token: a text that no other time of holding it has.
    """

    pid: int
    host: str
    alive: Optional[bool]
    token: str = ""


def holder(folder):
    """The Holder that the lease in this folder names, or None."""
    try:
        record = untrusted.read_object(Path(folder) / FILE) or {}
    except OSError:
        return None
    pid, host, token = record.get("pid"), record.get("host"), record.get("token")
    if not process.is_id(pid) or not isinstance(host, str) or not host.isprintable() or len(host) > MOST_HOST:
        return None
    alive = None
    if process.place(record) != process.ELSEWHERE:
        alive = process.identity(pid) == record.get("identity") is not None
    known = isinstance(token, str) and TOKEN.fullmatch(token)
    return Holder(pid, host, alive, token if known else "")


class Held(UserError):
    """Another process holds the campaign, or has left it without a word on another host."""


class Lease:
    """A context manager that holds the lease of a campaign's folder. Raises Held if another process does.

    What a process of this host that died has left is taken over. A holder on another host may be alive although its
    lock does not show here, so that is refused until a person has looked: elsewhere_ended.
    """

    def __init__(self, folder, elsewhere_ended=False):
        self.folder, self.elsewhere_ended = Path(folder), elsewhere_ended

    def __enter__(self):
        path = self.folder / FILE
        self._file = _open(path)
        try:
            held = holder(self.folder)
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                by = f"process {held.pid} on {held.host}" if held else "another process"
                name = self.folder.name
                raise Held(
                    f"campaign '{name}' is being run by {by}: look with `maskrcnn-bisect status {name}`, or "
                    f"stop it with `maskrcnn-bisect stop {name}`."
                ) from None
            if held and held.alive is None and not self.elsewhere_ended:
                raise Held(
                    f"campaign '{self.folder.name}' was last run by process {held.pid} on {held.host}: stop it there; "
                    f"if nothing of it is left, resume it with --elsewhere-ended, or delete {path}."
                )
            self._write(
                {
                    "pid": os.getpid(),
                    **process.where(),
                    "identity": process.identity(os.getpid()),
                    "since": time.time(),
                    "token": secrets.token_hex(8),
                }
            )
        except BaseException:
            os.close(self._file)
            raise
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):  # it is the lock that counts
            os.ftruncate(self._file, 0)
        os.close(self._file)

    def _write(self, record):
        text = json.dumps(record).encode()
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, text, 0)
        os.fsync(self._file)


def _open(path):
    """A descriptor of the lease's file. A link is not followed: what it leads to would be written over."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise _no_file(path) from None
        raise
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise _no_file(path)
    return file


def _no_file(path):
    return UserError(f"{path} is no regular file, and would be written into: delete it.")


def live_state(folder, state):
    """A campaign's state in one word, with a controller that died unmasked: `interrupted`. One whose runs people start
    is `running` while runs are out, else it is `waiting` for someone to ask for the next. state: its State.
    """
    if state.state not in ("open", "new"):
        return state.state
    if state.settings and launchers.find(state.settings.launcher).by_hand:
        return "running" if state.running else "waiting"
    held = holder(folder)
    if held and held.alive is not False:
        return "running"
    return "interrupted" if state.state == "open" or state.settings else "new"
