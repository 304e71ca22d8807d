"""A bisect on a real Ray, whose three nodes stand on this machine: `make test-ray` (tests/ray/cluster.sh)."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

import pytest
from bisecting import Bench, check_named, kill, results, wait_for

from bisect_cli.campaign.events import Began
from bisect_cli.launchers import Job, ray, ray_api
from bisect_cli.storage import store

pytestmark = pytest.mark.ray
SCRIPT = Path(__file__).with_name("cluster.sh")
ADDRESS = "http://127.0.0.1:28265"
FAULT = {"segm": [["ROI_ALIGN_MASK"]]}
OPTIONS = {"poll_seconds": 1.0, "vanish_seconds": 6.0, "address": ADDRESS}
WORDS = [word for key, value in OPTIONS.items() for word in ("--launcher-option", f"{key}={value}")]
START = ("start", "--flags", "L2B5", "--name", "c", "--slots", "4", "--no-parity", "--launcher", "ray", *WORDS)


@pytest.fixture(scope="module")
def cluster():
    """The folder of a Ray of its own. A short one, as there are sockets in it."""
    folder = Path(tempfile.mkdtemp(prefix="ray"))
    with subprocess.Popen(["sh", SCRIPT, "start", folder]) as process:
        assert process.wait() == 0, "see its words above"
    yield folder
    subprocess.run(["sh", SCRIPT, "stop", folder], check=True)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def bench(cluster, tmp_path):
    return Bench(tmp_path, breaks=FAULT, seconds=3.0)


def jobs(bench):
    """{key: ray_api.Listed} of the bench's campaign."""
    with urllib.request.urlopen(f"{ADDRESS}/api/jobs/", timeout=60) as answer:
        found = ray_api.parse_jobs(answer.read().decode())
    return {key: listed for key, listed in found.items() if listed.folder.startswith(f"{bench.folder}/")}


def check_ended(bench, again):
    """As check_named, and Ray has nothing left to do."""
    state = check_named(bench, again)
    wait_for(lambda: all(listed.status in ("STOPPED", "SUCCEEDED", "FAILED") for listed in jobs(bench).values()))
    return state


