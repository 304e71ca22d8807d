"""The commands of maskrcnn-bisect: parse, call, print. Heavier parts are imported where they are used, so that --help
stays quick.

Exit codes: 0 finished (culprits named, or nothing breaks), 1 failure, 2 wrong input, 3 inconclusive, 130 interrupted.
Those of `parity` are its trainer's: 0 all agree, 1 a piece differs.
"""

import contextlib
import dataclasses
import os
import sys
import time
from pathlib import Path

import click

from bisect_cli.campaign.state import SEARCHES
from bisect_cli.errors import UserError

EXIT = {"finished": 0, "failed": 1, "inconclusive": 3, "interrupted": 130}
MOST_NOISE = 0.5  # of AP: a drop by half of all there is needs no statistics, and such noise no search
WATCH_SECONDS = 1.0
STOP_SECONDS = 120  # to wait for a controller, which gives its runs a minute to save


class _Main(click.Group):
    """A group that tells wrong input in one line."""

    def main(self, *args, **kwargs):
        try:
            code = super().main(*args, **{**kwargs, "standalone_mode": False})
        except UserError as error:
            code = _fail(error, 2)
        except click.ClickException as error:
            where = (
                f" (see `{error.ctx.command_path} --help`)" if isinstance(error, click.UsageError) and error.ctx else ""
            )
            code = _fail(f"{' '.join(error.format_message().split())}{where}", 2)
        except (click.Abort, KeyboardInterrupt):
            code = 130
        except BrokenPipeError:  # the reader of our output has gone
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 1
        except RuntimeError as error:
            code = _fail(error, 1)
        sys.exit(code if isinstance(code, int) else 0)


def _fail(error, code):
    click.echo(f"maskrcnn-bisect: {error}", err=True)
    return code


@click.group(cls=_Main, context_settings={"help_option_names": ["-h", "--help"]})
def main():
    """Finds which batched piece of a Mask R-CNN training, or which combination of pieces, breaks its accuracy.

    \b
    Exit codes: 0 finished (culprits named, or nothing breaks), 1 failure,
    2 wrong input, 3 inconclusive (budget spent, undecided, crashed), 130 interrupted.
    Of parity: 0 all agree, 1 a piece differs.
    """


runs_dir = click.option(
    "--runs-dir", default="runs", show_default=True, type=click.Path(path_type=Path), help="Folder of all campaigns."
)
slots_option = click.option("--slots", type=int, help="Runs at once. Default: one a core, at most 8; with --np one.")
max_runs_option = click.option(
    "--max-runs", type=int, help="Stop, inconclusive, after this many runs. Retries do not count."
)
preset_option = click.option("--preset", default="shapes", show_default=True, help="The trainer's preset.")
plants_option = click.option(
    "--plant",
    "plants",
    multiple=True,
    metavar="FLAG=FAULT",
    help="Break a piece on purpose, or try one's own. Repeatable.",
)
sets_option = click.option(
    "--set", "sets", multiple=True, metavar="KEY=VALUE", help="A setting of the trainer. Repeatable."
)


@main.command()
def flags():
    """The flags, the blocks they belong to, and what each does."""
    from bisect_cli.campaign.subsets import ALL, BLOCKS
    from maskrcnn.pieces import PIECES

    def block(flag, layer):
        return " ".join(b.name for b in BLOCKS.values() if b.layer == layer and flag in b.flags)

    rows = [(flag, *(block(flag, layer) for layer in (1, 2, 3)), PIECES[flag].summary) for flag in ALL]
    if _terminal():
        from bisect_cli.report.table import flag_table

        _console().print(flag_table(rows))
    else:
        for flag, *blocks, summary in rows:
            click.echo(f"{flag}  [{' '.join(filter(None, blocks))}]  {summary}")
    click.echo("A block's name stands for all its flags; `all` or `top` for every flag.")


