"""`maskrcnn-bisect start`"""

import functools
import os
from pathlib import Path

import click

from bisect_cli import launchers, search, trainers
from bisect_cli.cli import options, permission, screen
from bisect_cli.errors import UserError

TRAINER = trainers.find(trainers.DEFAULT)
SPEC = TRAINER.spec({})  # for the help alone
EAGER_ON_CLUSTERS = 0.1  # a quarter less time for a quarter more runs (docs/clusters.md)


@click.command("start")
@click.option(
    "--flags",
    "flag_text",
    required=True,
    metavar="A,B,...",
    help="The failing set: flags, groups (`maskrcnn-bisect flags` lists both), or all.",
)
@click.option(
    "--trainer",
    "trainer_file",
    metavar="FILE.toml",
    type=click.Path(path_type=Path),
    help="Bisect the training that this file describes (docs/trainers.md). Default: the built-in Mask R-CNN.",
)
@click.option(
    "--metric",
    "--metrics",
    "metrics",
    multiple=True,
    metavar="A,B,...",
    help=f"What may break: {', '.join(metric.name for metric in SPEC.metrics)}. Repeatable; default "
    f"{','.join(SPEC.default_metrics)}. With a command of one's own NAME:higher or NAME:lower.",
)
@options.of_trainer(TRAINER)
@click.option(
    "--target", metavar="METRIC=VALUE,...", help="What a training that works reaches. Default: the trainer's, if any."
)
@click.option("--seeds", default=3, show_default=True, help="Runs of the baseline.")
@click.option("--seed", default=0, show_default=True, help="The first seed.")
@click.option(
    "--search",
    type=click.Choice(search.names()),
    default=search.DEFAULT,
    show_default=True,
    help="How to choose the next run (docs/deciding.md).",
)
@click.option(
    "--suspect",
    "suspects",
    multiple=True,
    metavar="FLAG[=TIMES]",
    help="A likely culprit, so many times likelier than another flag (default 6). Repeatable.",
)
@click.option("--trust", "trusts", multiple=True, metavar="FLAG", help="An unlikely culprit. Repeatable.")
@click.option(
    "--noise",
    multiple=True,
    metavar="[METRIC=]NUMBER",
    help="What seeds differ by, as far as known, in the metric's unit. Default: the trainer's, or the baseline's.",
)
@click.option(
    "--smallest-drop",
    multiple=True,
    metavar="[METRIC=]NUMBER",
    help="The smallest loss worth naming. Default: the trainer's, or a tenth of the largest seen.",
)
@click.option("--from", "sources", multiple=True, metavar="CAMPAIGN", help="Import the runs of another. Repeatable.")
@click.option(
    "--journal",
    "journals",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE.csv",
    help="Old verdicts, as prior evidence (docs/bisecting.md). Repeatable.",
)
@options.of_launcher
@options.detach
@options.slots
@options.max_runs
@click.option("--name", help="Name of the campaign; one that exists is resumed. Default: the date and a number.")
@click.option(
    "--dry-run", is_flag=True, help="Say what would run first, how many runs at most and about how long; write nothing."
)
@click.option(
    "--parity/--no-parity",
    default=True,
    show_default=True,
    help="Compare the implementations of each flag first, for the order in which to try.",
)
@click.option(
    "--early-stop/--no-early-stop",
    default=True,
    show_default=True,
    help="Stop a run once its curve so far settles its verdict (docs/early-stopping.md).",
)
@click.option(
    "--eager",
    type=float,
    metavar="0..1",
    help="How much compute may be spent, in slots that would be free, to end sooner (docs/clusters.md#scale). Default: "
    f"{EAGER_ON_CLUSTERS:g} with a scheduler, else 0.",
)
@permission.yes
@options.runs_dir
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND...]")
@click.pass_context
def command(context, name, slots, max_runs, dry_run, parity, yes, runs_dir, sources, journals, **given):
    """Train a baseline and the failing set, and narrow the set down to what breaks it.

    \b
    maskrcnn-bisect start --flags A,B                           the built-in training
    maskrcnn-bisect start --flags all --trainer bisect.toml     a training of your own
    maskrcnn-bisect start --flags a,b,c --metric acc:higher -- \\
        python train.py --seed {seed} --out {out} {flags}       the same, without a file
    """
    from bisect_cli.campaign.settings import check_name
    from bisect_cli.campaign.state import State
    from bisect_cli.run import journal, reconcile, session
    from bisect_cli.storage import store
    from bisect_cli.trainers.check import check

    options.check_numbers(slots, max_runs)
    options.positive("--seeds", given["seeds"], "a baseline needs a run")
    if name:
        check_name(name)
    spec = _spec(context, given)
    trainer = trainers.find(spec.trainer)
    before = store.load(runs_dir / name)[0] if name in store.names(runs_dir) else State()
    settings, folder = _settings(name, spec, given, before.settings), runs_dir / (name or "new")
    rows = {str(path): journal.read(path, settings.spec) for path in journals}
    others = {source: _other(runs_dir, source, name) for source in sources}
    existing = _existing(before, settings, folder, yes)
    runner = _runner(settings, slots, given["detach"])
    found = check(settings, folder.resolve())

    def changes(state):
        now = reconcile.changes(state, found, (), others, rows)
        return [*session.launcher_changes(state, settings, folder), *now]

    for sentence in (*trainer.notes(settings), *_without_effect(settings, rows)):
        screen.note(sentence)
    if dry_run:
        return _show_forecast(existing, changes(existing), runs_dir, slots, max_runs, parity)
    permission.note_trouble()
    folder = store.create(runs_dir, name)
    outcome = runner(
        folder,
        screen.listener(folder),
        screen.note,
        slots=slots,
        max_runs=max_runs,
        settings=settings,
        parity=parity,
        changes=changes,
    )
    return screen.finish(folder, outcome)


