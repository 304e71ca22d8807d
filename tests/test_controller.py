"""The loop over real processes of a small trainer: retries, kills, interrupts, budgets."""

import errno
import json
import os
import signal
import threading
import time

import pytest
from bisecting import BLOCK, Bench, has_ended, kill, results, wait_for

from bisect_cli.analysis import analyse
from bisect_cli.campaign import events
from bisect_cli.campaign.state import ATTEMPTS
from bisect_cli.errors import UserError
from bisect_cli.launchers import process
from bisect_cli.report.summary import summarize
from bisect_cli.run import interrupts, recorder, session
from bisect_cli.run.controller import Controller
from bisect_cli.run.recorder import Recorder
from bisect_cli.storage import lease, store

FAULT = {"segm": [["ROI_ALIGN_MASK"]]}


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path, breaks=FAULT)


def culprits(state, metric="segm"):
    return [culprit.flags for culprit in analyse(state).plans[metric].culprits]


def test_it_names_the_culprit_and_clears_the_other_metric(bench):
    state = bench.run()
    assert state.state == "finished"
    assert culprits(state) == [("ROI_ALIGN_MASK",)]
    assert analyse(state).plans["bbox"].clean > 0.95
    assert len(bench.starts()) == len(set(bench.starts())) == 9


def test_a_clean_set_ends_after_five_runs(bench):
    bench.set()
    state = bench.run()
    assert state.state == "finished" and len(bench.starts()) == 5


def test_slots_are_filled_and_never_overfilled(bench):
    most = []

    def listen(event, state, analysis):
        slots = [trial.slot for trial in state.running]
        assert len(slots) == len(set(slots)) and all(1 <= slot <= 3 for slot in slots)
        most.append(len(slots))

    bench.run(slots=3, listen=listen)
    assert max(most) == 3


def test_a_crashed_run_is_tried_again_from_its_checkpoint(bench):
    bench.set(breaks=FAULT, crashes=[["CROP_AND_RESIZE_MASK"], 1])
    state = bench.run()
    assert culprits(state) == [("ROI_ALIGN_MASK",)]
    again = [trial for trial in state.trials.values() if "CROP_AND_RESIZE_MASK" in trial.flags]
    assert again and all(trial.attempts == 2 and trial.state == "finished" for trial in again)
    home = store.trial_folder(bench.runs / "c", again[0].id)
    assert "out of luck" in (home / "attempt-1" / "stderr.txt").read_text()
    steps = [json.loads(line)["step"] for line in (home / "out" / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps))  # the second attempt went on where the first was


def test_a_run_that_keeps_crashing_is_no_evidence(bench):
    bench.set(crashes=[list(BLOCK), 99])
    state = bench.run()
    assert state.state == "inconclusive"
    crashed = [trial for trial in state.trials.values() if trial.state == "crashed"]
    assert crashed and all(trial.attempts == ATTEMPTS and "out of luck" in trial.reason for trial in crashed)
    assert all(not plan.culprits and plan.unresolved for plan in analyse(state).plans.values())
    home = store.trial_folder(bench.runs / "c", crashed[0].id)
    assert (home / f"out.before-attempt-{ATTEMPTS}").is_dir()  # the last attempt began from scratch

    bench.set()
    assert bench.run().state == "finished"  # with the cause mended, going on tries it again


def test_divergence_is_a_result(bench):
    bench.set(diverges=[["MASK_LOSS"]])
    state = bench.run()
    assert culprits(state, "bbox") == culprits(state, "segm") == [("MASK_LOSS",)]
    assert all(trial.attempts == 1 for trial in state.trials.values())


def test_a_baseline_that_crashes_is_a_failure(bench):
    bench.set(crashes=[[], 99], diverges=[[]])
    state = bench.run()
    assert state.state == "failed" and "the baseline, with all flags off, diverged" in state.reason


def test_a_spent_budget_is_inconclusive_and_can_be_raised(bench):
    state = bench.run(max_runs=5)
    assert state.state == "inconclusive" and "budget of 5 runs" in state.reason
    assert len(bench.starts()) == 5
    state = bench.run(max_runs=20)
    assert state.state == "finished" and len(bench.starts()) == len(set(bench.starts())) == 9


