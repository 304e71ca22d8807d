"""Processes: of a run nothing is left, whatever it did; and nothing is signalled that is not proven to be of a run."""

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest
from bisecting import Bench, kill, rewrite, wait_for

from bisect_cli.launchers import Job, local, process
from bisect_cli.run.elsewhere import OPTION
from bisect_cli.storage import lease, store

START = ("start", "--flags", "L2B5", "--name", "c", "--slots", "2", "--no-parity", "--search", "halving")
# Starts helpers of every kind, notes their ids, and goes on until it is asked to stop or, with `ends`, at once.
LEAVES_HELPERS = """
import os, signal, subprocess, sys, time
from pathlib import Path

out, ends = Path(sys.argv[1]), "ends" in sys.argv
stop = []
signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
sleep = [sys.executable, "-c", "import os, sys, time; print(os.getpid(), flush=True); time.sleep(1000)"]
kinds = {
    "group": {},
    "session": {"start_new_session": True},
    "unmarked": {"start_new_session": True, "env": {"PATH": os.environ["PATH"]}},
}
pids = {}
for kind, how in kinds.items():
    if how:  # its parent ends at once
        orphan = "import subprocess, sys; print(subprocess.Popen(sys.argv[1:], stdout=open(sys.argv[-1], 'w')).pid)"
        words = [sys.executable, "-c", orphan, *sleep, str(out / (kind + ".txt"))]
        pids[kind] = int(subprocess.run(words, stdout=subprocess.PIPE, check=True, **how).stdout)
    else:
        pids[kind] = subprocess.Popen(sleep, stdout=subprocess.DEVNULL).pid
fresh = out / "pids.new"
fresh.write_text(" ".join(f"{kind}={pid}" for kind, pid in pids.items()))
fresh.rename(out / "pids")
while not stop and not ends:
    time.sleep(0.02)
alive = [kind for kind, pid in pids.items() if Path(f"/proc/{pid}").exists()]
(out / "saved").write_text(" ".join(alive))
"""


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path, breaks={"segm": [["ROI_ALIGN_MASK"]]}, seconds=0.05)


@pytest.fixture
def decoy():
    """The id of a process that is nobody's run, whose group has the id of its parent, which has ended."""
    shell = subprocess.run(
        ["sh", "-c", "sleep 1000 > /dev/null & echo $$ $!"], stdout=subprocess.PIPE, check=True, start_new_session=True
    )
    group, pid = map(int, shell.stdout.split())
    known = process.identity(pid)
    assert known and not process.identity(group) and os.getpgid(pid) == group
    yield pid
    process.signal_one(pid, known, signal.SIGKILL)


class Run:
    """A run of LEAVES_HELPERS as a job of its own."""

    def __init__(self, folder, *words):
        self.folder = folder
        folder.mkdir()
        self.launcher = local.Local(1)
        argv = [sys.executable, "-c", LEAVES_HELPERS, str(folder), *words]
        self.handle = self.launcher.prepare(Job(argv, str(folder), folder / "attempt-1"))
        self.handle.go()
        wait_for(lambda: (folder / "pids").exists())
        words = dict(word.split("=") for word in (folder / "pids").read_text().split())
        self.helpers = {kind: int(pid) for kind, pid in words.items()}

    @property
    def ticket(self):
        return self.handle.ticket

    def alive(self):
        return [kind for kind, pid in self.helpers.items() if process.identity(pid)]

    def end(self):
        wait_for(lambda: self.handle.poll())
        return self.handle.poll()


@pytest.fixture
def run(tmp_path):
    """A function that starts a Run; none is left after the test."""
    runs = []

    def start(*words):
        runs.append(Run(tmp_path / f"run-{len(runs)}", *words))
        return runs[-1]

    yield start
    for one in runs:
        one.handle.kill()
        for pid in one.helpers.values():
            process.signal_one(pid, process.identity(pid), signal.SIGKILL)


# --- what a run leaves behind


def test_what_a_run_leaves_behind_ends_with_it(run):
    found = run("ends")
    assert found.end().code == 0 and not found.alive()


def test_killing_a_run_kills_what_has_left_its_session(run):
    found = run()
    assert sorted(found.alive()) == ["group", "session", "unmarked"]
    found.handle.kill()
    assert found.end().code == -signal.SIGKILL and not found.alive()


