"""Asking a trainer to look at its arguments and data, training nothing; it may take minutes on a slow disk."""

import contextlib
import os
import re
import secrets
import signal
import subprocess
import tempfile
import time

from bisect_cli.campaign import fingerprint
from bisect_cli.errors import UserError
from bisect_cli.launchers import process
from bisect_cli.storage import untrusted
from bisect_cli.trainers import as_shell, trainer_of

SECONDS = 600  # the headers of COCO's 123,000 images, on a slow disk
POLL = 0.05
MOST_ANSWER = 1 << 24  # bytes at the end of what a check prints
TAIL = 4096  # bytes of error output that surely hold its last line


class Check:
    """One such question under way, in a process of its own. Nothing that it has started is left when this context
    ends.
    """

    def __init__(self, settings, folder):
        self.settings = settings
        self.trainer = trainer_of(settings)
        self.command = self.trainer.check_command(settings, folder / "check" / "out")
        self._files = [tempfile.TemporaryFile() for _ in range(2)]  # noqa: SIM115 - closed with this context
        self._mark = secrets.token_hex(16)
        self._deadline = time.monotonic() + SECONDS
        self._child = self._start() if self.command else None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._child:
            process.end_all(self._mark, self._child.pid if self._child.poll() is None else None)
            self._child.wait()
        for file in self._files:
            file.close()

    @property
    def done(self):
        """Whether `fingerprint` answers at once. Raises UserError once it takes too long."""
        if not self._child or self._child.poll() is not None:
            return True
        if time.monotonic() > self._deadline:
            raise UserError(f"the trainer's check did not answer in {SECONDS} s: try `{as_shell(self.command.argv)}`.")
        return False

    def fingerprint(self):
        """What a run would be computed with now, None if the trainer does not say. Raises UserError with what it says
        if it refuses, and if a metric of the campaign is not among those that it says it will report.
        """
        if not self._child:
            return None
        stdout, stderr = map(_text, self._files)
        code = self._child.returncode
        if code in self.trainer.refusals(self.settings):
            raise UserError(
                last_line(stderr) or f"the trainer refused its arguments: try `{as_shell(self.command.argv)}`."
            )
        if code:
            raise RuntimeError(
                f"the trainer's check failed with {exit_words(code)}: {last_line(stderr)} "
                f"(try `{as_shell(self.command.argv)}`)"
            )
        return self.trainer.check_answer(self.settings, stdout)

    def _start(self):
        stdout, stderr = self._files
        try:
            return subprocess.Popen(
                self.command.argv,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                cwd=self.command.cwd,
                env={**os.environ, **self.command.env, **process.environment(self._mark)},
                start_new_session=True,
            )
        except OSError as error:
            raise UserError(
                f"the trainer {self.command.argv[0]} cannot be run ({error.strerror}): install it, or mend its path."
            ) from None


def check(settings, folder):
    """The fingerprint of a run of these Settings, waited for. folder: the campaign's, which need not be there. Raises
    as Check, and UserError if something has to be installed first.
    """
    missing = trainer_of(settings).missing(settings)
    if missing:
        raise UserError(missing)
    with Check(settings, folder) as asked:
        while not asked.done:
            time.sleep(POLL)
        return asked.fingerprint() or trainer_of(settings).fingerprint_now(settings)


def fingerprint_in(settings, text):
    """The fingerprint in the output of a trainer that prints a JSON object last: with it as "fingerprint" or "key", and
    with the keys of the metrics that it will report as "metrics", as far as it knows them. Raises UserError if a metric
    of the campaign is not among these.
    """
    answer = _last_object(text.splitlines())
    _check_metrics(settings, answer.get("metrics"))
    return fingerprint.parse(answer.get("fingerprint", answer.get("key")))


def last_line(text):
    """The last line of a trainer's error output, without the name that a command line tool puts before it."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return re.sub("^error: ", "", lines[-1], flags=re.IGNORECASE) if lines else ""


def exit_words(code):
    """An exit code in words."""
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"


def tail(folder):
    """The end of the error output that a job has left in its folder."""
    return untrusted.read_end(folder / "stderr.txt", TAIL).decode(errors="replace")


def _check_metrics(settings, reported):
    for metric in settings.metrics if isinstance(reported, list) else ():
        if settings.metric(metric).key not in reported:
            raise UserError(
                f"metric '{metric}' will not be in the results with these data: choose among "
                f"{', '.join(map(str, reported))}."
            )


def _text(file):
    """The end of what a process has written into a file."""
    size = file.seek(0, os.SEEK_END)
    return untrusted.read_from(file.fileno(), MOST_ANSWER, max(0, size - MOST_ANSWER)).decode(errors="replace")


def _last_object(lines):
    """The last of these lines that is a JSON object, else an empty one."""
    for line in reversed(lines):
        record = untrusted.parse_json(line)
        if isinstance(record, dict):
            return record
    return {}
