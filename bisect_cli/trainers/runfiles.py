"""The contract with a training command: how to call it, and how to read what it writes."""

import contextlib
import json
import math
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple, Optional

from bisect_cli.campaign.fingerprint import FLAGS
from bisect_cli.campaign.state import metric_key
from bisect_cli.errors import UserError
from maskrcnn import config as known

USER_ERROR = 2  # exit code of a refusal: a retry would end the same
CHECK_SECONDS = 600  # the headers of COCO's 123,000 images, on a slow disk
TAIL = 65536  # bytes at the end of metrics.jsonl that surely hold its last line
LOOK = 0.6  # of a run: where an evaluation of it pays most, on recorded trainings (docs/early-stopping.md)


class Progress(NamedTuple):
    """How far a run is. wall: seconds of training so far, over all attempts."""

    step: int
    steps: int
    wall: float

    @property
    def seconds_left(self):
        return (self.steps - self.step) * self.wall / self.step if self.step > 0 else None


class Curve(NamedTuple):
    """The evaluations of a run so far, {step: {metric: value}}, the one at the end included, and the steps of a whole
    run.
    """

    points: dict
    steps: int

    def of(self, key):
        """One metric, {step: value}."""
        return {step: values[key] for step, values in self.points.items() if key in values}


class Result(NamedTuple):
    """What a run ended with. diverged runs have no metrics. key: what it was computed with, as bisect_cli.keys."""

    diverged: bool
    metrics: dict
    wall: Optional[float]
    key: Optional[dict] = None


def argv(settings, flags, seed, out):
    """The command that trains one run, as an argument list."""
    command = [*(settings.trainer or (sys.executable, "-m", "maskrcnn", "train"))]
    command += ["--flags", ",".join(flags), "--seed", str(seed), "--preset", settings.preset, "--out", str(out)]
    if settings.data:
        command += ["--data", settings.data]
    if settings.weights:
        command += ["--weights", settings.weights]
    if settings.np > 1:
        command += ["--np", str(settings.np)]
    if settings.hosts:
        command += ["--hosts", settings.hosts]
    if settings.batch is not None:
        command += ["--batch", str(settings.batch)]
    for plant in settings.plants:
        command += ["--plant", plant]
    for setting in settings.sets:
        command += ["--set", setting]
    every = eval_every(settings)
    return [*command, "--set", f"eval_every={every}"] if every else command


def eval_every(settings):
    """The steps after which a run is evaluated so that it can be stopped early; 0 if it is not to be, the user says how
    often, or the length of a run is not known.
    """
    if not settings.early_stop or any(setting.startswith("eval_every=") for setting in settings.sets):
        return 0
    sets = [*settings.sets, *([f"batch={settings.batch}"] if settings.batch else [])]
    try:
        steps = known.for_ranks(known.override(known.preset(settings.preset), sets), settings.np).steps
    except UserError:  # the trainer says it better, or knows more
        return 0
    return math.ceil(LOOK * steps) if steps > 2 else 0


def check(settings, out):
    """Has the trainer look at its arguments and data, training nothing. Returns the key that a run would have now
    (bisect_cli.keys), None if it tells none. Raises UserError with what it says if it refuses, and if a metric of the
    campaign is not among those that it says it will report.
    """
    command = [*argv(settings, settings.flags, settings.seed, out), "--check"]
    try:
        told = subprocess.run(
            command,
            capture_output=True,
            text=True,
            cwd=workdir(settings),
            timeout=CHECK_SECONDS,
            check=False,
            errors="replace",
        )
    except subprocess.TimeoutExpired:
        raise UserError(f"the trainer's --check did not answer in {CHECK_SECONDS} s: try `{shown(command)}`.") from None
    except OSError as error:
        raise UserError(
            f"the trainer {command[0]} cannot be run ({error.strerror}): install it, or mend its path."
        ) from None
    if told.returncode == USER_ERROR:
        raise UserError(last_line(told.stderr) or f"the trainer refused its arguments: try `{shown(command)}`.")
    if told.returncode:
        raise RuntimeError(
            f"the trainer's --check failed with exit code {told.returncode}: {last_line(told.stderr)} "
            f"(try `{shown(command)}`)"
        )
    said = _last_object(told.stdout.splitlines())
    reported = said.get("metrics")
    if isinstance(reported, list):
        for metric in settings.metrics:
            if metric_key(metric) not in reported:
                raise UserError(
                    f"metric '{metric}' will not be in the results, as no object to be found is of that size: choose "
                    f"among {', '.join(map(str, reported))}."
                )
    return _key(said.get("key"))


def _last_object(lines):
    """The last of these lines that is a JSON object, else an empty one."""
    for line in reversed(lines):
        with contextlib.suppress(ValueError):
            told = json.loads(line)
            if isinstance(told, dict):
                return told
    return {}


def _key(told):
    """A trainer's key as bisect_cli.keys has them, None if it is none."""
    if not isinstance(told, dict):
        return None
    flags = told.get(FLAGS) or {}
    parts = {str(part): str(text) for part, text in told.items() if part != FLAGS}
    return {**parts, FLAGS: {str(flag): str(text) for flag, text in flags.items()} if isinstance(flags, dict) else {}}


def exit_words(code):
    """An exit code in words."""
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"


def workdir(settings):
    """Where runs are started: where the campaign was, if that folder is still there."""
    return settings.workdir if os.path.isdir(settings.workdir) else os.getcwd()


def shown(command):
    """A command as text that can be pasted into a shell."""
    return shlex.join(str(word) for word in command)


def last_line(text):
    """The last line of a trainer's error output, without the name that a command line tool puts before it."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return re.sub("^error: ", "", lines[-1], flags=re.IGNORECASE) if lines else ""


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
            told = json.loads(line)
            return Progress(int(told["step"]), int(told["steps"]), float(told["wall"]))
    return None


def curve(out):
    """The Curve in a run's folder."""
    points, steps = {}, 0
    with contextlib.suppress(OSError):
        for line in (Path(out) / "metrics.jsonl").read_bytes().splitlines():
            if b"/AP" in line:
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    told = json.loads(line)
                    points[int(told["step"])] = {key: float(value) for key, value in told.items() if "/AP" in key}
                    steps = int(told["steps"])
    return Curve(points, steps)


def result(out):
    """The Result in a run's folder, or None if there is no whole one. A metric that is not a number makes a run
    diverged.
    """
    try:
        told = json.loads((Path(out) / "result.json").read_text())
        status, metrics = told["status"], {key: float(value) for key, value in (told.get("metrics") or {}).items()}
        wall = None if told.get("wall") is None else float(told["wall"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    key = _key(told.get("key"))
    if status == "diverged" or not all(map(math.isfinite, metrics.values())):
        return Result(True, {}, wall, key)
    return Result(False, metrics, wall, key) if status == "finished" and metrics else None
