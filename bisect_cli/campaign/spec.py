"""What a trainer declares of itself: the seam between any training and the bisector.

A Spec is plain data, stored in a campaign's first event, so that whoever looks at a campaign needs no trainer. All
names that people write (flags, groups, metrics) are looked up here, and nowhere in a table of the program's own.
"""

import dataclasses
import math
from dataclasses import dataclass, field
from typing import NamedTuple, Optional

from bisect_cli.campaign import subsets
from bisect_cli.errors import UserError, unknown

LARGEST = 1e100  # value of any metric, in size: squares of it are still numbers
ALL = "all"  # stands for every flag, whatever the trainer


class Flag(NamedTuple):
    """A switch of the training. help: what it switches, in a few words. needs: flags without which it makes no sense.
    excludes: flags that cannot be on together with it.
    """

    name: str
    help: str = ""
    needs: tuple = ()
    excludes: tuple = ()


class Group(NamedTuple):
    """Flags that people know by one name, neighbours in the Spec's order. level: 1 for the smallest groups."""

    name: str
    flags: tuple
    level: int = 1


class Metric(NamedTuple):
    """A number that a finished run reports.

    name: as people write it. key: in the run's results. title: over a column. low, high: the ends of its range, None if
    it has none that matters. noise: the standard deviation between seeds, smallest_drop: the smallest loss worth
    naming, target: what a training that works reaches; all in the metric's own unit, None if not known.
    """

    name: str
    key: str
    title: str = ""
    higher_is_better: bool = True
    low: Optional[float] = None
    high: Optional[float] = None
    noise: Optional[float] = None
    smallest_drop: Optional[float] = None
    target: Optional[float] = None

    @property
    def range(self):
        """(low, high), None if either is not known."""
        return None if self.low is None or self.high is None else (self.low, self.high)

    def takes(self, value):
        """Whether a number, or None, can be a value of this metric."""
        return value is not None and math.isfinite(value) and not self.explain_refusal(value)

    def explain_refusal(self, value):
        """Why a finite number cannot be a value of this metric, without a full stop; "" if it can."""
        if abs(value) > LARGEST:
            return f"{self.name} is {value:g}: no measurement is that large"
        low = -math.inf if self.low is None else self.low
        high = math.inf if self.high is None else self.high
        outside = f"{self.name} is {value:g}, outside of its range {low:g} to {high:g}: mend one of them"
        return "" if low <= value <= high else outside


@dataclass(frozen=True)
class Spec:
    """A trainer with its options.

    trainer: the name by which `bisect_cli.trainers.find` finds it. flags, groups: in their order. metrics: all that can
    be asked for. default_metrics: the names of those that are, if the user names none. prefix: what may stand before a
    flag's name. lengths: the shorter schedules that it can run, as shares of a whole one. options: its own, plain JSON
    values that nobody else looks into; description: what readers of the campaign should know of them, in a few words
    each.
    """

    trainer: str
    flags: tuple
    groups: tuple = ()
    metrics: tuple = ()
    default_metrics: tuple = ()
    prefix: str = ""
    lengths: tuple = ()
    description: tuple = ()
    options: dict = field(default_factory=dict)

    def to_json(self):
        values = dataclasses.asdict(self)
        for name in ("flags", "groups", "metrics"):
            values[name] = [one._asdict() for one in getattr(self, name)]
        return values

    @classmethod
    def from_json(cls, values):
        known = {f.name for f in dataclasses.fields(cls)}
        given = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items() if name in known}
        for name, kind in (("flags", Flag), ("groups", Group), ("metrics", Metric)):
            given[name] = tuple(_record(kind, one) for one in values.get(name, ()))
        return cls(**given)

    @property
    def flag_names(self):
        return tuple(flag.name for flag in self.flags)

    @property
    def blocks(self):
        """The groups that say something about a set: of several flags, and not of all."""
        return tuple(group for group in self.groups if 1 < len(group.flags) < len(self.flags))

    def parse_flag(self, text):
        """A flag's name, written in any case and with or without the prefix. Raises UserError with the nearest."""
        return self._lookup(text, {})[0]

    def parse_flags(self, text):
        """A set from a comma-separated list of flags, of groups, or `all`.

        Raises UserError for an unknown name, with the nearest ones, and for an empty list.
        """
        names = [name for name in text.split(",") if name.strip()]
        if not names:
            example = f", a group such as {self.blocks[0].name}," if self.blocks else ""
            raise UserError(f"--flags is empty: name the flags of the failing set{example} or all.")
        groups = {ALL: self.flag_names, **{group.name: group.flags for group in self.groups}}
        return subsets.union(*(self._lookup(name, groups) for name in names), order=self.flag_names)

    def check_set(self, flags):
        """Raises UserError if the failing set cannot be on as a whole: a flag needs one that is not in it, or two of
        them exclude each other, or need each other.
        """
        subsets.close({flag.name: flag.needs for flag in self.flags})
        for flag in (flag for flag in self.flags if flag.name in flags):
            for other in flag.needs:
                if other not in flags:
                    raise UserError(f"--flags: {flag.name} needs {other}, which would be off in every run: add it.")
            for other in flag.excludes:
                if other in flags:
                    raise UserError(
                        f"--flags: {flag.name} and {other} exclude each other, so they are never on together: bisect "
                        "them in two campaigns."
                    )

    def _lookup(self, text, groups):
        name = text.strip()
        upper = name.upper()
        bare = upper[len(self.prefix) :] if self.prefix and upper.startswith(self.prefix.upper()) else upper
        table = {group.upper(): flags for group, flags in groups.items()}
        table.update((flag.upper(), (flag,)) for flag in self.flag_names)
        for one in (bare, upper):
            if one in table:
                return table[one]
        raise unknown("flag or group" if groups else "flag", name, [*self.flag_names, *groups])

    def metric(self, text):
        """The Metric of a name or a key. Raises UserError with the nearest names."""
        for metric in self.metrics:
            if text in (metric.name, metric.key):
                return metric
        raise unknown("metric", text, [metric.name for metric in self.metrics])

    def parse_metrics(self, texts):
        """The names of the metrics in several "A,B,...", each once; without any the default ones."""
        names = [name.strip() for text in texts for name in text.split(",")]
        return tuple(dict.fromkeys(self.metric(name).name for name in names if name)) or self.default_metrics

    def label(self, flags, whole=()):
        """A short name of a set for people."""
        return subsets.label(flags, self.blocks, whole)


def _record(kind, values):
    given = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items() if name in kind._fields}
    return kind(**given)
