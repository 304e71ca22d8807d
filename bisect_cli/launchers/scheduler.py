"""Talking to a scheduler beside the loop: what it is to do, and one question about all jobs, asked seldom."""

import contextlib
import os
import subprocess
import threading
import time
from typing import NamedTuple

SECONDS = 60  # that a command of a scheduler may take


class Answer(NamedTuple):
    """What a command of a scheduler answered; code is None if it did not in time."""

    code: int
    out: str
    err: str

    @property
    def words(self):
        """What is wrong, in one line."""
        lines = [line.strip() for line in (self.err or self.out).splitlines() if line.strip()]
        return lines[0] if lines else "no answer" if self.code is None else f"exit code {self.code}"


def call(argv, seconds=None, env=None):
    """Runs a command, out of reach of a Ctrl-C; returns its Answer. seconds: that it may take. env: None for that of
    this process.
    """
    options = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True, "start_new_session": True}
    seconds = seconds or SECONDS
    try:
        done = subprocess.run(argv, timeout=seconds, env=env, **options)
        return Answer(done.returncode, done.stdout, done.stderr)
    except subprocess.TimeoutExpired:
        return Answer(None, "", f"{os.path.basename(argv[0])} did not answer within {seconds} s")
    except OSError as error:
        return Answer(127, "", f"{argv[0]}: {error.strerror}")


class Snapshot(NamedTuple):
    """jobs: as `parse` made them of the answer to a question asked at `asked`, in time.monotonic()."""

    jobs: dict
    asked: float


class Scheduler:
    """question: the command that lists all jobs. parse: makes {id: job} of its output, or raises ValueError. settled:
    whether an Answer to another command leaves nothing to be tried again. interval: seconds between questions. call:
    makes an Answer of a command, whatever that is.

    trouble: why nothing is known now, or "". A command is tried until it has worked, or until there is nothing to do.
    """

    def __init__(self, question, parse, settled, interval, call=call):
        self.question, self.parse, self.settled, self.interval = question, parse, settled, interval
        self.call = call
        self.snapshot = None
        self._troubles = {"commands": "", "question": ""}
        self._to_do = []
        self._due = self._next_try = 0.0
        self._thread = None

    @property
    def trouble(self):
        return self._troubles["question"] or self._troubles["commands"]

    def do(self, command):
        """Has a command run soon, once."""
        if command not in self._to_do:
            self._to_do.append(command)

    def forget(self, unwanted):
        """Leaves out the commands for which `unwanted` is true; one that is under way is done."""
        for command in filter(unwanted, list(self._to_do)):
            self._drop(command)

    def look(self, at_once=False):
        """Begins what is due, unless something is under way; never waits."""
        now = time.monotonic()
        if self._thread and self._thread.is_alive():
            return
        if at_once or now >= self._due or (self._to_do and now >= self._next_try):
            self._thread = threading.Thread(target=self._round, daemon=True)
            self._thread.start()

    def finish(self, seconds):
        """Waits until all that is to be done is done, but not long."""
        deadline = time.monotonic() + seconds
        while self._to_do and time.monotonic() < deadline:
            self.look(at_once=True)
            self._thread.join(0.1)

    def _round(self):
        if self._to_do and time.monotonic() >= self._next_try:
            self._troubles["commands"] = self._do_all()
            self._next_try = time.monotonic() + (self.interval if self._troubles["commands"] else 0.0)
        if time.monotonic() >= self._due:
            asked = time.monotonic()
            self._troubles["question"] = self._ask(asked)
            self._due = time.monotonic() + self.interval

    def _ask(self, now):
        """Asks about all jobs; returns what is wrong."""
        answer = self.call(self.question)
        if answer.code != 0:
            return answer.words
        try:
            self.snapshot = Snapshot(self.parse(answer.out), now)
        except ValueError:
            return "the answer is none of the scheduler's"
        return ""

    def _do_all(self):
        """Does what is to be done; returns what is wrong, if anything is left."""
        trouble = ""
        for command in list(self._to_do):
            if command not in self._to_do:
                continue
            answer = self.call(command)
            if answer.code == 0 or self.settled(answer):
                self._drop(command)
                continue
            trouble = answer.words
            if answer.code is None:
                break
        return trouble

    def _drop(self, command):
        with contextlib.suppress(ValueError):  # done and forgotten at once
            self._to_do.remove(command)
