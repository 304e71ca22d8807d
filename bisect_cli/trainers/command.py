"""Any command as a trainer, as a file (docs/trainers.md) or a command line describes it. Its options, made by
`trainerfile`, are all that it knows.
"""

import hashlib
import json
import math
import os
import re
import shlex
import shutil
import time
from functools import lru_cache
from pathlib import Path

from bisect_cli.errors import UserError
from bisect_cli.launchers import read_exit
from bisect_cli.storage import untrusted
from bisect_cli.trainers import Command, Trainer, readers, source_state, switches, tree
from bisect_cli.trainers.placeholders import fill, fill_words
from bisect_cli.trainers.runfiles import Curve, Progress, Result, refuse_to_pass_over

TREE = "tree"  # in a trial's folder: the copy of the source, where flags edit it


class CommandTrainer(Trainer):
    """Runs the user's command, with flags switched as its options say, and reads what it writes."""

    def spec(self, options):
        raise UserError("this trainer is described in a file: name it with --trainer FILE, or give a command after --.")

    def command(self, settings, flags, seed, home, attempt=1):
        options = settings.spec.options
        values = _values(settings, flags, seed, home, attempt)
        argv = fill_words(options["command"], values, _flag_words(options, flags, values))
        if attempt > 1 and isinstance(options["resume"], list) and _holds_anything(home / "out"):
            argv += fill_words(options["resume"], values, None)
        commands, root = options["made_of"]["commands"], options["root"]
        software = {shlex.join(command): {"argv": command, "cwd": root} for command in commands}
        environment = _environment(options, flags, values)
        return Command(argv, values["tree"], environment, options["stop"]["signal"], software)

    def prepare(self, settings, flags, seed, home, attempt):
        options = settings.spec.options
        if attempt > 1 and options["resume"] == "restart":
            shutil.rmtree(home / "out", ignore_errors=True)
            (home / "out").mkdir()
        if switches.in_source(options):
            states = switches.states(options, flags)
            tree.copy_tree(options["workdir"], home / TREE, states)

    def release(self, settings, home):
        if switches.in_source(settings.spec.options):
            tree.remove_tree(home / TREE)

    def check_command(self, settings, out):
        """In the user's own source, in which no flag is edited."""
        options = settings.spec.options
        if not options["check"]:
            return None
        values = _values(settings, settings.flags, settings.seed, Path(out).parent, 1)
        values = {**values, "tree": options["workdir"]}
        argv = fill_words(options["check"], values, _flag_words(options, settings.flags, values))
        return Command(argv, options["workdir"], _environment(options, settings.flags, values))

    def progress(self, settings, home):
        steps = settings.spec.options["length"]["steps"]
        last = max((series.last_step or 0 for series in _series(settings, home).values()), default=0)
        return Progress(int(last), steps, _seconds(home)) if steps and last else None

    def curve(self, settings, home):
        points = {}
        for name, series in _series(settings, home).items():
            metric = settings.metric(name)
            for step, value in series.curve().items():
                if step >= 0 and metric.takes(value):
                    points.setdefault(step, {})[name] = value
        return Curve(points, settings.spec.options["length"]["steps"] or 0)

    def result(self, settings, home, attempt):
        end, options = read_exit(home / f"attempt-{attempt}"), settings.spec.options
        if not end:
            _check_is_missing(home / f"attempt-{attempt}" / "exit.json")
        if not end or end["code"] != 0:
            return ""
        found = _series(settings, home, ended=not end["asked_to_stop"])
        last = max((series.last_step or 0 for series in found.values()), default=0)
        if end["asked_to_stop"] and not (options["length"]["steps"] and last >= options["length"]["steps"]):
            return "it was asked to stop, and ended before its last step, as far as its metrics say"
        metrics = {}
        for name, series in found.items():
            metric, source = settings.metric(name), options["sources"][name]
            value = readers.final(series, source.get("final", "last"), metric.higher_is_better)
            if value is None and name in settings.metrics:
                return readers.explain_nothing(source, series)
            if value is not None and name in settings.metrics:
                if not math.isfinite(value):
                    return Result(True, {}, _seconds(home))
                if not metric.takes(value):
                    return metric.explain_refusal(value)
            if value is not None and math.isfinite(value):
                metrics[name] = value
        return Result(False, metrics, _seconds(home))

    def whose(self, settings, home):
        """What a command writes has no such meaning."""
        return []

    def fingerprint_now(self, settings):
        """None where nothing is known of the code."""
        options = settings.spec.options
        made_of, root = options["made_of"], options["root"]
        parts = {}
        if made_of["files"] or made_of["commands"]:
            parts.update(source_state.digest_of_files(made_of["files"], root))
            parts.update(source_state.output_of_commands(made_of["commands"], root))
        else:
            state = source_state.source_state(options["workdir"])
            if not state:
                return None
            parts["code"] = state
        known = {name: options[name] for name in ("command", "env", "switches", "sources", "length")}
        digest = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:12]
        return {"configuration": digest, **parts, "flags": {}}

    def reports(self, settings, home):
        home = Path(os.path.abspath(home))
        read = [path for series in _series(settings, home).values() for path in series.looked_at]
        return [path.relative_to(home) for path in map(Path, read) if home in path.parents]

    def grace(self, settings):
        return settings.spec.options["stop"]["grace"]

    def refusals(self, settings):
        return tuple(settings.spec.options["wrong_input"])

    def duration_key(self, spec):
        return [spec.trainer, spec.options["command"], spec.options["length"]]

    def notes(self, settings):
        options = settings.spec.options
        if not any(options["made_of"].values()) and not source_state.repository(options["workdir"]):
            yield (
                "nothing is known of the code that runs are computed with, as it is in no git repository: a change of "
                "it goes unnoticed (a trainer's file can name its files, under [fingerprint])."
            )

    def missing(self, settings):
        options = settings.spec.options
        if not os.path.isdir(options["workdir"]):
            return (
                f"the folder {options['workdir']}, where runs are started, is not there: put it back, or begin a new "
                f"campaign where the training is now, with `--from {settings.name}` for the runs so far."
            )
        program = options["command"][0]
        path = options["env"].get("PATH", os.environ.get("PATH", ""))
        place = os.path.join(options["workdir"], program) if os.sep in program else program
        if "{" not in program and not shutil.which(place, path=path):
            return f"the command {program} is not there: install it, or mend `command` ({options['file'] or '--'})."
        return ""


