"""What a run writes into its folder, `out/`: `metrics.jsonl` while it trains, `result.json` at its end.

Each line of metrics.jsonl is an object with `step`, `steps` and `wall`, and with metrics where the run was evaluated.
result.json has `status` (finished or diverged), `metrics` ({key: number}), `wall`, the run's fingerprint as
`fingerprint` or `key`, and, if it says whose it is, `flags` and `seed`.
"""

import json
import math
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, Optional

from bisect_cli.campaign import fingerprint
from bisect_cli.errors import UserError
from bisect_cli.storage import untrusted
from bisect_cli.trainers.readers import values
from bisect_cli.trainers.readers.files import Followed
from bisect_cli.trainers.readers.lines import LineParser
from bisect_cli.trainers.readers.series import MOST_POINTS

TAIL = 65536  # bytes at the end of metrics.jsonl that surely hold its last line
MOST_SECONDS = 1e9  # what is longer is no time that a run takes
MOST_METRICS = 1000  # of a result
RESULT = "result.json"
OWNED = (RESULT, "run.json")  # files that may say whose they are; the second one is there from the start


class Progress(NamedTuple):
    """How far a run is. wall: seconds of training so far, over all attempts."""

    step: int
    steps: int
    wall: float

    @property
    def seconds_left(self):
        return max(0, self.steps - self.step) * self.wall / self.step if self.step > 0 else None


class Curve(NamedTuple):
    """The evaluations of a run so far, {step: {key: value}}, the one at the end included, and the steps of a whole
    run.
    """

    points: dict
    steps: int

    def values(self, key):
        """One metric, {step: value}."""
        return {step: values[key] for step, values in self.points.items() if key in values}


class Result(NamedTuple):
    """What a run ended with. diverged runs have no metrics. fingerprint: None if it is not known."""

    diverged: bool
    metrics: dict
    wall: Optional[float]
    fingerprint: Optional[dict] = None


def progress(out):
    """The Progress in a run's folder, from the last whole line of its metrics.jsonl; None before the first."""
    for line in reversed(untrusted.read_end(Path(out) / "metrics.jsonl", TAIL).splitlines()):
        record = untrusted.parse_json(line.decode("utf-8", "replace"))
        if isinstance(record, dict):
            step, steps, wall = _step(record.get("step")), _step(record.get("steps")), seconds(record.get("wall"))
            if step is not None and steps is not None and wall is not None:
                return Progress(step, steps, wall)
    return None


def curve(out, metrics):
    """The Curve of these Metrics in a run's folder, read on from where the last look ended."""
    followed = _followed(Path(out) / "metrics.jsonl", tuple(metrics))
    followed.update()
    return Curve(followed.parser.found, followed.parser.steps)


@lru_cache(maxsize=512)  # of the runs under way, and of the baseline's, which others are compared with
def _followed(path, metrics):
    return Followed(path, lambda: _Evaluations(metrics))


class _Evaluations(LineParser):
    """found: {step: {key: value}} of the lines that have a metric; steps: of a whole run, as the last of them says."""

    def __init__(self, metrics):
        super().__init__()
        self.metrics, self.found, self.steps = metrics, {}, 0
        self._marks = [json.dumps(metric.key) for metric in metrics]

    def points_of(self, text):
        record = untrusted.parse_json(text) if any(mark in text for mark in self._marks) else None
        if isinstance(record, dict):
            step, steps = _step(record.get("step")), _step(record.get("steps"))
            found = {metric.key: untrusted.number(record.get(metric.key)) for metric in self.metrics}
            found = {metric.key: found[metric.key] for metric in self.metrics if metric.takes(found[metric.key])}
            if found and step is not None and steps is not None:
                self.found[step], self.steps = found, steps
                if len(self.found) > MOST_POINTS:
                    self.found = dict(list(self.found.items())[::2])
        return ()


def refuse_to_pass_over(path, error):
    """Raises UserError for a file of a run that cannot be read now, by this OSError, and may be later."""
    if error.errno in untrusted.PASSING:
        raise UserError(
            f"{path} cannot be read ({error.strerror}): resume when it can, or delete it to train that run again."
        ) from error


def result(out, metrics):
    """The Result in a run's folder, or why there is none, as a sentence: "" where there is no result.json. metrics: the
    Metrics that it has to have. One of them that is NaN or infinite makes a run diverged. Raises UserError for a file
    that cannot be read now.
    """
    path = Path(out) / RESULT
    try:
        record = untrusted.read_object(path)
    except FileNotFoundError:
        return f"{RESULT} is no regular file" if path.is_symlink() or path.exists() else ""
    except OSError as error:
        refuse_to_pass_over(path, error)
        return f"{RESULT} cannot be read: {error.strerror}"
    if record is None:
        return f"{RESULT} is no JSON object of at most {untrusted.MOST_JSON >> 20} MiB"
    return _result(record, metrics)


def _result(record, metrics):
    status, found = record.get("status"), record.get("metrics") or {}
    wall, made_with = seconds(record.get("wall")), _fingerprint(record)
    if status == "diverged":
        return Result(True, {}, wall, made_with)
    if status != "finished":
        return f"the status in {RESULT} is neither finished nor diverged"
    if not isinstance(found, dict) or not found or len(found) > MOST_METRICS:
        many = f"{len(found)} metrics" if isinstance(found, dict) and found else "no metrics"
        return f"{RESULT} has {many}"
    numbers = {key: untrusted.number(value) for key, value in found.items()}
    for metric in metrics:
        if metric.key in numbers:
            value = numbers[metric.key]
            if value is None:
                return f"{metric.key} is no number in {RESULT}"
            if not math.isfinite(value):
                return Result(True, {}, wall, made_with)
            if not metric.takes(value):
                return metric.explain_refusal(value)
    return Result(False, {key: v for key, v in numbers.items() if v is not None and math.isfinite(v)}, wall, made_with)


def whose(out):
    """[(name, object)] of the files in a run's folder that may say whose they are, by `flags` and `seed`."""
    found = []
    for name in OWNED:
        try:
            found.append((name, untrusted.read_object(Path(out) / name) or {}))
        except OSError:
            continue
    return found


def set_aside(out, attempt):
    """Renames what no run could make anything of, and what it might wait for, before a further attempt."""
    for name in (*OWNED, "metrics.jsonl"):
        path = Path(out) / name
        if not _is_sound(path, of_lines=name == "metrics.jsonl"):
            path.rename(path.with_name(f"{name}.before-attempt-{attempt}"))


def _is_sound(path, of_lines):
    try:
        if of_lines:
            untrusted.read(path, 1)
            return True
        return untrusted.read_object(path) is not None
    except PermissionError:
        return True  # the run may have more rights than we have
    except OSError as error:
        return error.errno in untrusted.PASSING or not (path.is_symlink() or path.exists())


def seconds(value):
    """A time that a run may have taken, None for anything else."""
    found = untrusted.amount(value)
    return found if found is not None and found <= MOST_SECONDS else None


def _step(value):
    """A number of steps as an int; None for what is none."""
    found = values.step(value)
    return int(found) if found is not None and found >= 0 else None


def _fingerprint(record):
    try:
        return fingerprint.parse(record.get("fingerprint", record.get("key")))
    except RecursionError:  # the text of what nests deeply
        return None