@main.command()
@click.option(
    "--flags",
    "flag_text",
    required=True,
    metavar="A,B,...",
    help="The failing set: flags, blocks such as L2B5, or all.",
)
@click.option(
    "--metric",
    "--metrics",
    "metrics",
    multiple=True,
    metavar="A,B,...",
    help="What may break: bbox, segm, segm/AP_small ... Repeatable; default bbox,segm.",
)
@preset_option
@click.option("--data", type=click.Path(path_type=Path), help="A COCO folder. Default: generated shapes.")
@click.option("--weights", type=click.Path(path_type=Path), help="Pretrained weights, an .npz file (docs/coco.md).")
@click.option("--batch", type=int, help="Images a step, on one process.")
@click.option("--np", "ranks", type=int, default=1, show_default=True, help="Processes of a run (Horovod).")
@click.option("--hosts", default="", metavar="A:8,B:8", help="Machines that share a run, with how many processes each.")
@click.option(
    "--target", metavar="METRIC=AP,...", help="AP that a training which works reaches. Default: the preset's."
)
@plants_option
@sets_option
@click.option("--seeds", default=3, show_default=True, help="Runs of the baseline.")
@click.option("--seed", default=0, show_default=True, help="The first seed.")
@click.option(
    "--search",
    type=click.Choice(SEARCHES),
    default="bayes",
    show_default=True,
    help="How to choose the next run (docs/bisecting.md).",
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
    "--noise", type=float, metavar="AP", help="What seeds differ by, as far as known before. Default: the preset's."
)
@click.option(
    "--smallest-drop",
    type=float,
    metavar="AP",
    help="The smallest drop worth naming. Default: the preset's, or a tenth of the largest seen.",
)
@click.option(
    "--from", "sources", multiple=True, metavar="CAMPAIGN", help="Take over the runs of another campaign. Repeatable."
)
@click.option(
    "--journal",
    "journals",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE.csv",
    help="Old verdicts, as weak evidence (docs/bisecting.md). Repeatable.",
)
@slots_option
@max_runs_option
@click.option("--name", help="Name of the campaign; one that exists is gone on with. Default: the date and a number.")
@click.option(
    "--dry-run", is_flag=True, help="Say what would run first, how many runs at most and about how long; write nothing."
)
@click.option(
    "--parity/--no-parity",
    default=True,
    show_default=True,
    help="Compare the two forms of each flag first, for the order in which to try.",
)
@click.option(
    "--early-stop/--no-early-stop",
    default=True,
    show_default=True,
    help="Stop a run once its curve so far settles its verdict (docs/early-stopping.md).",
)
@runs_dir
@click.pass_obj
def start(
    trainer_command, flag_text, metrics, data, name, seeds, batch, slots, max_runs, dry_run, parity, runs_dir, **given
):
    """Train a baseline and the failing set, and narrow the set down to what breaks it."""
    from bisect_cli.campaign import subsets as sets
    from bisect_cli.campaign.state import (
        Settings,
        State,
        check_name,
        parse_metrics,
        parse_suspects,
        parse_targets,
        parse_trusts,
    )
    from bisect_cli.run.reconcile import news
    from bisect_cli.storage import journal, store
    from bisect_cli.trainers import runfiles as trainer
    from maskrcnn.config import TARGETS

    slots = _slots(slots, given["ranks"] > 1 or given["hosts"])
    _positive("--np", given["ranks"], "a run needs a process")
    _positive("--seeds", seeds, "a baseline needs a run")
    _positive("--max-runs", max_runs, "there is nothing to learn without a run")
    _positive("--batch", batch, "a step needs an image")
    if name:
        check_name(name)
    _accuracy("--noise", given["noise"])
    _accuracy("--smallest-drop", given["smallest_drop"])
    metrics = parse_metrics(metrics)
    known = {metric: ap for metric, ap in TARGETS.get(given["preset"], {}).items() if metric in metrics}
    flags = sets.parse(flag_text)
    settings = Settings(
        name=name or "",
        flags=flags,
        metrics=metrics,
        preset=given["preset"],
        data=str(data.resolve()) if data else "",
        weights=str(given["weights"].resolve()) if given["weights"] else "",
        targets=parse_targets(given["target"], metrics) if given["target"] else known,
        np=given["ranks"],
        hosts=given["hosts"],
        plants=tuple(given["plants"]),
        batch=batch,
        sets=tuple(given["sets"]),
        search=given["search"],
        suspects=parse_suspects(given["suspects"], flags),
        trusts=parse_trusts(given["trusts"], flags),
        seeds=seeds,
        seed=given["seed"],
        early_stop=given["early_stop"],
        noise=given["noise"],
        smallest_drop=given["smallest_drop"],
        trainer=tuple(trainer_command or ()),
        workdir=os.getcwd(),
    )
    journals = {str(path): journal.read(path) for path in given["journals"]}
    others = {source: _other(runs_dir, source, name) for source in given["sources"]}
    existing = State(settings)
    if name in store.names(runs_dir):
        existing = store.load(runs_dir / name)[0]
        _same(existing.settings, settings, runs_dir / name)
    key = trainer.check(settings, runs_dir.resolve() / (name or "check") / "out")
    _note_idle_plants(settings)
    _note_unheard(settings, journals)
    if dry_run:
        return _dry_run(existing, slots, max_runs, runs_dir, parity, news(existing, key, (), others, journals))
    folder = store.create(runs_dir, name)
    return _run(folder, slots, max_runs, settings, parity, lambda state: news(state, key, (), others, journals))


