"""JSON: one object in a file, written as a whole."""

from bisect_cli.storage.untrusted import opened, parse_json, read_from
from bisect_cli.trainers.readers import values
from bisect_cli.trainers.readers.keyed import KeyedReader
from bisect_cli.trainers.readers.lines import text_of
from bisect_cli.trainers.readers.series import thinned

MOST_FILE = 1 << 25  # bytes


class JsonFile:
    """Parsed anew whenever the file has changed; while it is half written it has nothing. A list of numbers, as
    histories have them, is a curve of which each one is a step.
    """

    offset, damage = 0, ""  # nothing is ever taken for good

    def __init__(self, key):
        self.key, self.points = key, []

    def read(self, descriptor, end):
        found = values.look_up(parse(descriptor, end), self.key)
        points = enumerate(found, 1) if isinstance(found, list) else [(None, found)]
        self.points = []
        for step, value in ((step, values.number(value)) for step, value in points):
            if value is not None:
                self.points.append((step, value))
                self.points = thinned(self.points)

    def unended(self):
        return ()


def parse(descriptor, end):
    """What is in an open file; None if it is too large or no JSON."""
    return parse_json(text_of(read_from(descriptor, end))) if end <= MOST_FILE else None


class JsonReader(KeyedReader):
    def make_parser(self):
        return JsonFile(self.source["key"])

    def named(self, paths):
        found = {}
        for path in paths:
            try:
                with opened(path) as (descriptor, status):
                    record = parse(descriptor, status.st_size)
            except OSError:
                continue
            found.update({name: _example(value) for name, value in values.flat(record).items()})
            value = values.look_up(record, self.source["key"])
            found.update({} if value is None else {self.source["key"]: _example(value)})
        return found


def _example(value):
    return value[-1] if isinstance(value, list) and value else value