def test_a_refusal_stops_the_campaign_with_the_trainers_words(bench):
    bench.set(refuses=[list(BLOCK)])
    with pytest.raises(UserError, match="no module named 'mod'"):
        bench.run()
    bench.set(breaks=FAULT)
    assert bench.run().state == "finished"


def test_a_missing_metric_is_an_error(bench):
    with pytest.raises(UserError, match="metric 'segm/AP_large' is not in the results of t0"):
        bench.run(metrics=("segm/AP_large",))


def test_an_interrupt_lets_runs_save_and_going_on_repeats_nothing(bench):
    bench.set(breaks=FAULT, seconds=2.0)

    def listen(event, state, analysis):
        if isinstance(event, events.Ended) and not listen.armed:
            threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
            listen.armed = True

    listen.armed = False
    state = bench.run(listen=listen)
    assert state.state == "interrupted" and not state.running
    stopped = [event for event in bench.events() if event["kind"] == "ended" and event["outcome"] == "stopped"]
    assert stopped and all(event["code"] == 143 for event in stopped)
    steps = {}
    for event in stopped:
        saved = store.trial_folder(bench.runs / "c", event["trial"]) / "out" / "state.json"
        steps[event["trial"]] = json.loads(saved.read_text())["step"]
    assert all(0 < step < 20 for step in steps.values())

    bench.set(breaks=FAULT, seconds=0.2)
    state = bench.run()
    assert state.state == "finished" and culprits(state) == [("ROI_ALIGN_MASK",)]
    assert len(state.trials) == 9 and len(bench.starts()) == 9 + len(stopped)


def test_a_run_that_ignores_the_request_is_killed_after_the_grace_time(bench):
    bench.set(seconds=60, stubborn=True)
    pids = []

    def listen(event, state, analysis):
        if isinstance(event, events.Started):
            pids.append(event.ticket["pid"])
            if len(pids) == 2:
                threading.Timer(0.5, (bench.runs / "c" / store.STOP).touch).start()

    began = time.monotonic()
    state = bench.run(listen=listen, grace=0.5)
    assert state.state == "interrupted" and time.monotonic() - began < 10
    assert all(process.identity(pid) is None for pid in pids)


def test_a_run_that_can_no_longer_matter_is_cancelled(bench, monkeypatch):
    """It saves and ends, is no evidence, and the campaign goes on without it."""
    bench.set(breaks=FAULT, seconds=0.6)
    real = recorder.analyse

    def analyse_and_cancel(*known):
        trials = known[0].trials.values()
        whole = [t for t in trials if t.flags == BLOCK and t.state == "running" and t.seed == 0]
        analysis = real(*known)
        return analysis._replace(cancel=(BLOCK,)) if whole and whole[0].attempts == 1 else analysis

    monkeypatch.setattr(recorder, "analyse", analyse_and_cancel)
    # it is to be cancelled as soon as it has started
    monkeypatch.setattr("bisect_cli.campaign.events.WITHOUT_VERDICTS", ())
    state = bench.run()
    cancelled = [event for event in bench.events() if event.get("outcome") == "cancelled"]
    assert len(cancelled) == 1 and cancelled[0]["reason"] == "it could no longer matter"
    assert state.state == "finished" and culprits(state) == [("ROI_ALIGN_MASK",)]  # it was wanted again, and went on
    assert state.trials[cancelled[0]["trial"]].attempts == 2


BOTH = {"bbox": [["ROI_ALIGN_MASK"]], "segm": [["ROI_ALIGN_MASK"]]}
SLOW = {flags: 1.5 for flags in (",".join(BLOCK), "ROI_ALIGN_MASK", "ROI_ALIGN_MASK,CROP_AND_RESIZE_MASK")}


def steps_made(bench, trial):
    return json.loads((store.trial_folder(bench.runs / "c", trial.id) / "out" / "state.json").read_text())["step"]


