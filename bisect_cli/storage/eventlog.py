"""An append-only log of JSON events in a file, safe against crashes.

One event a line: `{"crc":"89abcdef","event":{...}}`, where crc is the CRC-32 of the event's bytes as they stand there.
An append is on disk when it returns. A line without its newline is an append that never returned, so it is dropped. A
whole line that does not match its checksum was damaged later; it is skipped, and a writer moves it to the file
`<log>.corrupt` before it goes on. One writer at a time (a campaign's lease sees to that); readers need no lock.
"""

import io
import json
import os
import re
import zlib
from pathlib import Path
from typing import NamedTuple

_LINE = re.compile(rb'\{"crc":"([0-9a-f]{8})","event":(\{.*\})\}', re.DOTALL)


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


class Reading:
    """The log at `path` as it is now, empty if there is no such file, to be gone through once, event by event: a large
    log is never all in memory as objects. Works while a writer appends.

    mark: the Mark of what has been gone through. notes: a sentence for each piece of damage found there.
    """

    def __init__(self, path):
        self.path, self.mark, self.notes = Path(path), Mark(), []
        try:
            self._data = self.path.read_bytes()
        except FileNotFoundError:
            self._data = b""

    def __iter__(self):
        for number, line in enumerate(io.BytesIO(self._data), 1):
            if not line.endswith(b"\n"):
                return  # it may be an append in progress: only a writer, who knows that there is none, calls it torn
            self.mark = self.mark.then(line)
            event = event_of(line[:-1])
            if event is None:
                self.notes.append(_corrupt_note(self.path, number))
            else:
                yield event

    def begins_with(self, mark):
        """Whether the log was as a Mark says, and has at most grown since."""
        return mark.size <= len(self._data) and zlib.crc32(memoryview(self._data)[: mark.size]) == mark.crc

    @property
    def whole(self):
        """The Mark of all that is there."""
        end = self._data.rfind(b"\n") + 1
        return Mark(end, zlib.crc32(memoryview(self._data)[:end]))


def read(path):
    """The Log at `path`; empty if there is no such file. Works while a writer appends."""
    reading = Reading(path)
    return Log(tuple(reading), tuple(reading.notes))


class Writer:
    """Appends to the log at `path`, after mending it. `notes` says what was mended. mark: the Mark of all of it."""

    def __init__(self, path):
        self.path = Path(path)
        self.notes = self._mend()
        self.mark = Reading(path).whole
        self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        _sync_folder(self.path.parent)

    def append(self, event):
        """Adds one event, a dict of plain JSON values. It is on disk on return; on an OSError nothing of it is."""
        text = line(event)
        size = os.fstat(self._file).st_size
        try:
            written = 0
            while written < len(text):
                written += os.write(self._file, text[written:])
            os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, size)  # half a line would spoil the next append
            raise
        self.mark = self.mark.then(text)

    def close(self):
        os.close(self._file)

    def _mend(self):
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return ()
        good, bad, torn = _split(data)
        notes = []
        if bad:
            side = self.path.with_name(self.path.name + ".corrupt")
            with open(side, "ab") as file:
                file.writelines(line + b"\n" for _, line in bad)
                _flush(file)
            notes += [f"{_corrupt_note(self.path, number)}, moved to {side.name}" for number, _ in bad]
        if torn:
            notes.append(
                f"the last line of {self.path.name} was cut short by a crash and was dropped ({len(torn)} bytes)"
            )
        if notes:
            fresh = self.path.with_name(self.path.name + ".mended")
            with open(fresh, "wb") as file:
                file.writelines(line + b"\n" for line in good)
                _flush(file)
            os.replace(fresh, self.path)
        return tuple(notes)


def line(event):
    """An event as a line, with its newline. Raises ValueError for a number that JSON has not."""
    body = json.dumps(event, separators=(",", ":"), allow_nan=False).encode()
    return b'{"crc":"%08x","event":%s}\n' % (zlib.crc32(body), body)


def _split(data):
    """The good lines of a log, its bad lines with their numbers, and its unfinished tail."""
    *lines, torn = data.split(b"\n")
    good, bad = [], []
    for number, line in enumerate(lines, 1):
        if _body(line) is None:
            bad.append((number, line))
        else:
            good.append(line)
    return good, bad, torn


def _body(line):
    """The event of a line, as JSON in bytes, None if the line was damaged."""
    match = _LINE.fullmatch(line)
    return match[2] if match and int(match[1], 16) == zlib.crc32(match[2]) else None


def event_of(line):
    """The event of a line, None if the line was damaged."""
    body = _body(line)
    return None if body is None else json.loads(body)


def _corrupt_note(path, number):
    return f"line {number} of {path.name} is corrupt and was skipped"


def _flush(file):
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(folder):
    """Makes a new file's name durable, where the system can sync a folder."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)
