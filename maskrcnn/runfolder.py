"""The files of one training run: who may write them, and how they survive a kill. Free of TensorFlow."""

import contextlib
import fcntl
import json
import os
from pathlib import Path

from maskrcnn.errors import UserError
from maskrcnn.settings import Settings


def write_json(path, value):
    """Writes `value` so that a reader finds either the old file or the whole new one, even after a power cut."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "w") as f:
            json.dump(value, f, indent=1)
            f.write("\n")
            f.flush()
            os.fsync(f.fileno())
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


class RunFolder:
    """The folder of one run: run.json (what was asked), metrics.jsonl, result.json, checkpoints/, events/."""

    def __init__(self, path):
        self.path = Path(path).absolute()
        self.checkpoints = self.path / "checkpoints"
        self.events = self.path / "events"
        self.metrics = self.path / "metrics.jsonl"

    def run(self):
        """run.json as a dict, or None where no run was started here."""
        return self._read("run.json")

    def result(self):
        """result.json as a dict, or None where the run has not ended."""
        return self._read("result.json")

    def _read(self, name):
        try:
            return json.loads((self.path / name).read_text())
        except FileNotFoundError:
            return None
        except (ValueError, NotADirectoryError):
            raise UserError(f"{self.path / name} cannot be read as JSON; move {self.path} away.") from None

    def settings(self):
        """The Settings of the run in this folder. Raises UserError where there is none."""
        run = self.run()
        if run is None:
            raise UserError(f"{self.path}: no training run here (run.json is missing); name the --out of a run.")
        try:
            return Settings.from_json(run)
        except (KeyError, TypeError):
            raise UserError(f"{self.path}/run.json was written by another version of this program.") from None

    def check_settings(self, settings):
        """Raises UserError where the folder holds a run of other settings."""
        if self.run() is None:
            return
        differences = self.settings().differences(settings)
        if differences:
            raise UserError(f"--out {self.path} holds a run with {', '.join(differences)}; choose another --out.")

    def write_run(self, settings, **more):
        write_json(self.path / "run.json", {**settings.to_json(), **more})

    def write_result(self, result):
        write_json(self.path / "result.json", result)

    @contextlib.contextmanager
    def locked(self):
        """Makes the folder and keeps it for this process. Raises UserError while another process trains in it."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = open(self.path / ".lock", "w")  # noqa: SIM115 - held open for the life of the lock
        except PermissionError:
            raise UserError(f"--out {self.path} cannot be written to; choose another folder.") from None
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(f"--out {self.path}: another process is training there; wait or stop it.") from None
            yield


class MetricsFile:
    """metrics.jsonl, only ever appended to.

    A run that resumes from a checkpoint makes some steps again; their lines are already here and are not written
    twice, so that the steps of the file never decrease.
    """

    def __init__(self, path):
        self._path = path
        self._written = {"losses": 0, "evaluation": 0}  # the last step of either kind of line
        if path.exists():
            self._cut_torn_line()
            for line in path.read_text().splitlines():
                values = json.loads(line)
                self._written[self._kind(values)] = values["step"]

    def _cut_torn_line(self):
        content = self._path.read_bytes()
        if not content.endswith(b"\n"):
            os.truncate(self._path, content.rfind(b"\n") + 1)

    @staticmethod
    def _kind(values):
        return "evaluation" if any("/AP" in key for key in values) else "losses"

    def evaluated(self, step):
        """Whether the evaluation after `step` is in the file."""
        return step <= self._written["evaluation"]

    def append(self, values):
        """Adds a line of finite numbers, which must include "step"."""
        kind = self._kind(values)
        if values["step"] <= self._written[kind]:
            return
        with open(self._path, "a") as f:
            f.write(json.dumps(values, allow_nan=False) + "\n")
        self._written[kind] = values["step"]