def test_a_run_is_stopped_when_its_curve_settles_its_verdict(bench):
    """It saves and ends, counts as a run, and the campaign ends as without that."""
    bench.set(breaks=BOTH, drop=0.5, curves=0.005, slow=SLOW)
    state = bench.run(early_stop=True)
    assert state.state == "finished"
    assert culprits(state) == culprits(state, "bbox") == [("ROI_ALIGN_MASK",)]
    early = [trial for trial in state.trials.values() if trial.state == "stopped early"]
    assert early and all("ROI_ALIGN_MASK" in trial.flags and not trial.metrics for trial in early)
    assert all(trial.early["step"] == 12 <= steps_made(bench, trial) < 20 for trial in early)
    assert all(event["code"] == 143 for event in bench.events() if event.get("outcome") == "stopped early")
    assert len(bench.starts()) == len(set(bench.starts())) == len(state.trials)  # none was started again
    verdict = analyse(state).verdicts["segm"][early[0].flags]
    assert verdict.call == "broken" and verdict.runs == len(state.trials_of(early[0].flags))
    summary = bench.status()
    (shown,) = (trial for trial in summary["trials"] if trial["id"] == early[0].id)
    assert shown["state"] == "stopped early" and shown["step"] < shown["steps"] == 20
    assert shown["stopped_early"]["segm"]["value"] < shown["stopped_early"]["segm"]["baseline"]


def test_no_run_is_stopped_early_unless_asked_or_without_evaluations(bench):
    slow = {",".join(BLOCK): 0.6}
    bench.set(breaks=BOTH, drop=0.5, curves=0.005, slow=slow)
    state = bench.run("off")
    bench.set(breaks=BOTH, drop=0.5, slow=slow)
    other = bench.run("without-evaluations", early_stop=True)
    for trials in (state.trials, other.trials):
        assert {trial.state for trial in trials.values()} <= {"finished", "stopped", "waiting"}
    assert culprits(state) == culprits(other) == [("ROI_ALIGN_MASK",)]


def test_noise_stops_no_fine_run(bench):
    bench.set(curves=0.08, slow={",".join(BLOCK): 0.6})
    state = bench.run(early_stop=True)
    assert state.state == "finished" and all(trial.state == "finished" for trial in state.trials.values())


def test_a_run_goes_on_for_a_metric_that_is_not_settled(bench):
    """Broken in segm alone, the whole set is needed to the end for bbox; later runs are not."""
    bench.set(breaks=FAULT, drop=0.5, curves=0.005, slow=SLOW)
    state = bench.run(early_stop=True)
    assert culprits(state) == [("ROI_ALIGN_MASK",)] and analyse(state).plans["bbox"].clean > 0.95
    assert state.trials_of(BLOCK)[0].state == "finished"
    early = [trial for trial in state.trials.values() if trial.state == "stopped early"]
    assert early and all(trial.early["metrics"]["bbox"]["log_odds"] == 0 for trial in early)


def test_a_run_lost_as_it_was_to_be_stopped_is_not_started_again(bench):
    """The controller dies between the request and the log; what the curve says is on disk."""
    bench.set(breaks=BOTH, drop=0.5, curves=0.005, seconds=0.1, slow={",".join(BLOCK): 100})
    controller = bench.spawn("start", "--flags", "L2B5", "--name", "c", "--slots", "2", "--no-parity")
    out = bench.runs / "c" / "trials" / "t04" / "out" / "metrics.jsonl"
    wait_for(lambda: out.exists() and sum(event.get("outcome") == "finished" for event in bench.events()) >= 3)
    assert controller.poll() is None, controller.communicate()
    kill(controller)
    (trial,) = (trial for trial in store.load(bench.runs / "c")[0].running if trial.flags == BLOCK)
    process.signal_group(trial.ticket["pid"], signal.SIGKILL)
    wait_for(lambda: has_ended(out.parent))
    baseline = bench.runs / "c" / "trials" / "t01" / "out" / "metrics.jsonl"
    looked = [json.loads(line) for line in baseline.read_text().splitlines() if "AP" in line]
    with open(out, "a") as file:
        for line in looked:
            print(json.dumps({**line, "bbox/AP": 0.1, "segm/AP": 0.1}), file=file)
    code, out, err = bench.call("resume", "c", "--slots", "2")
    assert code == 0, err
    assert bench.starts().count(f"{','.join(BLOCK)} 0") == 1
    state, _ = store.load(bench.runs / "c")
    assert state.trials["t04"].state == "stopped early" and state.trials["t04"].attempts == 1
    assert "seed 0: stopped early: settled at step 12 of 20, bbox .100 where the baseline has ." in out
    assert culprits(state) == [("ROI_ALIGN_MASK",)]