def _show_forecast(existing, changes, runs_dir, slots, max_runs, parity):
    from bisect_cli.cli.dry_run import show
    from bisect_cli.run.forecast import forecast

    found = forecast(existing, changes, runs_dir, slots, max_runs)
    settings = found.state.settings
    command = trainers.find(settings.spec.trainer).parity_argv(settings, "result.json")
    show(found, parity and not _by_hand(settings) and command is not None)


def _existing(before, settings, folder, yes):
    """The State that a campaign begins or goes on with. Raises UserError if it cannot go on with these Settings, or if
    it is somebody else's and the user does not say that it may.
    """
    from bisect_cli.campaign.state import State
    from bisect_cli.run import session

    if before.settings is None:
        return State(settings)
    session.check_same(before.settings, settings, folder)
    session.launcher_changes(before, settings, folder)
    permission.ask(folder, yes)
    return before


def _by_hand(settings):
    return launchers.find(settings.launcher).by_hand


def _runner(settings, slots, detach):
    """What runs a campaign, or, where people start its runs, begins it and returns at once. Raises UserError if its
    launcher can start none.
    """
    from bisect_cli.run import manual, session

    if _by_hand(settings):
        return manual.begin
    session.launcher_of(settings, slots).check()
    return functools.partial(session.run, detach=detach)


def _spec(context, given):
    """What is bisected: the built-in training with its options, one in a file, or a command."""
    path, words = given["trainer_file"], given["words"]
    if not path and not words:
        return TRAINER.spec(options.trainer_options(TRAINER, given, context.obj))
    if path and words:
        raise UserError(f"--trainer {path}: leave out either the file or the command after it ({words[0]} ...).")
    for option in TRAINER.options:
        if context.get_parameter_source(option.name) == click.core.ParameterSource.COMMANDLINE:
            raise UserError(f"{option.switch}: that is an option of the built-in training; leave it out.")
    from bisect_cli.trainers import trainerfile

    if path:
        return trainerfile.read(path)
    flags = [flag.strip() for flag in given["flag_text"].split(",") if flag.strip()]
    metrics = [text.strip() for several in given["metrics"] for text in several.split(",") if text.strip()]
    spec = trainerfile.plain(words, flags, metrics)
    given["metrics"] = spec.default_metrics
    return spec


def _eager(said, launcher):
    if said is None:
        return EAGER_ON_CLUSTERS if launchers.find(launcher).queues else 0.0
    if not 0 <= said <= 1:
        raise UserError(f"--eager {said:g}: write a number from 0, no run ahead of need, to 1, the most of them.")
    return said


def _settings(name, spec, given, kept):
    """kept: the Settings of the campaign of this name, None if there is none."""
    from bisect_cli.campaign import settings as parse

    metrics, flags = spec.parse_metrics(given["metrics"]), spec.parse_flags(given["flag_text"])
    spec.check_set(flags)
    launcher, launcher_options = options.launcher_said(given, spec.options.get("launcher"), kept)
    declared = {metric: spec.metric(metric).target for metric in metrics}
    known = {metric: target for metric, target in declared.items() if target is not None}
    return parse.Settings(
        name or "",
        spec,
        flags,
        metrics,
        targets=parse.parse_targets(given["target"], spec, metrics) if given["target"] else known,
        search=given["search"],
        suspects=parse.parse_suspects(given["suspects"], spec, flags),
        trusts=parse.parse_trusts(given["trusts"], spec, flags),
        noise=parse.parse_amounts("--noise", given["noise"], spec, metrics),
        smallest_drop=parse.parse_amounts("--smallest-drop", given["smallest_drop"], spec, metrics),
        seeds=given["seeds"],
        seed=given["seed"],
        early_stop=given["early_stop"] and not launchers.find(launcher).by_hand,
        eager=_eager(given["eager"], launcher),
        launcher=launcher,
        launcher_options=launcher_options,
        workdir=os.getcwd(),
    )


def _without_effect(settings, rows):
    """What the user should know of options that do nothing here."""
    if rows and not search.find(settings.search).uses_prior_evidence:
        yield f"--journal does nothing: --search {settings.search} goes by runs alone."


def _other(runs_dir, source, name):
    """The State of the campaign to import runs from."""
    from bisect_cli.storage import store

    if source == name:
        raise UserError(f"--from {source}: that is this campaign itself; name another.")
    state, _ = store.load(store.find(runs_dir, source))
    if state.settings is None:
        raise UserError(f"--from {source}: that campaign has lost its settings; leave it out.")
    return state
