"""`maskrcnn-bisect tell`"""

import click

from bisect_cli.cli import options, permission, screen
from bisect_cli.errors import UserError

OWN = ""  # of --from: the run's own folder
WAYS = "METRIC=VALUE of each metric, --from [FOLDER], --crashed [WHY] or --diverged"


@click.command("tell")
@click.argument("name")
@click.argument("trial")
@click.argument("values", nargs=-1, metavar="[METRIC=VALUE]...")
@click.option(
    "--from",
    "source",
    is_flag=False,
    flag_value=OWN,
    metavar="[FOLDER]",
    help="Read the result from this folder; without one, from the run's own.",
)
@click.option("--crashed", is_flag=False, flag_value="", metavar="[WHY]", help="It ended without a result.")
@click.option("--diverged", is_flag=True, help="Its loss became NaN or infinite, which is a result.")
@click.option("--undo", is_flag=True, help="Take back what was said of its end; it is out again.")
@click.option("--node", help="Where it ran.")
@permission.yes
@options.runs_dir
def command(name, trial, values, source, crashed, diverged, undo, node, yes, runs_dir):
    """Say how a run ended that `ask` handed out.

    \b
    maskrcnn-bisect tell mine t05 bbox=.66 segm=.351
    maskrcnn-bisect tell mine t05 --from
    maskrcnn-bisect tell mine t05 --crashed 'out of memory'
    """
    from bisect_cli.report import by_hand
    from bisect_cli.report.lines import Lines
    from bisect_cli.report.summary import summarize
    from bisect_cli.report.words import verdict_lines
    from bisect_cli.run import ask_tell, manual
    from bisect_cli.storage import store

    ways = {"values": values, "--from": source is not None, "--crashed": crashed is not None}
    _check_one_way(trial, {**ways, "--diverged": diverged, "--undo": undo})
    folder = store.find(runs_dir, name)
    permission.ask(folder, yes)
    with manual.hold(folder, Lines(screen.say), screen.note) as recorder:
        if values:
            ask_tell.finish(recorder, trial, _parse(trial, values), node)
        elif source is not None:
            manual.finish_from(recorder, trial, source or None, node)
        elif crashed is not None:
            ask_tell.crash(recorder, trial, crashed, node)
        elif diverged:
            ask_tell.diverge(recorder, trial, node)
        else:
            ask_tell.undo(recorder, trial)
        manual.release(recorder, trial)
        state, analysis = recorder.state, recorder.analysis
    if state.state != "open":
        following = verdict_lines(summarize(folder, state, analysis))
    else:
        following = by_hand.next_lines(state, ask_tell.next_to_ask(state, by_hand.SHOWN))
    for line in following:
        screen.say(line)


def _check_one_way(trial, ways):
    said = [way for way, given in ways.items() if given]
    if not said:
        raise UserError(f"{trial}: say how it ended: {WAYS}; --undo takes that back.")
    if len(said) > 1:
        raise UserError(f"{trial}: {' and '.join(said)} do not go together: say one of them.")


def _parse(trial, texts):
    """{metric: text} of several "METRIC=VALUE"."""
    found = {}
    for text in texts:
        metric, equals, value = text.partition("=")
        if not equals or not metric or metric in found:
            raise UserError(f"{trial}: {text}: write METRIC=VALUE, each metric once.")
        found[metric] = value
    return found
