"""Starts one process a rank with horovodrun and carries signals and errors across. Free of TensorFlow."""

import contextlib
import json
import os
import signal
import subprocess
import sys

from maskrcnn.errors import UserError
from maskrcnn.runfolder import write_json
from maskrcnn.settings import horovodrun

# In the environment of the ranks.
LAUNCHER = "MASKRCNN_LAUNCHER"  # process id of the launcher
STOP_FILE = "MASKRCNN_STOP_FILE"  # holds the exit code once the launcher was asked to stop
OUTCOME_FILE = "MASKRCNN_OUTCOME_FILE"  # where rank 0 tells how it ended


def is_rank():
    """Whether this process is one that `launch` started."""
    return LAUNCHER in os.environ


def launch(settings, out):
    """Trains with settings.np ranks on this machine; returns the exit code. Raises UserError as the ranks do."""
    files = {STOP_FILE: out.path / ".stop", OUTCOME_FILE: out.path / ".outcome.json"}
    command = [horovodrun(), "-np", str(settings.np), "--gloo", sys.executable, "-m", "maskrcnn"]
    env = {**os.environ, LAUNCHER: str(os.getpid()), **{k: str(v) for k, v in files.items()}}
    env.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // settings.np)))
    for file in files.values():
        file.unlink(missing_ok=True)
    # A session of its own, so that a signal to our process group does not reach horovodrun, which would kill the ranks.
    process = subprocess.Popen([*command, *settings.arguments(out.path)], env=env, start_new_session=True)
    before = {s: signal.signal(s, _stopper(process, files[STOP_FILE])) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        code = process.wait()
        outcome = json.loads(files[OUTCOME_FILE].read_text()) if files[OUTCOME_FILE].exists() else {"code": code or 1}
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
        for file in files.values():
            file.unlink(missing_ok=True)
    if "error" in outcome:
        raise UserError(outcome["error"])
    return outcome["code"]


def _stopper(process, stop_file):
    def handle(signum, _):
        if stop_file.exists():  # asked a second time
            process.terminate()
        stop_file.write_text(str(128 + signum))

    return handle


@contextlib.contextmanager
def outcome():
    """Around the work of a rank: tells the launcher how it ended. Yields a dict whose "code" is the exit code to be.

    horovodrun takes every code but 0 for a crash, kills the other ranks and says so at length: wanted after an error,
    not after a stop, which all ranks make together.
    """
    told = {"code": 0}
    try:
        yield told
    except SystemExit as e:
        told["code"] = e.code
    except UserError as e:
        write_json(os.environ[OUTCOME_FILE], {"error": str(e)})
        raise
    if os.environ["HOROVOD_RANK"] == "0":
        write_json(os.environ[OUTCOME_FILE], told)
