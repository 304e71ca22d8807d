"""What a campaign would execute, in lines for whoever has not written it himself."""

import json

from bisect_cli import launchers
from bisect_cli.errors import UserError
from bisect_cli.storage import store, untrusted
from bisect_cli.trainers import as_shell, trainer_of


def executed_lines(folder, state):
    """Lines: the commands of a campaign, where they run, what starts them, and all that is said of them."""
    settings = state.settings
    yield f"what campaign '{folder.name}' in {folder.resolve()} executes:"
    for what, argv, cwd, env in _commands(folder, settings):
        added = "".join(f"{name}={text} " for name, text in env.items())
        yield f"  {what}, in {_visible(cwd)}: {_visible(added + as_shell(argv))}"
    options = " ".join(f"{name}={value}" for name, value in settings.launcher_options.items())
    yield f"  started by: {_visible(f'{settings.launcher} {options}'.strip())}"
    if launchers.find(settings.launcher).queues:
        yield from _prepared(folder, state)
    for name, value in settings.spec.options.items():
        if value not in (None, "", [], {}, ()):
            yield f"  option {_visible(name)}: {json.dumps(value)}"


def strange_trials(state):
    """The ids of trials whose flags or seed, which would stand in their command, cannot be of this campaign."""
    flags = set(state.settings.spec.flag_names)
    return [trial.id for trial in state.trials.values() if type(trial.seed) is not int or set(trial.flags) - flags]


def _commands(folder, settings):
    """(what for, argv, cwd, what is added to the environment) of each command."""
    trainer, home = trainer_of(settings), store.trial_folder(folder, "t01").resolve()
    try:
        check = trainer.check_command(settings, folder.resolve() / "check" / "out")
        run = trainer.command(settings, settings.flags, settings.seed, home)
        parity = trainer.parity_argv(settings, folder / "parity" / "result.json")
    except UserError as error:
        raise UserError(f"campaign '{folder.name}' has no command that could be run: {error}") from None
    if check:
        yield "a check of its arguments", check.argv, check.cwd, check.env
    yield "a run, with all flags on", run.argv, run.cwd, run.env
    for software in run.software.values():
        yield "to find versions", software["argv"], software["cwd"], {}
    if parity:
        yield "the comparison before the first run", parity, run.cwd, {}


def _prepared(folder, state):
    """Of runs that wait for their scheduler: what stands in their folders."""
    for trial in state.running:
        try:
            path = store.trial_folder(folder, trial.id) / f"attempt-{trial.attempts}" / "job.json"
            job = untrusted.read_object(path) or {}
        except OSError:
            continue
        yield f"  under way as {trial.id}: {json.dumps({key: job.get(key) for key in ('argv', 'cwd', 'env')})}"


def _visible(text):
    """A text with what would not show in it as escape sequences of Python."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in str(text))