def test_a_run_that_is_asked_to_stop_has_its_helpers_until_it_has_saved(run):
    found = run()
    found.handle.ask_to_stop()
    assert found.end().code == 0
    assert (found.folder / "saved").read_text().split() == ["group", "session", "unmarked"] and not found.alive()


@pytest.mark.parametrize("seen_by", ["its controller", "the next one"])
def test_what_is_left_by_an_agent_that_was_killed(run, seen_by):
    """What it has started is known by the mark in its environment."""
    found = run()
    os.kill(found.ticket["pid"], signal.SIGKILL)
    if seen_by == "its controller":
        assert found.end().code == -signal.SIGKILL
    else:
        wait_for(lambda: process.identity(found.ticket["pid"]) is None)
        again = local.Local(1)
        assert again.reattach(json.loads(json.dumps(found.ticket)), found.folder / "attempt-1") is None
    wait_for(lambda: found.alive() == ["unmarked"])  # nothing proves whose that is


def test_a_reattached_run_is_ended_as_a_whole(run):
    found = run()
    handle = local.Local(1).reattach(json.loads(json.dumps(found.ticket)), found.folder / "attempt-1")
    assert handle.poll() is None and len(found.alive()) == 3
    handle.kill()
    found.handle.poll()  # it was our child after all
    wait_for(lambda: handle.poll())
    assert not found.alive()


def test_those_that_end_before_the_run_leave_no_zombies(run):
    found = run()
    pid = found.helpers["unmarked"]
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not os.path.exists(f"/proc/{pid}"))
    assert found.handle.poll() is None


@pytest.mark.parametrize("how", ["by a stop", "by its end", "by stop after a crash of its controller"])
def test_a_campaign_leaves_nothing_running(bench, how):
    """Its runs, and the trainer's check of its arguments, start a process in a session of its own."""
    helpers = bench.folder / "helpers.txt"
    script = bench.folder / "train.py"
    script.write_text(
        "import os, subprocess, sys\n"
        "child = subprocess.Popen(['sleep', '1000'], start_new_session=True, stdout=subprocess.DEVNULL)\n"
        f"print(child.pid, file=open({str(helpers)!r}, 'a'), flush=True)\n"
        f"os.execv(sys.executable, [*{list(bench.trainer)!r}, *sys.argv[1:]])\n"
    )
    bench.set(seconds=0.05 if how == "by its end" else 60)
    bench.command = (sys.executable, str(script))
    controller = bench.spawn(*START)
    if how != "by its end":
        wait_for(lambda: len(bench.starts()) == 2 or controller.poll() is not None)
        assert controller.poll() is None, controller.communicate()
        if how == "by a stop":
            controller.send_signal(signal.SIGINT)
        else:
            kill(controller)
            assert bench.call("stop", "c")[0] == 0
    controller.communicate()
    pids = [int(line) for line in helpers.read_text().split()]
    assert len(pids) >= 2 and not any(process.identity(pid) for pid in pids)


# --- tickets


def test_a_group_that_has_the_id_of_a_dead_run_is_left_alone(bench, decoy):
    bench.set(seconds=60)
    interrupted(bench)
    dead = {"pid": os.getpgid(decoy), "identity": f"{process.boot()}/1"}
    kill_runs(bench)
    rewrite(bench.runs / "c", lambda record: with_ticket(record, {**process.where(), **dead}))
    code, _, err = bench.call("stop", "c")
    assert code == 0, err
    assert process.identity(decoy) and not store.load(bench.runs / "c")[0].running


def test_a_process_of_anybody_else_is_left_alone_whatever_a_ticket_says(bench, decoy):
    """It is alive, and the ticket has its id, boot and start time, which all can see."""
    bench.set(seconds=60)
    interrupted(bench)
    other = {"pid": decoy, "identity": process.identity(decoy)}
    kill_runs(bench)
    for ticket in ({**process.where(), **other}, {**process.where(), **other, "mark": "0" * 32}):
        rewrite(bench.runs / "c", lambda record, ticket=ticket: with_ticket(record, ticket))
        code, _, err = bench.call("stop", "c")
        assert code == 0, err
        assert process.identity(decoy)


WRONG_IDS = [0, -1, 1, "own", "own group", str(os.getpid()), "self", "../1", True, None, 1.5, 2**31, 2**70, [], {}]


