"""CSV: a line of names, then the value in its column."""

import csv

from bisect_cli.trainers.readers import values
from bisect_cli.trainers.readers.jsonl import CountingReader
from bisect_cli.trainers.readers.lines import LineParser, sample_of

DELIMITERS = (",", ";", "\t")  # that one by which the header has the column


class CsvRows(LineParser):
    """The header is the first line that names the column. A training that is resumed may write another one, with other
    columns even. Without a column of the step, rows count.
    """

    def __init__(self, key, step):
        super().__init__()
        self.key, self.step = key, step
        self._header, self._delimiter, self._count = None, ",", 0

    def points_of(self, text):
        cells = cells_of(text, self._delimiter)
        if self._header is None or self._is_header(cells):
            self._take_header(text)
            return ()
        self._count += 1
        value = values.number(self._cell(cells, self.key))
        if value is None:
            return ()
        return ((values.step(self._cell(cells, self.step)) if self.step else self._count, value),)

    def _take_header(self, text):
        for delimiter in DELIMITERS:
            cells = cells_of(text, delimiter)
            if self.key in cells:
                self._header, self._delimiter = cells, delimiter
                return

    def _is_header(self, cells):
        return self.key in cells and values.number(self._cell(cells, self.key)) is None

    def _cell(self, cells, name):
        if name not in self._header:
            return None
        column = self._header.index(name)
        return cells[column] if column < len(cells) else None


def cells_of(text, delimiter):
    if '"' in text:
        try:
            return [cell.strip() for cell in next(csv.reader([text], delimiter=delimiter, skipinitialspace=True))]
        except (csv.Error, StopIteration):
            return []
    return [cell.strip() for cell in text.split(delimiter)]


class CsvReader(CountingReader):
    def make_parser(self):
        return CsvRows(self.source["key"], self.source.get("step"))

    def named(self, paths):
        found = {}
        for path in paths:
            lines = sample_of(path)
            if lines:
                delimiter = max(DELIMITERS, key=lambda sign: lines[0].count(sign))
                found.update(zip(cells_of(lines[0], delimiter), cells_of(lines[-1], delimiter)))
        return found
