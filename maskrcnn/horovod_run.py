"""Starts one process a rank with horovodrun and carries signals and errors across. Free of TensorFlow."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import psutil

from maskrcnn.errors import UserError
from maskrcnn.runfolder import write_json
from maskrcnn.settings import horovodrun

# In the environment of the ranks.
LAUNCHER = "MASKRCNN_LAUNCHER"  # process id of the launcher
LAUNCHER_HOST = "MASKRCNN_LAUNCHER_HOST"  # and its machine
STOP_FILE = "MASKRCNN_STOP_FILE"  # holds the exit code once the launcher was asked to stop
OUTCOME_FILE = "MASKRCNN_OUTCOME_FILE"  # where rank 0, or a rank that fails, tells how it ended

GRACE = 20  # seconds that horovodrun has for ending the other ranks after one has died; it takes 5 to 10
RANK_LINE = re.compile(r"\[\d+\]<std(out|err)>:")  # how horovodrun marks what a rank prints
RANK_DIED = re.compile(r"Process (\d+) exit with status code (\d+)\.")


def is_rank():
    """Whether this process is one that `launch` started."""
    return LAUNCHER in os.environ


def slots(hosts):
    """{host: ranks on it} of "a:8,b:8". Raises UserError."""
    parts = [part.rpartition(":") for part in hosts.split(",")]
    found = {host.strip(): int(n) for host, _, n in parts if host.strip() and n.isdigit() and int(n)}
    if len(found) != len(parts):
        raise UserError(f"--hosts {hosts}: write each machine once, with its number of processes: --hosts a:8,b:8.")
    return found


def ranks(np, hosts):
    """How many ranks are meant by --np and --hosts, None and "" where not given. Raises UserError."""
    total = sum(slots(hosts).values()) if hosts else 1 if np is None else np
    if np is not None and np != total:
        raise UserError(f"--np {np}: --hosts {hosts} has {total} processes; leave --np out.")
    return total


def launch(settings, out, hosts=""):
    """Trains with settings.np ranks on this machine, or on those of `hosts` ("a:8,b:8"), reached by ssh, which must see
    the same files under the same paths. Returns the exit code. Raises UserError as the ranks do.

    Where a rank dies, the others are ended and one line on stderr says which rank it was and how to go on.
    """
    files = {STOP_FILE: out.path / ".stop", OUTCOME_FILE: out.path / ".outcome.json"}
    command = [horovodrun(), "-np", str(settings.np), *(["-H", hosts] if hosts else []), "--gloo"]
    command += [sys.executable, "-m", "maskrcnn"]
    env = {**os.environ, LAUNCHER: str(os.getpid()), LAUNCHER_HOST: socket.gethostname()}
    env |= {**{k: str(v) for k, v in files.items()}, "PYTHONUNBUFFERED": "1"}
    most = max(slots(hosts).values()) if hosts else settings.np  # on one machine
    env.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // most)))
    for file in files.values():
        file.unlink(missing_ok=True)
    process = subprocess.Popen(
        [*command, *settings.arguments(out.path)],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        # A session of its own, so that a signal to our process group does not reach horovodrun, which would kill the
        # ranks.
        start_new_session=True,
    )
    before = {s: signal.signal(s, _stopper(process, files[STOP_FILE])) for s in (signal.SIGTERM, signal.SIGINT)}
    died = []  # (rank, exit code), the first to die first
    reader = threading.Thread(target=_forward, args=(process.stdout, died), daemon=True)
    reader.start()
    try:
        code = _wait(process, died)
        _kill_all()
        reader.join(GRACE)
        outcome = json.loads(files[OUTCOME_FILE].read_text()) if files[OUTCOME_FILE].exists() else {}
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
        for file in files.values():
            file.unlink(missing_ok=True)
    if "error" in outcome:
        raise UserError(outcome["error"])
    if code == 0 and "code" in outcome:
        return outcome["code"]
    print(f"{_cause(code, died, outcome)}; {_remedy(out)}", file=sys.stderr, flush=True)
    return 1


def _forward(lines, died):
    """Prints what comes; but of what horovodrun says once a rank has died it only keeps, in `died`, which ranks did."""
    for line in lines:
        if RANK_DIED.match(line):
            died.append(tuple(map(int, RANK_DIED.match(line).groups())))
        elif RANK_LINE.match(line) or not died:
            print(line, end="", file=sys.stderr, flush=True)


def _wait(process, died):
    """The exit code of horovodrun, which is killed if it is still there some time after a rank died."""
    end = None
    while process.poll() is None:
        if died and end is None:
            end = time.monotonic() + GRACE
        if end is not None and time.monotonic() > end:
            process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.2)
    return process.returncode


def _kill_all():
    """Kills whatever is left of the processes that came from this launcher, wherever they hang in the process tree."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            env = process.environ()
            if (env.get(LAUNCHER), env.get(LAUNCHER_HOST)) == (str(os.getpid()), socket.gethostname()):
                process.kill()


def _cause(code, died, outcome):
    if "crash" in outcome:
        return outcome["crash"]
    if not died:
        return f"horovodrun ended with exit code {code}"
    rank, code = died[0]
    if code <= 128:
        return f"rank {rank} died (exit code {code})"
    hint = ", perhaps for lack of memory" if code - 128 == signal.SIGKILL else ""
    return f"rank {rank} died (signal {code - 128}{hint})"


def _remedy(out):
    index = out.checkpoints / "checkpoint"  # TensorFlow's list of checkpoints, the newest first
    saved = re.search(r'"model-(\d+)"', index.read_text()) if index.exists() else None
    whence = f"resumes after step {saved[1]}" if saved else "starts from the beginning: nothing was saved yet"
    return f"all ranks were ended. The same command again {whence}."


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
    rank = os.environ["HOROVOD_RANK"]
    try:
        yield told
    except SystemExit as e:
        told["code"] = e.code
    except UserError as e:
        write_json(os.environ[OUTCOME_FILE], {"error": str(e)})
        raise
    except Exception as e:
        if "HorovodInternalError" in str(e) or "Horovod has been shut down" in str(e):
            sys.exit(1)  # another rank is gone: its end is the one to be reported
        text = str(e).strip().split("\n")[0]
        write_json(os.environ[OUTCOME_FILE], {"crash": f"rank {rank} failed ({type(e).__name__}: {text})"})
        raise
    if rank == "0" and not os.path.exists(os.environ[OUTCOME_FILE]):  # stopped because of a rank that failed otherwise
        write_json(os.environ[OUTCOME_FILE], told)
