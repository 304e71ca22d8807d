"""Processes, known apart beyond their ids, which the system uses again. Of those that others have started, only what is
proven to be of a run is signalled.

All processes of a run have a mark in their environment: a text that nobody can guess, and the number that the file
system has given to the attempt's folder. So a log that was copied or made up, in a folder of its own, names no process
of anybody else's.
"""

import contextlib
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

MARK = "MASKRCNN_BISECT_RUN"  # in the environment; of a run within a run, the marks of both
TOKEN = re.compile("[0-9a-f]{32}")
HERE, ENDED, ELSEWHERE = "here", "ended", "elsewhere"
ROUNDS, PAUSE = 50, 0.02  # of ending what a run has started, which may start more meanwhile; seconds


def identity(pid):
    """A text that this process, and no other at any time, has: boot and start time. None if it is not alive (a zombie
    is not), or if that is no process id.
    """
    if not is_id(pid):
        return None
    try:
        state, _, started = _stat(pid)
        return None if state in "ZX" else f"{boot()}/{started}"
    except (FileNotFoundError, ProcessLookupError):
        return None if os.path.exists("/proc/self/stat") else _identity_without_proc(pid)
    except (OSError, IndexError):
        return None


def is_id(pid):
    """Whether a value can be the id of a process."""
    return type(pid) is int and 0 < pid < 1 << 31


def boot():
    """A text that names the time since the system started."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8]
    except OSError:
        return "boot"


def space():
    """A text that names what ids of processes mean here: containers of one system have one each. "" if not known."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def where():
    """What `place` takes: this machine, as plain JSON."""
    return {"host": socket.gethostname(), "space": space()}


def place(record):
    """Where a process is of which `where` and its `identity` were noted: HERE, where its id says which it is; ENDED, as
    this machine has started anew since; or ELSEWHERE, on another machine or in another container.
    """
    host, started, noted = record.get("host"), record.get("identity"), record.get("space", "")
    if not isinstance(host, str) or not host or not isinstance(started, str):
        return ENDED  # nothing that could be looked for
    if host != socket.gethostname() or (noted and noted != space()):
        return ELSEWHERE
    return HERE if started.startswith(f"{boot()}/") or not os.path.exists("/proc/self/stat") else ENDED


def mark(token, folder):
    """The mark of the processes of an attempt, None if there can be none. folder: the attempt's."""
    try:
        return f"{token}-{os.stat(folder).st_ino}" if TOKEN.fullmatch(token) else None
    except (OSError, TypeError):
        return None


def environment(text):
    """What is added to the environment of a process so that it and all that it starts have this mark."""
    return {MARK: ":".join(filter(None, (os.environ.get(MARK), text)))}


def has_mark(pid, text):
    """Whether a process has this mark."""
    try:
        found = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return not os.path.exists("/proc/self/environ") and _has_mark_without_proc(pid, text)
    marks = (one.partition(b"=")[2] for one in found if one.startswith(MARK.encode() + b"="))
    return any(text.encode() in one.split(b":") for one in marks)


def signal_group(group, number):
    """Signals a group whose leader is a child of this process that has not been waited for, so that its id is no other
    group's.
    """
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def signal_one(pid, known, number):
    """Signals a process if its identity is the one that is known. What has its id by then, if it ends just now, is not
    signalled, where the system can do that.
    """
    if pid in (1, os.getpid()) or known is None or identity(pid) != known:
        return
    try:
        handle = os.pidfd_open(pid)
    except (AttributeError, OSError):  # an older system
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
        return
    try:
        if identity(pid) == known:
            signal.pidfd_send_signal(handle, number)
    except (ProcessLookupError, PermissionError):
        pass
    finally:
        os.close(handle)


def end_all(text, root=None):
    """Ends at once all processes that have this mark, None for none, and all that descend from `root`, an id; that one
    last: as long as it is there, what its descendants have started is among them.
    """
    for _ in range(ROUNDS):
        found = _processes()
        below = _descendants(found, root)
        own = {pid for pid, (_, _, mine) in found.items() if text and mine and has_mark(pid, text)}
        left = (below | own) - {root, os.getpid()}
        if not left:
            break
        for pid in left:
            signal_one(pid, found[pid][0], signal.SIGKILL)
        time.sleep(PAUSE)
    signal_one(root, identity(root), signal.SIGKILL)


def _processes():
    """{id: (identity, id of its parent, whether it is this user's)} of all that are alive; {} without /proc."""
    found = {}
    for entry in os.scandir("/proc") if os.path.exists("/proc/self/stat") else ():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                state, parent, started = _stat(entry.name)
                if state not in "ZX":
                    own = entry.stat().st_uid == os.geteuid()
                    found[int(entry.name)] = f"{boot()}/{started}", int(parent), own
    return found


def _descendants(found, root):
    """The ids of a process and all that it has started, and they, as far as they have not lost their parents."""
    below, fresh = set(), {root} & set(found)
    while fresh:
        below |= fresh
        fresh = {pid for pid, (_, parent, _) in found.items() if parent in fresh} - below
    return below


def _stat(pid):
    """(state, id of its parent, start time) of a process, as texts."""
    fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    return fields[0], fields[1], fields[19]


def _identity_without_proc(pid):
    answer = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    state, _, started = answer.stdout.strip().partition(" ")
    return started.strip() if started and "Z" not in state else None


def _has_mark_without_proc(pid, text):
    answer = subprocess.run(
        ["ps", "-Eww", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return any(word.startswith(f"{MARK}=") and text in re.split("[=:]", word) for word in answer.stdout.split())
