"""What the tests of the controller and of the commands share: campaigns over tests/fake_trainer.py."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from bisect_cli.campaign.state import Settings, apply
from bisect_cli.launchers.local import Local
from bisect_cli.run.controller import Controller
from bisect_cli.storage import eventlog, lease, store

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

    def run(
        self,
        name="c",
        flags=BLOCK,
        slots=2,
        max_runs=None,
        listen=lambda event, controller: None,
        early_stop=False,
        **options,
    ):
        """Runs a campaign in this process until it ends; returns its State."""
        folder = store.create(self.runs, name)
        with lease.Lease(folder):
            log = eventlog.Writer(folder / store.LOG)
            state, _ = store.load(folder)
            if state.settings is None:
                settings = Settings(name, flags, early_stop=early_stop, trainer=self.trainer, workdir=str(self.folder))
                event = {"kind": "created", "time": time.time(), "settings": settings.to_json()}
                log.append(event)
                state = apply(state, event)
            try:
                return Controller(folder, log, state, Local(slots), max_runs, listen, **options).run()
            finally:
                log.close()

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
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def status(self, name="c"):
        code, out, err = self.call("status", name, "--json")
        assert code == 0, err
        return json.loads(out)

    def events(self, name="c"):
        return eventlog.read(self.runs / name / store.LOG).events


def wait_for(condition, seconds=20.0):
    """Waits until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def kill(process):
    """SIGKILL, as a crash of the machine's user session would be."""
    process.send_signal(signal.SIGKILL)
    process.communicate()
