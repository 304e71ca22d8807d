"""What is bisected and how, fixed when a campaign starts; only flags can be added later, and runs be made elsewhere."""

import dataclasses
import math
import re
from dataclasses import dataclass, field
from typing import Union

from bisect_cli.campaign import subsets
from bisect_cli.campaign.spec import Metric, Spec
from bisect_cli.errors import UserError

SUSPECT = 6.0  # how many times likelier a culprit a flag is that the user suspects and says no more of


@dataclass(frozen=True)
class Settings:
    """Two campaigns with equal settings ask the same question; where runs are made is no part of it.

    metrics: their names. targets: {metric: what a training that works is known to reach}. suspects: {flag: how many
    times likelier a culprit than another}. trusts: flags held to be innocent. noise, smallest_drop: a number for all
    metrics or {metric: number}, in the metric's own unit; None leaves it to the spec. seeds: replicates of the
    baseline; seed: the first; replicate k of any subset has seed + k. early_stop: stop runs whose curve settles their
    verdict. eager: 0 to 1, how many runs may be made ahead of need to save time, as in search.Question. launcher: the
    name of what starts runs; launcher_options: {name: plain value}, its own. workdir: where runs are started. uid: a
    text that no other campaign has, "" of those from before there was one.
    """

    name: str
    spec: Spec
    flags: tuple
    metrics: tuple
    targets: dict = field(default_factory=dict)
    search: str = "halving"  # campaigns from before there was a choice do not say
    suspects: dict = field(default_factory=dict)
    trusts: tuple = ()
    noise: Union[None, float, dict] = None
    smallest_drop: Union[None, float, dict] = None
    seeds: int = 3
    seed: int = 0
    launcher: str = field(default="local", compare=False)
    early_stop: bool = field(default=False, compare=False)
    eager: float = field(default=0.0, compare=False)
    workdir: str = field(default="", compare=False)
    launcher_options: dict = field(default_factory=dict, compare=False)
    uid: str = field(default="", compare=False)

    def to_json(self):
        """Plain values; the spec stands beside them in the log."""
        fields = [f.name for f in dataclasses.fields(self) if f.name != "spec"]
        return {name: getattr(self, name) for name in fields}

    @classmethod
    def from_json(cls, values, spec):
        known = {f.name for f in dataclasses.fields(cls)} - {"spec"}
        given = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items() if name in known}
        return cls(**{"metrics": spec.default_metrics, **given, "spec": spec})

    def differences(self, other):
        """The names of the settings, and of the trainer's options, in which two campaigns differ."""
        fields = [f.name for f in dataclasses.fields(self) if f.compare and f.name != "spec"]
        options, others = self.spec.options, other.spec.options
        return [
            *(name for name in fields if getattr(self, name) != getattr(other, name)),
            *(["trainer"] if self.spec.trainer != other.spec.trainer else []),
            *(
                name
                for name in dict.fromkeys([*options, *others])
                if name != "launcher" and options.get(name) != others.get(name)  # where runs are made changes no result
            ),
        ]

    def metric(self, name) -> Metric:
        """A metric of the campaign as the trainer declares it."""
        return self.spec.metric(name)

    @property
    def needs(self):
        """{flag: the flags that it needs, also through others}, of those that need any."""
        return subsets.close({flag.name: flag.needs for flag in self.spec.flags if flag.name in self.flags})

    def label(self, flags):
        """A short name of a subset for people."""
        return self.spec.label(flags, self.flags)


def check_name(name):
    """Raises UserError if `name` cannot be a campaign's folder."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", name) or name == "data":
        raise UserError(
            f"campaign name '{name}': use letters, digits, '.', '_' and '-' (and not 'data', which holds the trainer's "
            "own data)."
        )


def parse_targets(text, spec, metrics):
    """{metric: value} of "bbox=.377,segm=.339". Raises UserError where one is not a metric of the campaign, or no value
    of its range.
    """
    targets = {}
    for part in text.split(","):
        name, _, value = part.partition("=")
        metric = spec.metric(name.strip())
        targets[metric.name] = _number(value)
        if metric.name not in metrics or not _reachable(targets[metric.name], metric):
            between = f" between {metric.low:g} and {metric.high:g}" if metric.range else ""
            raise UserError(
                f"--target {part.strip()}: write METRIC=VALUE, with one of {', '.join(metrics)} and a number{between}."
            )
    return targets


def parse_amounts(option, texts, spec, metrics):
    """What --noise or --smallest-drop say: None, a number for all metrics, or {metric: number}. Raises UserError where
    one is no such number, or more than half of what there is: such a drop needs no statistics, such noise no search.
    """
    amounts = {}
    for part in (part.strip() for text in texts for part in text.split(",")):
        name, equals, value = part.rpartition("=")
        wanted = [spec.metric(name.strip()).name] if equals else list(metrics)
        for metric in map(spec.metric, wanted):
            amount = _number(value)
            most = (metric.high - metric.low) / 2 if metric.range else math.inf
            if metric.name not in metrics or not 0 < amount < most:
                below = f" and below {most:g}" if metric.range else ""
                raise UserError(
                    f"{option} {part}: write a number above 0{below} in the metric's own unit, or METRIC=NUMBER with "
                    f"one of {', '.join(metrics)}."
                )
            amounts[metric.name] = amount
    if len(set(amounts.values())) == 1 and set(amounts) == set(metrics):
        return next(iter(amounts.values()))
    return amounts or None


def parse_suspects(texts, spec, flags):
    """{flag: weight} of several "FLAG" or "FLAG=WEIGHT". Raises UserError where one is no flag of the campaign, or no
    positive number.
    """
    suspects = {}
    for text in texts:
        name, given, value = text.partition("=")
        flag = _flag_of(name, spec, flags, "--suspect")
        suspects[flag] = _number(value) if given else SUSPECT
        if not 0 < suspects[flag] < math.inf:
            raise UserError(f"--suspect {text}: write FLAG=TIMES, with a positive number of times, or FLAG alone.")
    return suspects


def parse_trusts(texts, spec, flags):
    """Several flags of the campaign. Raises UserError where one is none."""
    return tuple(dict.fromkeys(_flag_of(text, spec, flags, "--trust") for text in texts))


def _flag_of(text, spec, flags, option):
    flag = spec.parse_flag(text)
    if flag not in flags:
        raise UserError(f"{option} {flag}: it is not among --flags, so it is off in every run; leave it out.")
    return flag


def _number(text):
    try:
        return float(text)
    except ValueError:
        return math.nan


def _reachable(value, metric):
    return metric.low < value < metric.high if metric.range else math.isfinite(value)
