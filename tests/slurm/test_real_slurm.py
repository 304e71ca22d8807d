"""A bisect on a real Slurm, whose three nodes stand on this machine: `make test-slurm` (tests/slurm/cluster.sh)."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from bisecting import Bench, kill, wait_for

from bisect_cli.analysis import analyse
from bisect_cli.campaign.events import Began
from bisect_cli.storage import store

pytestmark = pytest.mark.slurm
SCRIPT = Path(__file__).with_name("cluster.sh")
FAULT = {"segm": [["ROI_ALIGN_MASK"]]}
OPTIONS = {"poll_seconds": 1.0, "vanish_seconds": 6.0}
WORDS = [word for key, value in OPTIONS.items() for word in ("--launcher-option", f"{key}={value}")]
START = ("start", "--flags", "L2B5", "--name", "c", "--slots", "4", "--no-parity", "--launcher", "slurm", *WORDS)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """The folder of a Slurm of its own."""
    folder = tmp_path_factory.mktemp("slurm")
    subprocess.run(["sh", SCRIPT, "start", folder], check=True)
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    yield folder
    subprocess.run(["sh", SCRIPT, "stop", folder], check=True)


@pytest.fixture
def bench(cluster, tmp_path):
    return Bench(tmp_path, breaks=FAULT, seconds=3.0)


def squeue(*words):
    done = subprocess.run(["squeue", "--noheader", *words], capture_output=True, text=True, check=True)
    return done.stdout.split()


def check_named(bench, again):
    """The right verdict, no run at work twice, and so many begun again."""
    state, _ = store.load(bench.runs / "c")
    assert state.state == "finished"
    assert [culprit.flags for culprit in analyse(state).plans["segm"].culprits] == [("ROI_ALIGN_MASK",)]
    assert not any(line.startswith("TWICE") for line in bench.starts())
    assert len(bench.starts()) - len(set(bench.starts())) == again
    assert squeue("--states=PENDING,RUNNING", "--format=%i") == []
    return state


def test_a_bisect_on_three_nodes(bench):
    began = time.monotonic()
    options = {**OPTIONS, "cpus": os.cpu_count()}  # a run a node, so a fourth waits
    found = bench.run(slots=4, parity=False, launcher="slurm", launcher_options=options)
    seconds = time.monotonic() - began
    state = check_named(bench, again=0)
    assert {trial.node for trial in found.trials.values()} == {"node1", "node2", "node3"}
    print(f"{len(state.trials)} runs of 3 s in {seconds:.1f} s on 3 nodes")
    local = Bench(bench.folder / "local", breaks=FAULT) if (bench.folder / "local").mkdir() is None else None
    other = local.run(slots=2)
    assert {(t.flags, t.seed): t.metrics for t in state.trials.values()} == {
        (t.flags, t.seed): t.metrics for t in other.trials.values()
    }


def test_a_node_dies_a_job_is_cancelled_and_the_controller_is_killed(bench, cluster):
    bench.set(breaks=FAULT, seconds=12)
    controller = bench.spawn(*START)
    wait_for(lambda: len(bench.starts()) >= 4)
    state, _ = store.load(bench.runs / "c")
    node = claim(bench, state.running[0])["node"]
    lost = [trial for trial in state.running if claim(bench, trial)["node"] == node]
    second = next(trial for trial in state.running if trial not in lost)
    # A node dies as a machine does: its daemon, those beside the runs, and the runs.
    os.kill(int((cluster / f"{node}.pid").read_text()), signal.SIGKILL)
    for pid in [claim(bench, trial)["pid"] for trial in lost]:
        beside = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(beside, signal.SIGKILL)
        os.kill(pid, signal.SIGKILL)
    subprocess.run(["scancel", second.ticket["job"]], check=True)
    time.sleep(1)
    kill(controller)
    bench.set(breaks=FAULT, seconds=3)
    began = time.monotonic()
    code, out, err = bench.call("resume", "c", "--slots", "4")
    assert code == 0, err
    print(f"resumed and finished in {time.monotonic() - began:.1f} s")
    subprocess.run(["sh", SCRIPT, "node", node[-1], cluster], check=True)
    state = check_named(bench, again=len(lost) + 1)
    outcomes = [event["outcome"] for event in bench.events() if event["kind"] == "ended"]
    print(f"{node} died with {len(lost)} runs, {second.id} was cancelled: {outcomes}")
    assert all(trial.crashes == 0 for trial in state.trials.values())


def test_a_daemon_that_dies_alone_leaves_its_runs_going_and_none_is_there_twice(bench, cluster):
    """Slurm gives the job up, but its run goes on: it is asked to end, and resumed only then."""
    bench.set(breaks=FAULT, seconds=60)
    killed = []

    def listen(event, state, analysis):
        if isinstance(event, Began) and not killed:
            killed.append(event.node)
            os.kill(int((cluster / f"{event.node}.pid").read_text()), signal.SIGKILL)
            bench.set(breaks=FAULT, seconds=2)

    bench.run(slots=1, parity=False, launcher="slurm", launcher_options=OPTIONS, listen=listen)
    subprocess.run(["sh", SCRIPT, "node", killed[0][-1], cluster], check=True)
    check_named(bench, again=1)
    assert [event["reason"] for event in bench.events() if event.get("outcome") == "evicted"]


def claim(bench, trial):
    """What the agent of a trial's first attempt has noted."""
    return json.loads((store.trial_folder(bench.runs / "c", trial.id) / "attempt-1" / "claim.json").read_text())