@pytest.mark.parametrize("pid", WRONG_IDS, ids=str)
@pytest.mark.parametrize("state", ["alive", "dead"])
def test_a_ticket_with_such_an_id_signals_nothing(tmp_path, monkeypatch, pid, state):
    """Signals are noted instead of sent: with some of these ids they would reach all processes there are."""
    sent = []
    for module, name in ((os, "kill"), (os, "killpg"), (signal, "pidfd_send_signal")):
        monkeypatch.setattr(module, name, lambda *given: sent.append(given), raising=False)
    (tmp_path / "attempt-1").mkdir()
    pid = {"own": os.getpid(), "own group": os.getpgid(0)}.get(pid, pid) if isinstance(pid, str) else pid
    known = process.identity(pid) if state == "alive" else f"{process.boot()}/1"
    for mark in ({}, {"mark": "0" * 32}, {"mark": ""}, {"mark": 7}):
        launcher, ticket = local.Local(1), {**process.where(), "pid": pid, "identity": known, **mark}
        launcher.open(tmp_path, "uid", [ticket])
        assert launcher.ready
        handle = launcher.reattach(ticket, tmp_path / "attempt-1")
        assert handle is None and not sent


def test_a_copied_campaign_does_not_signal_the_runs_of_its_original(bench):
    bench.set(seconds=60)
    interrupted(bench)
    shutil.copytree(bench.runs / "c", bench.runs / "copy")
    runs = [trial.ticket for trial in store.load(bench.runs / "c")[0].running]
    code, _, err = bench.call("stop", "copy")
    assert code == 0, err
    assert not store.load(bench.runs / "copy")[0].running
    assert all(process.identity(ticket["pid"]) == ticket["identity"] for ticket in runs)
    (bench.runs / "c").rename(bench.runs / "moved")  # that is still the same
    assert bench.call("stop", "moved")[0] == 0
    assert not any(process.identity(ticket["pid"]) for ticket in runs)


def test_a_run_from_before_there_were_marks_is_taken_over(run):
    found = run()
    ticket = {key: value for key, value in found.ticket.items() if key in ("host", "pid", "identity")}
    assert local.Local(1).reattach(ticket, found.folder) is None  # another folder
    handle = local.Local(1).reattach(ticket, found.folder / "attempt-1")
    handle.ask_to_stop()
    assert found.end().code == 0


# --- elsewhere


@pytest.mark.parametrize("change", [{"host": "gpu07.example"}, {"space": "pid:[1]"}], ids=["host", "container"])
def test_runs_elsewhere_are_neither_lost_nor_started_twice(bench, change):
    bench.set(seconds=60)
    interrupted(bench)
    rewrite(bench.runs / "c", lambda record: with_ticket(record, change))
    (bench.runs / "c" / "lease.json").write_text("")
    where = "on host gpu07.example" if "host" in change else "in another container of the host name"
    for command in ("resume", "stop", "resume"):
        code, _, err = bench.call(command, "c")
        assert code == 2 and where in err and f"maskrcnn-bisect resume c {OPTION}" in err and err.count("\n") == 1
    assert len(store.load(bench.runs / "c")[0].running) == len(bench.starts()) == 2
    kill_runs(bench)
    bench.set()
    code, _, err = bench.call("resume", "c", OPTION, "--slots", "2")
    assert code == 0, err
    assert not any(line.startswith("TWICE") for line in bench.starts())


def test_runs_elsewhere_that_have_noted_their_end_have_ended(bench):
    bench.set(seconds=60)
    interrupted(bench)
    for trial in store.load(bench.runs / "c")[0].running:
        os.kill(trial.ticket["pid"], signal.SIGTERM)
        home = store.trial_folder(bench.runs / "c", trial.id)
        wait_for(lambda home=home: (home / "attempt-1" / "exit.json").exists())
    rewrite(bench.runs / "c", lambda record: with_ticket(record, {"host": "gpu07.example"}))
    bench.set()
    code, _, err = bench.call("resume", "c", "--slots", "2")
    assert code == 0, err


def test_runs_of_before_a_restart_of_the_machine_are_lost(bench):
    bench.set(seconds=60)
    interrupted(bench)
    kill_runs(bench)
    rewrite(bench.runs / "c", lambda record: with_ticket(record, {"identity": "01234567/1"}))
    bench.set()
    code, _, err = bench.call("resume", "c", "--slots", "2")
    assert code == 0, err
    assert "lost" in bench.outcomes()


# --- the lease


