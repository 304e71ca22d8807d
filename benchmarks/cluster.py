"""Simulated campaigns on a simulated cluster: the real controller, log and folders, with runs that take no time.

    python benchmarks/cluster.py --docs docs      # the figures of docs/clusters.md: some 20 minutes on one core
    python benchmarks/cluster.py --flags 11 --nodes 8 --campaigns 2     # some of them

Runs are of the landscapes of benchmarks/search. A node has one run at a time; a job waits in a queue before it, may be
preempted or lose its node, and is resumed from its last checkpoint.
"""

import contextlib
import dataclasses
import heapq
import json
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import click

sys.path.append(str(Path(__file__).with_name("search")))
from measure import Cell
from pages import write_csv
from simulate import SEEDS

from bisect_cli.analysis import analyse
from bisect_cli.campaign.settings import Settings
from bisect_cli.evidence.judge import NoisePrior
from bisect_cli.launchers import EVICTED, LOST, Exit, Handle, Launcher
from bisect_cli.run import recorder as recording
from bisect_cli.run import session
from bisect_cli.run.clock import Clock
from bisect_cli.run.controller import Controller
from bisect_cli.storage import store
from bisect_cli.trainers import trainerfile

SECONDS_OF_A_RUN = 3600.0  # of a run that is not disturbed
EVALUATIONS = 20  # of a run, where the controller is to look at curves
QUEUE_SHARE = 0.02  # of a run that a job waits in the queue, on average
PREEMPTED, NODE_LOST = 0.10, 0.05  # shares of the attempts
CHECKPOINTS = 10  # in a run: what comes after the last one is lost with the attempt
NOTICED = 0.02  # of a run, after which the scheduler sees that a node is gone
FOREVER = 1e9  # seconds after which a run counts as hung
PRIOR = NoisePrior()  # all that simulated campaigns know of noise and drops, here as in benchmarks/search
NODES, FLAGS, TRUTHS, ERRORS, EAGER = (1, 8, 64, 512), (11, 64), ("none", "one", "pair"), (0.07,), (0.0, 0.1, 1.0)


class SimulatedClock(Clock):
    """Goes on to whatever happens next in a cluster; with `steps`, only as far as a real controller would wait."""

    def __init__(self, steps=False):
        self.time, self.steps, self.cluster = 1e9, steps, None

    def now(self):
        return self.time

    def monotonic(self):
        return self.time

    def wait(self, seconds, over=lambda: False):
        self.time = self.time + seconds if self.steps else self.cluster.next_event()


class Trouble(NamedTuple):
    """What disturbs the attempts of a cluster, as shares of them, and the mean wait in its queue, in runs' lengths."""

    preempted: float = PREEMPTED
    lost: float = NODE_LOST
    queue: float = QUEUE_SHARE


TROUBLE = Trouble()


class Cluster(Launcher):
    """A launcher of runs that are in memory alone: what they have found is written as their training would.

    landscape: what a run finds, and how long it takes, in units of `seconds`. busy: seconds of nodes so far.
    """

    queues = True

    def __init__(self, slots, landscape, clock, trouble, seed=0, seconds=SECONDS_OF_A_RUN):
        self.seconds = seconds
        self.slots, self.landscape, self.clock, self.trouble = slots, landscape, clock, trouble
        self.rng = random.Random(f"cluster {seed}")
        self.events = []  # (time, number) of what is going to happen
        self.done = {}  # folder of a trial -> share of its run that is saved
        self.idle = set(range(1, slots + 1))
        self.busy, self.attempts, self.most_running = 0.0, 0, 0
        clock.cluster = self

    def prepare(self, job):
        return SimulatedRun(self, job)

    def reattach(self, ticket, folder):
        return None

    def next_event(self):
        while self.events and self.events[0] <= self.clock.time:
            heapq.heappop(self.events)
        if not self.events:
            raise RuntimeError("nothing will ever happen again, and the controller waits")
        return self.events[0]

    def at(self, moment):
        heapq.heappush(self.events, moment)
        return moment


