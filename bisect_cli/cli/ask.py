"""`maskrcnn-bisect ask`"""

import click

from bisect_cli.cli import options, permission, screen


@click.command("ask")
@click.argument("name")
@click.option("--count", default=1, show_default=True, help="How many runs, at most.")
@click.option("--node", default="", help="Where they will run, for `status` to show.")
@click.option("--json", "as_json", is_flag=True, help="As JSON (docs/ask-and-tell.md).")
@options.max_runs
@permission.yes
@options.runs_dir
def command(name, count, node, as_json, max_runs, yes, runs_dir):
    """Take the next runs of a campaign that was begun with --launcher manual.

    Prints the command of each, to be run anywhere; all else begins with #, so that a shell can take it as it is. Once
    the campaign is over, it prints the result.

    \b
    Exit codes: 0 runs are handed out or still out, or the campaign has finished;
    1 failed, 2 wrong input, 3 inconclusive.
    """
    from bisect_cli.report import by_hand
    from bisect_cli.report.summary import summarize
    from bisect_cli.report.words import verdict_lines
    from bisect_cli.run import manual
    from bisect_cli.storage import store

    options.positive("--count", count, "there is nothing to hand out")
    options.check_numbers(None, max_runs)
    folder = store.find(runs_dir, name)
    permission.ask(folder, yes)
    with manual.hold(folder, _Notes(), screen.note) as recorder:
        handed_out = manual.ask(recorder, count, node, max_runs)
        state, analysis = recorder.state, recorder.analysis
    over = state.state != "open"
    if as_json:
        screen.say_json(by_hand.hand_out_json(folder, state, handed_out, count))
        return screen.EXIT[state.state] if over else 0
    for line in by_hand.hand_out_lines(folder, state, handed_out):
        screen.say(line)
    for line in verdict_lines(summarize(folder, state, analysis)) if over else ():
        screen.say(f"# {line}")
    if len(handed_out) < count and not over:
        screen.say(f"# {by_hand.why_no_more(state)}")
    return screen.EXIT[state.state] if over else 0


class _Notes:
    """A listener that remarks on what happens beside the handing out."""

    def __call__(self, event, state, analysis):
        from bisect_cli.campaign.events import Ended, Fingerprint
        from bisect_cli.report.lines import describe

        if isinstance(event, (Fingerprint, Ended)):
            line = describe(event, state, analysis)
            if line:
                screen.note(line)
