"""Runs as jobs of Slurm, on the fake one of tests/fake_slurm.py, which loses answers, jobs and nodes."""

import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import fake_slurm
import pytest
from bisecting import Bench, check_named, kill, results, wait_for

from bisect_cli import launchers
from bisect_cli.analysis import analyse
from bisect_cli.campaign import events
from bisect_cli.errors import UserError
from bisect_cli.launchers import agent, slurm
from bisect_cli.report import nodes
from bisect_cli.storage import store

FAULT = {"segm": [["ROI_ALIGN_MASK"]]}
QUICK = {"poll_seconds": 0.1, "vanish_seconds": 3.0}
WORDS = ("--launcher", "slurm", "--launcher-option", "poll_seconds=.1", "--launcher-option", "vanish_seconds=3")
START = ("start", "--flags", "L2B5", "--name", "c", "--slots", "3", "--no-parity", *WORDS)


class Cluster(Bench):
    """A Bench with a fake Slurm; faults: as it takes them."""

    def __init__(self, folder, **table):
        self.slurm = folder / "slurm"
        (self.slurm / "bin").mkdir(parents=True)
        for name in ("sbatch", "squeue", "scontrol", "scancel"):
            path = self.slurm / "bin" / name
            path.write_text(f"#!{sys.executable} -IS\n{Path(fake_slurm.__file__).read_text()}")
            path.chmod(path.stat().st_mode | stat.S_IXUSR)
        super().__init__(folder, **table)
        self.faults()

    def faults(self, **faults):
        (self.slurm / "faults.json").write_text(json.dumps(faults))

    def jobs(self):
        with fake_slurm.state() as found:
            return found["jobs"]

    @contextlib.contextmanager
    def editing(self):
        """{id: job}, to be changed."""
        with fake_slurm.state() as found:
            yield found["jobs"]

    def go(self, name="c", **more):
        given = {"launcher": "slurm", "launcher_options": QUICK, "slots": 3, "parity": False, **more}
        return self.run(name, **given)

    def when_running(self, do, number=2):
        """A listener that does something, once, to the job of the run that begins as the n-th, when it has a step."""
        began, done = [], []

        def listen(event, state, analysis):
            if isinstance(event, events.Began):
                began.append(event.trial)
            if len(began) >= number and not done:
                trial = state.trials[began[number - 1]]
                if (store.trial_folder(self.runs / "c", trial.id) / "out" / "metrics.jsonl").exists():
                    done.append(True)
                    with self.editing() as jobs:
                        do(jobs, trial.ticket["job"])

        return listen


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_SLURM", str(tmp_path / "slurm"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'slurm' / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr(fake_slurm, "FOLDER", tmp_path / "slurm")
    made = Cluster(tmp_path, breaks=FAULT)
    yield made
    for job in made.jobs().values():
        fake_slurm.signal_job(job, signal.SIGKILL)


def culprits(state):
    return [culprit.flags for culprit in analyse(state).plans["segm"].culprits]


def test_a_whole_bisect_is_as_on_this_machine(cluster):
    state = cluster.go()
    check_named(cluster)
    local = cluster.run("local", slots=3, parity=False)
    assert results(state) == results(local)
    assert {trial.node for trial in state.trials.values()} == {"n1", "n2", "n3"}
    jobs = cluster.jobs().values()
    assert len({job["name"] for job in jobs}) == len(jobs) == len(state.trials)
    assert all(job["name"].startswith(f"mb-{state.settings.uid}-t") for job in jobs)
    assert not any(trial.ticket for trial in state.trials.values())
    assert "FAKE_SLURM" not in json.dumps(cluster.events())
    rows = list(nodes.node_rows(state, time.time()))
    assert sum(row[1] for row in rows) == len(state.trials) and not any(row[2] or row[4] for row in rows)


@pytest.mark.parametrize("fault", ["lose", "fail", "hang", "twice"])
def test_whatever_sbatch_answers_every_run_is_there_once(cluster, monkeypatch, fault):
    monkeypatch.setattr(slurm, "SECONDS", 1)
    cluster.faults(sbatch=["", fault, fault, "", fault])
    troubles = []
    state = cluster.go(listen=lambda event, *_: troubles.append(event) if isinstance(event, events.Trouble) else None)
    check_named(cluster)
    assert set(cluster.outcomes()) == {"finished"}
    ran = [job for job in cluster.jobs().values() if job["pids"]]
    assert len(ran) == len(state.trials)
    assert bool(troubles) == (fault != "twice")


