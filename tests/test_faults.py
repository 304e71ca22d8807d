"""A sample of the faults of tests/faults: a few points of each kind, always the same. `make test-faults` tries many."""

import os
import signal
import subprocess
import sys

import pytest
from faults import harness
from faults.site import Site

POINTS = {"controllers": 1, "agents": 2, "damage": 1, "power": 2, "late": 1}  # of each kind


@pytest.mark.parametrize("group", harness.GROUPS)
def test_nothing_is_lost_or_doubled(group, root):
    words = ("--only", group, "--points", str(POINTS[group]), "--minutes", "60", "--jobs", "2", "--seed", "1")
    environment = {**os.environ, "PYTHONPATH": str(root / "tests")}
    done = subprocess.run(
        [sys.executable, "-m", "faults", *words], env=environment, capture_output=True, text=True, timeout=1500
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| all |" in done.stdout


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    harness.import_all()
    return Site(tmp_path_factory.mktemp("faults") / "site")


def test_faults_strike_and_what_they_do_is_seen(site):
    site.clear()
    assert site.do(*site.start, plan={"at": 20, "do": "kill"}).code == -signal.SIGKILL
    refused = site.do("resume", "c", plan={"at": 20, "do": "ENOSPC", "lasting": True})
    assert refused.code == 2 and "is full" in refused.err
    calls = site.resume()
    assert calls[-1].code == 0 and not any(site.judge(calls))
    with open(site.folder / "notes.txt", "a") as file:
        file.write("again a 0\ntwice b 0\ndone c 0\n")
    outcome = site.judge([calls[-1]._replace(err="Traceback"), calls[-1]._replace(code=None)])
    assert outcome.lost == ("again a 0", "missing c 0") and outcome.doubled == ("twice b 0",)
    assert outcome.tracebacks and outcome.stuck and not outcome.different
    site.log.write_bytes(site.log.read_bytes().partition(b"\n")[0] + b"\n")
    assert site.judge([]).different
