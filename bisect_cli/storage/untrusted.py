"""Reading what runs, agents and people left in a campaign's folder: data of anyone's, of any size and kind.

Nothing but regular files is read. A pipe would wait for its writer, a device has no end; a link may lead to either, and
what a path names may change between two looks at it. So a file is looked at before it is opened (to open a device may
already do something) and after. Nothing is read beyond a bound, and no JSON text raises anything.
"""

import contextlib
import errno
import json
import math
import os
import stat

MOST_JSON = 1 << 20  # bytes of a file with one JSON object
# Errors that say nothing of a file, but of this machine or of the disk: it may be read later
PASSING = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.ESTALE)
MOST_DIGITS = 18  # of a whole number; Python turns longer ones into numbers in quadratic time, or refuses to


@contextlib.contextmanager
def opened(path):
    """-> (descriptor, os.stat_result) of a regular file. Raises FileNotFoundError if it is none, else OSError."""
    _refuse_others(path, os.stat(path))
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        _refuse_others(path, status)
        yield descriptor, status
    finally:
        os.close(descriptor)


def _refuse_others(path, status):
    if not stat.S_ISREG(status.st_mode):
        raise FileNotFoundError(f"{path} is no regular file")


def read(path, most=MOST_JSON, offset=0):
    """Up to `most` bytes of a regular file. Raises OSError."""
    with opened(path) as (descriptor, _):
        return read_from(descriptor, most, offset)


def read_from(descriptor, most, offset=0):
    """Up to `most` bytes of an open file, fewer only where it ends."""
    data = bytearray()
    while len(data) < most:
        chunk = os.pread(descriptor, min(most - len(data), 1 << 18), offset + len(data))
        if not chunk:
            break
        data += chunk
    return bytes(data)


def read_end(path, most):
    """The last `most` bytes of a regular file, b"" if it cannot be read."""
    try:
        with opened(path) as (descriptor, status):
            return read_from(descriptor, most, max(0, status.st_size - most))
    except OSError:
        return b""


def read_object(path, most=MOST_JSON):
    """The JSON object in a regular file, None if it holds none or more than `most` bytes. Raises OSError if it cannot
    be read.
    """
    data = read(path, most + 1)
    found = parse_json(data.decode("utf-8", "replace")) if len(data) <= most else None
    return found if isinstance(found, dict) else None


def parse_json(text):
    """What a JSON text holds, however deep it nests and however long its numbers are; None if it is not JSON. A number
    that is too large for a float is None.
    """
    try:
        return json.loads(text, parse_int=whole, parse_float=number)
    except (ValueError, RecursionError):
        return None


def number(value):
    """A float. NaN and the infinities are numbers if they stand there as such; what is too large for a float is not."""
    if isinstance(value, bool) or (isinstance(value, str) and "_" in value):
        return None
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    overflown = math.isinf(found) and isinstance(value, str) and "inf" not in value.lower()
    return None if overflown else found


def whole(digits):
    """A whole number from its digits; a float where there are many."""
    return int(digits) if len(digits) <= MOST_DIGITS else number(digits)


def amount(value):
    """A float that is finite and not negative, as of seconds; None for anything else."""
    found = number(value)
    return found if found is not None and math.isfinite(found) and found >= 0 else None
