"""How long commands take, and how much memory, in a runs folder that has grown large.

    python benchmarks/log_size.py --write docs/log-size.md

Logs are made of the events of real campaigns: runs of a simulated training, one flag of which breaks it. Each command
is a process of its own. What it takes of a processor is given in seconds, and in times of a Python that imports click
and rich and ends, which takes turns with it: other than the time on the clock, that says the same on a busy machine.
"""

import json
import multiprocessing
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple, Optional

import click
from pages import write_measured

from bisect_cli.campaign import events
from bisect_cli.storage import eventlog, store

FLAGS = tuple(f"F{number:02d}" for number in range(1, 15))
CULPRIT = "F05"
LONGEST = 300  # seconds that anything takes
SEEDS = 5  # runs of each subset; of the baseline, too
EMPTY = (sys.executable, "-c", "import click, rich.console, rich.table")
COMMAND = (sys.executable, "-m", "bisect_cli")
TRAINING = (sys.executable, "-c", "import time; time.sleep(60)", "{seed}", "{flags}", "{out}")
ENDED_RUNS = """
import json, resource, statistics, sys, time
from pathlib import Path
from bisect_cli.campaign import events
from bisect_cli.campaign.state import id_of
from bisect_cli.run import session
from bisect_cli.run.recorder import Recorder

times = []
with session.hold(Path(sys.argv[1])) as (log, state):
    recorder = Recorder(Path(sys.argv[1]), log, state)
    flags = state.settings.flags[::2]
    for number in range(6):
        name = id_of(recorder.state.next_number)
        recorder.record(events.Started(name, flags, 900 + number, 1, 1))
        clock, began = time.perf_counter(), time.process_time()
        recorder.record(events.Ended(name, "finished", 1, 0, metrics={"acc": 0.6, "f1": 0.7}))
        recorder.notify()
        times.append([time.process_time() - began, time.perf_counter() - clock])
used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([*map(statistics.median, zip(*times)), used / 1024]))
"""


class Measured(NamedTuple):
    """Seconds of a processor, and on the clock; times of an empty Python, None where that says nothing; peak memory."""

    processor: float
    clock: float
    megabytes: float
    times: Optional[float] = None


def make_runs(*what):
    """As write_runs, in a process of its own: the peak memory of a command is at least that of who has started it."""
    process = multiprocessing.Process(target=write_runs, args=what)
    process.start()
    process.join()
    return what[0] / what[2]


def write_runs(folder, seed_record, name, trials, flags=FLAGS):
    """A campaign of so many ended trials, as its log, in a folder of this name."""
    rng = random.Random(trials)
    place = folder / name
    place.mkdir(parents=True)
    log = eventlog.Writer(place / store.LOG)
    record = {**seed_record, "settings": {**seed_record["settings"], "name": name, "uid": name}}
    log.append(record)
    log.append(events.record_of(events.Opened(1, "host", 8), time.time()))
    for number, (subset, seed) in enumerate(_runs(rng, trials, flags), 1):
        trial, now = f"t{number:02d}", time.time()
        argv = [*TRAINING[:3], str(seed), ",".join(subset), str(place / "trials" / trial / "out")]
        ticket = {"pid": number, "identity": f"{number}.{number}", "node": f"node{number % 8}"}
        log.append(events.record_of(events.Started(trial, subset, seed, 1, 1, ticket, argv, "most informative"), now))
        values = {key: round(0.7 + rng.gauss(0, 0.01) - 0.1 * (CULPRIT in subset), 5) for key in ("acc", "f1")}
        fingerprint = {"code": "8d2f" * 10, "data": "77ab" * 10, "software": "python 3.11.9, numpy 1.26.4", "flags": {}}
        log.append(
            events.record_of(
                events.Ended(trial, "finished", 1, 0, metrics=values, wall=60.0, fingerprint=fingerprint), now
            )
        )
    log.append(events.record_of(events.Closed("interrupted", "stopped on request"), time.time()))
    log.close()


def _runs(rng, trials, flags):
    """(subset, seed) of each run: the baseline, the whole set, then random subsets of several flags."""
    subsets = {(): None, flags: None}
    while len(subsets) * SEEDS < trials:
        subset = tuple(flag for flag in flags if rng.random() < 0.5)
        if 1 < len(subset) < len(flags) - 1:
            subsets[subset] = None
        if len(subsets) > 2 ** (len(flags) - 1):
            break
    runs = [(subset, seed) for subset in subsets for seed in range(SEEDS)]
    more = ((subset, seed) for seed in range(SEEDS, trials) for subset in subsets)
    while len(runs) < trials:
        runs.append(next(more))
    return runs[:trials]


def created_record(folder, flags=FLAGS):
    """The first event of a campaign that the command line has begun in this folder."""
    words = ["--flags", ",".join(flags), "--metric", "acc:higher", "--metric", "f1:higher", "--noise", "0.01"]
    process = subprocess.Popen(
        [*COMMAND, "start", "--name", "first", "--slots", "1", *words, "--", *TRAINING], cwd=folder
    )
    path, began = folder / "runs" / "first" / store.LOG, time.perf_counter()
    while not (path.exists() and len(eventlog.read(path).events) > 2):
        _wait(began, process.args)
    process.terminate()
    process.wait()
    return eventlog.read(path).events[0]


