"""Campaigns of thousands of runs, and runs folders of many campaigns: only what has changed is worked out again, and
what was worked out is kept beside the log, where it is never believed over the log.
"""

import dataclasses
import json
import math
import os
import random
import shutil
import subprocess
import sys

import numpy as np
import pytest
from bisecting import BLOCK, ROOT, Bench

from bisect_cli.analysis import analyse
from bisect_cli.campaign import events
from bisect_cli.campaign.state import State
from bisect_cli.evidence import grid, judge
from bisect_cli.report import findings, kept
from bisect_cli.report.summary import summarize_folder
from bisect_cli.run.recorder import Recorder
from bisect_cli.search import Question, find
from bisect_cli.storage import eventlog, store
from bisect_cli.trainers.maskrcnn import FLAGS

HEAVY = ("numpy", "scipy")
FINGERPRINT = {"code": "abc", "data": "def", "flags": {}}


def random_subsets(number, flags=FLAGS, seed=0):
    """So many subsets of several flags, each once."""
    rng, found = random.Random(seed), {}
    while len(found) < number:
        subset = tuple(flag for flag in flags if rng.random() < 0.5)
        if subset:
            found[subset] = None
    return list(found)


def records(bench, subsets, seeds=3, end="interrupted", name="c"):
    """The records of a campaign: `seeds` runs of the baseline, one of each subset, ROI_ALIGN_MASK being broken."""
    settings = dataclasses.replace(bench.settings(name, FLAGS), uid=name)
    rng = random.Random(1)
    found = [events.Created(settings.to_json(), settings.spec.to_json()), events.Opened(1, "host", 2)]
    runs = [*(((), seed) for seed in range(seeds)), *((subset, 0) for subset in subsets)]
    for number, (subset, seed) in enumerate(runs, 1):
        value = 0.6 + rng.gauss(0, 0.01) - 0.2 * ("ROI_ALIGN_MASK" in subset)
        found.append(events.Started(f"t{number:02d}", subset, seed, 1, 1, {"pid": number, "node": f"n{number % 3}"}))
        metrics = {"bbox/AP": 0.6 + rng.gauss(0, 0.01), "segm/AP": value}
        found.append(events.Ended(f"t{number:02d}", "finished", 1, 0, metrics=metrics, fingerprint=FINGERPRINT))
    found += [events.Closed(end, "stopped on request")] if end else []
    return [json.loads(json.dumps(events.record_of(event, 1000.0 + i))) for i, event in enumerate(found)]


def write(bench, own, name="c"):
    """The folder of a campaign with this log."""
    folder = store.create(bench.runs, name)
    (folder / store.LOG).write_bytes(b"".join(map(eventlog.line, own)))
    return folder


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


@pytest.fixture
def folder(bench):
    """A campaign that nothing is kept of."""
    return write(bench, records(bench, random_subsets(12)))


# --- the fold and its indices


def test_a_log_folded_at_once_is_that_folded_event_by_event(bench):
    own = records(bench, random_subsets(20), end="")
    own += [
        {"kind": "ended", "trial": "t04", "outcome": "crashed", "time": 1.0, "node": "n1"},
        {"kind": "opened", "pid": 1, "host": "h", "time": 2.0},
        {"kind": "undone", "trial": "t05"},
        {"kind": "from the future"},
    ]
    state = State()
    for record in own:
        state = events.apply(state, events.parse(record))
    assert events.fold(own) == state
    assert type(events.fold(own).trials) is dict and type(events.fold(own).node_uses) is tuple


def test_what_is_looked_up_in_a_state_is_what_a_search_of_its_trials_finds(bench):
    own = records(bench, random_subsets(20), end="")
    changed = {"kind": "fingerprint", "fingerprint": {**FINGERPRINT, "flags": {FLAGS[0]: "x"}}, "changed": []}
    more = [
        {"kind": "started", "trial": "t90", "flags": list(BLOCK), "seed": 7, "attempt": 1, "ticket": {}, "time": 1.0},
        {"kind": "started", "trial": "t91", "flags": list(BLOCK), "seed": 5, "attempt": 1, "ticket": {}, "time": 1.0},
        {"kind": "ended", "trial": "t91", "outcome": "cancelled", "time": 1.0},
    ]
    state = events.fold([*own, changed, *more])
    trials = list(state.trials.values())
    stale = [trial for trial in trials if FLAGS[0] in trial.flags and trial.fingerprint == FINGERPRINT]
    assert stale and [trial for trial in trials if state.stale(trial)] == stale
    assert state.current == [trial for trial in trials if trial not in stale]
    assert [trial.id for trial in state.in_flight] == [trial.id for trial in state.running] == ["t90"]
    assert [trial.id for trial in state.trials_of(BLOCK)] == ["t91", "t90"]  # by seed
    for flags in state.subsets:
        for which in (False, True):
            wanted = [trial for trial in trials if trial.flags == flags and (trial in stale) == which]
            assert state.trials_of(flags, stale=which) == sorted(wanted, key=lambda trial: trial.seed)


# --- the judge