@main.command("parity")
@click.option("--flags", "flag_text", default="all", show_default=True, metavar="A,B,...", help="Flags or blocks.")
@preset_option
@plants_option
@sets_option
@click.option("--seed", default=0, show_default=True, help="Of the random inputs.")
@click.option("--case", metavar="NAME", help="Only this case, to see again what was found.")
@click.option("--json", "as_json", is_flag=True, help="As JSON (docs/parity.md).")
@click.pass_obj
def parity_(trainer_command, flag_text, plants, case, as_json, **given):
    """Compare the two forms of each piece. Trains nothing.

    They get the same random inputs; values, gradients and, where chance plays a part, distributions must agree.

    Exit codes: 0 all agree, 1 a piece differs.
    """
    import tempfile

    from bisect_cli.campaign import subsets as sets
    from bisect_cli.campaign.state import Settings
    from bisect_cli.trainers import parity
    from bisect_cli.trainers import runfiles as trainer

    settings = Settings(
        name="",
        flags=sets.parse(flag_text),
        preset=given["preset"],
        plants=plants,
        sets=given["sets"],
        seed=given["seed"],
        trainer=tuple(trainer_command or ()),
    )
    _note_idle_plants(settings)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "parity.json"
        code = parity.show(settings, file, case, table=not as_json)
        if code != trainer.USER_ERROR and not file.exists():
            raise RuntimeError(f"parity gave no result, {trainer.exit_words(code)}: its own words are above.")
        if as_json and file.exists():
            click.echo(file.read_text().rstrip("\n"))
    return code


@main.command()
@click.argument("name")
@click.option("--add-flags", metavar="A,B,...", help="Flags or blocks to bisect as well; the runs so far still count.")
@slots_option
@max_runs_option
@runs_dir
def resume(name, add_flags, slots, max_runs, runs_dir):
    """Go on with a campaign where it was; also with more slots, runs or flags.

    Where code, data or software have changed since, runs of before are stale: they say little, and others are made.
    """
    from bisect_cli.campaign import subsets as sets
    from bisect_cli.run.reconcile import news
    from bisect_cli.storage import store
    from bisect_cli.trainers import runfiles as trainer

    folder = store.find(runs_dir, name)
    settings = store.load(folder)[0].settings
    slots = _slots(slots, settings and (settings.np > 1 or settings.hosts))
    _positive("--max-runs", max_runs, "there is nothing to learn without a run")
    flags, key = (), None
    if settings:
        flags = sets.parse(add_flags) if add_flags is not None else ()
        if flags and set(flags) <= set(settings.flags):
            raise UserError(f"--add-flags {add_flags}: campaign '{name}' has them already.")
        whole = dataclasses.replace(settings, flags=sets.union(settings.flags, flags))
        key = trainer.check(whole, folder.resolve() / "check" / "out")
    return _run(folder, slots, max_runs, news=lambda state: news(state, key, flags))


