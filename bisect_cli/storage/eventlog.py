"""An append-only log of JSON events in a file, safe against crashes, in which nothing gets lost unnoticed.

One event a line: `{"crc":"89abcdef","event":{"seq":7,"prev":"01234567",...}}`, where crc is the CRC-32 of the event's
bytes as they stand there. The lines are a chain: seq is the number of the line, prev the crc of the line before. The
first line that a Writer appends has instead `"format"`, the version of this format, and `"all"`, the CRC-32 of all
bytes before it. Lines without these are of an older version, and count as they are.

An append is on disk when it returns. Nothing is ever taken out of a log: a damaged line stays where it is and is
skipped, so that every reader sees what is wrong and can say so. What is only out of order, or there twice, is read as
it was written. One writer at a time (a campaign's lease sees to that); readers need no lock.
"""

import io
import json
import os
import re
import zlib
from pathlib import Path
from typing import NamedTuple, Optional

from bisect_cli.errors import UserError

FORMAT = 2  # 1: lines of no chain
DAMAGED, CUT_SHORT, MISSING, MOVED, DOUBLED, ALTERED = "damaged", "cut short", "missing", "moved", "doubled", "altered"
LOSSES = (DAMAGED, MISSING, ALTERED)  # after which there may be something that nobody knows of
_LINE = re.compile(rb'\{"crc":"([0-9a-f]{8})","event":(\{.*\})\}', re.DOTALL)
_CHAIN = re.compile(rb'\{"seq":(\d{1,15}),(?:"prev":"([0-9a-f]{8})"|"format":(\d{1,9}),"all":"([0-9a-f]{8})"),?')


class Problem(NamedTuple):
    """A piece of damage to a log. kind: DAMAGED, CUT_SHORT, MISSING, MOVED, DOUBLED or ALTERED. line: the number of the
    line, from 1, or of the one behind what is missing. text: a sentence. data: of a line that cannot be read, its
    bytes.
    """

    kind: str
    line: int
    text: str
    data: bytes = b""

    @property
    def lost(self):
        """Whether something may be lost that was logged."""
        return self.kind in LOSSES


class Log(NamedTuple):
    """What a log holds: its events, and in `notes` a sentence for each piece of damage found."""

    events: tuple
    notes: tuple


class Mark(NamedTuple):
    """A log up to the end of one of its lines: how many bytes that is, and their CRC-32."""

    size: int = 0
    crc: int = 0

    def then(self, line):
        """With one more line."""
        return Mark(self.size + len(line), zlib.crc32(line, self.crc))


class _Line(NamedTuple):
    """A line of a log as it stands there. before, after: the Mark of the log without and with it. body: its event, as
    JSON; crc: of that, None if the line was damaged. seq, prev, all: as in the event, None if it has none.
    """

    number: int
    text: bytes
    before: Mark
    after: Mark
    body: bytes
    crc: Optional[int]
    seq: Optional[int] = None
    prev: Optional[int] = None
    all: Optional[int] = None