@pytest.mark.parametrize("how", ["NODE_FAIL", "PREEMPTED", "forgotten", "killed"])
def test_a_run_whose_job_dies_is_resumed_and_costs_no_attempt(cluster, how):
    cluster.set(breaks=FAULT, seconds=1.0)

    def end(jobs, number):
        fake_slurm.signal_job(jobs[number], signal.SIGKILL)
        jobs[number]["ending"] = jobs[number]["state"] = "FAILED" if how == "killed" else how
        if how == "forgotten":
            del jobs[number]

    state = cluster.go(listen=cluster.when_running(end))
    check_named(cluster, again=1)
    (other,) = set(cluster.outcomes()) - {"finished"}
    assert other == {"forgotten": "lost", "killed": "crashed"}.get(how, "evicted")
    assert sum(trial.crashes for trial in state.trials.values()) == (how == "killed")


def test_a_job_that_is_asked_to_end_by_the_scheduler_goes_on_in_another(cluster):
    """A time limit shorter than a run is a chain of jobs."""
    cluster.set(breaks=FAULT, seconds=1.5)
    cluster.faults(limit=0.9)
    state = cluster.go()
    check_named(cluster, again=None)
    ended = [event for event in cluster.events() if event.get("outcome") == "evicted"]
    assert len(ended) >= len(state.trials)
    assert all(trial.attempts > 1 and not trial.crashes for trial in state.trials.values())
    home = store.trial_folder(cluster.runs / "c", "t01") / "out" / "metrics.jsonl"
    steps = [json.loads(line)["step"] for line in home.read_text().splitlines()]
    assert steps == sorted(set(steps))


def test_a_time_limit_that_is_hopeless_is_said(cluster, monkeypatch):
    monkeypatch.setattr("bisect_cli.run.watch.MOST", 2)
    monkeypatch.setattr(
        "bisect_cli.run.watch.trainer_of", lambda settings: type("T", (), {"progress": lambda *_: None})
    )
    cluster.set(breaks=FAULT, seconds=30)
    cluster.faults(limit=0.2)
    state = cluster.go()
    assert state.state == "failed" and "resumed again and again, it got no further" in state.trials["t01"].reason


def test_a_run_that_slurm_has_forgotten_goes_on_alone(cluster):
    """It is asked to end, and only then resumed: never two of it at once."""
    cluster.set(breaks=FAULT, seconds=2.0)
    cluster.go(listen=cluster.when_running(lambda jobs, number: jobs.pop(number)))
    check_named(cluster, again=1)
    assert cluster.outcomes().count("evicted") == 1


def test_an_outage_decides_nothing(cluster):
    cluster.set(breaks=FAULT, seconds=0.6)
    said = []

    def listen(event, state, analysis):
        if isinstance(event, events.Began) and not said:
            said.append("down")
            cluster.faults(squeue=True, sbatch=["fail"] * 5)
            threading.Timer(2.0, cluster.faults).start()
        if isinstance(event, events.Trouble):
            said.append(event.words)

    cluster.go(listen=listen)
    check_named(cluster)
    assert set(cluster.outcomes()) == {"finished"}
    assert any("Unable to contact" in words for words in said) and said[-1] == ""


def test_a_node_on_which_runs_crash_at_once_is_left_out(cluster):
    cluster.set(breaks=FAULT, seconds=0.3)
    with cluster.failing_on("n2", "SLURMD_NODENAME"):
        cluster.go()
    crashes = cluster.outcomes().count("crashed")
    assert 1 <= crashes <= 2  # on a slow machine a second run has been sent there before the first has crashed
    check_named(cluster, again=crashes)
    assert sum("n2" in job["exclude"] for job in cluster.jobs().values()) > 2
    code, out, _ = cluster.call("nodes", "c")
    assert code == 0 and f"n2: {crashes} ended, {crashes} crashed, left out for" in out and " steps a second" in out
    assert any("node n2 is left out" in note for note in cluster.status()["notes"])