def kill_machine(cluster, name, agents=()):
    """What a machine that dies takes with it: all of its Ray, and, with their runs, these agents; all at once, so that
    none reports the end of another.
    """
    session = (cluster / f"{name}.pid").read_text().strip()
    found = subprocess.run(["ps", "-o", "pid=", "-s", session], capture_output=True, text=True, check=False)
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in map(int, found.stdout.split()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
    for pid in agents:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(os.getpgid(pid), signal.SIGKILL)


def test_a_bisect_on_three_nodes(bench):
    began = time.monotonic()
    found = bench.run(slots=4, parity=False, launcher="ray", launcher_options=OPTIONS)  # a run a node, a fourth waits
    print(f"{len(found.trials)} runs of 3 s in {time.monotonic() - began:.1f} s on 3 nodes")
    state = check_ended(bench, again=0)
    assert {trial.node for trial in found.trials.values()} == {"node1", "node2", "node3"}
    assert results(state) == results(bench.beside("local", breaks=FAULT).run(slots=2))


def test_a_node_dies_a_job_is_stopped_and_the_controller_is_killed(bench, cluster):
    bench.set(breaks=FAULT, seconds=20)
    controller = bench.spawn(*START)
    wait_for(lambda: len(bench.starts()) >= 3)
    state, _ = store.load(bench.runs / "c")
    begun = [trial for trial in state.running if bench.claim(trial.id)]
    first, second = begun[:2]
    node = bench.claim(first.id)["node"]
    kill_machine(cluster, node, [bench.claim(first.id)["pid"]])
    stop = urllib.request.Request(f"{ADDRESS}/api/jobs/{second.ticket['key']}/stop", method="POST")
    urllib.request.urlopen(stop, timeout=60).close()
    kill(controller)
    bench.set(breaks=FAULT, seconds=3)
    began = time.monotonic()
    code, out, err = bench.call("resume", "c", "--slots", "4")
    assert code == 0, err
    print(f"resumed and finished in {time.monotonic() - began:.1f} s: {bench.outcomes()}")
    state = check_ended(bench, again=2)
    assert all(trial.crashes == 0 for trial in state.trials.values())
    subprocess.run(["sh", SCRIPT, "node", node[-1], cluster], check=True)


def test_a_node_that_ray_has_lost_goes_on_and_no_run_is_there_twice(bench, cluster):
    """Ray gives the job up, but its run goes on: it is asked to end, and resumed only then."""
    bench.set(breaks=FAULT, seconds=60)
    killed = []

    def listen(event, state, analysis):
        if isinstance(event, Began) and not killed:
            killed.append(event.node)
            kill_machine(cluster, event.node)
            bench.set(breaks=FAULT, seconds=2)

    bench.run(slots=1, parity=False, launcher="ray", launcher_options=OPTIONS, listen=listen)
    check_ended(bench, again=1)
    print([event["reason"] for event in bench.events() if event.get("outcome") == "evicted"])
    assert bench.outcomes().count("evicted") == 1
    subprocess.run(["sh", SCRIPT, "node", killed[0][-1], cluster], check=True)


def test_stop_ends_what_runs_and_takes_back_what_waits(bench):
    bench.set(breaks=FAULT, seconds=60)
    controller = bench.spawn(*START)
    wait_for(lambda: len(bench.starts()) >= 2 and len(jobs(bench)) == 4)
    began = time.monotonic()
    assert bench.call("stop", "c")[0] == 0
    print(f"stopped in {time.monotonic() - began:.1f} s")
    assert controller.wait(timeout=300) == 130
    bench.set(breaks=FAULT, seconds=1)
    begun = len(bench.starts())
    assert bench.call("resume", "c", "--slots", "4")[0] == 0
    check_ended(bench, again=min(begun, 3))


def test_nodes_are_left_out_by_their_labels(bench):
    with urllib.request.urlopen(f"{ADDRESS}/api/version", timeout=60) as answer:
        version = json.load(answer)["ray_version"]
    if tuple(map(int, version.split(".")[:2])) < ray.LABELS:
        pytest.skip(f"Ray {version} knows no labels of jobs")
    launcher = ray.Ray(4, OPTIONS)
    bench.runs.mkdir()
    launcher.open(bench.runs, "labels", [])

    def begin(number, avoid=()):
        job = Job(["sleep", "2"], str(bench.folder), bench.runs / f"t{number}", key=f"t{number}", avoid=avoid)
        handle = launcher.prepare(job)
        handle.go()
        return handle

    def end(handle):
        wait_for(lambda: launcher.refresh() or handle.poll() is not None)
        return handle.node

    first = {end(handle) for handle in [begin(number) for number in range(3)]}
    assert first == {"node1", "node2", "node3"}
    assert {end(begin(number, ("node1", "node2"))) for number in range(3, 6)} == {"node3"}


def test_a_head_that_dies_and_begins_anew(bench, cluster):
    """Its nodes end, too, and with them the runs. Nothing is decided until it answers again."""
    bench.set(breaks=FAULT, seconds=30)
    killed, agents = [], []

    def listen(event, state, analysis):
        if isinstance(event, Began):
            agents.append(bench.claim(event.trial)["pid"])
        if len(agents) == 2 and not killed:
            killed.append(True)
            kill_machine(cluster, "head")
            for number in (1, 2, 3):
                kill_machine(cluster, f"node{number}", agents[:1])
            bench.set(breaks=FAULT, seconds=2)
            subprocess.run(["sh", SCRIPT, "start", cluster], check=True)

    bench.run(slots=2, parity=False, launcher="ray", launcher_options=OPTIONS, listen=listen)
    print(bench.outcomes())
    state = check_ended(bench, again=2)
    assert all(trial.crashes == 0 for trial in state.trials.values())
