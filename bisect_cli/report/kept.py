"""What was worked out from a campaign's log, kept beside it, so that who looks next need not work it out again.

The file is never believed over the log. It says of which log it is, to the byte, and of which version of this program;
where either is another, or a line of it is damaged or missing, or where there is none, all is worked out from the log.
It is replaced as a whole, so that readers need no lock, and it may be deleted at any time. Who must not write in the
folder does not.

Its lines are like those of the log, and checked like them. There are three at most, in this order:
  headline  what a list of campaigns shows
  findings  what the analysis adds to the summary (`findings`)
  memory    how likely the runs of all subsets are, summed up (`evidence.grid.Memory`); of campaigns with many subsets
"""

import contextlib
import os
import time
import zlib
from functools import cached_property, lru_cache
from pathlib import Path

from bisect_cli.report import findings as finding
from bisect_cli.storage import eventlog, store, untrusted

FILE = "kept.jsonl"
MOST_BYTES = 1 << 28
MOST_OF_HEADLINE = 1 << 16
MANY = 50  # subsets, from which on the memory saves more than it takes to read
SPARE = 20  # times as long as it took to keep the last, until the next is kept
KINDS = ("headline", "findings", "memory")
SOURCES = ("analysis.py", "campaign", "evidence", "search", "report")  # what the findings depend on


@lru_cache(maxsize=1)
def code_version():
    """A text that is another once the findings may be: the checksum of the source that makes them."""
    root, crc = Path(__file__).parents[1], 0
    for source in SOURCES:
        path = root / source
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            crc = zlib.crc32(file.read_bytes(), crc)
    return f"{crc:08x}"


def headline(folder):
    """{name, state, runs, flags, metrics, conclusion, culprits, under_way, damaged: whether its log is} of
    a campaign that has come to an end, or was interrupted with no run under way, and whose log is still the one that it
    was kept of; else None.
    """
    line = _line(_texts(folder, MOST_OF_HEADLINE), "headline")
    if line is None or _mark(line) != store.open_log(folder).whole:
        return None
    settled = line["headline"]["state"] not in ("open", "new") and not line["headline"]["under_way"]
    return {**line["headline"], "name": Path(folder).name} if settled else None


def marks(folder):
    """The Marks of the logs that what is kept in a folder is about; one that no log has, for a line that is damaged."""
    found = []
    for text in _texts(folder, MOST_BYTES):
        with contextlib.suppress(ValueError, RecursionError):
            line = eventlog.event_of(text) or {}
            found += [_mark(line)] if line.get("kind") != "memory" else []
    return found


def headline_of(summary):
    """The same of a summary."""
    names = ("name", "state", "flags", "metrics", "conclusion", "culprits", "under_way")
    return {**{name: summary[name] for name in names}, "runs": len(summary["trials"]), "damaged": summary["damaged"]}


def findings(folder, contents):
    """The findings on a campaign in a folder, given its store.Contents: those kept, if they still hold."""
    keeper = Keeper(folder)
    found = keeper.findings(contents)
    if found is None:
        from bisect_cli.analysis import analyse  # what is kept saves importing numpy and scipy, too

        analysis = analyse(contents.judged, keeper.memory)
        found = finding.find(contents.judged, analysis)
        keeper.write(contents.mark, contents.state, found, bool(contents.problems))
    return found


class Keeper:
    """Keeps what is worked out for a campaign in a folder; None of one that has none."""

    def __init__(self, folder):
        self.folder = folder
        self._texts = _texts(folder, MOST_BYTES) if folder else []
        self._last, self._next = None, 0.0

    @cached_property
    def memory(self):
        """For `analyse`, as it was kept; whoever analyses brings it up to date."""
        line = _line(self._texts, "memory")
        if line is None:
            return {}
        from bisect_cli.evidence.grid import Memory

        with contextlib.suppress(KeyError, TypeError, ValueError, ArithmeticError):
            return {metric: Memory.from_json(values) for metric, values in line["memory"].items()}
        return {}

    def findings(self, contents):
        """The findings kept, None unless they are of this log, up to its last event that could change them."""
        line = _line(self._texts, "findings")
        if line is None:
            return None
        mark = _mark(line)
        return line["findings"] if mark.size >= contents.judged_mark.size and contents.log.begins_with(mark) else None

    def keep(self, mark, state, analysis, at_once=False, damaged=False):
        """Keeps what an Analysis says, unless it is kept already, or the last time was too short ago for what it costs.
        mark: the Mark of the log that says what the State does.
        """
        began = time.monotonic()
        if at_once or (analysis is not self._last and began >= self._next):
            self.write(mark, state, finding.find(state, analysis), damaged)
            now = time.monotonic()
            self._last, self._next = analysis, now + SPARE * (now - began)

    def write(self, mark, state, found, damaged=False):
        """Keeps findings, where the folder can be written. damaged: whether the log is."""
        path = Path(self.folder) / FILE
        fresh = path.with_name(f".{FILE}.new")
        with contextlib.suppress(OSError, ValueError):  # a number that JSON has not
            kinds = self._written(mark, state, found, damaged)
            lines = [eventlog.line({"code": code_version(), **one}) for one in kinds]
            fresh.unlink(missing_ok=True)  # of a process that was killed
            try:
                fresh.write_bytes(b"".join(lines))
                os.replace(fresh, path)
            except OSError:
                fresh.unlink()
                raise

    def _written(self, mark, state, found, damaged):
        settings = state.settings
        culprits = {
            metric: [{"flags": one["flags"]} for one in named] for metric, named in found["results"]["culprits"].items()
        }
        short = {
            "name": settings.name,
            "state": finding.as_it_stands(state, found).state,
            "flags": settings.flags,
            "metrics": settings.metrics,
            "conclusion": found["conclusion"],
            "culprits": culprits,
            "runs": len(state.trials),
            "under_way": {"running": len(state.running)} if state.running else None,
            "damaged": damaged,
        }
        yield {"kind": "headline", "log": mark, "headline": short}
        yield {"kind": "findings", "log": mark, "findings": found}
        many = {metric: one.to_json() for metric, one in self.memory.items() if len(one.runs) >= MANY}
        if many:
            yield {"kind": "memory", "memory": many}


def _texts(folder, most):
    """The lines of what is kept in a folder, none if there is nothing."""
    try:
        return untrusted.read(Path(folder) / FILE, most).split(b"\n")[:-1]
    except OSError:
        return []


def _line(texts, kind):
    """The line of a kind, None unless this version of the program has kept it."""
    number = KINDS.index(kind)
    with contextlib.suppress(OSError, ValueError, RecursionError):
        line = eventlog.event_of(texts[number]) if number < len(texts) else None
        if (
            line
            and line.get("code") == code_version()
            and line.get("kind") == kind
            and isinstance(line.get(kind), dict)
        ):
            return line
    return None


def _mark(line):
    """The Mark of the log that a line is about; one that no log has, if it names none."""
    try:
        return eventlog.Mark(*map(int, line["log"]))
    except (KeyError, TypeError, ValueError):
        return eventlog.Mark(-1)