def measure(argv, folder, rounds=3, until=None):
    """The Measured of a command. until: ends it as soon as this holds, and that is its time."""
    empty, own = [], []
    for _ in range(rounds):
        empty.append(_run(EMPTY, folder))
        own.append(_run(argv, folder, until))
    processor, clock, _ = map(statistics.median, zip(*own))
    most = max(megabytes for _, _, megabytes in own)
    return Measured(processor, clock, most, processor / statistics.median(one for one, _, _ in empty))


def _run(argv, folder, until=None):
    """Seconds of a processor and on the clock, and peak memory in MB, of a command and what it has waited for."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(folder / "bytecode")}
    began, there = time.perf_counter(), None
    with open(os.devnull, "w") as nowhere:
        process = subprocess.Popen(argv, cwd=folder, stdout=nowhere, env=environment)
        while until and not there:
            if until():
                there = _processor_seconds(process.pid), time.perf_counter() - began
                process.terminate()
            _wait(began, argv)
        _, status, used = os.wait4(process.pid, 0)
    if not until and status:
        raise SystemExit(f"{argv} failed")
    return *(there or (used.ru_utime + used.ru_stime, time.perf_counter() - began)), used.ru_maxrss / 1024


def _wait(began, argv):
    time.sleep(0.01)
    if time.perf_counter() > began + LONGEST:
        raise SystemExit(f"{argv} failed")


def _processor_seconds(pid):
    """Of a process so far, and of those that it has waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def measure_large(folder, record, trials):
    """{what: Measured} of one campaign of so many trials."""
    place = make_runs(folder / "runs", record, f"of-{trials}", trials)
    found = {f"log of {trials:,} trials, MB": place.joinpath(store.LOG).stat().st_size / 1e6}
    status = [*COMMAND, "status", place.name]
    found["status, nothing kept"] = measure(status, folder, 1)
    found["status"] = measure(status, folder)
    found["status --json"] = measure([*status, "--json"], folder)
    found["resume, to its first run"] = _measure_resume(folder, place)
    again = {"kind": "ended", "trial": f"t{trials}", "outcome": "finished", "metrics": {"acc": 0.69, "f1": 0.7}}
    with open(place / store.LOG, "ab") as log:
        log.write(eventlog.line(again))
    found["status, a run later"] = measure(status, folder, 1)
    done = subprocess.run([sys.executable, "-c", ENDED_RUNS, str(place)], cwd=folder, stdout=subprocess.PIPE, text=True)
    found["a run that ends"] = Measured(*json.loads(done.stdout))
    return found


def _measure_resume(folder, place):
    log = place / store.LOG
    size = log.stat().st_size

    def begun():
        with open(log, "rb") as file:
            file.seek(size)
            return b'"kind":"started"' in file.read()

    return measure([*COMMAND, "resume", place.name, "--slots", "1", "--yes"], folder, 1, begun)


def measure_many(folder, record, campaigns, trials=20):
    """{what: Measured} of a runs folder of so many small campaigns."""
    for number in range(campaigns):
        make_runs(folder / "many", record, f"c{number:03d}", trials)
    words = [*COMMAND, "list", "--runs-dir", "many"]
    return {
        f"list of {campaigns} campaigns, nothing kept": measure(words, folder, 1),
        f"list of {campaigns} campaigns": measure(words, folder),
        f"status of a campaign of {trials} trials": measure(
            [*COMMAND, "status", "c000", "--runs-dir", "many"], folder, 9
        ),
    }


def table(found):
    """A markdown table of {what: Measured or number}."""
    yield "| what | processor, s | of an empty Python | on the clock, s | peak memory, MB |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    for what, one in found.items():
        if isinstance(one, Measured):
            times = f"{one.times:.1f}" if one.times else ""
            yield f"| {what} | {one.processor:.2f} | {times} | {one.clock:.2f} | {one.megabytes:.0f} |"
        else:
            yield f"| {what} | {one:.1f} | | | |"


@click.command()
@click.option("--trials", default=(1000, 10_000), multiple=True, show_default=True, help="Of the large campaigns.")
@click.option("--campaigns", default=500, show_default=True, help="In the folder of many.")
@click.option("--write", type=click.Path(path_type=Path), help="The page to write the figures into.")
def main(trials, campaigns, write):
    found = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        record = created_record(folder)
        if campaigns:
            found.update(measure_many(folder, record, campaigns))
        for number in trials:
            own = measure_large(folder, record, number)
            found.update({f"{what}, of {number:,} trials" if "log" not in what else what: o for what, o in own.items()})
            click.echo("\n".join(table(own)))
    text = "\n".join(table(found)) + "\n"
    click.echo(text)
    if write:
        write_measured(write, text)


if __name__ == "__main__":
    main()