@main.command()
@click.argument("name", required=False)
@click.option("--watch", is_flag=True, help="Keep showing it until the campaign ends.")
@click.option("--json", "as_json", is_flag=True, help="As JSON (docs/status-json.md).")
@runs_dir
def status(name, watch, as_json, runs_dir):
    """How a campaign stands; by default the most recent one."""
    from bisect_cli.report.summary import of_folder
    from bisect_cli.storage import store

    folder = store.find(runs_dir, name)
    if as_json:
        import json

        while True:
            told = of_folder(folder)
            click.echo(json.dumps(told, indent=None if watch else 2))
            if not watch or told["state"] != "running":
                return
            time.sleep(WATCH_SECONDS)
    if watch and _terminal():
        from rich.live import Live

        from bisect_cli.report.table import render

        with Live(console=_console(), auto_refresh=False) as live:
            while True:
                told = of_folder(folder)
                live.update(render(told), refresh=True)
                if told["state"] != "running":
                    return
                time.sleep(WATCH_SECONDS)
    shown = None
    while True:
        told = of_folder(folder)
        if told["trials"] != shown:
            _show(told)
        shown = told["trials"]
        if not watch or told["state"] != "running":
            return
        time.sleep(WATCH_SECONDS)


@main.command("list")
@runs_dir
def list_(runs_dir):
    """All campaigns, the most recently active first."""
    from bisect_cli.report.summary import of_folder, verdict_words
    from bisect_cli.storage import store

    rows = []
    for name in store.names(runs_dir):
        told = of_folder(runs_dir / name)
        if told:
            rows.append((name, told["state"], str(len(told["trials"])), ", ".join(told["flags"]), verdict_words(told)))
    if not rows:
        click.echo(f"No campaigns in {runs_dir}: begin one with `maskrcnn-bisect start`.")
    elif _terminal():
        from bisect_cli.report.table import campaign_table

        _console().print(campaign_table(rows))
    else:
        for name, state, runs, flag_list, result in rows:
            click.echo(f"{name}  {state}  {runs} runs  {result}  ({flag_list})")


@main.command()
@click.argument("name")
@click.argument("trial", required=False)
@runs_dir
def explain(name, trial, runs_dir):
    """Why a culprit, or the verdict on a run, was named, in words and numbers, and what would change it."""
    from bisect_cli.analysis import analyse
    from bisect_cli.errors import unknown
    from bisect_cli.report.explain import of_campaign, of_trial
    from bisect_cli.storage import store

    folder = store.find(runs_dir, name)
    state, _ = store.load(folder)
    if trial and trial not in state.trials:
        raise unknown(f"trial of campaign '{name}'", trial, state.trials or ["(none has started)"])
    analysis = analyse(state)
    for line in of_trial(state, analysis, state.trials[trial]) if trial else of_campaign(state, analysis):
        click.echo(line)


@main.command()
@click.argument("trial")
@click.option("--name", help="The campaign. Default: the most recent one.")
@click.option("-f", "--follow", is_flag=True, help="Go on until the run ends.")
@runs_dir
def logs(trial, name, follow, runs_dir):
    """What a run wrote: its standard output and error, of the latest attempt."""
    from bisect_cli.errors import unknown
    from bisect_cli.report.summary import live_state
    from bisect_cli.storage import store

    folder = store.find(runs_dir, name)
    read = {"stdout.txt": 0, "stderr.txt": 0}
    while True:
        state = store.load(folder)[0]
        if trial not in state.trials:
            raise unknown(f"trial of campaign '{folder.name}'", trial, state.trials or ["(none has started)"])
        own = state.trials[trial]
        alive = own.state == "running" and live_state(folder, state) == "running"
        for file, offset in read.items():
            path = store.trial_folder(folder, trial) / f"attempt-{own.attempts}" / file
            if path.exists():
                with open(path, "rb") as stream:
                    stream.seek(offset)
                    text = stream.read()
                read[file] += len(text)
                click.echo(text, nl=False, err=file == "stderr.txt")
        if not follow or not alive:
            return
        time.sleep(0.3)


@main.command()
@click.argument("name")
@runs_dir
def stop(name, runs_dir):
    """Ask a running campaign to save its runs and stop, and wait until it has."""
    from bisect_cli.report.summary import resume_command
    from bisect_cli.storage import lease, store

    folder = store.find(runs_dir, name)
    held = lease.holder(folder)
    state = store.load(folder)[0]
    if (not held or held.alive is False) and not state.running:
        click.echo(f"Campaign {name} is not running.")
        return
    if not held or held.alive is False:
        _stop_orphans(folder)
    else:
        with store.writing(folder):
            (folder / store.STOP).touch()
        click.echo(f"Asked process {held.pid} on {held.host} to stop; its runs are saving.")
        deadline = time.monotonic() + STOP_SECONDS
        while lease.holder(folder) == held:
            if time.monotonic() > deadline:
                raise RuntimeError(
                    f"process {held.pid} on {held.host} has not stopped within {STOP_SECONDS} s: look there."
                )
            time.sleep(0.2)
    click.echo(f"Stopped. Go on with: {resume_command(folder)}")