class Reading:
    """The log at `path` as it is now, empty if there is no such file, to be gone through once, event by event: a large
    log is never all in memory as objects. Works while a writer appends. A last line without its newline counts if it is
    whole.

    mark: the Mark of what has been gone through. problems: the Problems of the log, known once it is gone through.
    Raises UserError as it begins if the log is of a newer format.
    """

    def __init__(self, path):
        self.path, self.mark, self.problems = Path(path), Mark(), []
        self._last = _Line(0, b"", Mark(), Mark(), b"", 0, 0)  # of the chain
        self._since = 0  # lines behind it that are not of the chain
        try:
            self._data = self.path.read_bytes()
        except FileNotFoundError:
            self._data = b""

    def __iter__(self):
        return map(_event, self.go_through())

    def go_through(self):
        """Yields the lines that count, and finds the problems."""
        lines = list(self._lines())
        ordered = _in_order(lines)
        if ordered != lines:
            self._note(MOVED, next(a for a, b in zip(lines, ordered) if a != b), "out of order; it was put right")
        following = [*ordered[1:], None]
        for line, after in zip(ordered, following):
            doubled = line.seq is not None and line.seq == self._last.seq and line.body == self._last.body
            if line.crc is None:
                self._note_unreadable(line, after)
            elif doubled:
                self._note(DOUBLED, line, "there twice; it counts once")
            elif line.seq is not None:
                self._check(line)
            if line.seq is None:
                self._since += 1
            else:
                self._last, self._since = line, 0
            self.mark = max(self.mark, line.after)
            if line.crc is not None and not doubled:
                yield line

    @property
    def notes(self):
        """A sentence for each Problem."""
        return [problem.text for problem in self.problems]

    @property
    def next_seq(self):
        """The number of the line to come, once all is gone through."""
        return self._last.seq + self._since + 1

    def begins_with(self, mark):
        """Whether the log was as a Mark says, and has at most grown since."""
        return mark.size <= len(self._data) and zlib.crc32(memoryview(self._data)[: mark.size]) == mark.crc

    @property
    def whole(self):
        """The Mark of all that is there."""
        end = len(self._data) - len(self.tail) * (_crc_of(self.tail) is None)
        return Mark(end, zlib.crc32(memoryview(self._data)[:end]))

    @property
    def tail(self):
        """The bytes behind the last newline: an append in progress, or one that was cut short."""
        return self._data[self._data.rfind(b"\n") + 1 :]

    def _lines(self):
        """The lines. The tail is among them if it is whole, for it may be an append in progress: only a writer, who
        knows that there is none, calls it cut short.
        """
        mark = Mark()
        for number, text in enumerate(io.BytesIO(self._data), 1):
            match = _match(text)
            if not match and not text.endswith(b"\n"):
                return
            body, crc = (match[2], int(match[1], 16)) if match else (b"", None)
            chain, before, mark = _CHAIN.match(body), mark, mark.then(text)
            yield _Line(number, text, before, mark, body, crc, *(self._links(chain) if chain else ()))

    def _links(self, chain):
        """(seq, prev, all) of a line, by the match of _CHAIN."""
        seq, prev, version, whole = chain.groups()
        if version and int(version) > FORMAT:
            raise UserError(
                f"{self.path} was written by a newer version of maskrcnn-bisect (log format {int(version)}; this one "
                f"reads up to {FORMAT}): use that version."
            )
        return int(seq), prev and int(prev, 16), whole and int(whole, 16)

    def _check(self, line):
        """Whether a line of the chain follows what came before."""
        expected = self.next_seq
        if line.seq > expected:
            number = line.seq - expected
            few = "1 line is" if number == 1 else f"{number} lines are"
            self._note(MISSING, line, f"{few} missing before line {line.number} of {self.path.name}")
        elif line.seq < expected and self._is_sound:
            self._note(ALTERED, line, "not the line that belongs there")
        elif line.seq == expected and line.prev is not None and not self._since and line.prev != self._last.crc:
            self._note(ALTERED, line, "not the line that follows the one before it")
        elif line.all not in (None, line.before.crc) and self._is_sound:
            self._note(ALTERED, line, f"what stands before line {line.number} of {self.path.name} has changed")

    @property
    def _is_sound(self):
        return all(problem.kind == CUT_SHORT for problem in self.problems)

    def _note_unreadable(self, line, after):
        text = line.text.rstrip(b"\n")
        if not text.endswith(b"}}") and (after is None or after.all is not None):  # only another writer goes on then
            self._note(CUT_SHORT, line, "cut short, as by a crash, and was skipped", text)
        else:
            self._note(DAMAGED, line, "corrupt and was skipped", text)

    def _note(self, kind, line, words, data=b""):
        said = f"line {line.number} of {self.path.name}"
        self.problems.append(Problem(kind, line.number, words if said in words else f"{said} is {words}", data))


