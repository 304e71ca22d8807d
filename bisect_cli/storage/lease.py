"""One controller at a time holds a campaign.

The lease is a lock on the file `lease.json` (the system drops it when its holder dies), and what the file says is for
people and for other machines: which process, on which host. It is empty when nobody holds it.
"""

import fcntl
import json
import os
import secrets
import socket
import time
from pathlib import Path
from typing import NamedTuple, Optional

from bisect_cli import launchers
from bisect_cli.errors import UserError
from bisect_cli.launchers import process


class Holder(NamedTuple):
    """Who holds a lease. alive is None if the process is of another host, where it cannot be looked at. token: a text
    that no other time of holding it has.
    """

    pid: int
    host: str
    alive: Optional[bool]
    token: str = ""


def holder(folder):
    """The Holder that the lease in this folder names, or None."""
    try:
        record = json.loads((Path(folder) / "lease.json").read_text())
        pid, host, identity = record["pid"], record["host"], record["identity"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    alive = process.identity(pid) == identity if host == socket.gethostname() else None
    return Holder(pid, host, alive, str(record.get("token", "")))


class Held(UserError):
    """Another process holds the campaign, or has left it without a word on another host."""


class Lease:
    """A context manager that holds the lease of a campaign's folder. Raises Held if another process does.

    What a process of this host that died has left is taken over. A holder on another host may be alive although its
    lock does not show here, so that is refused until a person has looked.
    """

    def __init__(self, folder):
        self.folder = Path(folder)

    def __enter__(self):
        path = self.folder / "lease.json"
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
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
            if held and held.alive is None:
                raise Held(
                    f"campaign '{self.folder.name}' was last run by process {held.pid} on {held.host}: stop it there, "
                    f"or delete {path} if that machine is gone."
                )
            self._write(
                {
                    "pid": os.getpid(),
                    "host": socket.gethostname(),
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
        os.ftruncate(self._file, 0)
        os.close(self._file)

    def _write(self, record):
        text = json.dumps(record).encode()
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, text, 0)
        os.fsync(self._file)


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
