"""What the tests of the controller and of the commands share: campaigns over tests/fake_trainer.py."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from bisect_cli.campaign.settings import Settings
from bisect_cli.run import session
from bisect_cli.run.controller import Controller
from bisect_cli.run.recorder import Recorder
from bisect_cli.storage import eventlog, store
from bisect_cli.trainers.maskrcnn import TRAINER as MASK_RCNN

ROOT = Path(__file__).parents[1]
TRAINER = Path(__file__).with_name("fake_trainer.py")
BLOCK = ("ROI_ALIGN_MASK", "CROP_AND_RESIZE_MASK", "MASK_LOSS")
COMMAND = "import json, sys; from bisect_cli.cli import main; main(obj=json.loads(sys.argv.pop(1)))"


class Bench:
    """A folder with a table of outcomes, and campaigns in it."""

    def __init__(self, folder, **table):
        self.folder, self.runs = folder, folder / "runs"
        self.set(**table)

    def set(self, **table):
        (self.folder / "table.json").write_text(json.dumps(table))

    @property
    def trainer(self):
        return (sys.executable, str(TRAINER), str(self.folder / "table.json"))

    def starts(self):
        """The runs that the trainer started, `flags seed` each, in order; TWICE marks one that was there already."""
        path = self.folder / "starts.txt"
        return path.read_text().splitlines() if path.exists() else []

    def settings(self, name="c", flags=BLOCK, **more):
        """The Settings of a campaign of this trainer. more: fields of them, and options of the trainer."""
        options = {option.name for option in MASK_RCNN.options} & set(more)
        spec = MASK_RCNN.spec({"trainer": self.trainer, **{option: more.pop(option) for option in options}})
        return Settings(name, spec, flags, **{"metrics": spec.default_metrics, "workdir": str(self.folder), **more})

    def run(self, name="c", flags=BLOCK, slots=2, listen=lambda event, state, analysis: None, **more):
        """Runs a campaign in this process until it ends; returns its State. more: keyword arguments of the Controller,
        and of `settings` for a new one.
        """
        changes = more.pop("changes", ())
        options = {
            key: more.pop(key) for key in ("max_runs", "parity", "patience", "grace", "hung", "detach") if key in more
        }
        folder = store.create(self.runs, name)
        known = store.load(folder)[0].settings
        with session.hold(folder, None if known else self.settings(name, flags, **more)) as (log, state):
            launcher = session.launcher_of(state.settings, slots)
            return Controller(Recorder(folder, log, state, listen), launcher, **options).run(changes)

    def spawn(self, *words):
        """maskrcnn-bisect in a process of its own, off a terminal."""
        return subprocess.Popen(
            [sys.executable, "-c", COMMAND, json.dumps(self.trainer), *words],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Of tests run in the background a shell has SIGINT ignored, which children inherit.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def call(self, *words):
        """Exit code, output and error output of maskrcnn-bisect, run to its end."""
        process = self.spawn(*words)
        out, err = process.communicate(timeout=300)
        return process.returncode, out, err

    def status(self, name="c"):
        code, out, err = self.call("status", name, "--json")
        assert code == 0, err
        return json.loads(out)

    def events(self, name="c"):
        return eventlog.read(self.runs / name / store.LOG).events


def wait_for(condition, seconds=120.0):
    """Waits until a condition holds; so long only where the machine is busy or the test is about to fail."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def kill(process):
    """SIGKILL, as a crash of the machine's user session would be."""
    process.send_signal(signal.SIGKILL)
    process.communicate()
