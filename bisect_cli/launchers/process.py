"""Processes, known apart beyond their ids, which the system uses again."""

import contextlib
import os
import subprocess
from pathlib import Path


def identity(pid):
    """A text that this process, and no other at any time, has: boot and start time. None if it is not alive (a zombie
    is not).
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] in "ZX" else f"{boot()}/{fields[19]}"
    except (FileNotFoundError, ProcessLookupError):
        return None if os.path.exists("/proc/self/stat") else _identity_without_proc(pid)


def signal_group(group, signal):
    """Signals every process of a group, if there is one left."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal)


def boot():
    """A text that names the time since the system started."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8]
    except OSError:
        return "boot"


def _identity_without_proc(pid):
    answer = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    state, _, started = answer.stdout.strip().partition(" ")
    return started.strip() if started and "Z" not in state else None
