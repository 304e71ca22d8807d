"""A campaign's summary as rich tables."""

import functools
import textwrap

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from bisect_cli.campaign.state import STOPPED_EARLY
from bisect_cli.report.numbers import clock, number, percent
from bisect_cli.report.printable import printable
from bisect_cli.report.words import (
    headline_words,
    metrics_of,
    odds_words,
    parity_lines,
    place_words,
    run_words,
    state_words,
    target_words,
    verdict_lines,
    verdict_words,
)

STYLES = {
    "fine": "green",
    "broken": "bold red",
    "undecided": "yellow",
    "crashed": "magenta",
    "baseline": "dim",
    "running": "cyan",
    "queued": "dim cyan",
    "finished": "green",
    "clean": "green",
    "inconclusive": "yellow",
    "interrupted": "yellow",
    "failed": "bold red",
}
LABEL_WIDTH = 30  # leaves room for two metrics on 120 columns
MARKS = {"fine": "✓ fine", "broken": "✗ broken", "undecided": "? undecided", "crashed": "! crashed", "baseline": ""}


def _of_any_text(make):
    """A decorator of what makes a table of values, in which others may have written texts."""
    return functools.wraps(make)(lambda *values: make(*map(printable, values)))


@_of_any_text
def render(summary):
    """Everything about a campaign: its title, the tree of subsets, the culprits, and the result in words."""
    parts = [_title(summary), *(Text(line) for line in parity_lines(summary["parity"])), _subsets(summary)]
    if any(summary["culprits"].values()) or any(summary["suspects"].values()):
        parts.append(_culprits(summary))
    parts += [Text(line) for line in verdict_lines(summary)]
    parts += [Text(f"note: {note}", style="yellow") for note in summary["notes"]]
    return Group(*parts)


def _title(summary):
    own = [trial for trial in summary["trials"] if not trial["source"]]
    ended = sum(trial["state"] in ("finished", "diverged", "crashed", STOPPED_EARLY) for trial in own)
    limit = f" of at most {summary['max_runs']}" if summary["max_runs"] else ""
    about = "".join(f"  {words}" for words in summary["spec"]["description"])
    return Text.assemble(
        (summary["name"], "bold"),
        "  ",
        (state_words(summary), STYLES.get(summary["state"], "")),
        f"  {ended} runs ended{limit}",
        about,
        f"  {target_words(summary)}".rstrip(),
        f"\nflags {', '.join(summary['flags'])}",
    )


def _subsets(summary):
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("flags on", min_width=min(LABEL_WIDTH, 20), no_wrap=True, overflow="ellipsis")
    table.add_column("runs", no_wrap=True)
    table.add_column("seed", no_wrap=True)
    table.add_column("slot, step, time left", no_wrap=True)
    short = len(summary["metrics"]) > 2  # for all to fit on 120 columns
    metrics = metrics_of(summary)
    for metric in metrics.values():
        table.add_column(metric.title or metric.name, justify="right", no_wrap=True)
        table.add_column("" if short else "verdict", no_wrap=True)
    trials = {trial["id"]: trial for trial in summary["trials"]}
    for row in summary["subsets"]:
        own = [trials[name] for name in row["trials"]]
        cells = [_branch(row["label"], row["depth"])]
        cells.append(_lines(trial["id"] for trial in own))
        cells.append(_lines(str(trial["seed"]) for trial in own))
        cells.append(Text("\n").join(_progress(summary, trial) for trial in own))
        for name, metric in metrics.items():
            cells.append(_lines(_value(summary, trial, metric) for trial in own))
            settled = summary["conclusion"][name] == "clean"
            cells.append(_verdict(row["evidence"].get(name), short, settled))
        table.add_row(*cells)
    return table


def _culprits(summary):
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for column in ("metric", "culprit", "confidence", "runs that say so"):
        table.add_column(column)
    for metric in summary["metrics"]:
        for culprit in summary["culprits"][metric]:
            flags = Text(" + ".join(culprit["flags"]), style="bold red")
            table.add_row(metric, flags, percent(culprit["confidence"]), " ".join(culprit["trials"]))
        if not summary["culprits"][metric] and summary["conclusion"][metric] == "clean":
            sure = summary["clean"][metric]
            none = Text("none: nothing breaks", style="green")
            table.add_row(metric, none, "" if sure is None else percent(sure), "all together")
        if summary["odds"][metric] and summary["suspects"][metric]:
            table.add_row(metric, Text(odds_words(summary["odds"][metric]), style="yellow"), "so far", "")
            continue
        for suspect in summary["suspects"][metric]:
            held = f" (with {', '.join(suspect['with'])} on)" if suspect["with"] else ""
            table.add_row(metric, Text(f"among {', '.join(suspect['flags'])}{held}", style="yellow"), "searching", "")
    return table