def test_a_silent_run_counts_as_crashed(bench):
    bench.set(seconds=1000)
    state = bench.run(hung=0.3, slots=3)
    assert state.state == "failed" and "the baseline, with all flags off, crashed" in state.reason
    assert all(trial.attempts == ATTEMPTS and "hung" in trial.reason for trial in state.trials_of(()))


def test_nothing_runs_that_the_log_does_not_know(bench, monkeypatch):
    """The disk fills up just as a run is to be logged: the run must not have begun."""
    from bisect_cli.storage import eventlog

    real = eventlog.Writer.append

    def append(self, event):
        if event["kind"] == "started" and event["trial"] == "t03":
            raise OSError(errno.ENOSPC, "No space left on device")
        real(self, event)

    monkeypatch.setattr(eventlog.Writer, "append", append)
    with pytest.raises(UserError, match="disk of .* is full"):
        bench.run()
    assert len(bench.starts()) == 2
    monkeypatch.undo()
    state = bench.run()
    assert state.state == "finished" and len(set(bench.starts())) == 9
    assert not any(line.startswith("TWICE") for line in bench.starts())


@pytest.mark.parametrize("orphans", ["alive", "dead"])
def test_sigkill_of_the_controller_then_resume(bench, orphans):
    bench.set(breaks=FAULT, seconds=4)  # those under way are to outlive the start of another controller
    controller = bench.spawn("start", "--flags", "L2B5", "--name", "c", "--slots", "2", "--search", "halving")
    wait_for(lambda: len(bench.starts()) >= 4)
    kill(controller)
    bench.set(breaks=FAULT)
    state, _ = store.load(bench.runs / "c")
    assert len(state.running) == 2
    summary = bench.status()
    assert summary["state"] == "interrupted" and summary["resume"] == "maskrcnn-bisect resume c"
    finished = [trial.id for trial in state.trials.values() if trial.state == "finished"]
    assert finished
    if orphans == "dead":
        for trial in state.running:
            process.signal_group(trial.ticket["pid"], signal.SIGKILL)

    code, out, err = bench.call("resume", "c", "--slots", "2")
    assert code == 0, err
    assert "ROI_ALIGN_MASK is a culprit" in out
    assert ("taken over" in out) == (orphans == "alive")
    again = [line for line in set(bench.starts()) if bench.starts().count(line) > 1]
    assert len(again) == (0 if orphans == "alive" else 2)  # those that died go on, nothing else starts again
    assert not any(line.startswith("TWICE") for line in bench.starts())

    other = bench.beside("straight", breaks=FAULT).run(flags=BLOCK)
    resumed, _ = store.load(bench.runs / "c")
    assert results(resumed) == results(other)
    assert culprits(resumed) == culprits(other)


def test_ctrl_c_tells_how_to_go_on(bench):
    bench.set(breaks=FAULT, seconds=3)
    controller = bench.spawn("start", "--flags", "L2B5", "--name", "c", "--slots", "2")
    wait_for(lambda: len(bench.starts()) == 2)
    controller.send_signal(signal.SIGINT)
    out, err = controller.communicate(timeout=300)
    assert controller.returncode == 130
    assert "asked t01 t02 to save and stop" in out
    assert "Interrupted (stopped on request). Resume it with: maskrcnn-bisect resume c" in out
    assert err == ""


def test_stop_works_from_elsewhere_and_for_orphans(bench):
    bench.set(seconds=30)
    controller = bench.spawn("start", "--flags", "L2B5", "--name", "c", "--slots", "2")
    wait_for(lambda: len(bench.starts()) == 2)
    code, out, _ = bench.call("stop", "c")
    assert code == 0 and "Resume it with: maskrcnn-bisect resume c" in out
    controller.communicate(timeout=300)
    assert controller.returncode == 130

    controller = bench.spawn("resume", "c", "--slots", "2")
    wait_for(lambda: len(bench.starts()) == 4)
    kill(controller)
    running = store.load(bench.runs / "c")[0].running
    assert bench.call("stop", "c")[0] == 0
    assert len(running) == 2 and all(process.identity(trial.ticket["pid"]) is None for trial in running)
    assert bench.status()["state"] == "interrupted"
    assert "is not running" in bench.call("stop", "c")[1]


