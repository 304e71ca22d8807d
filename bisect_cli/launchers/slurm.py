"""Runs as jobs of Slurm, a job an attempt, through sbatch, squeue, scontrol and scancel.

A job's name is its key, known before it is submitted: the campaign's uid, the trial and the attempt. It is submitted on
hold, logged, and released; one whose answer got lost is looked up by its key before another is submitted. On its node
the agent claims the attempt, and the attempt's folder says how it ended. Slurm only says whether a job lives: no answer
decides nothing, and a job that is gone is waited for, as files of other machines show late.
"""

import os
import re
import shutil
import sys
import time
from pathlib import Path
from typing import NamedTuple

from bisect_cli.errors import UserError
from bisect_cli.launchers import Option, Unavailable, agent_job, scheduler
from bisect_cli.launchers.slurm_job import Job

SECONDS = 15  # that the loop waits for Slurm to take a job; as one of unknown fate is looked up, it may be short
OF_JOB = re.compile("SLURM|SBATCH_(?:CPU|MEM)_BIND|SRUN_DEBUG|CUDA_VISIBLE_DEVICES|GPU_DEVICE_ORDINAL")
SCRIPT = '#!/bin/sh\nexec "$@"\n'  # the agent takes the place of the script's shell, so that signals reach it
FIELDS = "%i|%T|%N|%r|%j|%Z"  # the last may have a | in it
TO_FLAGS = {
    **{"partition": "partition", "account": "account", "qos": "qos", "gpus": "gpus", "cpus": "cpus-per-task"},
    **{"memory": "mem", "time": "time", "nodes": "nodes"},
}
SETTLED = re.compile("invalid job id|already finished|already completing|no longer pending", re.IGNORECASE)
REFUSED = re.compile(
    "invalid (?:partition|account|qos|generic|node|job array|--)|unrecognized|ambiguous|requested node configuration|"
    "invalid option|not permitted to use|invalid \\S+ specification",
    re.IGNORECASE,
)


class Listed(NamedTuple):
    """A job as squeue shows it. node: "" before it has one."""

    state: str
    node: str
    reason: str
    key: str
    workdir: str

    @property
    def held(self):
        return self.state == "PENDING" and self.reason == "JobHeldUser"


GONE = Listed("GONE", "", "", "", "")  # not shown any more


def parse_jobs(text):
    """{id: Listed} of the output of squeue."""
    lines = [line.split("|", 5) for line in text.splitlines()]
    return {words[0]: Listed(*words[1:]) for words in lines if len(words) == 6}


def parse_id(text):
    """The id that `sbatch --parsable` prints, "" if there is none."""
    found = re.search(r"^(\d+)(?:;\S*)?\s*$", text, re.MULTILINE)
    return found[1] if found else ""


def flags_of(options):
    """The arguments of sbatch for these options; those of `extra` come last, so that they win."""
    return [*(f"--{flag}={options[name]}" for name, flag in TO_FLAGS.items() if name in options), *extra(options)]


def extra(options):
    return options.get("extra", [])


def sbatch(words):
    """The Answer of sbatch. What Slurm has put into the environment of a job that we are in is not handed on: it is of
    that job, and contradicts what the new one asks for.
    """
    inside = "SLURM_JOB_ID" in os.environ
    env = {name: text for name, text in os.environ.items() if name == "SLURM_CONF" or not OF_JOB.match(name)}
    return scheduler.call(["sbatch", *words], SECONDS, env if inside else None)