def test_runs_that_crash_everywhere_are_not_the_nodes_fault(cluster):
    cluster.set(crashes=[["MASK_LOSS"], 99])
    state = cluster.go()
    assert state.state == "inconclusive"
    rows = {row[0]: row[4] for row in nodes.node_rows(state, time.time())}
    assert any("it is not for the node" in words for words in rows.values())
    assert not any(words.startswith("left out") for words in rows.values())
    assert any("it is not for the nodes" in note for note in cluster.status()["notes"])


def test_a_folder_that_no_node_sees_is_said(cluster):
    cluster.faults(blind=["n1", "n2", "n3"])
    with pytest.raises(UserError, match=r"agent.py: no such file\).* srun -w n\d ls -d .*trials/t0"):
        cluster.go()


def test_a_single_node_that_does_not_see_it_is_left_out(cluster):
    cluster.set(breaks=FAULT, seconds=0.4)
    cluster.faults(blind=["n3"])
    state = cluster.go()
    check_named(cluster)
    assert "lost" in cluster.outcomes() and all(trial.crashes == 0 for trial in state.trials.values())
    assert any("n3" in job["exclude"] for job in cluster.jobs().values())


def test_a_queued_run_is_never_hung_and_shows_as_queued(cluster):
    cluster.faults(nodes=["n1"])
    cluster.set(breaks=FAULT, seconds=0.5)
    seen = set()

    def listen(event, state, analysis):
        if event is None and state.running:
            seen.update(trial["state"] for trial in cluster.look(state, analysis)["trials"])
            with contextlib.suppress(StopIteration):
                one = next(t for t in cluster.look(state, analysis)["trials"] if t["state"] == "running")
                assert one["node"] == "n1" and one["began"] >= one["started"] - 1

    from bisect_cli.report.summary import summarize

    cluster.look = lambda state, analysis: summarize(cluster.runs / "c", state, analysis)
    cluster.go(listen=listen, hung=1.5, slots=6)
    check_named(cluster)
    assert {"queued", "running"} <= seen


def test_sigkill_of_the_controller_then_resume(cluster):
    cluster.set(breaks=FAULT, seconds=3)
    controller = cluster.spawn(*START)
    wait_for(lambda: len(cluster.starts()) >= 4)
    kill(controller)
    with cluster.editing() as jobs:  # as if it had died between the submission and the log
        uid = store.load(cluster.runs / "c")[0].settings.uid
        orphan = {**next(iter(jobs.values())), "name": f"mb-{uid}-t09-1", "held": True, "state": "PENDING", "pids": []}
        jobs["900"] = orphan
        jobs["901"] = {**orphan, "workdir": str(cluster.folder / "a-copy")}
    cluster.set(breaks=FAULT)
    code, out, err = cluster.call("resume", "c", "--slots", "3")
    assert code == 0, err
    assert "taken over" in out
    check_named(cluster)
    assert cluster.jobs()["900"]["state"] == "CANCELLED" and cluster.jobs()["901"]["state"] == "PENDING"


def test_ctrl_c_saves_and_detach_leaves_running(cluster):
    cluster.set(breaks=FAULT, seconds=60)
    controller = cluster.spawn(*START, "--detach")
    wait_for(lambda: len(cluster.starts()) == 3)
    controller.send_signal(signal.SIGINT)
    out, err = controller.communicate(timeout=300)
    assert controller.returncode == 130 and "Interrupted, but its runs go on: 3 running" in out, err
    assert sum(job["state"] == "RUNNING" for job in cluster.jobs().values()) == 3
    assert cluster.status()["under_way"] == {"queued": 0, "running": 3}
    for command in (("status", "c"), ("list",)):
        assert "interrupted, but its runs go on: 3 running" in cluster.call(*command)[1]
    assert "Take them over with: maskrcnn-bisect resume c" in cluster.call("status", "c")[1]

    controller = cluster.spawn("resume", "c", "--slots", "3")
    wait_for(lambda: sum(event["kind"] == "reattached" for event in cluster.events()) == 3)
    controller.send_signal(signal.SIGINT)
    out, err = controller.communicate(timeout=300)
    assert controller.returncode == 130 and "Interrupted (stopped on request)" in out, err
    assert [event["code"] for event in cluster.events() if event.get("outcome") == "stopped"] == [143] * 3
    cluster.set(breaks=FAULT)
    assert cluster.call("resume", "c")[0] == 0
    check_named(cluster, again=3)


