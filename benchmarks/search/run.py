"""Simulated campaigns of our search and of others, and replays of the real history: the figures of docs/.

    python benchmarks/search/run.py --docs docs         # everything: at most half an hour on two cores
    python benchmarks/search/run.py --quick             # a small part, in seconds
    python benchmarks/search/run.py --show 11 pair 0.07 3   # campaign number 3 of a cell, run by run

picire and git-bayesect take part if they are installed (pip install 'maskrcnn-bisect[peers]'); plots need matplotlib
(`[plots]`).
"""

import json
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import click
import history
import peers
from landscape import TRUTHS
from measure import Cell, campaign, measure
from report import AIM, GRID, NAMED, csv_rows, report, rows

from bisect_cli.search import DEFAULT, names

ERRORS = (0.0, 0.02, 0.07, 0.16)
FLAGS = (3, 8, 11, 16, 32, 64)
OFTEN = {3: 160, 8: 160, 11: 160, 16: 100, 32: 60, 64: 40}  # campaigns in the cells with an aim for accuracy, by n ...
SELDOM = {3: 24, 8: 24, 11: 24, 16: 16, 32: 8, 64: 6}  # ... and in others; planning with many flags takes longest
PEERS = 100  # of every peer in every cell
REPLAYS = 1000


def plan(search, others, share, errors):
    """The jobs of `measure`: (cell, method, campaigns)."""
    grid = [Cell(n, truth, error) for error in errors for n in FLAGS for truth in TRUTHS]
    special = [Cell(n, truth, AIM, slots, spread=0.2) for n in (11, 64) for truth in NAMED for slots in (1, 4, 8)]
    special += [Cell(16, truth, AIM, slots) for truth in NAMED for slots in (4, 8)]
    special += [Cell(16, truth, AIM, noise="heavy") for truth in ("none", *NAMED)]
    special += [Cell(16, truth, AIM, crash=0.05) for truth in ("none", *NAMED)]
    jobs = [(cell, search, (OFTEN if cell.error == AIM and cell.truth in NAMED else SELDOM)[cell.n]) for cell in grid]
    jobs += [(cell, search, SELDOM[cell.n]) for cell in special]
    plain = [cell for cell in grid if cell.error == AIM]
    jobs += [(cell, own, SELDOM[cell.n]) for cell in plain for own in names() if own != search]
    jobs += [(cell, other, PEERS) for cell in grid for other in others]
    return [(cell, method, max(2, round(campaigns * share))) for cell, method, campaigns in jobs]


def quick_plan(search, others):
    """A small part of it."""
    few = [Cell(8, truth, AIM) for truth in ("none", "one", "pair")]
    jobs = [(cell, search, 4) for cell in [*few, Cell(8, "one", AIM, 4, spread=0.2, crash=0.05)]]
    return jobs + [(cell, other, 10) for cell in few for other in others]


@click.command()
@click.option("--search", default=DEFAULT, show_default=True, type=click.Choice(names()), help="Our own.")
@click.option("--quick", is_flag=True, help="A small part.")
@click.option("--share", default=1.0, show_default=True, help="Of the campaigns of every cell.")
@click.option("--error", "errors", multiple=True, type=float, help="Of a single run; repeat for more.  [default: all]")
@click.option("--jobs", default=os.cpu_count(), show_default=True, type=click.IntRange(1), help="Processes.")
@click.option(
    "--docs", type=click.Path(path_type=Path, file_okay=False, exists=True), help="Writes pages and plots there."
)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Writes all figures there.")
@click.option("--show", nargs=4, type=(int, click.Choice(list(TRUTHS)), float, int), help="n, truth, error, number.")
@click.option("--slots", default=1, show_default=True, help="For --show.")
def main(search, quick, share, errors, jobs, docs, json_file, show, slots):
    """Measure the search on simulated campaigns."""
    if show:
        return show_campaign(Cell(*show[:3], slots=slots), search, show[3])
    started, others = time.monotonic(), peers.installed()
    absent = {"picire", "git-bayesect"} - set(others)
    if absent:
        click.echo(f"not installed, left out: {', '.join(sorted(absent))}", err=True)
    work = quick_plan(search, others) if quick else plan(search, others, share, errors or ERRORS)
    found = measure(work, jobs, lambda text: click.echo(text, err=True))
    replays = replay_all(search, 4 if quick else round(REPLAYS * share), jobs)
    measured = f"Measured in {(time.monotonic() - started) / 60:.0f} minutes by {jobs} processes."
    pages = {
        "search.md": "\n".join([*report(found, search), "", measured]) + "\n",
        "history.md": "\n".join(history.report(replays)) + "\n",
    }
    click.echo("\n".join(pages.values()))
    if json_file:
        figures = [{**cell._asdict(), "method": method, **one._asdict()} for (cell, method), one in found.items()]
        replayed = {way: [one._asdict() for one in many] for way, many in replays.items()}
        json_file.write_text(json.dumps({"cells": figures, "replays": replayed}, indent=1))
    if docs:
        sys.path.append(str(Path(__file__).parents[1]))
        import plots
        from pages import write_csv, write_measured

        plots.draw(found, search, docs)
        write_csv(docs / "search-grid.csv", GRID, csv_rows(found))
        for name, text in pages.items():
            write_measured(docs / name, text)


def replay_all(search, number, jobs):
    """{how: Replays} of the history."""
    ways = {
        "mended, 1 slot": {},
        "mended, 4 slots": {"slots": 4},
        "small effects left, 1 slot": {"small": True},
    }
    found = {}
    with ProcessPoolExecutor(jobs) as pool:
        for name, way in ways.items():
            many = number if not way else max(1, number // 4)
            found[name] = list(pool.map(partial(history.replay, search=search, **way), range(many), chunksize=4))
    return found


def show_campaign(cell, search, number):
    """Prints one campaign, run by run."""
    landscape = cell.landscape(number)
    outcome = campaign(cell, search, number)
    click.echo(f"truth: {'; '.join('+'.join(effect.flags) for effect in landscape.effects['metric']) or 'none'}")
    for at, subset, why, values in outcome.lines:
        absent = [flag for flag in landscape.flags if flag not in subset]
        name = "all" if not absent else " ".join(subset)
        if subset and 0 < len(absent) < len(subset):
            name = f"all but {' '.join(absent)}"
        truly = "broken" if landscape.mean(subset, "metric") < landscape.base["metric"] else "fine"
        value = f"{values['metric']:.3f}" if values else "crashed"
        click.echo(f"{at:6.2f}  {value}  {truly:6}  {name or 'baseline'}  ({why})")
    for one in outcome.believed["metric"]:
        believed = "; ".join("+".join(culprit) for culprit in one.culprits) or "none"
        click.echo(f"after {one.runs}: {believed} {one.probability:.2f}{'' if one.right else ', which is wrong'}")
    head = ["runs", "before confirmation", "rounds", "named", "exact", "wrong", "inconclusive"]
    body = [outcome.runs, outcome.before, f"{outcome.rounds:.1f}", sorted(outcome.named["metric"])]
    click.echo("\n".join(rows(head, [[*body, outcome.exact, outcome.wrong, outcome.inconclusive]])))


if __name__ == "__main__":
    main()
