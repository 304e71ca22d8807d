"""What a run writes into its folder, `out/`: `metrics.jsonl` while it trains, `result.json` at its end.

Each line of metrics.jsonl is an object with `step`, `steps` and `wall`, and with metrics where the run was evaluated.
result.json has `status` (finished or diverged), `metrics` ({key: number}), `wall`, and the run's fingerprint as
`fingerprint` or `key`.
"""

import contextlib
import json
import math
import os
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, Optional

from bisect_cli.campaign import fingerprint

TAIL = 65536  # bytes at the end of metrics.jsonl that surely hold its last line


class Progress(NamedTuple):
    """How far a run is. wall: seconds of training so far, over all attempts."""

    step: int
    steps: int
    wall: float

    @property
    def seconds_left(self):
        return (self.steps - self.step) * self.wall / self.step if self.step > 0 else None


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
    try:
        with open(Path(out) / "metrics.jsonl", "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
            lines = file.read().splitlines()
    except OSError:
        return None
    for line in reversed(lines):
        with contextlib.suppress(ValueError, KeyError, TypeError):
            record = json.loads(line)
            return Progress(int(record["step"]), int(record["steps"]), float(record["wall"]))
    return None


def curve(out, keys):
    """The Curve of the metrics of these keys in a run's folder."""
    path = Path(out) / "metrics.jsonl"
    try:
        seen = path.stat()
    except OSError:
        return Curve({}, 0)
    return _curve(path, tuple(keys), (seen.st_size, seen.st_mtime_ns))


@lru_cache(maxsize=256)  # looked at several times a second, and seldom written to
def _curve(path, keys, _):
    points, steps = {}, 0
    marks = [json.dumps(key).encode() for key in keys]
    with contextlib.suppress(OSError):
        for line in path.read_bytes().splitlines():
            if any(mark in line for mark in marks):
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    record = json.loads(line)
                    points[int(record["step"])] = {key: float(record[key]) for key in keys if key in record}
                    steps = int(record["steps"])
    return Curve(points, steps)


def result(out):
    """The Result in a run's folder, or None if there is no whole one. A metric that is not a number makes a run
    diverged.
    """
    try:
        record = json.loads((Path(out) / "result.json").read_text())
        status, metrics = record["status"], {key: float(v) for key, v in (record.get("metrics") or {}).items()}
        wall = None if record.get("wall") is None else float(record["wall"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    made_with = fingerprint.parse(record.get("fingerprint", record.get("key")))
    if status == "diverged" or not all(map(math.isfinite, metrics.values())):
        return Result(True, {}, wall, made_with)
    return Result(False, metrics, wall, made_with) if status == "finished" and metrics else None