def test_ctrl_c_is_served_once_sbatch_has_been_given_up(cluster):
    cluster.faults(sbatch=["", "hang"])
    controller = cluster.spawn(*START)
    wait_for(lambda: len(cluster.jobs()) == 2)
    controller.send_signal(signal.SIGINT)
    _, err = controller.communicate(timeout=300)
    assert controller.returncode == 130, err
    assert len(cluster.jobs()) == 2
    cluster.faults()
    assert cluster.call("resume", "c")[0] == 0
    check_named(cluster, again=None)


def test_stop_cancels_what_is_queued(cluster):
    cluster.faults(nodes=[], reason="PartitionTimeLimit")
    controller = cluster.spawn(*START)
    wait_for(lambda: len(cluster.jobs()) == 3 and not any(job["held"] for job in cluster.jobs().values()))
    assert any("it will stay in the queue: PartitionTimeLimit; stop it" in line for line in controller.stdout)
    assert "queued for" in cluster.call("status", "c")[1]
    code, out, _ = cluster.call("stop", "c")
    assert code == 0 and controller.wait(timeout=300) == 130
    assert all(job["state"] == "CANCELLED" and not job["pids"] for job in cluster.jobs().values())
    cluster.faults()
    assert cluster.call("resume", "c")[0] == 0
    check_named(cluster)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--launcher-option", "partion=x"), "unknown option of launcher slurm 'partion': did you mean partition"),
        (("--launcher-option", "cpus=0"), "--launcher-option cpus: '0' is not right: write a whole number above 0"),
        (("--launcher-option", "cpus"), "write KEY=VALUE"),
        (("--launcher", "manual", "--launcher-option", "cpus=1"), "launcher manual has no options"),
    ],
)
def test_wrong_options_are_said_before_any_run(cluster, words, said):
    code, _, err = cluster.call(*START, *words)
    assert code == 2 and said in err and err.count("\n") == 1
    assert not cluster.jobs() and not cluster.runs.exists()


def test_what_slurm_refuses_is_said_before_any_run(cluster, monkeypatch):
    cluster.faults(refuse="invalid partition specified: nosuch")
    code, _, err = cluster.call(*START)
    assert code == 2 and not cluster.runs.exists()
    assert "Slurm would not take the runs: invalid partition specified: nosuch;" in err
    monkeypatch.setenv("PATH", str(cluster.folder))
    with pytest.raises(UserError, match="sbatch is not on the path"):
        slurm.Slurm().check()


def test_options_become_arguments_of_sbatch():
    texts = [("gpus", "a100:4"), ("cpus", "8"), ("memory", "32G"), ("extra", "--gres=x:1"), ("extra", "--nice")]
    options = launchers.parse_options("slurm", texts)
    assert options["cpus"] == 8 and options["extra"] == ["--gres=x:1", "--nice"]
    assert slurm.flags_of(options) == ["--gpus=a100:4", "--cpus-per-task=8", "--mem=32G", "--gres=x:1", "--nice"]
    assert slurm.parse_id("12;cluster\n") == slurm.parse_id("sbatch: hello\n12\n") == "12"
    assert slurm.parse_id("sbatch: 12 hosts") == ""
    (found,) = slurm.parse_jobs("7|RUNNING|n1|None|mb-1-t01-1|/a|b\nrubbish\n").values()
    assert found.workdir == "/a|b" and found.node == "n1" and not found.held


def test_a_trainers_file_names_a_launcher(tmp_path):
    from bisect_cli.trainers import trainerfile

    tables = {
        "trainer": {"command": ["true", "{out}", "{flags}"]},
        "flags": {"a": {}},
        "metrics": {"acc": {"source": "json", "file": "{out}/r.json", "key": "acc", "better": "higher"}},
        "launcher": {"name": "slurm", "partition": "gpu", "cpus": 4, "extra": ["--nice"]},
    }
    found = trainerfile.spec_of(tables, tmp_path).options["launcher"]
    assert found == {"name": "slurm", "options": {"partition": "gpu", "cpus": 4, "extra": ["--nice"]}}
    tables["launcher"]["cpu"] = 3
    with pytest.raises(UserError, match="launcher.cpu: unknown option of launcher slurm 'cpu': did you mean cpus?"):
        trainerfile.spec_of(tables, tmp_path)


