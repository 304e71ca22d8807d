"""JSON: one object in a file, written as a whole."""

import os

from bisect_cli.trainers.readers import files, values
from bisect_cli.trainers.readers.keyed import KeyedReader
from bisect_cli.trainers.readers.lines import text_of

MOST_FILE = 1 << 26  # bytes


class JsonFile:
    """Parsed anew whenever the file has changed; while it is half written it has nothing. A list of numbers, as
    histories have them, is a curve of which each one is a step.
    """

    offset, damage = 0, ""  # nothing is ever taken for good

    def __init__(self, key):
        self.key, self.points = key, []

    def read(self, descriptor, end):
        found = values.look_up(parse(descriptor, end), self.key)
        if isinstance(found, list):
            points = [(i, values.number(value)) for i, value in enumerate(found, 1)]
        else:
            points = [(None, values.number(found))]
        self.points = [point for point in points if point[1] is not None]

    def unended(self):
        return ()


def parse(descriptor, end):
    """What is in an open file; None if it is too large or no JSON."""
    return values.parse_json(text_of(_bytes(descriptor, end))) if end <= MOST_FILE else None


def _bytes(descriptor, end):
    data = bytearray()
    while len(data) < end:
        chunk = os.pread(descriptor, min(files.CHUNK, end - len(data)), len(data))
        if not chunk:
            break
        data += chunk
    return bytes(data)


class JsonReader(KeyedReader):
    def make_parser(self):
        return JsonFile(self.source["key"])

    def named(self, paths):
        found = {}
        for path in paths:
            try:
                with files.opened(path) as (descriptor, status):
                    record = parse(descriptor, status.st_size)
            except OSError:
                continue
            found.update({name: _example(value) for name, value in values.flat(record).items()})
            value = values.look_up(record, self.source["key"])
            found.update({} if value is None else {self.source["key"]: _example(value)})
        return found


def _example(value):
    return value[-1] if isinstance(value, list) and value else value
