"""Runs kinds of faults, each at as many of its points as its share of the time allows."""

import importlib
import multiprocessing
import pkgutil
import time
import traceback
from typing import NamedTuple

import bisect_cli.cli
from faults import agents, controllers, damage, late, power
from faults.site import Outcome, Site

GROUPS = {module.__name__.rpartition(".")[2]: module.KINDS for module in (controllers, agents, damage, power, late)}
GOLDEN = 0.6180339887498949  # any first so many of its multiples, modulo 1, are spread evenly
COLUMNS = ("kind of fault", "points", "tried", "lost", "doubled", "different", "tracebacks", "stuck")


class Result(NamedTuple):
    """Of one kind: the points that there are, those tried, {field of an Outcome: points with it}, and in `found` each
    point that came out wrong, with words.
    """

    kind: str
    points: int
    tried: int
    counts: dict
    found: list


def spread(points, seed):
    """The points in an order of which any beginning is spread evenly over them."""
    order = sorted(range(len(points)), key=lambda number: (number * GOLDEN + seed * GOLDEN**2) % 1)
    return [points[number] for number in order]


def find(text):
    """The Kinds of the group of this name, or with this in their own name."""
    return [kind for group, kinds in GROUPS.items() for kind in kinds if text == group or text in kind.name]


def import_all():
    """All that commands import, so that a fork of this process has it."""
    for module in pkgutil.walk_packages(bisect_cli.__path__, "bisect_cli."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def run(folder, kinds, seconds, jobs, seed=0, most=None):
    """The Result of each kind. folder: an empty one. most: points of a kind."""
    import_all()
    return [
        run_kind(folder / f"k{number}", kind, seconds * kind.share / sum(one.share for one in kinds), jobs, seed, most)
        for number, kind in enumerate(kinds)
    ]


def run_kind(folder, kind, seconds, jobs, seed=0, most=None):
    deadline = time.monotonic() + seconds
    points = list(kind.points(Site(folder / "points")))
    chosen = spread(points, seed)[:most]
    queue = multiprocessing.SimpleQueue()
    workers = [
        multiprocessing.Process(target=work, args=(folder / f"w{job}", kind, chosen[job::jobs], deadline, queue))
        for job in range(jobs)
    ]
    for worker in workers:
        worker.start()
    outcomes, working = [], jobs
    while working:
        found = queue.get()
        working -= found is None
        outcomes += [] if found is None else [found]
    for worker in workers:
        worker.join()
    return result(kind.name, len(points), outcomes)


def work(folder, kind, points, deadline, queue):
    """Tries the points one after the other, until the deadline."""
    try:
        site = Site(folder)
        for point in points:
            if time.monotonic() > deadline:
                break
            outcome = kind.strike(site, point)
            if outcome is not None:
                queue.put((point, outcome))
    except Exception:  # a fault of the injector's own
        queue.put((None, Outcome(stuck=(traceback.format_exc(),))))
    finally:
        queue.put(None)


def result(name, points, outcomes):
    counts = {field: sum(bool(getattr(outcome, field)) for _, outcome in outcomes) for field in Outcome._fields}
    found = [
        (point, {field: words for field, words in outcome._asdict().items() if words})
        for point, outcome in outcomes
        if any(outcome)
    ]
    return Result(name, points, len(outcomes), counts, found)


def table(results):
    """Of several Results, as Markdown."""
    rows = [COLUMNS, ["---", *["--:"] * (len(COLUMNS) - 1)]]
    rows += [(one.kind, one.points, one.tried, *(one.counts[field] for field in Outcome._fields)) for one in results]
    sums = [sum(row[column] for row in rows[2:]) for column in range(1, len(COLUMNS))]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in [*rows, ("all", *sums)])