def _note_idle_plants(settings):
    from bisect_cli.trainers.parity import planted_flag

    for plant in settings.plants:
        if planted_flag(plant) not in settings.flags:
            click.echo(f"note: --plant {plant} will do nothing: {planted_flag(plant)} is not among --flags.", err=True)


def _note_unheard(settings, journals):
    if journals and settings.search != "bayes":
        click.echo(f"note: --journal does nothing: --search {settings.search} goes by runs alone.", err=True)


def _other(runs_dir, source, name):
    """The State of the campaign to take runs over from."""
    from bisect_cli.storage import store

    if source == name:
        raise UserError(f"--from {source}: that is this campaign itself; name another.")
    state, _ = store.load(store.find(runs_dir, source))
    if state.settings is None:
        raise UserError(f"--from {source}: that campaign has lost its settings; leave it out.")
    return state


def _run(folder, slots, max_runs, settings=None, parity=True, news=lambda state: []):
    """Runs a campaign until it ends or is interrupted, showing how it goes. Returns the exit code. news: what is to be
    logged first, given the State.
    """
    from bisect_cli.analysis import analyse
    from bisect_cli.launchers.local import Local
    from bisect_cli.report.summary import summarize
    from bisect_cli.run.controller import Controller
    from bisect_cli.storage import store

    with _opened(folder, settings) as (log, state):
        for note in log.notes:
            click.echo(f"note: {note}", err=True)
        first = news(state)
        if first or state.state != "finished":
            store.copy_taken(folder, first)
            with _listener() as listen:
                state = Controller(folder, log, state, Local(slots), max_runs, listen, compare=parity, news=first).run()
    _show(summarize(folder, state, analyse(state), log.notes))
    return EXIT[state.state]


def _stop_orphans(folder):
    """Stops what a dead controller has left running, as a controller that is interrupted at once."""
    from bisect_cli.launchers.local import Local
    from bisect_cli.run.controller import Controller

    with _opened(folder) as (log, state):
        controller = Controller(folder, log, state, Local(state.slots or 1))
        controller.interrupts = 1
        controller.run()


@contextlib.contextmanager
def _opened(folder, settings=None):
    """Holds a campaign: its log, open for writing, and its State. A new one is given its settings, an old one must have
    them.
    """
    from bisect_cli.campaign.state import apply
    from bisect_cli.storage import eventlog, lease, store

    with contextlib.ExitStack() as held:
        with store.writing(folder):
            held.enter_context(lease.Lease(folder))
            log = eventlog.Writer(folder / store.LOG)
            held.callback(log.close)
        state, _ = store.load(folder)
        if state.settings is None:
            if settings is None:
                raise UserError(
                    f"campaign '{folder.name}' has lost its settings: start it again with `maskrcnn-bisect start`."
                )
            settings = dataclasses.replace(settings, name=folder.name)
            event = {"kind": "created", "time": time.time(), "settings": settings.to_json()}
            with store.writing(folder):
                log.append(event)
            state = apply(state, event)
        elif settings is not None:
            _same(state.settings, settings, folder)
        yield log, state


def _same(existing, settings, folder):
    """Raises UserError if a campaign of this name asks another question."""
    from bisect_cli.report.summary import resume_command

    if existing is None:
        return
    different = existing.differences(dataclasses.replace(settings, name=existing.name))
    if different:
        raise UserError(
            f"name '{existing.name}' is already in use, with other {', '.join(different)}: choose another --name, "
            f"or go on with that one by `{resume_command(folder)}`."
        )


def _by_metric(numbers):
    """{metric: number} in words, as short as it gets."""
    from bisect_cli.report.lines import number

    told = {metric: number(one) for metric, one in numbers.items()}
    if len(set(told.values())) == 1:
        return next(iter(told.values()))
    return " and ".join(f"{one} ({metric})" for metric, one in told.items())