class Slurm(agent_job.AgentLauncher):
    """A job an attempt."""

    OPTIONS = {  # noqa: RUF012 - never written to
        "partition": Option(str, "where jobs go"),
        "account": Option(str, "whose time is used"),
        "qos": Option(str, "quality of service"),
        "gpus": Option(str, "of a run, as 4 or a100:4"),
        "cpus": Option(int, "of a run"),
        "memory": Option(str, "of a run, as 32G"),
        "time": Option(str, "limit of a job, as 12:00:00; a longer run goes on in another job"),
        "nodes": Option(int, "of a run that spans several"),
        "extra": Option(list, "an argument of sbatch; repeatable"),
        "python": Option(str, "on the nodes, 3.6 or later; by default the one here"),
        "poll_seconds": Option(float, "between looks at the queue; 10 by default"),
        "vanish_seconds": Option(float, "until a job that is gone is given up; 120 by default"),
    }

    def __init__(self, slots=None, options=None, fills_machine=False):
        super().__init__(slots, options, fills_machine)
        self._ids, self._unsure = set(), set()
        self._not_before, self._looked = 0.0, 0.0
        self._refusal = ""
        question = ["squeue", f"--user={os.getuid()}", "--states=all", "--noheader", f"--format={FIELDS}"]
        self.scheduler = scheduler.Scheduler(question, parse_jobs, _is_settled, self.poll_seconds)

    @property
    def trouble(self):
        return self.scheduler.trouble or self._refusal

    def check(self):
        for program in ("sbatch", "squeue", "scontrol", "scancel"):
            if not shutil.which(program):
                raise UserError(f"{program} is not on the path: start this where Slurm's commands are, or load them.")
        answer = sbatch(["--test-only", *flags_of(self.options), "--wrap=true"])
        if answer.code != 0:
            remedy = "mend --launcher-option, or ask again later"
            raise UserError(f"Slurm would not take the runs: {_words(answer)}; {remedy}.")

    def open(self, folder, uid, tickets):
        self.folder, self.uid = Path(folder).resolve(), uid
        self._ids.update(str(ticket["job"]) for ticket in tickets if "job" in ticket)
        agent_job.install_agent(self.folder)
        agent_job.replace(self.folder / "job.sh", SCRIPT)

    @property
    def ready(self):
        return time.monotonic() >= self._not_before

    def prepare(self, job):
        folder, key = job.folder.resolve(), f"mb-{self.uid}-{job.key}"
        agent_job.prepare_folder(job, self.vanish_seconds, self.options.get("cpus"))
        number = self._find(key) if key in self._unsure else ""
        number = number or self._submit(key, folder, job.avoid)
        self._unsure.discard(key)
        self._ids.add(number)
        return Job(self, {"launcher": "slurm", "key": key, "job": number}, folder)

    def reattach(self, ticket, folder):
        key, job = (str(ticket.get(name, "")) for name in ("key", "job"))
        mine = key.startswith(f"mb-{self.uid}-") and job.isascii() and job.isdigit()
        return Job(self, ticket, Path(folder).resolve(), reattached=True) if mine else None

    def refresh(self):
        self.scheduler.look()
        snapshot = self.scheduler.snapshot
        if snapshot and snapshot.asked > self._looked:
            self._looked = snapshot.asked
            for number, listed in snapshot.jobs.items():
                if self._is_orphan(number, listed):
                    self.scheduler.do(["scancel", number])

    def listed(self, number, since):
        """The Listed of a job, GONE if it is not shown; None if Slurm has not been asked since then."""
        snapshot = self.scheduler.snapshot
        return snapshot.jobs.get(number, GONE) if snapshot and snapshot.asked > since else None

    def _is_orphan(self, number, listed):
        """Whether a job is of this campaign, but of no run that it knows of: prepared by a controller that died before
        it was logged.
        """
        unknown = number not in self._ids and listed.key not in self._unsure
        if not (unknown and listed.key.startswith(f"mb-{self.uid}-") and listed.state in ("PENDING", "RUNNING")):
            return False
        return self._is_here(listed)

    def _is_here(self, listed):
        """Whether a job is not of a copy of this campaign."""
        return Path(listed.workdir).resolve().is_relative_to(self.folder)

    def _find(self, key):
        """The id of the job of this key, if there is one."""
        words = [*self.scheduler.question[:3], f"--name={key}", f"--format={FIELDS}", "--noheader"]
        answer = scheduler.call(words, SECONDS)
        if answer.code != 0:
            raise self._unavailable(answer)
        jobs = parse_jobs(answer.out)
        found = ((number, listed) for number, listed in jobs.items() if listed.key == key and listed.held)
        return next((number for number, listed in found if self._is_here(listed)), "")

    def _submit(self, key, folder, avoid):
        """The id of a new job, on hold."""
        words = ["--parsable", "--hold", "--no-requeue", "--open-mode=append", "--signal=B:TERM@60"]
        words += [f"--job-name={key}", f"--chdir={folder}", "--output=slurm.txt", *flags_of(self.options)]
        script = [str(self.folder / "job.sh"), self.options.get("python", sys.executable), "-I", "-S"]
        script += [str(self.folder / "agent.py"), str(folder)]
        if avoid:
            answer = sbatch([*words, f"--exclude={','.join(avoid)}", *script])
            if answer.code == 0 or not REFUSED.search(answer.err):
                return self._id_of(key, answer)
        return self._id_of(key, sbatch([*words, *script]))  # there may be no other nodes

    def _id_of(self, key, answer):
        number = parse_id(answer.out) if answer.code == 0 else ""
        if number:
            self._refusal = ""
            return number
        if REFUSED.search(answer.err):
            raise UserError(f"Slurm refuses a run: {_words(answer)}; mend that, then resume.")
        self._unsure.add(key)
        raise self._unavailable(answer)

    def _unavailable(self, answer):
        self._refusal = answer.words
        self._not_before = time.monotonic() + self.poll_seconds
        return Unavailable(answer.words)


def _is_settled(answer):
    return bool(SETTLED.search(answer.err))


def _words(answer):
    return re.sub("^(?:sbatch: )?(?:error: |allocation failure: )?", "", answer.words).rstrip(".")


LAUNCHER = Slurm
