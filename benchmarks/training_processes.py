"""Real training processes, `python -m maskrcnn train`, held still while others are timed; Linux only.

Two configurations are compared fairly when they take turns on the same cores within a minute. A process that is not
its own turn's is stopped with SIGSTOP; it uses no core and keeps its memory.
"""

import contextlib
import json
import os
import platform
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import click

from maskrcnn.settings import data_folder, parse

POLL = 0.02  # seconds
FOREVER = 10**6  # steps: such a process is ended from here


def command(model, flags, out, settings=()):
    """The argv of a training of `model` (a Model) with these flags on, in folder `out`."""
    argv = [sys.executable, "-m", "maskrcnn", "train", f"--preset={model.preset}", f"--flags={','.join(flags)}"]
    return [*argv, f"--out={out}", *(f"--set={s}" for s in (*model.settings, *settings))]


def start(argv, log, threads, cores=None):
    """A process with that many threads, bound to `cores` if given; it writes to the file `log`. A Popen."""
    before = os.sched_getaffinity(0)
    Path(log).parent.mkdir(parents=True, exist_ok=True)
    try:
        if cores is not None:
            os.sched_setaffinity(0, cores)  # which a child inherits
        with open(log, "wb") as out:
            return subprocess.Popen(argv, stdout=out, stderr=out, stdin=subprocess.DEVNULL, env=environment(threads))
    finally:
        os.sched_setaffinity(0, before)


def environment(threads):
    """The environment of a process with that many threads."""
    return {**os.environ, "OMP_NUM_THREADS": str(threads)}


def cores():
    """The cores that may be used, a set of numbers."""
    return os.sched_getaffinity(0)


def cpu():
    """The processor's name."""
    found = Path("/proc/cpuinfo").read_text().partition("model name")[2].partition("\n")[0]
    return found.strip(" \t:") or platform.machine()


def prepare_data(presets):
    """Draws the generated images of these presets where they are not there yet: no run's time has that in it."""
    for name in set(presets):
        data_folder(parse(preset_name=name))


def lines(path):
    """The whole lines of a metrics.jsonl so far, as dicts."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


class Contestant:
    """A training without end that runs only when it is its turn. `metrics` is the metrics.jsonl it writes."""

    def __init__(self, argv, log, metrics, batch, threads):
        self._log, self._metrics, self._batch = Path(log), Path(metrics), batch
        self._process = start(argv, log, threads)

    def ready(self):
        """Waits until it trains, and holds it."""
        self._wait_for(1)
        self._hold()

    def turn(self, seconds):
        """Images a second over at least that long, of the loop as a whole: steps, input, logging."""
        self._process.send_signal(signal.SIGCONT)
        # The line that comes first measured the pause, too: it is where the clock starts.
        first = self._wait_for(len(lines(self._metrics)) + 1)
        last = first
        while last["wall"] - first["wall"] < seconds:
            last = self._wait_for(len(lines(self._metrics)) + 1)
        self._hold()
        return (last["step"] - first["step"]) * self._batch / (last["wall"] - first["wall"])

    def peak_mib(self):
        """The most memory the process ever had resident, in MiB."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024

    def end(self):
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait()

    def _hold(self):
        self._process.send_signal(signal.SIGSTOP)

    def _wait_for(self, n):
        while len(found := lines(self._metrics)) < n:
            if self._process.poll() is not None:
                raise died(self._log, self._process)
            time.sleep(POLL)
        return found[-1]


def wait_for_text(process, log, text):
    """The time.monotonic() at which `text` is in the log file of a process."""
    while text not in Path(log).read_text(errors="replace"):
        if process.poll() is not None:
            raise died(log, process)
        time.sleep(POLL)
    return time.monotonic()


def whole(argv, log, threads, cores=None):
    """Makes a whole training; the seconds it took, and those of its evaluation."""
    began = time.monotonic()
    process = start(argv, log, threads, cores)
    try:
        if process.wait():
            raise died(log, process)
    finally:
        process.kill()
    seconds = time.monotonic() - began
    evaluation = re.search(r"evaluated in ([\d.]+) s", Path(log).read_text(errors="replace"))
    return {"seconds": seconds, "evaluation": float(evaluation[1])}


def died(log, process):
    """What to raise where a training has ended that should not have."""
    last = (Path(log).read_text(errors="replace").strip().splitlines() or ["without a word"])[-1]
    return click.ClickException(f"a training ended with exit code {process.returncode}: {last} (see {log})")


def take_turns(contestants, rounds, seconds):
    """[[img/s of every round] for each contestant]; a first round, in which everything warms up, is not counted."""
    for contestant in contestants:
        contestant.ready()
    speeds = [[] for _ in contestants]
    for i in range(rounds + 1):
        for contestant, found in zip(contestants, speeds):
            speed = contestant.turn(seconds)
            if i:
                found.append(speed)
    return speeds
