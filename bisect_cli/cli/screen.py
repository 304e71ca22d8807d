"""What commands print on: tables on a terminal, else plain lines."""

import contextlib
import sys

import click

from bisect_cli.report import strict_json
from bisect_cli.report.printable import printable

EXIT = {"finished": 0, "failed": 1, "inconclusive": 3, "interrupted": 130}  # codes of the ends of a campaign


def is_terminal():
    return sys.stdout.isatty()


def console():
    """A rich console that takes texts as they stand."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)


def say(text, err=False, newline=True):
    """Prints a text, in which others may have written. All that a command prints as lines goes through here."""
    click.echo(printable(text), nl=newline, err=err)


def say_json(value):
    """Prints plain values as JSON."""
    click.echo(strict_json.dumps(value, indent=2))


def note(sentence):
    """A remark beside the output."""
    say(f"note: {sentence}", err=True)


def note_damage(folder):
    """What is wrong with a campaign's log."""
    from bisect_cli.storage import store

    for sentence in store.load(folder)[1]:
        note(sentence)


def show(summary):
    """Prints a summary."""
    if is_terminal():
        from bisect_cli.report.table import render

        console().print(render(summary))
    else:
        from bisect_cli.report.lines import plain

        for line in plain(summary):
            say(line)


def listener(folder):
    """A context manager with the listener of a campaign for this output: a live table, or lines."""
    if is_terminal():
        from bisect_cli.report.live import LiveTable

        return LiveTable(console(), folder)
    from bisect_cli.report.lines import Lines

    return contextlib.nullcontext(Lines(say))


@contextlib.contextmanager
def viewer(as_json=False, watch=False):
    """A function that shows one summary after the other of a campaign."""
    if as_json:
        yield lambda summary: click.echo(strict_json.dumps(summary) if watch else _json_lines(summary))
    elif watch and is_terminal():
        from rich.live import Live

        from bisect_cli.report.table import render

        with Live(console=console(), auto_refresh=False) as live:
            yield lambda summary: live.update(render(summary), refresh=True)
    else:
        yield _WhenChanged()


def _json_lines(summary):
    """A summary as JSON for people, too: a line for each key, and for each row of a list. Every value on a line of its
    own would take seconds for thousands of runs.
    """

    def text(value):
        if not isinstance(value, list) or not value or not isinstance(value[0], dict):
            return strict_json.dumps(value)
        rows = ",\n    ".join(map(strict_json.dumps, value))
        return f"[\n    {rows}\n  ]"

    lines = ",\n  ".join(f"{strict_json.dumps(key)}: {text(value)}" for key, value in summary.items())
    return f"{{\n  {lines}\n}}"


class _WhenChanged:
    """Shows a summary where a trial has changed since the last one."""

    def __init__(self):
        self.trials = None

    def __call__(self, summary):
        if summary["trials"] != self.trials:
            show(summary)
        self.trials = summary["trials"]


def finish(folder, outcome):
    """Shows how a session ended, and returns the exit code of that."""
    from bisect_cli.report.summary import summarize

    show(summarize(folder, outcome.state, outcome.analysis, outcome.notes))
    if outcome.state.state == "open":
        show_next(folder, outcome.state)
        return 0
    return EXIT[outcome.state.state]


def show_next(folder, state):
    """Prints what is next where people start the runs, and how to get at it."""
    from bisect_cli.report import by_hand
    from bisect_cli.run.ask_tell import next_to_ask

    for line in by_hand.next_lines(state, next_to_ask(state, by_hand.SHOWN)):
        say(line)
    for line in by_hand.how_to_lines(folder, state):
        say(line)
