"""Stands beside a run: waits until it may begin, starts its command, hands a request to stop on to it, and notes how it
ended. Run as a script by a launcher, with the standard library alone:

    agent.py PIPE FOLDER    the run begins when a byte comes through the pipe, and never if that closes first
    agent.py FOLDER         on a node that a scheduler chose: the first to claim the folder runs, any other ends at once

FOLDER holds job.json: {"argv", "cwd", "env" (added to this process's), "stop_signal", "grace", "beat", "of" (whose it
is), "software" ({text: {"argv", "cwd"}} of what prints versions)}. At the end exit.json is there, whole or not at all:
{"code" (negative: the signal that ended it), "asked_to_stop", "seconds", "of" (as in job.json), "error" (why it could
not be started)}.

With a pipe, this process then ends as the run did. Without one it writes the run's output into stdout.txt and
stderr.txt, notes in claim.json where it is, counts in `heartbeat` as long as it lives, and takes a file `stop` as a
request to save and end: of whoever gave up on it the signals may not get through.
"""

import contextlib
import hashlib
import json
import math
import os
import signal
import socket
import subprocess
import sys
import time

LOOK = 0.5  # seconds between looks for a request to stop
PATIENCE = 60  # seconds for a command that prints a version
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG
NODE_NAMES = ("BISECT_NODE_NAME", "SLURMD_NODENAME")  # in the environment: what the node is called, if set
SEEN = ("SLURM_JOB_ID", "SLURM_JOB_NODELIST", "SLURM_JOB_GPUS", "CUDA_VISIBLE_DEVICES")


class Agent:
    """One attempt of a run. asked: when it was first asked to stop, else None; passed_on: whether it knows. hinted:
    whether another signal was passed on that may have ended it.
    """

    def __init__(self, folder):
        self.folder = folder
        with open(self.path("job.json")) as file:
            self.job = json.load(file)
        self.stop_signal = signal.Signals["SIG" + self.job["stop_signal"]]
        self.child = self.asked = None
        self.hinted = self.passed_on = False
        self.began = time.monotonic()

    def path(self, name):
        return os.path.join(self.folder, name)

    def on_signal(self, number, _):
        """SIGTERM becomes what the run takes as a request to stop; others are passed on as they are."""
        if number == signal.SIGTERM:
            self.ask()
        elif self.child:
            self.hinted = True
            self.child.send_signal(number)

    def ask(self):
        """Asks the run to save and end, once: a further signal may tell it not to save."""
        self.asked = self.asked or time.monotonic()
        if self.child and not self.passed_on:
            self.passed_on = True
            if not signal_tasks(self.child.pid, self.job["stop_signal"]):
                self.child.send_signal(self.stop_signal)

    def start(self, prepare=lambda: None, **where):
        """Starts the run. Between its start and its being known here a request would be lost, so they wait."""

        def unblock():
            signal.pthread_sigmask(signal.SIG_SETMASK, [])
            prepare()

        self.began = time.monotonic()
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            environment = dict(os.environ, **self.job["env"])
            self.child = subprocess.Popen(
                self.job["argv"], cwd=self.job["cwd"], env=environment, preexec_fn=unblock, **where
            )
        except OSError as error:
            there = os.path.isdir(self.job["cwd"])
            return "cannot run {}: {}".format(self.job["argv"][0] if there else "in " + self.job["cwd"], error.strerror)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        if self.asked:  # just before
            self.ask()

    def finish(self, code, error=""):
        """Notes the end of the run. error: why it could not be started."""
        asked = bool(self.asked or (self.hinted and code))
        seconds, of = time.monotonic() - self.began, self.job.get("of", {})
        self.write("exit.json", {"code": code, "asked_to_stop": asked, "seconds": seconds, "of": of, "error": error})
        return code

    def write(self, name, record):
        """Writes a file whole or not at all."""
        fresh = self.path(name + ".new")
        with open(fresh, "w") as file:
            json.dump(record, file)
        os.replace(fresh, self.path(name))


def run_from_pipe(pipe, folder):
    """Returns the exit code of the run, None if it was not to begin."""
    agent = Agent(folder)
    signal.signal(signal.SIGTERM, lambda *given: agent.on_signal(*given) if agent.child else sys.exit(143))
    go = os.read(pipe, 1)
    os.close(pipe)
    if not go:
        return None
    error = agent.start()
    if error:
        sys.exit(error)
    return agent.finish(agent.child.wait())


