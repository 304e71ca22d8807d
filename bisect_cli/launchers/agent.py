"""Stands beside a run: waits until it may begin, starts its command, hands a request to stop on to it, and notes how it
ended. Run as a script by a launcher, with the standard library alone:

    agent.py PIPE FOLDER    the run begins when a byte comes through the pipe, and never if that closes first
    agent.py FOLDER         on a node that a scheduler chose: the first to claim the folder runs, any other ends at once

FOLDER holds job.json: {"argv", "cwd", "env" (added to this process's), "stop_signal", "grace", "beat", "of" (whose it
is), "software" ({text: {"argv", "cwd"}} of what prints versions)}. At the end exit.json is there, whole or not at all:
{"code" (negative: the signal that ended it), "asked_to_stop", "seconds", "of" (as in job.json), "error" (why it could
not be started)}.

When the run ends, so does all that it has started, whatever group or session that has moved to: this process becomes
the parent of what has lost its own, where the system can do that (Linux).

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
DIE_WITH_PARENT, CHILD_SUBREAPER = 1, 36  # PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER
CLEAR_SECONDS, PAUSE = 10, 0.01  # to end what a run has left behind; one that hangs in the system is left
NODE_NAMES = ("BISECT_NODE_NAME", "SLURMD_NODENAME")  # in the environment: what the node is called, if set
SEEN = ("SLURM_JOB_ID", "SLURM_JOB_NODELIST", "SLURM_JOB_GPUS", "CUDA_VISIBLE_DEVICES")


class Agent:
    """One attempt of a run. asked: when it was first asked to stop, else None; passed_on: whether it knows. hinted:
    whether another signal was passed on that may have ended it. over: whether it has ended; code: of its exit, then.
    alone: whether it has a process group of its own.
    """

    def __init__(self, folder):
        self.folder = folder
        with open(self.path("job.json")) as file:
            self.job = json.load(file)
        self.stop_signal = signal.Signals["SIG" + self.job["stop_signal"]]
        self.child = self.asked = self.code = None
        self.hinted = self.passed_on = self.over = self.alone = False
        self.system = load_system()
        self.tell_system(CHILD_SUBREAPER, 1)
        self.began = time.monotonic()

    def path(self, name):
        return os.path.join(self.folder, name)

    def on_signal(self, number, _):
        """SIGTERM becomes what the run takes as a request to stop; others are passed on as they are."""
        if number == signal.SIGTERM:
            self.ask()
        elif self.child:
            self.hinted = True
            self.send(number)

    def ask(self):
        """Asks the run to save and end, once: a further signal may tell it not to save."""
        self.asked = self.asked or time.monotonic()
        if self.child and not self.passed_on:
            self.passed_on = True
            if not signal_tasks(self.child.pid, self.job["stop_signal"]):
                self.send(self.stop_signal)

    def send(self, number):
        """Signals the run, unless it has ended: its id may be another's then."""
        if not self.over:
            os.kill(self.child.pid, number)

    def tell_system(self, option, value):
        """Calls prctl, where there is one."""
        if self.system:
            self.system.prctl(option, value, 0, 0, 0)

    def start(self, alone=False, **where):
        """Starts the run. Between its start and its being known here a request would be lost, so they wait. alone: in
        a session and process group of its own.
        """

        def prepare():
            signal.pthread_sigmask(signal.SIG_SETMASK, [])
            self.tell_system(DIE_WITH_PARENT, signal.SIGKILL)  # no run outlives its agent

        self.began, self.alone = time.monotonic(), alone
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            environment = dict(os.environ, **self.job["env"])
            place = {"cwd": self.job["cwd"], "env": environment, "start_new_session": alone}
            self.child = subprocess.Popen(self.job["argv"], preexec_fn=prepare, **place, **where)
        except OSError as error:
            there = os.path.isdir(self.job["cwd"])
            return "cannot run {}: {}".format(self.job["argv"][0] if there else "in " + self.job["cwd"], error.strerror)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        if self.asked:  # just before
            self.ask()

    def look(self, wait=False):
        """Takes note of one process that has ended: the run, or what has lost its parent and become ours. Whether there
        was one. wait: until there is.
        """
        if not hasattr(os, "waitid"):
            self.code = self.child.wait() if wait else self.child.poll()
            self.over = self.code is not None
            return False
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT | (0 if wait else os.WNOHANG))
        except ChildProcessError:
            return False
        if ended and ended.si_pid == self.child.pid:
            self.over = True
            if self.alone:  # until it is waited for, its group's id is no other's
                kill(os.killpg, self.child.pid)
            self.code = self.child.wait()
        elif ended:
            os.waitpid(ended.si_pid, 0)
        return bool(ended)

    def clear(self):
        """Ends what the run has left behind. All of it is our child, or will be once its parent has ended."""
        deadline = time.monotonic() + CLEAR_SECONDS
        while time.monotonic() < deadline:
            while self.look():
                pass
            left = children()
            if not left:
                return
            for pid in left:
                kill(os.kill, pid)
            time.sleep(PAUSE)

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
    while agent.code is None:
        agent.look(wait=True)
    agent.clear()
    return agent.finish(agent.code)


def run_claimed(folder):
    """Returns the exit code of the run, None if another agent has claimed it."""
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
        error = agent.start(alone=True, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        if error:
            err.write((error + "\n").encode())
            return agent.finish(127, error)
    watch(agent)
    agent.clear()
    return agent.finish(agent.code)


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
    """Waits for the end of the run, and kills it where it does not end within its grace time."""
    beats, last, every = 0, -math.inf, agent.job["beat"]
    while agent.code is None:
        if agent.look():
            continue
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
            agent.send(signal.SIGKILL)


def read_stop(agent):
    """What the file `stop` says, None where there is none. "now": the run is to be killed. Raises OSError."""
    try:
        with open(agent.path("stop")) as file:
            return file.read()
    except FileNotFoundError:
        return None


def load_system():
    """The C library, None where Python cannot call it, or where it has no prctl."""
    try:
        import ctypes

        library = ctypes.CDLL(None)
        return library if library.prctl else None
    except (ImportError, OSError, AttributeError):
        return None


def children():
    """The ids of the processes that are this one's children and alive."""
    found = []
    for name in os.listdir("/proc") if os.path.exists("/proc/self/stat") else ():
        with contextlib.suppress(OSError, IndexError):
            if name.isdigit():
                with open("/proc/" + name + "/stat", errors="replace") as file:
                    state, parent = file.read().rpartition(")")[2].split()[:2]
                if int(parent) == os.getpid() and state not in "ZX":
                    found.append(int(name))
    return found


def kill(how, pid):
    with contextlib.suppress(ProcessLookupError, PermissionError):
        how(pid, signal.SIGKILL)


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
