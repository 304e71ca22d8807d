"""A folder with one campaign, commands on it in processes of their own, and how the campaign came out."""

import contextlib
import json
import os
import re
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import NamedTuple, Optional

from bisecting import BLOCK, Bench

from bisect_cli.run import controller
from faults.injector import REAL_FILE, Injector
from faults.trainer import notes

FAULT = {"breaks": {"segm": [["ROI_ALIGN_MASK"]]}, "seconds": 0.05}
START = ("start", "--flags", ",".join(BLOCK), "--name", "c", "--slots", "2", "--no-parity")
LOOKS = (("status", "c"), ("list",), ("explain", "c"), ("logs", "t01", "--campaign", "c"), ("status", "c", "--json"))
LONGEST = 180  # seconds of a command
SOON = 20  # seconds in which a process that was told to end does
POLL = 0.02  # of the controller, which has little to wait for here
UNEXPECTED = re.compile(r"Traceback|\(\w+\.py:\d+\)")  # an error that nobody foresaw, in full or in one line
EXPECTED = ("finished", "clean", "culprits", [], [["ROI_ALIGN_MASK"]])


class Done(NamedTuple):
    """How a command ended. code: None if it took too long."""

    code: Optional[int]
    out: str
    err: str

    @property
    def text(self):
        return self.out + self.err


class Outcome(NamedTuple):
    """What came of a campaign after a fault, each a list of sentences; all are to be empty.

    lost: a finished run that is missing, or was trained once more. doubled: a run that was there twice at a time.
    different: another verdict, of which no damage is said. tracebacks: of commands. stuck: commands that did not end,
    and what was left running.
    """

    lost: tuple = ()
    doubled: tuple = ()
    different: tuple = ()
    tracebacks: tuple = ()
    stuck: tuple = ()