def run_claimed(folder):
    """Returns the exit code of the run, None if another agent has claimed it."""
    import ctypes

    agent = Agent(folder)
    for number in SIGNALS:
        signal.signal(number, agent.on_signal)
    if not claim(agent):
        return None
    if agent.asked or os.path.exists(agent.path("stop")):
        agent.ask()
        return agent.finish(128 + signal.SIGTERM)
    note_software(agent)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])  # kept for `watch`, which waits for it
    with open(agent.path("stdout.txt"), "ab") as out, open(agent.path("stderr.txt"), "ab", buffering=0) as err:
        library = ctypes.CDLL(None)
        die = lambda: library.prctl(DIE_WITH_PARENT, signal.SIGKILL)  # noqa: E731 - no run outlives its agent
        error = agent.start(die, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True)
        if error:
            err.write((error + "\n").encode())
            return agent.finish(127, error)
    code = watch(agent)
    with contextlib.suppress(OSError):
        os.killpg(agent.child.pid, signal.SIGKILL)  # what it has started and left behind
    return agent.finish(code)


def claim(agent):
    """Whether this is the one that runs the attempt: a scheduler may start a job again."""
    names = [os.environ.get(name) for name in NODE_NAMES]
    note = {"node": next(filter(None, names), "") or socket.gethostname(), "pid": os.getpid()}
    note.update(started=time.time(), seen={name: os.environ[name] for name in SEEN if name in os.environ})
    try:
        file = os.open(agent.path("claim.json"), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        print("this attempt has been claimed already: see claim.json", file=sys.stderr)
        return False
    os.write(file, json.dumps(note).encode())
    os.close(file)
    return True


def note_software(agent):
    """Notes what the commands print here that say which software there is, as trainers.source_state digests it."""
    found = {}
    for text, command in agent.job.get("software", {}).items():
        try:
            pipes = {"stdin": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            output = subprocess.check_output(command["argv"], cwd=command["cwd"], timeout=PATIENCE, **pipes)
        except (OSError, subprocess.SubprocessError):
            output = b"it fails here"
        found[text] = hashlib.sha256(b"%d:" % len(output) + output).hexdigest()[:12]
    agent.write("software.json", found)


def signal_tasks(pid, name):
    """Has Slurm signal the tasks of a command that is srun, which would kill them itself at a SIGTERM; whether it is
    one.
    """
    with contextlib.suppress(OSError, KeyError), open(f"/proc/{pid}/comm") as file:
        if file.read().strip() == "srun":
            subprocess.Popen(["scancel", "--signal=" + name, os.environ["SLURM_JOB_ID"]], stdin=subprocess.DEVNULL)
            return True
    return False


def watch(agent):
    """Waits for the end of the run, and kills it where it does not end within its grace time; returns its code."""
    beats, last, every = 0, -math.inf, agent.job["beat"]
    while agent.child.poll() is None:
        signal.sigtimedwait([signal.SIGCHLD], LOOK)
        now = time.monotonic()
        try:
            if now - last >= every:
                beats, last = beats + 1, now
                with open(agent.path("heartbeat"), "w") as file:
                    file.write(str(beats))
            stop = read_stop(agent)
        except OSError:  # a file system that is full or away for a while is no reason to end a run
            continue
        if stop is not None and not agent.asked:
            agent.ask()
        if agent.asked and (stop == "now" or now - agent.asked > agent.job["grace"]):
            agent.child.kill()
    return agent.child.wait()


def read_stop(agent):
    """What the file `stop` says, None where there is none. "now": the run is to be killed. Raises OSError."""
    try:
        with open(agent.path("stop")) as file:
            return file.read()
    except FileNotFoundError:
        return None


def end_as(status):
    """Ends this process as the run ended."""
    if status < 0:
        if -status != signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status)


if __name__ == "__main__":
    if len(sys.argv) == 2:
        code = run_claimed(sys.argv[1])
        sys.exit(0 if code is None else code if code >= 0 else 128 - code)
    end_as(run_from_pipe(int(sys.argv[1]), sys.argv[2]) or 0)