class SimulatedRun(Handle):
    """One attempt: queued until `began`, then running until `ends`."""

    state = "queued"

    def __init__(self, cluster, job):
        self.cluster, self.job, self.home = cluster, job, job.folder.parent
        _, flags, seed, _ = job.argv
        on = set(flags.split(","))
        self.subset = tuple(flag for flag in cluster.landscape.flags if flag in on)
        self.values, self.length = cluster.landscape.run(self.subset, int(seed))
        job.folder.mkdir(parents=True, exist_ok=True)
        self.ticket = {"job": str(cluster.attempts)}
        self.ended, self.evaluated = None, 0

    def go(self):
        cluster, rng, trouble = self.cluster, self.cluster.rng, self.cluster.trouble
        cluster.attempts += 1
        wait = rng.expovariate(1 / trouble.queue) if trouble.queue else 0.0
        self.before = cluster.done.get(self.home, 0.0)
        left, chance = 1 - self.before, rng.random()
        self.end = Exit(0)
        if chance < trouble.preempted:
            self.end, left = Exit(None, EVICTED, "it was preempted"), left * rng.random()
        elif chance < trouble.preempted + trouble.lost:
            self.end, left = Exit(None, LOST, "its node failed"), left * rng.random()
        self.share = left
        self.began = cluster.at(cluster.clock.time + wait * cluster.seconds)
        seconds = (left * self.length + (NOTICED if self.end.outcome == LOST else 0.0)) * cluster.seconds
        self.ends = cluster.at(self.began + seconds)
        self.number = cluster.idle.pop()

    def poll(self):
        now = self.cluster.clock.time
        if self.ended is None and now >= self.began and self.state == "queued":
            self.state, self.node = "running", f"node{self.number}"
        if self.cluster.clock.steps and self.state == "running":
            self._evaluate(self.before + (now - self.began) / self.cluster.seconds / self.length)
        if self.ended is None and now >= self.ends:
            self._finish(self.end, self.share)
        return self.ended

    def _evaluate(self, share):
        """Writes the evaluations so far, which come nearer and nearer to the value at the end."""
        while self.evaluated < min(share, 1) * EVALUATIONS - 1:
            self.evaluated += 1
            value = self.values["metric"] * (1 - 0.5 ** (8 * self.evaluated / EVALUATIONS))
            with open(self.home / "out" / "metrics.jsonl", "a") as file:
                file.write(json.dumps({"step": self.evaluated, "metric": value}) + "\n")

    def ask_to_stop(self):
        now = self.cluster.clock.time
        if self.ended is None and now < self.ends:
            ran = max(0.0, now - self.began) / self.cluster.seconds / self.length
            self.ends, self.end, self.share = self.cluster.at(now + 1.0), Exit(143), ran

    def kill(self):
        self.ask_to_stop()

    def _finish(self, end, share):
        cluster = self.cluster
        cluster.idle.add(self.number)
        cluster.busy += max(0.0, self.ends - self.began)
        reached = self.before + share
        cluster.done[self.home] = int(reached * CHECKPOINTS) / CHECKPOINTS if end.outcome else reached
        if end.code == 0:
            (self.home / "out" / "result.json").write_text(json.dumps(self.values))
        note = {"code": end.code, "asked_to_stop": end.code == 143, "seconds": self.ends - self.began}
        (self.job.folder / "exit.json").write_text(json.dumps(note))
        self.ended = end._replace(seconds=note["seconds"])


def settings_of(landscape, **more):
    """The Settings of a campaign of these runs."""
    command = ["train", "{flags}", "{seed}", "{out}"]
    spec = trainerfile.plain(command, list(landscape.flags), ["metric:higher"])
    metric = spec.metric("metric")._replace(low=0.0, high=1.0, noise=PRIOR.noise, smallest_drop=PRIOR.smallest_drop)
    spec = dataclasses.replace(spec, metrics=(metric,))
    spec.options["length"]["steps"] = EVALUATIONS
    return Settings("simulated", spec, landscape.flags, ("metric",), search="bayes", **{"seeds": SEEDS, **more})


class Figures(NamedTuple):
    """Of one campaign. rounds: how long it lasted, and work: what nodes were used for, both in lengths of a run.
    steps: seconds of each planning step. cpu: seconds of the controller in all. exact, wrong: as in simulate.Outcome.
    """

    rounds: float
    runs: int
    attempts: int
    work: float
    utilisation: float
    steps: tuple
    cpu: float
    exact: bool
    wrong: bool

    @property
    def cpu_of_a_run(self):
        return self.cpu / self.runs


@contextlib.contextmanager
def timed_planning():
    """Times each planning step of recorders made within; yields the list of seconds of a core, as others use it too."""
    seconds = []

    def timed(*known):
        began = time.process_time()
        try:
            return analyse(*known)
        finally:
            seconds.append(time.process_time() - began)

    recording.analyse = timed
    try:
        yield seconds
    finally:
        recording.analyse = analyse