def judged(sets, memory=None, reference=(0.60, 0.61, 0.595)):
    return judge.judge_all(dict(enumerate(reference)), sets, memory=memory)


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for subset, verdict in one.items():
        for mine, theirs in zip(verdict, other[subset]):
            if isinstance(mine, (np.ndarray, grid.ParameterGrid)):
                assert all(np.array_equal(a, b) for a, b in zip(mine, theirs))
            else:
                assert mine == theirs


def test_what_is_remembered_changes_nothing_to_the_last_bit():
    rng, memory, sets = random.Random(3), judge.Memory(), {}
    for number, subset in enumerate(random_subsets(30)):
        sets[subset] = {seed: 0.6 + rng.gauss(0, 0.01) - 0.1 * (number % 4 == 0) for seed in range(1 + number % 3)}
        if number % 7 == 3:
            del sets[next(iter(sets))]
        if number % 5 == 0:
            sets[subset] = {**sets[subset], 1: 0.5}
            assert_equal(judged(sets, memory), judged(sets))
    again = judge.Memory.from_json(json.loads(json.dumps(memory.to_json())))
    assert again.runs == memory.runs
    assert_equal(judged(sets, again), judged(sets))
    other = judged(sets, again, reference=(0.6, 0.62, 0.6))  # another baseline: nothing of it holds
    assert_equal(other, judged(sets, reference=(0.6, 0.62, 0.6)))


def count_sets(monkeypatch):
    """A list that grows with each set of which the likelihood over the whole grid is worked out."""
    counted, whole = [], grid._Points.whole
    monkeypatch.setattr(grid._Points, "whole", lambda self, runs: counted.append(runs) or whole(self, runs))
    return counted


def test_one_more_run_has_one_set_judged_anew(bench, monkeypatch):
    folder = write(bench, records(bench, random_subsets(60), end=""))
    log = eventlog.Writer(folder / store.LOG)
    recorder, counted = Recorder(folder, log, store.load(folder)[0]), count_sets(monkeypatch)
    recorder.record(events.Started("t99", BLOCK, 0, 1, 1))
    assert counted == []
    recorder.record(events.Ended("t99", "finished", 1, 0, metrics={"bbox/AP": 0.6, "segm/AP": 0.4}))
    assert len(counted) <= 2 * 2  # the set as it was and as it is, of two metrics
    fresh = analyse(store.read(folder).judged)
    for metric, table in recorder.analysis.verdicts.items():
        assert_equal(table, fresh.verdicts[metric])
    log.close()


def test_of_many_subsets_the_likelihoods_are_kept_too(bench, monkeypatch):
    folder = write(bench, records(bench, random_subsets(kept.MANY)))
    first, counted = summarize_folder(folder), count_sets(monkeypatch)
    with open(folder / store.LOG, "ab") as log:
        log.write(eventlog.line({"kind": "ended", "trial": "t05", "outcome": "cancelled", "time": 1.0}))
    summary = summarize_folder(folder)
    assert summary["trials"][4]["state"] == "cancelled" and first["trials"][4]["state"] == "finished"
    assert 0 < len(counted) <= 2
    (folder / kept.FILE).unlink()
    assert summarize_folder(folder) == summary


@pytest.mark.parametrize("number", (300, 2000))
def test_thousands_of_subsets_leave_the_search_with_numbers(number):
    flags = tuple(f"f{i:02d}" for i in range(12))
    rng = random.Random(2)
    sets = {one: {0: 0.6 + rng.gauss(0, 0.01) - 0.1 * ("f03" in one)} for one in random_subsets(number, flags)}
    sets = {one: values for one, values in sets.items() if len(one) not in (1, 11)}
    answer = find("bayes").answer(Question(flags, {"metric": judged(sets)}, slots=4))
    plan = answer.plans["metric"]
    assert plan.beliefs[0].culprits == (("f03",),)
    assert all(math.isfinite(odds) for odds in plan.odds.values())
    assert answer.requests
    # and where no explanation fits
    sets = {one: {0: 0.6 - 0.1 * (rng.random() < 0.5)} for one in sets}
    plan = find("bayes").answer(Question(flags, {"metric": judged(sets)}, slots=4)).plans["metric"]
    assert all(math.isfinite(odds) for odds in plan.odds.values())


# --- what is kept