def test_a_lease_in_another_container_may_be_held(bench):
    bench.set(seconds=60)
    interrupted(bench)
    kill_runs(bench)
    path = bench.runs / "c" / "lease.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "space": "pid:[1]"}))
    assert lease.holder(bench.runs / "c").alive is None
    code, _, err = bench.call("resume", "c")
    assert code == 2 and "was last run by process" in err
    bench.set()
    assert bench.call("resume", "c", OPTION)[0] == 0


@pytest.mark.parametrize(
    "wrong", ['{"pid": "../1"', '{"pid": -1', '{"pid": 1e300', "[" * 10**5, '{"pid": 12', "9" * 10**6]
)
def test_a_lease_of_any_content_is_read(tmp_path, wrong):
    (tmp_path / "lease.json").write_text(wrong + ', "host": "x\\u001b[2J", "identity": 7}')
    assert lease.holder(tmp_path) is None
    with lease.Lease(tmp_path):
        assert lease.holder(tmp_path).alive


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_a_lease_that_is_no_file_is_not_written_through(bench, kind):
    folder, mine = store.create(bench.runs, "c"), bench.folder / "mine.txt"
    mine.write_text("precious")
    make = {"link": lambda path: path.symlink_to(mine), "pipe": os.mkfifo, "folder": os.mkdir}[kind]
    make(folder / "lease.json")
    code, _, err = bench.call(*START)
    assert code == 2 and "lease.json is no regular file" in err and mine.read_text() == "precious"


# --- parity


@pytest.mark.parametrize("command", ["resume", "stop"])
def test_parity_that_a_controller_left_running_is_ended(bench, command):
    bench.set(parity={"sleep": 1000})
    controller = bench.spawn("start", "--flags", "L2B5", "--name", "c", "--slots", "2")
    wait_for(lambda: len(bench.starts()) == 1)
    kill(controller)
    ticket = store.load(bench.runs / "c")[0].parity_ticket
    assert process.identity(ticket["pid"]) == ticket["identity"]
    bench.set(parity={})
    code, _, err = bench.call(command, "c")
    assert code == 0, err
    assert not process.identity(ticket["pid"]) and not store.load(bench.runs / "c")[0].parity_ticket
    assert sum(line.startswith("parity") for line in bench.starts()) == 1 + (command == "resume")
    if command == "stop":
        assert "is not running" in bench.call("stop", "c")[1]


def test_parity_elsewhere_is_not_begun_again(bench):
    bench.set(parity={"sleep": 1000})
    controller = bench.spawn("start", "--flags", "L2B5", "--name", "c", "--slots", "2")
    wait_for(lambda: len(bench.starts()) == 1)
    kill(controller)
    folder = bench.runs / "c"
    ticket = store.load(folder)[0].parity_ticket
    handle = local.Local(1).reattach(ticket, folder / "parity")
    handle.kill()
    wait_for(handle.poll)
    rewrite(folder, lambda record: with_ticket(record, {"host": "gpu07.example"}))
    (folder / "parity" / "exit.json").unlink(missing_ok=True)
    code, _, err = bench.call("resume", "c")
    assert code == 2 and "on host gpu07.example, where they may still go on (parity)" in err
    bench.set(parity={})
    assert bench.call("resume", "c", OPTION)[0] == 0


def interrupted(bench):
    """A campaign whose controller was killed while two runs were under way, which go on."""
    controller = bench.spawn(*START)
    wait_for(lambda: len(bench.starts()) == 2 or controller.poll() is not None)
    assert controller.poll() is None, controller.communicate()
    kill(controller)
    bench.tickets = [trial.ticket for trial in store.load(bench.runs / "c")[0].running]
    assert len(bench.tickets) == 2


def kill_runs(bench):
    """Ends the runs of `interrupted`, as a crash of their machine would."""
    for ticket in bench.tickets:
        process.end_all(None, ticket["pid"])
        wait_for(lambda ticket=ticket: process.identity(ticket["pid"]) is None)


def with_ticket(record, change):
    """A record of the log with another ticket, where it has one. A whole one takes its place."""
    if "ticket" not in record:
        return record
    whole = "pid" in change
    return {**record, "ticket": change if whole else {**record["ticket"], **change}}


@pytest.fixture(autouse=True)
def nothing_left(bench):
    """Whatever a test did, its runs are no more."""
    yield
    for ticket in getattr(bench, "tickets", ()):
        if process.identity(ticket["pid"]) == ticket["identity"]:
            process.end_all(None, ticket["pid"])