def _dry_run(state, slots, max_runs, runs_dir, parity, news):
    from bisect_cli.analysis import analyse
    from bisect_cli.campaign import subsets as sets
    from bisect_cli.campaign.state import apply
    from bisect_cli.evidence import judge
    from bisect_cli.report.lines import describe, number
    from bisect_cli.search import clear_runs, find, most_runs
    from bisect_cli.storage import store
    from bisect_cli.trainers import runfiles as trainer

    settings = state.settings
    for event in news:
        state = apply(state, event)
        told = describe(event, state, None)
        if told:
            click.echo(told)
    analysis = analyse(state)
    noise = {metric: scale.noise for metric, scale in analysis.scales.items()}
    smallest = {metric: judge.smallest_drop([], scale) for metric, scale in analysis.scales.items()}
    said = settings.smallest_drop
    drowned = f" (smaller ones, as {number(said)}, would drown)" if said and max(smallest.values()) > said else ""
    click.echo(
        f"Seeds are taken to differ by {_by_metric(noise)} of AP until the baseline tells, and drops of "
        f"{_by_metric(smallest)} and more are looked for{drowned}."
    )
    if parity:
        click.echo(
            "Before any run, the two forms of each flag would be compared (parity), for the order in which to try."
        )
    every = trainer.eval_every(settings)
    if every:
        click.echo(f"Runs would be evaluated at step {every} too, and stopped there if that settles their verdict.")
    click.echo("First would run:")
    for want in analysis.wanted:
        runs = want.runs - len(state.of(want.flags))
        if runs > 0:
            click.echo(f"  {sets.label(want.flags, settings.flags)}: {runs} {'run' if runs == 1 else 'runs'}")
    search = find(settings.search)
    fewest = clear_runs(search, settings.flags, settings.seeds, ())
    most = most_runs(search, settings.flags, settings.seeds)
    limit = f", and --max-runs stops it at {max_runs}" if max_runs and max_runs < most else ""
    led = " (parity may make it a few more or less)" if parity else ""
    if any(event["kind"] == "taken" for event in news):
        limit += ", those taken over among them"
    click.echo(
        f"{fewest} runs if nothing breaks; at most {most} for up to two culprits if every run is clear{led}{limit}."
    )
    seconds = store.earlier_seconds(runs_dir, settings)
    if seconds:
        each = sorted(seconds)[len(seconds) // 2]
        least, longest = (_duration(-(-runs // slots) * each) for runs in (fewest, min(most, max_runs or most)))
        click.echo(f"About {least} to {longest}, {slots} at once, at {_duration(each)} a run as earlier ones took.")
    else:
        click.echo(f"How long is not known until a first run of preset '{settings.preset}' has finished.")


def _duration(seconds):
    return (
        f"{seconds:.0f} s"
        if seconds < 100
        else f"{seconds / 60:.0f} min"
        if seconds < 6000
        else f"{seconds / 3600:.1f} h"
    )


def _show(told):
    """Prints a summary: tables on a terminal, else plain lines."""
    if _terminal():
        from bisect_cli.report.table import render

        _console().print(render(told))
    else:
        from bisect_cli.report.lines import plain

        for line in plain(told):
            click.echo(line)


def _listener():
    """The controller's listener for this output: a live table, or lines."""
    if _terminal():
        from bisect_cli.report.live import LiveTable

        return LiveTable(_console())
    from bisect_cli.report.lines import Lines

    return contextlib.nullcontext(Lines(click.echo))


def _slots(slots, several):
    """How many runs go at once; `several` tells whether each of them is of several processes."""
    from bisect_cli.launchers.local import default_slots

    _positive("--slots", slots, "at least one run must be able to go at a time")
    # Such a run takes the whole machine, or every GPU of it.
    return slots or (1 if several else default_slots())


def _accuracy(option, value):
    if value is not None and not 0 < value < MOST_NOISE:
        raise UserError(f"{option} {value:g}: give AP as a fraction, above 0 and below {MOST_NOISE}; a point is .01.")


def _positive(option, value, why):
    if value is not None and value < 1:
        raise UserError(f"{option} {value}: {why}; give 1 or more.")


def _terminal():
    return sys.stdout.isatty()


def _console():
    from rich.console import Console

    return Console(highlight=False)
