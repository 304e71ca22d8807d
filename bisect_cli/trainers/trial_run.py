"""Trying a trainer file: what each flag does, what its metric rules find, and one run."""

import tempfile
from pathlib import Path

from bisect_cli.campaign.settings import Settings
from bisect_cli.errors import UserError
from bisect_cli.launchers import Job
from bisect_cli.launchers.local import Local
from bisect_cli.trainers import as_shell, check, edits, readers, switches, trainer_of, tree
from bisect_cli.trainers.runfiles import Result

POLL = 0.1
SHORT = 100  # of a whole run: a short one is so much shorter, where the file says how to make one


def settings_of(spec, flags=None):
    """Settings for a run of this trainer by itself."""
    return Settings("check", spec, spec.flag_names if flags is None else flags, spec.default_metrics)


def describe(spec):
    """Lines: the command, and what each flag changes of it. Raises UserError if the trainer's own check refuses."""
    settings = settings_of(spec)
    trainer, options = trainer_of(settings), spec.options
    home = Path("RUN")
    flags = "1 flag" if len(spec.flags) == 1 else f"{len(spec.flags)} flags"
    yield f"trainer {options['title']}: {flags}; metrics {', '.join(spec.default_metrics)}"
    yield f"in {options['workdir']}"
    off = trainer.command(settings, (), 0, home)
    yield f"all off: {_shown(off)}"
    for flag in spec.flag_names:
        on = trainer.command(settings, (flag,), 0, home)
        yield f"{flag} on: {_shown(on) if _shown(on) != _shown(off) else 'the same command'}"
        for edit in switches.edits_of(options, flag):
            for side in (True, False):
                text = edits.diff(edit, side, options["workdir"])
                yield f"{flag} {'on' if side else 'off'}, in a copy of the source:"
                yield "\n".join(f"  {line}" for line in text.splitlines()) if text else "  as it is"
    if switches.in_source(options):
        copy = tree.outline(options["workdir"], switches.all_edits(options))
        linked = f"; linked: {', '.join(map(str, copy.originals[:5]))}" if copy.originals else ""
        yield f"a copy of the source for each run: {copy.files} files, {copy.size / 2**20:.1f} MiB{linked}"
    found = check.check(settings, Path(options["workdir"]) / "runs" / "new")
    yield f"its own check: {'passed' if options['check'] else 'it has none'}"
    known = ", ".join(f"{part} {text}" for part, text in (found or {}).items() if part != "flags")
    yield f"what a run is computed with: {known or 'not known'}"
    yield from (f"note: {sentence}" for sentence in trainer.notes(settings))


def read_folder(spec, folder):
    """{metric: what its rule finds in the folder of a run, in words}, and the metrics of which it finds nothing."""
    found, missing = {}, []
    values = {"trial": folder.name, "tree": spec.options["workdir"]}
    places = readers.Places(folder, (folder,), values, Path(spec.options["workdir"]))
    for name, source in spec.options["sources"].items():
        series = readers.make_reader(source).read(places, ended=True)
        found[name] = _found(spec.metric(name), source, series)
        if readers.final(series, source.get("final", "last"), spec.metric(name).higher_is_better) is None:
            missing.append(name)
    return found, missing


def train_once(spec, seconds):
    """Lines: what came of one run with all flags off. Raises UserError if it failed."""
    settings = settings_of(spec)
    trainer, short = trainer_of(settings), spec.options["length"]
    with tempfile.TemporaryDirectory(prefix="maskrcnn-bisect-") as folder:
        home = Path(folder) / "t01"
        (home / "out").mkdir(parents=True)
        trainer.prepare(settings, (), 0, home, 1)
        command = trainer.command(settings, (), 0, home)
        if short["args"]:
            steps = max(1, short["steps"] // SHORT)
            command = command._replace(argv=[*command.argv, *(word.format(steps=steps) for word in short["args"])])
        yield f"running: {_shown(command)}"
        job = Job(command.argv, command.cwd, home / "attempt-1", command.env, command.stop_signal)
        code = _run(job, seconds)
        if code:
            words = check.last_line(check.tail(home / "attempt-1"))
            raise UserError(f"the run ended with {check.exit_words(code)}: {words or 'it said nothing'}")
        result = trainer.result(settings, home, 1)
        if not isinstance(result, Result):
            raise UserError(f"the run ended well, but gave no result: {result}.")
        trainer.release(settings, home)
        found = "diverged" if result.diverged else ", ".join(f"{k} {v:g}" for k, v in result.metrics.items())
        yield f"found after {result.wall:.1f} s: {found}"


def _run(job, seconds):
    """The exit code of a job. Raises UserError if it takes too long."""
    import time

    handle = Local(1).prepare(job)
    deadline = time.monotonic() + seconds
    try:
        handle.go()
        while handle.poll() is None:
            if time.monotonic() > deadline:
                raise UserError(
                    f"the run took more than {seconds} s: give more --seconds, or [length] args to shorten it."
                )
            time.sleep(POLL)
        return handle.poll().code
    finally:
        if handle.poll() is None:
            handle.kill()


def _found(metric, source, series):
    value = readers.final(series, source.get("final", "last"), metric.higher_is_better)
    if value is None:
        return readers.explain_nothing(source, series)
    curve = series.curve()
    steps = f", {len(curve)} values up to step {max(curve):g}" if curve else ""
    return f"{value:g}{steps}"


def _shown(command):
    env = " ".join(f"{name}={text}" for name, text in command.env.items())
    return f"{env} {as_shell(command.argv)}".strip()
