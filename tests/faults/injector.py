"""Acts at the n-th operation that a process does on the files of a folder, or on processes: kills it before, half way
through or after that, has the operation fail, stops the process for a while, or sets its clock. Runs by itself, too:

    injector.py PLAN SCRIPT ARGUMENTS...    a Python script under a Plan, in JSON; with the standard library alone
"""

import base64
import builtins
import errno
import io
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
PAUSE = 0.7  # seconds that a process is stopped
REAL = {
    name: getattr(os, name)
    for name in (*("open", "write", "pwrite", "fsync", "ftruncate", "replace", "rename", "mkdir", "unlink", "pipe"),)
}
REAL_FILE = io.open


class Injector:
    """The patched functions of this process.

    root: the folder whose files count. plan: a dict with any of
      at      the number of the operation, from 1; without it nothing is done
      do      "kill", "pause", the name of an errno such as "ENOSPC", or seconds by which the clock is set
      when    "before", "half" or "after" it; half of a write is written, of others half is before
      lasting whether an error stays
      names   the operations that can fail so, in a list; by default all
      reads   whether to open for reading is an operation, too
      count   a file for the operations, a line each: their names and files
      record  a file for all that is done, a JSON object a line, from which `power` makes states of a disk
      agents  {number of the agent started: its plan}
    """

    def __init__(self, root, plan):
        self.root, self.plan = os.path.abspath(root), plan
        self.number = self.agents = 0
        self.busy = False

    def install(self):
        accessor = getattr(pathlib, "_NormalAccessor", None)  # of Pythons before 3.11, which keeps functions of its own
        for name in REAL:
            wrapped = getattr(self, name)
            if accessor and getattr(accessor, name, None) is getattr(os, name):
                setattr(accessor, name, staticmethod(wrapped))
            setattr(os, name, wrapped)
        if accessor and getattr(accessor, "open", None) is REAL_FILE:
            accessor.open = staticmethod(self.file)
        builtins.open = io.open = self.file
        subprocess.Popen = self.popen(subprocess.Popen)
        if "record" in self.plan:
            self._record = REAL["open"](self.plan["record"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    # --- what is wrapped

    def open(self, path, flags, mode=0o777, **more):
        def really():
            return REAL["open"](path, flags, mode, **more)

        if not flags & WRITES:
            return self.read(path, really)
        return self.point("open", path, really, record=self._opening(path, bool(flags & os.O_TRUNC)))

    def write(self, handle, data):
        name, data = name_of(handle), bytes(data)
        if name.startswith("pipe:"):
            return self.point("go", name, lambda: REAL["write"](handle, data), inside=True)
        return self._write(handle, data, name)

    def _write(self, handle, data, name):
        return self.point(
            "write",
            name,
            lambda: REAL["write"](handle, data),
            half=lambda: REAL["write"](handle, data[: len(data) // 2]),
            record=lambda: {"at": os.lseek(handle, 0, os.SEEK_CUR), "data": base64.b64encode(data).decode()},
        )

    def pwrite(self, handle, data, offset):
        return self.point(
            "write",
            name_of(handle),
            lambda: REAL["pwrite"](handle, data, offset),
            half=lambda: REAL["pwrite"](handle, data[: len(data) // 2], offset),
            record=lambda: {"at": offset, "data": base64.b64encode(data).decode()},
        )

    def fsync(self, handle):
        return self.point("fsync", name_of(handle), lambda: REAL["fsync"](handle), record=dict)

    def ftruncate(self, handle, size):
        record = lambda: {"size": size}  # noqa: E731
        return self.point("truncate", name_of(handle), lambda: REAL["ftruncate"](handle, size), record=record)

    def replace(self, source, target, **more):
        def really():
            return REAL["replace"](source, target, **more)

        return self.point("rename", target, really, record=lambda: {"from": os.path.abspath(source)})

    rename = replace

    def mkdir(self, path, *mode, **more):
        return self.point("mkdir", path, lambda: REAL["mkdir"](path, *mode, **more), record=dict)

    def unlink(self, path, **more):
        return self.point("unlink", path, lambda: REAL["unlink"](path, **more), record=dict)

    def pipe(self):
        return self.point("pipe", "pipe", REAL["pipe"], inside=True)

    def read(self, path, really):
        return self.point("read", path, really) if self.plan.get("reads") else really()

    def file(self, path, mode="r", buffering=-1, encoding=None, errors=None, newline=None, closefd=True, opener=None):
        """As builtins.open; what is written goes through `_write` as it reaches the system."""
        if getattr(opener, "__name__", "") == "_opener":  # of pathlib in Python 3.9
            opener = None
        given = (buffering, encoding, errors, newline, closefd, opener)
        name = name_of(path) if isinstance(path, int) else path  # as of a temporary file
        if opener or not set(mode) & set("wax+"):
            return self.read(name, lambda: REAL_FILE(path, mode, *given))
        if not self.is_inside(name):
            return REAL_FILE(path, mode, *given)
        raw_mode = mode.replace("b", "").replace("t", "")
        if isinstance(path, int):
            raw = _Raw(self, path, raw_mode, closefd)
        else:
            record = self._opening(path, "w" in mode)
            raw = self.point("open", path, lambda: _Raw(self, path, raw_mode), record=record)
        if buffering == 0:
            return raw
        buffered = (io.BufferedRandom if "+" in mode else io.BufferedWriter)(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding, errors, newline, buffering == 1)

    def popen(self, kind):
        injector = self

        class Popen(kind):
            def __init__(self, args, *more, **named):
                super().__init__(injector.under_plan(args), *more, **named)

            def _execute_child(self, args, *more, **named):
                run = super()._execute_child
                return injector.point("fork", str(args), lambda: run(args, *more, **named), inside=True)

        return Popen

    def under_plan(self, args):
        """The command of an agent that has a plan of its own runs under that."""
        at = next((i for i, word in enumerate(args) if str(word).endswith("agent.py")), None)
        if isinstance(args, str) or at is None:
            return args
        self.agents += 1
        plan = self.plan.get("agents", {}).get(str(self.agents)) or self.plan.get("agents", {}).get("all")
        return [*args[:at], __file__, json.dumps({"root": self.root, **plan}), *args[at:]] if plan else args

    # --- what happens there

    def is_inside(self, path):
        try:
            return os.path.abspath(os.fsdecode(path)).startswith(self.root + os.sep)
        except TypeError:
            return False

    def point(self, name, path, really, half=None, record=None, inside=False):
        """One operation: really() does it, half() a half of it, record() says what is to be noted of it."""
        if self.busy or not (inside or self.is_inside(path)):
            return really()
        self.busy = True
        try:
            self.number += 1
            if "count" in self.plan:
                self._count(name, path)
            if self._due(name):
                self._act(half, path)
            noted = record() if record and "record" in self.plan else None
            found = really()
            if noted is not None:
                self._note({"name": name, "path": os.path.abspath(os.fsdecode(path)), **noted})
            return found
        finally:
            if self.plan.get("when") == "after" and self.number == self.plan.get("at"):
                self._do()
            self.busy = False

    def _due(self, name):
        at, names = self.plan.get("at"), self.plan.get("names")
        due = at and (self.number == at or (self.plan.get("lasting") and self.number > at))
        return due and (not names or name in names)

    def _act(self, half, path):
        when, do = self.plan.get("when", "before"), self.plan["do"]
        if when == "half" and half:
            half()
        if when != "after" or do in dir(errno):
            self._do(path)

    def _do(self, path=None):
        do = self.plan["do"]
        if do == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif do == "pause":
            pause(os.getpid())
        elif isinstance(do, (int, float)):
            set_clock(do)
        else:
            code = getattr(errno, do)
            raise OSError(code, os.strerror(code), str(path))

    def _count(self, name, path):
        handle = REAL["open"](self.plan["count"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        REAL["write"](handle, f"{name} {os.path.basename(os.fsdecode(path))}\n".encode())
        os.close(handle)

    def _note(self, what):
        REAL["write"](self._record, (json.dumps({**what, "clock": time.monotonic_ns()}) + "\n").encode())

    def _opening(self, path, empties):
        return lambda: {"empties": empties or not os.path.exists(path)}


class _Raw(io.FileIO):
    """An open file whose writes an Injector sees."""

    def __init__(self, injector, path, mode, closefd=True):
        super().__init__(path, mode, closefd)
        self._injector = injector

    def write(self, data):
        return self._injector._write(self.fileno(), bytes(data), name_of(self.fileno()))


def name_of(handle):
    try:
        return os.readlink(f"/proc/self/fd/{handle}")
    except OSError:
        return ""


def pause(pid):
    """Stops a process for a while; another one, which is nobody's child, wakes it up."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(PAUSE)
            os.kill(pid, signal.SIGCONT)
        os._exit(0)
    os.wait()
    os.kill(pid, signal.SIGSTOP)


def set_clock(seconds):
    """Sets the time of day of this process."""
    real = time.time
    time.time = lambda: real() + seconds


def main():
    import runpy

    plan = json.loads(sys.argv[1])
    sys.argv = sys.argv[2:]
    Injector(plan.pop("root"), plan).install()
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