def _values(settings, flags, seed, home, attempt):
    """What the placeholders of a run stand for."""
    options = settings.spec.options
    return {
        "out": str(home / "out"),
        "seed": seed,
        "flags": ",".join(flags),
        "trial": home.name,
        "attempt": attempt,
        "steps": options["length"]["steps"] or "",
        "tree": _workdir(options, home),
    }


def _workdir(options, home):
    """Where a run is started: in the copy of the source, where flags edit it."""
    workdir = options["workdir"]
    if not switches.in_source(options):
        return workdir
    return _workdir_in_copy(workdir, str(home))


@lru_cache(maxsize=512)  # it asks git, and is asked for at every look at a run
def _workdir_in_copy(workdir, home):
    return str(tree.workdir_in(workdir, Path(home) / TREE))


def _holds_anything(folder):
    """Whether there is something that a further attempt could resume from."""
    return bool(_listed(folder))


def _environment(options, flags, values):
    env = {**options["env"], **switches.environment(options, flags)}
    return {name: fill(text, values) for name, text in env.items()}


def _flag_words(options, flags, values):
    """The arguments of all flags, None if none is switched by arguments."""
    words = switches.arguments(options, flags)
    return None if words is None else [fill(word, values) for word in words]


def _series(settings, home, ended=False):
    """{metric: readers.Series} of a run, read on from where they were. ended: it ended by itself."""
    home = Path(os.path.abspath(home))  # what is relative in a source is so to where the training runs
    options = settings.spec.options
    workdir = _workdir(options, home)
    places = readers.Places(
        home / "out", tuple(_attempts(options, home)), {"trial": home.name, "tree": workdir}, Path(workdir)
    )
    found = {}
    for name, source in options["sources"].items():
        for one in (source, source.get("else")):
            if one and not (name in found and found[name].points):
                key = json.dumps({k: v for k, v in one.items() if k != "else"}, sort_keys=True)
                found[name] = _reader(key, str(home)).read(places, ended)
    return found


def _attempts(options, home):
    """The folders of the attempts that made the run what it is: not those before it began from nothing once more."""
    numbers, fresh = _numbers("attempt-", home), _numbers("out.before-attempt-", home)
    first = numbers[-1] if numbers and options["resume"] == "restart" else max(fresh, default=1)
    return [home / f"attempt-{number}" for number in numbers if number >= first]


def _numbers(name, home):
    """The numbers of the folders of this name and a number, in their order."""
    found = (re.fullmatch(re.escape(name) + "([0-9]{1,9})", folder) for folder in _listed(home))
    return sorted(int(match[1]) for match in found if match)


def _listed(folder):
    try:
        return os.listdir(folder)
    except OSError:
        return []


@lru_cache(maxsize=512)  # readers of the runs under way, and of the baseline's, which others are compared with
def _reader(source, home):
    return readers.make_reader(json.loads(source))


def _check_is_missing(path):
    """Raises UserError for a file that may be there, and cannot be read now."""
    try:
        untrusted.read(path, 1)
    except OSError as error:
        refuse_to_pass_over(path, error)


def _seconds(home):
    """Seconds of training so far, over all attempts."""
    total = 0.0
    for folder in (home / f"attempt-{number}" for number in _numbers("attempt-", home)):
        end = read_exit(folder)
        if end:
            total += end["seconds"]
        elif (folder / "claim.json").exists():  # its agent beats until the end
            total += max(0.0, _changed(folder / "heartbeat") - _changed(folder / "claim.json"))
        elif (folder / "job.json").exists():
            total += max(0.0, time.time() - _changed(folder / "job.json"))
    return total


def _changed(path):
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


TRAINER = CommandTrainer()
