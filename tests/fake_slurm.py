"""A Slurm of one file: sbatch, squeue, scontrol and scancel, by the name that it is called with. It starts jobs as
processes of this machine whenever it is asked something.

Its folder is the environment's FAKE_SLURM; state.json in it holds {"next", "jobs": {id: job}}, and faults.json, which
tests write, any of these:
  sbatch   a list, of which each submission takes the first: "lose" (taken, and no answer), "hang" (taken, and no answer
           for long), "fail" (not taken), "twice" (started twice)
  squeue   true: it does not answer
  nodes    the nodes that there are (default n1, n2, n3), a job each at a time unless `share` is true
  blind    nodes that do not see our folder
  limit    seconds after which a job is asked to end, as at its time limit
  reason   why jobs wait
  refuse   words with which sbatch refuses all
"""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path(os.environ.get("FAKE_SLURM", "."))
ENDINGS = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED")


def load(name):
    path = FOLDER / name
    return json.loads(path.read_text()) if path.exists() else {}


@contextlib.contextmanager
def state():
    """The state, alone with it; written when this ends."""
    with open(FOLDER / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = load("state.json") or {"next": 1, "jobs": {}}
        yield found
        fresh = FOLDER / "state.json.new"
        fresh.write_text(json.dumps(found))
        fresh.replace(FOLDER / "state.json")


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def signal_job(job, number, group=True):
    for pid in job["pids"]:
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if group else os.kill)(pid, number)


def schedule(jobs, faults):
    """Ends jobs whose processes have ended, and starts what can be."""
    for job in jobs.values():
        if job["state"] == "RUNNING" and not any(map(alive, job["pids"])):
            job["state"] = job["ending"] or "COMPLETED"
        elif (
            job["state"] == "RUNNING" and time.time() - job["started"] > faults.get("limit", 1e9) and not job["ending"]
        ):
            job["ending"] = "TIMEOUT"
            signal_job(job, signal.SIGTERM, group=False)
    for number, job in jobs.items():
        busy = {one["node"] for one in jobs.values() if one["state"] == "RUNNING" and not faults.get("share")}
        free = [node for node in faults.get("nodes", ["n1", "n2", "n3"]) if node not in {*busy, *job["exclude"]}]
        if job["state"] == "PENDING" and not job["held"] and free:
            start(number, job, min(free, key=lambda node: sum(one["node"] == node for one in jobs.values())), faults)


def start(number, job, node, faults):
    env = {**os.environ, "SLURMD_NODENAME": node, "SLURM_JOB_ID": number}
    argv = (
        job["argv"]
        if node not in faults.get("blind", ())
        else ["sh", "-c", "echo 'agent.py: no such file' >&2; exit 2"]
    )
    job.update(state="RUNNING", node=node, started=time.time())
    with open(Path(job["workdir"]) / "slurm.txt", "ab") as out:
        for _ in range(1 + job["twice"]):
            child = subprocess.Popen(argv, env=env, stdout=out, stderr=out, start_new_session=True)
            job["pids"].append(child.pid)


def option(words, name, default=""):
    return next((word.partition("=")[2] for word in words if word.startswith(f"--{name}=")), default)


def sbatch(words):
    with state() as found:
        faults = load("faults.json")
        if faults.get("refuse"):
            sys.exit(f"sbatch: error: {faults['refuse']}")
        if "--test-only" in words:
            return
        what = (faults.get("sbatch") or [""]).pop(0)
        (FOLDER / "faults.json").write_text(json.dumps(faults))
        if what == "fail":
            sys.exit("sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)")
        number = str(found["next"])
        exclude = [node for node in option(words, "exclude").split(",") if node]
        script = next(place for place, word in enumerate(words) if not word.startswith("--"))
        found["next"] += 1
        found["jobs"][number] = {
            **{"name": option(words, "job-name"), "workdir": option(words, "chdir"), "argv": ["sh", *words[script:]]},
            **{"held": "--hold" in words, "state": "PENDING", "node": "", "pids": [], "ending": "", "words": words},
            **{"twice": what == "twice", "exclude": exclude},
        }
    if what == "hang":
        time.sleep(30)
    if what in ("lose", "hang"):
        sys.exit("sbatch: error: Batch job submission failed: Socket timed out on send/recv operation")
    print(number)


def squeue(words):
    with state() as found:
        faults = load("faults.json")
        if faults.get("squeue"):
            sys.exit("slurm_load_jobs error: Unable to contact slurm controller (connect failure)")
        if not option(words, "name"):  # a look-up of one job may be killed before it has noted what it has started
            schedule(found["jobs"], faults)
        for number, job in found["jobs"].items():
            if option(words, "name", job["name"]) == job["name"]:
                held = job["held"] and job["state"] == "PENDING"
                reason = "JobHeldUser" if held else faults.get("reason", "None")
                print("|".join([number, job["state"], job["node"], reason, job["name"], job["workdir"]]))


def scontrol(words):
    action, number = words
    with state() as found:
        if number not in found["jobs"]:
            sys.exit(f"Invalid job id specified for job {number}")
        assert action == "release"
        found["jobs"][number]["held"] = False
        schedule(found["jobs"], load("faults.json"))


def scancel(words):
    with state() as found:
        job = found["jobs"].get(words[-1])
        if not job:
            sys.exit(f"scancel: error: Kill job error on job id {words[-1]}: Invalid job id specified")
        schedule(found["jobs"], load("faults.json"))
        if job["state"] == "PENDING":
            job["state"] = "CANCELLED"
        elif job["state"] == "RUNNING" and option(words, "state") != "PENDING":
            number = getattr(signal, f"SIG{option(words, 'signal', 'TERM')}")
            job["ending"] = "" if "--batch" in words else "CANCELLED"
            signal_job(job, number, group="--batch" not in words)


if __name__ == "__main__":
    globals()[Path(sys.argv[0]).name](sys.argv[1:])
