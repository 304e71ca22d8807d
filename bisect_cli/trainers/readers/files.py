"""Files that a training is writing: opened without waiting, and read on from where the last look ended."""

import os
import stat

from bisect_cli.storage.untrusted import opened

CHUNK = 1 << 18  # bytes at a time
PROOF = 256  # bytes before the place where reading goes on, by which a file is known again
SAMPLE = 1 << 18  # bytes at a file's beginning and end that show what kind of lines it has
GONE = (FileNotFoundError, NotADirectoryError)


class Followed:
    """The points of a file that grows. A parser takes bytes as they come and has `offset`, how many it has taken, and
    `points`; whenever the file is another, or was written anew, a new parser begins.

    A new file often gets the inode of the one just removed, and one that was cut short may have outgrown by the next
    look what it was. So a file is the same only if what stands before the offset is the same, too.
    """

    def __init__(self, path, make_parser):
        self.path, self._make_parser = path, make_parser
        self._restart()

    def _restart(self):
        self.parser = self._make_parser()
        self._identity = self._stamp = None
        self._proof = (0, b"")  # where, what

    def update(self):
        """Reads what has been added. A file that cannot be read at the moment stays as it was."""
        try:
            if self._stamp is None or _stamp(os.stat(self.path)) != self._stamp:
                with opened(self.path) as (descriptor, status):
                    self._read_on(descriptor, status)
        except GONE:
            self._restart()
        except OSError:
            pass

    def _read_on(self, descriptor, status):
        if not self._is_same(descriptor, status):
            self._restart()
        self.parser.read(descriptor, status.st_size)
        begin = max(0, self.parser.offset - PROOF)
        self._proof = begin, os.pread(descriptor, self.parser.offset - begin, begin)
        self._identity = _identity(status)
        self._stamp = None if self.parser.damage else _stamp(status)  # what is damaged may just be under way

    def _is_same(self, descriptor, status):
        begin, proof = self._proof
        return _identity(status) == self._identity and os.pread(descriptor, len(proof), begin) == proof


def _identity(status):
    return status.st_dev, status.st_ino


def _stamp(status):
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def sample(path):
    """The bytes at the beginning and at the end of a regular file; b"" if it cannot be read."""
    try:
        with opened(path) as (descriptor, status):
            head = os.pread(descriptor, SAMPLE, 0)
            begin = max(len(head), status.st_size - SAMPLE)
            return head + (b"\n" if begin > len(head) else b"") + os.pread(descriptor, SAMPLE, begin)
    except OSError:
        return b""


def size(path):
    """Of a file; 0 if there is none."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def is_regular(path):
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return False