class Site(Bench):
    """A Bench whose commands run in forks of this process, which has all imported that they need."""

    def __init__(self, folder, start=START, **table):
        folder.mkdir(parents=True, exist_ok=True)
        self.start, self.calls, self._templates = start, [], {}
        self.statuses = {}  # process id: how it ended, where somebody has waited for it already
        self.table = {**FAULT, **table}
        super().__init__(folder, **self.table)

    @property
    def trainer(self):
        return (sys.executable, str(Path(__file__).with_name("trainer.py")), str(self.folder / "table.json"))

    @property
    def log(self):
        return self.runs / "c" / "events.jsonl"

    def clear(self):
        """As before any campaign."""
        for path in list(self.folder.iterdir()):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        self.set(**self.table)
        self.calls = []

    def template(self, name, make):
        """Has the folder as make(self) has made it once, which returns what is to be known of it; returns that."""
        if name not in self._templates:
            self.clear()
            where = self.folder.with_name(f"{self.folder.name}.{name}")
            self._templates[name] = where, make(self)
            self.left_running()
            shutil.copytree(self.folder, where, symlinks=True)
        where, known = self._templates[name]
        self.clear()
        shutil.copytree(where, self.folder, dirs_exist_ok=True, symlinks=True)
        return known

    def begin(self, *words, plan=None, before=lambda: None):
        """The id of a process with a command, under a plan of the Injector. before: called in it first."""
        number = len(self.calls)
        self.calls.append(words)
        pid = os.fork()
        if pid == 0:
            self._be_command(words, number, plan, before)
        return pid, number

    def _be_command(self, words, number, plan, before):
        code = 70
        try:
            for descriptor, name in ((1, "out"), (2, "err")):
                file = os.open(self.folder / f"{name}-{number}.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
                os.dup2(file, descriptor)
                os.close(file)
            sys.stdout, sys.stderr = (REAL_FILE(fd, "w", buffering=1, closefd=False) for fd in (1, 2))
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            sys.stdin = REAL_FILE(0, closefd=False)
            os.chdir(self.folder)
            for one in (signal.SIGINT, signal.SIGTERM):
                signal.signal(one, signal.default_int_handler if one == signal.SIGINT else signal.SIG_DFL)
            controller.POLL = POLL
            before()
            if plan is not None:
                Injector(self.runs, plan).install()
            from bisect_cli.cli import main

            main(args=list(words), obj=self.trainer)
            code = 0
        except SystemExit as exit:
            code = exit.code if isinstance(exit.code, int) else int(exit.code is not None)
        except BaseException:
            traceback.print_exc()
            code = 1
        finally:
            os._exit(code)

    def end(self, begun, seconds=LONGEST):
        """The Done of a command that has begun; one that takes too long is killed."""
        pid, number = begun
        status, deadline = self.statuses.pop(pid, None), time.monotonic() + seconds
        while status is None and time.monotonic() < deadline:
            found, status = os.waitpid(pid, os.WNOHANG)
            if not found:
                status = None
                time.sleep(0.005)
        if status is None:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        code = None if status is None else os.waitstatus_to_exitcode(status)
        files = [self.folder / f"{name}-{number}.txt" for name in ("out", "err")]  # none where it was killed at once
        return Done(code, *(file.read_text() if file.exists() else "" for file in files))

    def do(self, *words, plan=None, before=lambda: None):
        """The Done of a command."""
        return self.end(self.begin(*words, plan=plan, before=before))

    def look(self, number):
        """The Done of a command that only looks, another with each number."""
        return self.do(*LOOKS[number % len(LOOKS)])

    def resume(self, **more):
        """Has the campaign run to its end, as a person would: resumed, or begun again if there is none."""
        done = self.do("resume", "c", **more)
        return [done, self.do(*self.start, **more)] if done.code == 2 else [done]

    def finished(self):
        """The runs that have finished, "FLAGS SEED" each."""
        return {line[len("done ") :] for line in notes(self.folder) if line.startswith("done ")}

    def judge(self, calls, damaged=False):
        """The Outcome. calls: the Done of all commands so far. damaged: whether what was stored was damaged, so that
        another verdict is right if it is said that it may be another.
        """
        status = self.do("status", "c", "--json")
        calls = [*calls, status]
        found = notes(self.folder)
        lost = [line for line in found if line.startswith("again ")]
        doubled = [line for line in [*found, *self.starts()] if line.lower().startswith("twice ")]
        tracebacks = [last_line(done.err) for done in calls if UNEXPECTED.search(done.text)]
        stuck = ["a command did not end" for done in calls if done.code is None]
        deadline = time.monotonic() + SOON
        while self.processes() and time.monotonic() < deadline:
            time.sleep(0.05)
        stuck += [f"left running: {words}" for words in self.left_running()]
        different = []
        try:
            summary = json.loads(status.out)
        except ValueError:
            summary = None
            different += [] if damaged and status.err else [f"no status: {last_line(status.err)}"]
        if summary:
            verdict = verdict_of(summary)
            said = damaged and any(is_said(done.text) for done in calls)
            if verdict != EXPECTED and not said:
                different.append(str(verdict))
            if not damaged:
                lost += [f"missing {run}" for run in sorted(self.finished() - runs_of(summary))]
        return Outcome(*map(tuple, (lost, doubled, different, tracebacks, stuck)))

    def processes(self):
        """(process id, command line) of each that runs for this site, but not in a fork of this process."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if f"{self.folder}/" in words and int(path.name) != os.getpid():
                    found.append((int(path.name), words))
        return found

    def left_running(self):
        """The command lines of what runs for this site still; it is ended."""
        found = self.processes()
        for pid, _ in found:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        return [words[-100:] for _, words in found]


def verdict_of(summary):
    """State, conclusions and culprits, in the order of the metrics bbox and segm."""
    conclusions = [summary["conclusion"][metric] for metric in ("bbox", "segm")]
    culprits = [[one["flags"] for one in summary["culprits"][metric]] for metric in ("bbox", "segm")]
    return (summary["state"], *conclusions, *culprits)


def runs_of(summary):
    """The runs of a summary that have results, "FLAGS SEED" each."""
    return {f"{','.join(one['flags']) or '-'} {one['seed']}" for one in summary["trials"] if one["metrics"]}


def is_said(text):
    """Whether what a command prints speaks of damage."""
    words = ("corrupt", "damage", "cut short", "missing", "lost", "cannot be read", "mended", "deleted", "unreadable")
    return any(word in text for word in words)


def last_line(text):
    return (text.strip().splitlines() or [""])[-1][:200]
