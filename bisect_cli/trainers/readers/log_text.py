"""Text for people: a log, or what a run has printed. A pattern finds the value in a line."""

import re

from bisect_cli.trainers.readers import values
from bisect_cli.trainers.readers.lines import LineParser, sample_of
from bisect_cli.trainers.readers.reader import Reader

COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")  # of a terminal, which nobody sees and thinks of in a pattern
WORD = re.compile(r"[A-Za-z]{2,}")
NOT_WORDS = re.compile(r"\\.|\(\?P<\w+>|\(\?[a-z:]+|\[[^]]*\]")  # of a pattern


def value_group(pattern):
    """The name or the number of the group with the value in a compiled pattern; None if it cannot be known."""
    others = [number for number in range(1, pattern.groups + 1) if number != pattern.groupindex.get("step")]
    if "value" in pattern.groupindex:
        return "value"
    return others[0] if len(others) == 1 else None


class LogLines(LineParser):
    """One value a line: the first that matches."""

    def __init__(self, pattern):
        super().__init__()
        self._search = pattern.search
        self._value = value_group(pattern)
        self._has_step = "step" in pattern.groupindex

    def points_of(self, text):
        match = self._search(plain(text))
        value = values.number(match[self._value]) if match else None
        if value is None:
            return ()
        return ((values.step(match["step"]) if self._has_step else None, value),)


def plain(text):
    return COLOURS.sub("", text) if "\x1b" in text else text


class LogReader(Reader):
    needs = ("file", "pattern")

    def __init__(self, source):
        super().__init__(source)
        self._pattern = re.compile(source["pattern"])

    def make_parser(self):
        return LogLines(self._pattern)

    @property
    def sought(self):
        return f"match of the pattern `{self.source['pattern']}`"

    def instead(self, paths):
        """A match that is no number, or else the line that has the most of the pattern's words, the last such one."""
        lines = [plain(line).strip() for path in paths for line in sample_of(path)]
        for match in filter(None, map(self._pattern.search, reversed(lines))):
            return f"it matches, but `{match[value_group(self._pattern)]}` is no number"
        words = set(WORD.findall(NOT_WORDS.sub(" ", self.source["pattern"]).lower()))
        if not lines:
            return "there is nothing there yet"
        best = max(reversed(lines), key=lambda line: len(words & set(WORD.findall(line.lower()))))
        return f"the nearest line is `{best[:100]}`"


class OutputReader(LogReader):
    """Of what the attempts of a run have printed, one after another."""

    needs = ("pattern",)
    file = ""

    def paths(self, places):
        return tuple(attempt / self.file for attempt in places.attempts)

    def sought_at(self, places):
        return ()


class StdoutReader(OutputReader):
    file = "stdout.txt"


class StderrReader(OutputReader):
    file = "stderr.txt"