def test_the_agent_needs_nothing_but_an_old_python():
    import ast

    tree = ast.parse(Path(agent.__file__).read_text(), feature_version=(3, 6))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert imported <= {
        "contextlib",
        "ctypes",
        "hashlib",
        "json",
        "math",
        "os",
        "signal",
        "socket",
        "subprocess",
        "sys",
        "time",
    }


def test_a_run_is_asked_once_whoever_asks(tmp_path):
    """By a file and by a signal at the same time: a trainer may take the second for a request not to save."""
    from bisect_cli.launchers import Job, write_job

    lines = [
        *(
            "import os, pathlib, signal, time",
            "seen = pathlib.Path('seen')",
            "note = lambda word: lambda *_: say(word)",
        ),
        *("def say(word):", "    with seen.open('a') as file: file.write(word)"),
        *("signal.signal(signal.SIGTERM, note('T'))", "signal.signal(signal.SIGUSR1, note('U'))", "say('.')"),
        "while not os.path.exists('end'): time.sleep(.02)",
    ]
    write_job(Job([sys.executable, "-c", "\n".join(lines)], str(tmp_path), tmp_path / "job", grace=1000), beat=0.1)
    process = subprocess.Popen([sys.executable, agent.__file__, str(tmp_path / "job")])
    seen = tmp_path / "seen"
    wait_for(lambda: seen.exists() and seen.read_text() == ".")
    (tmp_path / "job" / "stop").touch()
    wait_for(lambda: seen.read_text() == ".T")
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGUSR1)
    wait_for(lambda: "U" in seen.read_text())
    (tmp_path / "end").touch()
    assert process.wait(timeout=300) == 0 and seen.read_text() == ".TU"


def test_a_command_that_no_node_has_is_hopeless(cluster):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Cluster, "trainer", (str(cluster.folder / "nowhere"),))
        with pytest.raises(UserError, match="cannot run .*nowhere: No such file or directory, on no node so far: inst"):
            cluster.go()
    assert cluster.outcomes().count("lost") >= 3 and not any(job["node"] == "" for job in cluster.jobs().values())


def test_a_node_with_other_software_is_said(cluster):
    version = cluster.folder / "version.sh"
    version.write_text('#!/bin/sh\n[ "$SLURMD_NODENAME" = n2 ] && echo 2 || echo 1\n')
    version.chmod(0o755)
    (cluster.folder / "t.toml").write_text(TRAINER_FILE)
    (cluster.folder / "t.py").write_text(
        "import json, sys\njson.dump({'acc': .5}, open(sys.argv[1] + '/r.json', 'w'))\n"
    )
    words = ("--trainer", "t.toml", "--flags", "all", "--name", "c", "--slots", "3", "--no-parity", *WORDS)
    cluster.faults(nodes=["n1"])
    code, out, err = cluster.call("start", *words, "--max-runs", "1")
    assert code == 3, out + err
    cluster.faults(nodes=["n2"])
    code, out, err = cluster.call("resume", "c", "--max-runs", "2")
    assert code == 2 and "t02 was trained on node n2 with another ./version.sh than is found here" in err, out + err


TRAINER_FILE = f"""
[trainer]
command = ["{sys.executable}", "t.py", "{{out}}", "{{flags}}", "{{seed}}"]
[flags]
a = {{}}
[metrics.acc]
source = "json"
file = "{{out}}/r.json"
key = "acc"
better = "higher"
[fingerprint]
commands = [["./version.sh"]]
"""


def test_an_agent_ends_what_its_run_has_left_behind(cluster):
    from bisect_cli.launchers import Job, process

    launcher = slurm.Slurm(1, QUICK)
    home = cluster.runs / "c"
    home.mkdir(parents=True)
    launcher.open(home, "u", [])
    job = Job(
        ["sh", "-c", "sleep 100 & echo $!"], str(cluster.folder), home / "trials" / "t01" / "attempt-1", key="t01-1"
    )
    handle = launcher.prepare(job)
    assert handle.state == "queued" and handle.poll() is None
    handle.go()
    wait_for(lambda: launcher.refresh() or handle.poll())
    assert handle.poll().code == 0 and handle.state == "running" and handle.node == "n1"
    child = int((job.folder / "stdout.txt").read_text())
    wait_for(lambda: process.identity(child) is None)