def campaign(cell, number=0, *, trouble=TROUBLE, seconds=SECONDS_OF_A_RUN, steps=False, max_runs=None, **more):
    """The Figures of one campaign.

    cell: a measure.Cell, whose slots are the nodes. seconds: of a run. steps: as of a SimulatedClock. more: Settings.
    """
    landscape, clock = cell.landscape(number), SimulatedClock(steps)
    cluster = Cluster(cell.slots, landscape, clock, trouble, number, seconds)
    with tempfile.TemporaryDirectory() as runs, timed_planning() as planning:
        folder = store.create(runs, "simulated")
        with session.hold(folder, settings_of(landscape, **more)) as (log, state):
            recorder = recording.Recorder(folder, log, state, clock=clock)
            began, cpu = clock.time, time.process_time()
            state = Controller(recorder, cluster, max_runs, parity=False, hung=FOREVER).run()
            cpu = time.process_time() - cpu
        plan, lasted = recorder.analysis.plans["metric"], clock.time - began
    named, truth = {culprit.flags for culprit in plan.culprits}, landscape.truth("metric")
    return Figures(
        lasted / seconds,
        len(state.trials),
        cluster.attempts,
        cluster.busy / seconds,
        cluster.busy / lasted / cell.slots,
        tuple(planning),
        cpu,
        state.state == "finished" and named == truth,
        bool(named - truth),
    )


def share_of_a_core(n, seconds, in_flight=64):
    """How much of a core the controller takes for so many runs at once, all of so many seconds, from start to end: its
    looks at them, the log, and planning.
    """
    cell, quiet = Cell(n, "one", 0.07, in_flight, spread=0.2), Trouble(0.0, 0.0, 0.0)
    more = {"seeds": in_flight - 8, "max_runs": in_flight, "early_stop": True}
    found = campaign(cell, trouble=quiet, seconds=seconds, steps=True, **more)
    return found.cpu / found.rounds / seconds


HEAD = (
    *("flags", "breaks", "error", "nodes", "eager", "campaigns", "rounds", "runs", "work", "utilisation"),
    *("exact", "wrong", "step_mean", "step_max", "cpu_a_run"),
)


def row(cell, eager, many):
    """The figures of several campaigns of a cell, under HEAD."""

    def mean(field):
        return statistics.mean(getattr(one, field) for one in many)

    planning = [seconds for one in many for seconds in one.steps]
    return [
        *(cell.n, cell.truth, f"{cell.error:g}", cell.slots, f"{eager:g}", len(many), f"{mean('rounds'):.2f}"),
        *(f"{mean('runs'):.1f}", f"{mean('work'):.1f}", f"{mean('utilisation'):.3f}"),
        *(f"{mean('exact'):.2f}", f"{mean('wrong'):.2f}"),
        *(f"{statistics.mean(planning):.3f}", f"{max(planning):.3f}", f"{mean('cpu_of_a_run'):.3f}"),
    ]


@click.command()
@click.option("--flags", multiple=True, type=int, help="Repeatable.  [default: all]")
@click.option("--nodes", multiple=True, type=int, help="Repeatable.  [default: all]")
@click.option("--truth", "truths", multiple=True, type=click.Choice(TRUTHS), help="Repeatable.  [default: all]")
@click.option("--error", "errors", multiple=True, type=float, help="Of a single run; repeatable.  [default: all]")
@click.option("--eager", multiple=True, type=float, help="Repeatable.  [default: all]")
@click.option("--campaigns", default=12, show_default=True, help="Of a cell with 11 flags; with 64 a quarter.")
@click.option("--core", is_flag=True, help="Measure only how much of a core 64 runs at once take.")
@click.option("--docs", type=click.Path(path_type=Path, file_okay=False, exists=True), help="Writes the table there.")
def main(flags, nodes, truths, errors, eager, campaigns, core, docs):
    """Measure the controller on simulated clusters."""
    if core:
        for n in flags or FLAGS:
            for seconds in (300, 3600):
                click.echo(f"{n} flags, 64 runs of {seconds} s at once: {share_of_a_core(n, seconds):.2%} of a core")
        return
    rows = []
    click.echo(",".join(HEAD))
    for n in flags or FLAGS:
        for slots in nodes or NODES:
            for truth in truths or TRUTHS:
                for error in errors or ERRORS:
                    for share in (eager or EAGER) if slots > 1 else (0.0,):
                        cell = Cell(n, truth, error, slots, spread=0.2)
                        number = campaigns if n < 32 else max(1, campaigns // 4)
                        rows.append(row(cell, share, [campaign(cell, k, eager=share) for k in range(number)]))
                        click.echo(",".join(map(str, rows[-1])))
    if docs:
        write_csv(docs / "cluster-scale.csv", HEAD, rows)


if __name__ == "__main__":
    main()