def test_one_controller_at_a_time(bench):
    bench.set(seconds=20)
    controller = bench.spawn("start", "--flags", "L2B5", "--name", "c", "--slots", "1")
    wait_for(lambda: len(bench.starts()) == 1)
    code, _, err = bench.call("resume", "c")
    assert code == 2 and f"is being run by process {controller.pid}" in err
    assert bench.call("start", "--flags", "L2B5", "--name", "c")[0] == 2
    summary = bench.status()
    assert summary["state"] == "running" and summary["trials"][0]["slot"] == 1
    controller.send_signal(signal.SIGTERM)
    controller.communicate(timeout=300)
    assert controller.returncode == 130 and len(bench.starts()) == 1


def test_a_lease_of_another_host_is_not_taken(bench):
    bench.run()
    holder = {"pid": 1, "host": "elsewhere", "identity": "x", "since": 0}
    (bench.runs / "c" / "lease.json").write_text(json.dumps(holder))
    with pytest.raises(UserError, match="last run by process 1 on elsewhere"), lease.Lease(bench.runs / "c"):
        pass
    (bench.runs / "c" / "lease.json").write_text(json.dumps({**holder, "host": os.uname().nodename, "pid": 2**22 + 1}))
    with lease.Lease(bench.runs / "c"):  # of a dead process of this host
        assert lease.holder(bench.runs / "c").alive
    assert lease.holder(bench.runs / "c") is None


def test_a_request_to_stop_counts_from_the_moment_that_a_campaign_is_held(bench):
    folder = store.create(bench.runs, "c")
    (folder / store.STOP).write_text("of one before")  # who held it before was meant
    with session.hold(folder, bench.settings()) as (log, state):
        interrupts.request(folder, lease.holder(folder))
        recorder = Recorder(folder, log, state)
        assert Controller(recorder, session.launcher_of(state.settings, 2)).run().state == "interrupted"
    assert bench.starts() == [] and not (folder / store.STOP).exists()
    (folder / store.STOP).write_text("of one before")
    assert bench.run().state == "finished"


def test_threads_are_shared_between_slots(bench, monkeypatch):
    from bisect_cli.launchers import Job, local

    monkeypatch.setattr(local, "cores", lambda: 8)
    folder = bench.folder / "job"
    handle = local.Local(3).prepare(Job(["sh", "-c", 'echo "$OMP_NUM_THREADS" $0', "a b;c"], str(bench.folder), folder))
    time.sleep(0.2)
    assert handle.poll() is None and (folder / "stdout.txt").read_text() == ""  # waits for go
    handle.go()
    wait_for(lambda: handle.poll())
    assert (folder / "stdout.txt").read_text() == "2 a b;c\n"


def test_killing_a_run_kills_what_it_started(bench):
    from bisect_cli.launchers import Job, local

    folder = bench.folder / "job"
    handle = local.Local(1).prepare(Job(["sh", "-c", "sleep 100 & echo $!; wait"], str(bench.folder), folder))
    handle.go()
    wait_for(lambda: (folder / "stdout.txt").read_text().endswith("\n"))
    child = int((folder / "stdout.txt").read_text())
    assert process.identity(child)
    handle.kill()
    wait_for(lambda: handle.poll())
    wait_for(lambda: process.identity(child) is None)


def test_the_summary_of_a_run_in_flight(bench):
    bench.set(seconds=4)
    seen = {}

    def listen(event, state, analysis):
        if event is None and state.running and not seen:  # once: runs that were stopped are no longer in flight
            summary = summarize(bench.runs / "c", state, analysis)
            if any(trial["step"] and trial["step"] > 3 for trial in summary["trials"]):
                seen.update(summary)
                (bench.runs / "c" / store.STOP).touch()

    bench.run(listen=listen)
    trial = next(trial for trial in seen["trials"] if trial["step"] and trial["step"] > 3)
    assert trial["state"] == "running" and trial["slot"] in (1, 2) and trial["steps"] == 20
    assert trial["seconds_left"] > 0


def test_a_baseline_that_learns_nothing_is_said(bench):
    bench.set(base=0.01)
    state = bench.run()
    summary = summarize(bench.runs / "c", state, analyse(state))
    assert summary["notes"] == [
        f"the baseline's {metric} is too close to the worst for a drop to show: train for longer"
        for metric in ("bbox", "segm")
    ]
