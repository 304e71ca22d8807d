"""Parity: do the implementations of each flag compute the same? The trainer says, on random inputs and in seconds.

A difference need not matter to training, and training can break on what parity does not see. So what it finds is only
ever a test order, in which flags are tried; verdicts come from runs alone.
"""

import contextlib
import signal
import subprocess

from bisect_cli.launchers import process
from bisect_cli.storage import untrusted
from bisect_cli.trainers import USER_ERROR, check, trainer_of

SECONDS = 600  # after which a campaign begins without it: it would cost more than its order can save
MOST_JSON = 1 << 24  # bytes of what it finds
NO_COMMAND = "the trainer has no parity command"  # report.words leaves that out


def show(settings, file, case=None, table=True):
    """Compares with the trainer's own table, if wanted, on this process's standard output; returns its exit code.

    An interrupt ends the trainer too, at once: there is nothing to save.
    """
    stdout = None if table else subprocess.DEVNULL
    with _interruptible():
        command = trainer_of(settings).parity_argv(settings, file, case)
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stdout, start_new_session=True)
        try:
            return child.wait()
        except BaseException:
            process.signal_group(child.pid, signal.SIGKILL)
            child.wait()
            raise


def digest(file):
    """What a campaign keeps of the trainer's JSON in `file`, None if there is no whole one.

    `differ` (worst first), `same_computation` and `agree` share the flags out: those whose implementations differ,
    those that build the same graph on or off (placebos), and all others. seconds: what it took. reason: "".
    """
    try:
        record = untrusted.read_object(file, MOST_JSON)
        pieces = sorted(record["pieces"], key=_severity, reverse=True)
        if not all(isinstance(piece["flag"], str) for piece in pieces):
            return None
        differ = [piece for piece in pieces if not piece["agrees"]]
        agree = [piece for piece in record["pieces"] if piece["agrees"]]
        return {
            "reason": "",
            "seconds": untrusted.amount(record["seconds"]) or 0.0,
            "differ": [_worst_of(piece) for piece in differ],
            "same_computation": [piece["flag"] for piece in agree if piece["same_computation"]],
            "agree": [piece["flag"] for piece in agree if not piece["same_computation"]],
        }
    except (OSError, KeyError, TypeError, AttributeError):
        return None


def nothing(reason):
    """The digest where there was no parity, and why."""
    return {"reason": reason, "seconds": None, "differ": [], "same_computation": [], "agree": []}


def why_none(settings, code, stderr):
    """The reason that there is no result, from the trainer's exit code and error output."""
    if code == USER_ERROR and not trainer_of(settings).has_parity(settings):
        return NO_COMMAND
    said = check.last_line(stderr)
    return f"it gave no result, {check.exit_words(code)}{': ' + said if said else ''}"


def _severity(piece):
    """How badly a piece differs: the largest error among its failed checks. A failed check without one (a wrong
    distribution, a NaN, another shape) counts as an error as large as the value.
    """
    failed = [_amount(check["error"]) for check in piece["checks"] if not check["agrees"]]
    return max((1.0 if error is None else error for error in failed), default=0.0)


def _worst_of(piece):
    """What the campaign keeps of a piece that differs. The log takes no NaN."""
    numbers = {key: _amount(piece[key]) for key in ("error", "p_value")}
    return {"flag": piece["flag"], **numbers, "worst": piece["worst"], "reproduce": piece["reproduce"]}


def _amount(value):
    """None where there is no finite number. Raises TypeError for what is no number at all."""
    if value is not None and not isinstance(value, (int, float)):
        raise TypeError
    return untrusted.amount(value)


@contextlib.contextmanager
def _interruptible():
    """Lets the signals that ask this process to end raise KeyboardInterrupt, as Ctrl-C does."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
