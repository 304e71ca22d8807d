"""The time of day is set, forward and back, while a campaign runs; machines are suspended, and controllers stopped."""

import json
import os
import re
import time

import pytest
from bisecting import BLOCK, Bench, kill, wait_for

from bisect_cli.campaign import nodes
from bisect_cli.campaign.events import Ended, Reattached, Started
from bisect_cli.campaign.state import ATTEMPTS, NodeUse, State
from bisect_cli.report.nodes import node_rows, notes_of_nodes
from bisect_cli.run import session
from bisect_cli.run.clock import Clock
from bisect_cli.run.controller import Controller
from bisect_cli.run.recorder import Recorder
from bisect_cli.storage import eventlog, store

HOURS = 3600.0
NEGATIVE = re.compile(r"-\d+(\.\d+)? (s|min|h)\b")


class SetClock(Clock):
    """This machine's time, but for so many seconds that it was set by: the time of day, or the one that only grows, as
    it does while all processes are stopped.
    """

    set_by = stopped_for = 0.0

    def now(self):
        return super().now() + self.set_by

    def monotonic(self):
        return super().monotonic() + self.stopped_for


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path, seconds=0.3, breaks={"segm": [["ROI_ALIGN_MASK"]]}, drop=0.5)


def run(bench, clock, listen=lambda event, state, analysis: None, **options):
    """As Bench.run, by this clock."""
    folder = store.create(bench.runs, "c")
    known = store.load(folder)[0].settings
    with session.hold(folder, None if known else bench.settings("c", BLOCK)) as (log, state):
        recorder = Recorder(folder, log, state, listen, clock)
        return Controller(recorder, session.launcher_of(state.settings, 3), parity=False, **options).run()


@pytest.mark.parametrize("hours", [30, -30])
@pytest.mark.parametrize("what", ["set_by", "stopped_for"])
def test_no_run_is_lost_by_a_jump_of_the_clock(bench, what, hours):
    if what == "stopped_for" and hours < 0:
        pytest.skip("that one only grows")
    clock, jumps = SetClock(), []

    def listen(event, state, analysis):
        if event is None and len(state.running) == 3 and not jumps:  # a look later, for their files are known then
            jumps.append(state)
            setattr(clock, what, hours * HOURS)

    state = run(bench, clock, listen)
    assert jumps and state.state == "finished"
    assert set(bench.outcomes()) == {"finished"} and len(bench.starts()) == len(state.trials)
    took = store.earlier_seconds(bench.runs, state.settings.spec)
    assert len(took) == len(state.trials) and all(0 < seconds < HOURS for seconds in took)
    for words in (["status", "c"], ["status", "c", "--json"], ["list"], ["explain", "c"], ["nodes", "c"]):
        code, out, err = bench.call(*words)
        assert code == 0 and not NEGATIVE.search(out), err


@pytest.mark.parametrize("hours", [30, -30])
def test_a_silent_run_is_found_at_any_time_of_day(bench, hours):
    bench.set(seconds=1000)
    clock = SetClock()

    def listen(event, state, analysis):
        if isinstance(event, Started):
            clock.set_by = hours * HOURS

    state = run(bench, clock, listen, hung=0.3)
    assert state.state == "failed"
    assert all(trial.attempts == ATTEMPTS and "hung" in trial.reason for trial in state.trials_of(()))


def test_a_run_taken_over_is_silent_from_then_on(bench):
    """Its controller died long ago, and it has just written nothing for a while."""
    bench.set(seconds=60)
    process = bench.spawn("start", "--flags", ",".join(BLOCK), "--name", "c", "--slots", "1", "--no-parity")
    wait_for(bench.starts)
    kill(process)
    for path in (bench.runs / "c" / "trials" / "t01").rglob("*"):
        os.utime(path, (0, 0))
    seen = []

    def listen(event, state, analysis):
        seen.append(event)
        if event is None and len([one for one in seen if one is None]) > 5:
            (bench.runs / "c" / "stop").touch()

    state = run(bench, SetClock(), listen, hung=30)
    assert any(isinstance(event, Reattached) for event in seen)
    assert state.state == "interrupted" and "hung" not in state.trials["t01"].reason


def test_a_node_is_left_out_for_a_while_whatever_the_clock_is_set_to():
    crashed = State(node_uses=(NodeUse("n1", "t01", 100 * HOURS, "crashed", 1.0),))

    def out(hour):
        return {node: until - hour * HOURS for node, until in nodes.left_out(crashed, hour * HOURS).items()}

    assert out(100.5) == {"n1": 0.5 * HOURS} and out(99.5) == {"n1": HOURS}  # set back by as much, just now
    assert out(101.5) == {} and out(50) == {}
    for hour in (50, 99.5, 100.5, 150):
        words = [row[-1] for row in node_rows(crashed, hour * HOURS)] + list(notes_of_nodes(crashed, hour * HOURS))
        assert not any(NEGATIVE.search(word) for word in words)


@pytest.mark.parametrize("hours, counts", [(0, True), (-30, False), (300, False)])
def test_a_duration_that_none_can_be_does_not_enter_the_forecast(bench, hours, counts):
    """Of a log of before the agent's word on it was kept."""
    state = bench.run("old", max_runs=1, parity=False)
    log = bench.runs / "old" / store.LOG
    lines = [dict(event) for event in eventlog.read(log).events]
    for event in lines:
        event.pop("ran", None)
        if event["kind"] == Ended.kind:
            event["time"] += hours * HOURS
    log.write_bytes(b"")
    writer = eventlog.Writer(log)
    for event in lines:
        writer.append(event)
    writer.close()
    took = store.earlier_seconds(bench.runs, state.settings.spec)
    assert len(took) == counts and all(0 <= seconds < HOURS for seconds in took)
    code, out, err = bench.call("start", "--flags", ",".join(BLOCK), "--dry-run")
    assert code == 0, err
    assert ("as earlier ones took" in out) == counts and not NEGATIVE.search(out)


def test_status_of_runs_that_began_in_the_future(bench):
    """The clock was set back, or the node's is ahead."""
    bench.set(seconds=60)
    process = bench.spawn("start", "--flags", ",".join(BLOCK), "--name", "c", "--slots", "1", "--no-parity")
    wait_for(bench.starts)
    for path in [*(bench.runs / "c" / "trials" / "t01").rglob("*"), bench.runs / "c" / store.LOG]:
        os.utime(path, (time.time() + 30 * HOURS,) * 2)
    try:
        code, out, err = bench.call("status", "c")
        assert code == 0 and not NEGATIVE.search(out), err
        (row,) = json.loads(bench.call("status", "c", "--json")[1])["trials"]
        assert row["state"] == "running" and (row["seconds_left"] or 0) >= 0
    finally:
        bench.call("stop", "c")
        process.communicate()