def read(path):
    """The Log at `path`; empty if there is no such file. Works while a writer appends."""
    reading = Reading(path)
    return Log(tuple(reading), tuple(reading.notes))


class Replaced(UserError):
    """The log is not the one any more that its Writer has written."""


class Writer:
    """Appends to the log at `path`. notes: a sentence for each piece of damage found there. mark: the Mark of all of
    it. A last line without its newline gets one.
    """

    def __init__(self, path):
        self.path = Path(path)
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            if Reading(path).tail:
                os.write(self._file, b"\n")
                os.fsync(self._file)
            sync_folder(self.path.parent)
            reading = Reading(path)
            for _ in reading.go_through():
                pass
        except BaseException:
            self.close()
            raise
        self.notes, self.mark = tuple(reading.notes), reading.whole
        self._seq, self._prev = reading.next_seq, None
        self._last = b""  # as it was written

    def append(self, event):
        """Adds one event, a dict of plain JSON values. It is on disk on return; on an OSError nothing of it is. Raises
        Replaced if somebody else has changed the log.
        """
        if self._prev is None:
            chain = {"seq": self._seq, "format": FORMAT, "all": f"{self.mark.crc:08x}"}
        else:
            chain = {"seq": self._seq, "prev": f"{self._prev:08x}"}
        text = line({**chain, **event})
        self.check()
        try:
            written = 0
            while written < len(text):
                written += os.write(self._file, text[written:])
            os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, self.mark.size)  # half a line would spoil the next append
            raise
        self.mark, self._last = self.mark.then(text), text
        self._seq, self._prev = self._seq + 1, _crc_of(text)

    def check(self):
        """Raises Replaced if the log is not as it was left."""
        mine = os.fstat(self._file)
        try:
            there = os.stat(self.path)
        except FileNotFoundError:
            raise Replaced(f"{self.path} was deleted while the campaign ran, which stops here.") from None
        same = (mine.st_dev, mine.st_ino, mine.st_size) == (there.st_dev, there.st_ino, self.mark.size)
        last = os.pread(self._file, len(self._last), self.mark.size - len(self._last))
        if not same or last != self._last:
            raise Replaced(
                f"{self.path} was replaced or changed by somebody else while the campaign ran, which stops here: look "
                "what it says now, then resume."
            )

    def close(self):
        os.close(self._file)


def line(event):
    """An event as a line, with its newline. Raises ValueError for a number that JSON has not."""
    body = json.dumps(event, separators=(",", ":"), allow_nan=False).encode()
    return b'{"crc":"%08x","event":%s}\n' % (zlib.crc32(body), body)


def event_of(line):
    """The event of a line, with or without its newline, None if the line was damaged."""
    match = _match(line)
    return json.loads(match[2]) if match else None


def _in_order(lines):
    """The lines as they were written, those of the chain by their numbers. What is not of the chain stays behind the
    line of it that it stands behind.
    """
    keys, last = [], 0
    for one in lines:
        last = last if one.seq is None else one.seq
        keys.append((last, one.seq is None))
    numbers = [key[0] for key in keys]
    if all(a <= b for a, b in zip(numbers, numbers[1:])):
        return lines
    return [lines[i] for i in sorted(range(len(lines)), key=keys.__getitem__)]


def _event(line):
    """The event of a line, without what is of the chain."""
    event = json.loads(line.body)
    for name in () if line.seq is None else ("seq", "prev", "format", "all"):
        event.pop(name, None)
    return event


def _match(text):
    """The match of a line, None if it was damaged."""
    match = _LINE.fullmatch(text.rstrip(b"\n"))
    return match if match and int(match[1], 16) == zlib.crc32(match[2]) else None


def _crc_of(text):
    """The CRC-32 of the event of a line, None if the line was damaged."""
    match = _match(text)
    return match and int(match[1], 16)


def sync_folder(folder):
    """Makes a new file's name durable, where the system can sync a folder."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)