def imported(bench, *words):
    """What a command prints, and which of the heavy packages it has imported."""
    code = (
        "import sys; from bisect_cli.cli import main\n"
        "try: main(sys.argv[1:])\n"
        f"finally: print([one for one in {HEAVY} if one in sys.modules], file=sys.stderr)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    argv = [sys.executable, "-c", code, *words]
    done = subprocess.run(argv, cwd=bench.folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr.splitlines()[-1]


def test_status_of_what_is_kept_works_nothing_out(bench, folder):
    for words in (["status", "c"], ["status", "c", "--json"], ["list"]):
        (folder / kept.FILE).unlink(missing_ok=True)
        first, loaded = imported(bench, *words)
        assert loaded == str(list(HEAVY))
        again, loaded = imported(bench, *words)
        assert (again, loaded) == (first, "[]")


def test_what_the_controller_kept_is_what_its_log_says(tmp_path):
    bench = Bench(tmp_path, breaks={"segm": [["ROI_ALIGN_MASK"]]})
    assert bench.run().state == "finished"
    folder = bench.runs / "c"
    contents = store.read(folder)
    found = kept.Keeper(folder).findings(contents)
    fresh = findings.find(contents.judged, analyse(contents.judged))
    assert found == json.loads(json.dumps(fresh)) == fresh
    assert kept.headline(folder) == json.loads(json.dumps(kept.headline_of(summarize_folder(folder)))) | {
        "culprits": {"bbox": [], "segm": [{"flags": ["ROI_ALIGN_MASK"]}]}
    }
    assert imported(bench, "status")[1] == "[]"


def test_a_start_and_a_close_leave_what_is_kept_as_it_is(bench):
    own = records(bench, random_subsets(12), end="")
    folder = write(bench, own)
    summarize_folder(folder)
    (folder / store.LOG).write_bytes(
        b"".join(map(eventlog.line, [*own, {"kind": "started", "trial": "t90", "flags": [], "seed": 9, "attempt": 1}]))
    )
    before = (folder / kept.FILE).read_bytes()
    summary = summarize_folder(folder)
    assert summary["trials"][-1]["id"] == "t90" and (folder / kept.FILE).read_bytes() == before
    assert kept.headline(folder) is None  # it is about the log to its end
    (folder / kept.FILE).unlink()
    assert summarize_folder(folder) == summary


def rewritten(text, **changes):
    """A line as if this program had written it with other values."""
    return eventlog.line({**eventlog.event_of(text), **changes})[:-1]


def flipped(data):
    place = data.index(b'"findings":') + 40
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


DAMAGE = {
    "empty": lambda data: b"",
    "cut": lambda data: data[: len(data) // 2],
    "flipped": flipped,
    "no file of ours": lambda data: b"\xff\xfe\n{}\n[]\n",
    "lines swapped": lambda data: b"\n".join(data.split(b"\n")[1::-1]) + b"\n",
    "another version's": lambda data: b"\n".join(rewritten(one, code="0") for one in data.split(b"\n")[:-1]) + b"\n",
    "another log's": lambda data: b"\n".join(rewritten(one, log=[100, 1]) for one in data.split(b"\n")[:-1]) + b"\n",
    "a longer log's": lambda data: b"\n".join(rewritten(one, log=[10**9, 1]) for one in data.split(b"\n")[:-1]) + b"\n",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_damaged_old_or_foreign_is_never_believed(folder, damage):
    summary = summarize_folder(folder)
    path = folder / kept.FILE
    whole = path.read_bytes()
    path.write_bytes(DAMAGE[damage](whole))
    assert kept.Keeper(folder).findings(store.read(folder)) is None
    if damage not in ("flipped", "cut"):
        assert kept.headline(folder) is None
    assert summarize_folder(folder) == summary
    assert path.read_bytes() == whole  # and it is mended


def test_what_is_kept_of_another_campaign_or_of_the_log_before_is_never_believed(bench, folder):
    summary = summarize_folder(folder)
    other = write(bench, records(bench, random_subsets(9, seed=5), name="d"), "d")
    summarize_folder(other)
    shutil.copy(other / kept.FILE, folder / kept.FILE)
    assert kept.Keeper(folder).findings(store.read(folder)) is None and kept.headline(folder) is None
    assert summarize_folder(folder) == summary
    with open(folder / store.LOG, "ab") as log:
        log.write(eventlog.line({"kind": "undone", "trial": "t07"}))
    assert kept.Keeper(folder).findings(store.read(folder)) is None and kept.headline(folder) is None


def test_where_nothing_can_be_kept_all_is_shown(bench, folder):
    summary = summarize_folder(folder)
    (folder / kept.FILE).unlink()
    (folder / kept.FILE).mkdir()
    assert summarize_folder(folder) == summary
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []  # no rest of an attempt
    (folder / kept.FILE).rmdir()
    os.mkfifo(folder / kept.FILE)  # nobody waits for its writer
    assert summarize_folder(folder) == summary


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_reader_without_permission_to_write_fails_at_nothing(bench, folder):
    folder.chmod(0o555)
    try:
        assert imported(bench, "status", "c")[0]
        assert not (folder / kept.FILE).exists()
    finally:
        folder.chmod(0o755)


# --- the benchmark


def test_the_benchmark_measures_every_command(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("What it means.\n\n<!-- measured -->\n\nold figures\n")
    argv = [sys.executable, str(ROOT / "benchmarks" / "log_size.py"), "--trials=60", "--campaigns=2", f"--write={page}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    written = page.read_text()
    assert written.startswith("What it means.") and "old figures" not in written
    rows = [line.split(" | ") for line in written.splitlines() if line.startswith("| ")][2:]
    assert len(rows) == 3 + 7 and all(float(row[1]) >= 0 for row in rows)
    assert {"status, of 60 trials", "resume, to its first run, of 60 trials"} <= {row[0][2:] for row in rows}
