"""Files of lines: what is common to all formats that have a value in a line."""

import copy
import os
import re

from bisect_cli.trainers.readers import files
from bisect_cli.trainers.readers.series import thinned

MOST_LINE = 1 << 20  # bytes; what is longer is no line of a metric, and is not kept
END = re.compile(rb"[\r\n]")  # a progress bar ends its lines with \r alone


class LineParser:
    """Cuts what comes into lines. Of those that are whole, `points_of(text)` says which (step, value) they hold.

    offset: bytes taken. rest: those of them that are a line not yet whole.
    """

    damage = ""

    def __init__(self):
        self.offset, self.rest, self.points = 0, b"", []
        self._skipping = False  # within a line that is too long

    def read(self, descriptor, end):
        while self.offset < end:
            chunk = os.pread(descriptor, min(files.CHUNK, end - self.offset), self.offset)
            if not chunk:
                return  # cut short meanwhile
            self.offset += len(chunk)
            self._take(chunk)

    def _take(self, chunk):
        if self._skipping:
            found = END.search(chunk)
            if not found:
                return
            chunk, self._skipping = chunk[found.end() :], False
        data = self.rest + chunk
        cut = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
        self.rest = data[cut:]
        for line in data[:cut].splitlines():
            if len(line) <= MOST_LINE:
                self.points += self._points_of(line)
        self.points = thinned(self.points)
        if len(self.rest) > MOST_LINE:
            self.rest, self._skipping = b"", True

    def _points_of(self, line):
        return self.points_of(text_of(line)) if line and not line.isspace() else ()

    def unended(self):
        """The points of a last line that nothing ends, which will be all of it if the run has ended by itself."""
        return copy.copy(self)._points_of(self.rest)  # a copy, as a line may change what the parser knows

    def points_of(self, text):
        raise NotImplementedError


def text_of(line):
    return line.decode("utf-8", "replace").lstrip("\ufeff")


def sample_of(path):
    """Lines of a file that show what it has."""
    return [text_of(line) for line in files.sample(path).splitlines() if line and not line.isspace()]
