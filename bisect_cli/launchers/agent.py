"""Stands beside a run: waits until it may begin, starts its command, hands a request to stop on to it, and notes how it
ended. Run as a script by a launcher, with the standard library alone:

    agent.py PIPE FOLDER

FOLDER holds job.json: {"argv", "cwd", "env" (added to this process's), "stop_signal"}. The run begins when a byte comes
through the pipe, and never if that closes first. At the end exit.json is there, whole or not at all: {"code" (negative:
the signal that ended it), "asked_to_stop", "seconds"}; this process then ends as the run did.
"""

import json
import os
import signal
import subprocess
import sys
import time


def main(pipe, folder):
    """Returns the exit code of the run, None if it was not to begin."""
    asked = []
    child = None

    def on_request(*_):
        asked.append(True)
        if child is None:
            sys.exit(128 + signal.SIGTERM)
        child.send_signal(stop_signal)

    with open(os.path.join(folder, "job.json")) as file:
        job = json.load(file)
    stop_signal = signal.Signals[f"SIG{job['stop_signal']}"]
    signal.signal(signal.SIGTERM, on_request)
    go = os.read(pipe, 1)
    os.close(pipe)
    if not go:
        return None
    began = time.monotonic()
    # Between the start of the child and its being known here a request would be lost.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    try:
        child = subprocess.Popen(
            job["argv"],
            cwd=job["cwd"],
            env={**os.environ, **job["env"]},
            preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM]),
        )
    except OSError as error:
        sys.exit(f"cannot run {job['argv'][0]}: {error.strerror}")
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    code = child.wait()
    report = {"code": code, "asked_to_stop": bool(asked), "seconds": time.monotonic() - began}
    fresh = os.path.join(folder, "exit.json.new")
    with open(fresh, "w") as file:
        json.dump(report, file)
    os.replace(fresh, os.path.join(folder, "exit.json"))
    return code


if __name__ == "__main__":
    status = main(int(sys.argv[1]), sys.argv[2])
    if status is not None and status < 0:
        if -status != signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status or 0)
