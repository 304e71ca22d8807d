"""JSON lines: an object a line, the value at a key."""

import re

from bisect_cli.storage.untrusted import parse_json
from bisect_cli.trainers.readers import values
from bisect_cli.trainers.readers.keyed import KeyedReader
from bisect_cli.trainers.readers.lines import LineParser, sample_of

# A key of these signs alone stands in a line as it is, whoever wrote it, so that lines without it need no parsing.
PLAIN = re.compile(r"[\w .:-]+", re.ASCII)


class JsonLines(LineParser):
    """Without a key of the step, lines count."""

    def __init__(self, key, step):
        super().__init__()
        self.key, self.step = key, step
        self._mark = key.rpartition(".")[2] if PLAIN.fullmatch(key) else ""
        self._count = 0

    def points_of(self, text):
        self._count += 1
        record = parse_json(text) if self._mark in text else None
        value = values.number(values.look_up(record, self.key))
        if value is None:
            return ()
        step = values.step(values.look_up(record, self.step)) if self.step else self._count
        return ((step, value),)


class CountingReader(KeyedReader):
    """Of a format in which lines count as steps. With several files there are no such steps: whether they are of one
    time or follow each other cannot be known.
    """

    takes = ("step",)

    def points(self, parser, paths, ended):
        points = super().points(parser, paths, ended)
        return points if self.source.get("step") or len(paths) == 1 else ((None, value) for _, value in points)


class JsonLinesReader(CountingReader):
    def make_parser(self):
        return JsonLines(self.source["key"], self.source.get("step"))

    def named(self, paths):
        found = {}
        for path in paths:
            for line in sample_of(path):
                record = parse_json(line)
                found.update(values.flat(record))
                value = values.look_up(record, self.source["key"])
                found.update({} if value is None else {self.source["key"]: value})
        return found