@_of_any_text
def flag_table(levels, rows):
    """The table of `maskrcnn-bisect flags`: (flag, the groups of each level that hold it, what it does) a row."""
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for column in ("flag", *(f"layer {level}" for level in levels), "what it does"):
        table.add_column(column, no_wrap=column == "flag")
    for row in rows:
        table.add_row(*row)
    return table


@_of_any_text
def node_table(rows):
    """The table of `maskrcnn-bisect nodes`, of nodes.node_rows."""
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for column in ("node", "ended", "crashed", "steps a second", ""):
        table.add_column(column)
    for node, runs, crashes, speed, words in rows:
        table.add_row(node, str(runs), str(crashes), f"{speed:.3g}" if speed else "", Text(words, style="yellow"))
    return table


@_of_any_text
def campaign_table(headlines):
    """The table of `maskrcnn-bisect list`, of campaigns as kept.headline."""
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for column in ("name", "state", "runs", "flags", "result"):
        table.add_column(column, no_wrap=column == "name")
    for one in headlines:
        state = Text(headline_words(one), style=STYLES.get(one["state"], ""))
        table.add_row(one["name"], state, str(one["runs"]), ", ".join(one["flags"]), verdict_words(one))
    return table


def _branch(label, depth):
    """A subset's label at its place in the tree; lines after the first hang below it."""
    stem = "  " * (depth - 1) + "└ " if depth else ""
    lines = textwrap.wrap(label, max(LABEL_WIDTH - len(stem), 20), break_long_words=False)
    return Text(stem + f"\n{' ' * len(stem)}".join(lines))


def _lines(texts):
    return Text("\n".join(texts))


def _progress(summary, trial):
    state = trial["state"]
    if trial["stale"]:
        return Text(f"stale ({', '.join(part.split()[-1] for part in trial['stale'])})", style="dim")
    if state == "queued":
        return Text(place_words(trial), style="dim cyan")
    if state == "running":
        steps = f" {trial['step']}/{trial['steps']}" if trial["steps"] else " starting" if trial["slot"] else ""
        left = f" {clock(trial['seconds_left'])} left" if trial["seconds_left"] is not None else ""
        return Text(f"{place_words(trial)}{steps}{left}", style="cyan")
    at = (
        f" at {trial['step']}/{trial['steps']}"
        if trial["steps"] and state in ("waiting", "interrupted", STOPPED_EARLY)
        else ""
    )
    tries = f" ({trial['attempts']} tries)" if trial["attempts"] > 1 else ""
    if trial["source"]:
        return Text(f"from {trial['source']}", style="dim")
    took = f" in {clock(trial['wall'])}" if state == "finished" and trial["wall"] else ""
    return Text(
        f"{run_words(summary, trial)}{at}{took}{tries}", style="dim" if state == "finished" else STYLES.get(state, "")
    )


def _value(summary, trial, metric):
    """A run's metric with its difference to the baseline's mean; of one stopped early, beside the baseline's there."""
    if trial["state"] == "diverged":
        return "NaN"
    if trial["stopped_early"]:
        there = trial["stopped_early"][metric.name]
        return (
            "" if there["value"] is None else f"{number(there['value'], metric)} of {number(there['baseline'], metric)}"
        )
    value, mean = trial["metrics"].get(metric.key), summary["baseline"][metric.name]["mean"]
    if value is None:
        return ""
    if mean is None or trial["stale"]:
        return number(value, metric)
    return f"{number(value, metric)} {number(value - mean, metric, signed=True)}"


def _verdict(evidence, short, settled):
    """settled: nothing breaks the metric, so what is undecided by itself needs no attention."""
    if not evidence:
        return Text("")
    mark, style = MARKS[evidence["call"]], STYLES[evidence["call"]]
    return Text(mark[:1] if short else mark, style="dim" if settled and evidence["call"] == "undecided" else style)
