"""A bisect on a real Slurm, whose three nodes stand on this machine: `make test-slurm` (tests/slurm/cluster.sh)."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bisecting import COMMAND, ROOT, Bench, check_named, kill, results, wait_for

from bisect_cli import launchers
from bisect_cli.campaign.events import Began
from bisect_cli.launchers import process, slurm
from bisect_cli.storage import store

pytestmark = pytest.mark.slurm
SCRIPT = Path(__file__).with_name("cluster.sh")
FAULT = {"segm": [["ROI_ALIGN_MASK"]]}
OPTIONS = {"poll_seconds": 1.0, "vanish_seconds": 6.0}
NODES = ["--launcher-option", "nodes=2"]
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


def check_ended(bench, again):
    """As check_named, and Slurm has nothing left to do."""
    state = check_named(bench, again)
    assert squeue("--states=PENDING,RUNNING", "--format=%i") == []
    return state


def test_a_bisect_on_three_nodes(bench):
    began = time.monotonic()
    options = {**OPTIONS, "cpus": os.cpu_count()}  # a run a node, so a fourth waits
    found = bench.run(slots=4, parity=False, launcher="slurm", launcher_options=options)
    seconds = time.monotonic() - began
    state = check_ended(bench, again=0)
    assert {trial.node for trial in found.trials.values()} == {"node1", "node2", "node3"}
    print(f"{len(state.trials)} runs of 3 s in {seconds:.1f} s on 3 nodes")
    assert results(state) == results(bench.beside("local", breaks=FAULT).run(slots=2))


def test_a_node_dies_a_job_is_cancelled_and_the_controller_is_killed(bench, cluster):
    bench.set(breaks=FAULT, seconds=12)
    controller = bench.spawn(*START)
    wait_for(lambda: len(bench.starts()) >= 4)
    state, _ = store.load(bench.runs / "c")
    node = bench.claim(state.running[0].id)["node"]
    lost = [trial for trial in state.running if bench.claim(trial.id)["node"] == node]
    second = next(trial for trial in state.running if trial not in lost)
    # A node dies as a machine does: its daemon, those beside the runs, and the runs.
    os.kill(int((cluster / f"{node}.pid").read_text()), signal.SIGKILL)
    for pid in [bench.claim(trial.id)["pid"] for trial in lost]:
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
    state = check_ended(bench, again=len(lost) + 1)
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
    check_ended(bench, again=1)
    assert [event["reason"] for event in bench.events() if event.get("outcome") == "evicted"]


def test_the_controller_may_be_a_job_itself(bench):
    """What Slurm has put into its environment is not for its jobs: two tasks, and memory by CPU."""
    bench.set(breaks=FAULT, seconds=0.3)
    trainer = json.dumps(["srun", *bench.trainer])
    words = [sys.executable, "-c", COMMAND, trainer, *START, "--launcher-option", "memory=100M"]
    outer = ["sbatch", "--wait", "--ntasks=2", "--mem-per-cpu=10M", f"--chdir={bench.folder}", "--output=outer.txt"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([*outer, f"--wrap=exec {shlex.join(words)}"], env=env, stdout=subprocess.PIPE)
    assert done.returncode == 0, (bench.folder / "outer.txt").read_text()
    check_ended(bench, again=0)


TASK = """
import os, pathlib, signal, sys, time
out = pathlib.Path(sys.argv[1])
name = os.environ["SLURMD_NODENAME"]
def save(*_):
    (out / f"{name}.saved").touch()
    sys.exit(143)
signal.signal(signal.SIGTERM, save if sys.argv[2] == "asked" else signal.SIG_IGN)
(out / f"{name}.new").write_text(str(os.getpid()))
(out / f"{name}.new").rename(out / f"{name}.pid")
time.sleep(600)
"""


@pytest.mark.parametrize("how", ["asked", "killed", "killed by Slurm"])
def test_a_command_that_calls_srun_ends_with_its_tasks_on_all_nodes(cluster, tmp_path, how):
    (tmp_path / "task.py").write_text(TASK)
    argv = ["srun", "--kill-on-bad-exit=0", sys.executable, str(tmp_path / "task.py"), str(tmp_path), how]
    launcher = slurm.Slurm(1, {**OPTIONS, "nodes": 2})
    (tmp_path / "c").mkdir()
    launcher.open(tmp_path / "c", how.replace(" ", ""), [])
    handle = launcher.prepare(launchers.Job(argv, str(tmp_path), tmp_path / "c" / "trials" / "t01", key="t01-1"))
    handle.go()
    wait_for(lambda: launcher.refresh() or handle.poll() or len(list(tmp_path.glob("*.pid"))) == 2)
    pids = [int(path.read_text()) for path in tmp_path.glob("*.pid")]
    wait_for(lambda: handle.poll() or handle.state == "running")
    if how == "asked":
        handle.ask_to_stop()
    elif how == "killed":
        handle.kill()
    else:
        subprocess.run(["scancel", "--full", "--signal=KILL", handle.ticket["job"]], check=True)
    wait_for(lambda: launcher.refresh() or handle.poll())
    wait_for(lambda: not any(process.identity(pid) for pid in pids))
    assert len(pids) == 2 and len(list(tmp_path.glob("*.saved"))) == (2 if how == "asked" else 0)
    if how == "asked":
        assert handle.poll().outcome == launchers.EVICTED
    wait_for(lambda: squeue("--states=PENDING,RUNNING,COMPLETING", "--format=%i") == [])
    launcher.close()


def test_a_run_of_two_nodes_is_one_job_and_has_the_numbers_of_one_machine(bench, monkeypatch):
    """The training of this package, a rank a node."""
    pytest.importorskip("horovod.tensorflow")
    monkeypatch.setattr(Bench, "trainer", ())
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    run = ["--flags", "MASK_LOSS", "--preset", "tiny", "--set", "steps=6", "--np", "2", "--no-early-stop"]
    run += ["--no-parity", "--max-runs", "1"]
    code, out, err = bench.call("start", "--name", "two", *run, "--launcher", "slurm", *WORDS, *NODES)
    assert code == 3 and "running on node node" in out, out + err
    code, out, err = bench.call("start", "--name", "one", *run)
    assert code == 3, out + err
    two, one = (store.load(bench.runs / name)[0].trials["t01"] for name in ("two", "one"))
    assert two.state == "finished" and two.metrics == one.metrics and two.fingerprint == one.fingerprint
    nodes = bench.claim("t01", name="two")["seen"]["SLURM_JOB_NODELIST"]
    assert nodes.startswith("node[") and two.attempts == 1, nodes  # two of them, in one job
