"""Runs as jobs of Ray, a job an attempt, through the Jobs API of its dashboard.

Ray knows no hold, so a job's key is fixed and logged first, and only then it is submitted, by `go`. The key is Ray's
submission id, of which there can be one job: a submission whose answer got lost is made again, and refused where it had
been taken. On its node the agent claims the attempt, and the attempt's folder says how it ended. Ray only says whether
a job lives: no answer decides nothing, and a job that is gone, as when Ray's head has begun anew, is waited for.
"""

import json
import secrets
import shlex
import sys
import time
from pathlib import Path

from bisect_cli.errors import UserError
from bisect_cli.launchers import Option, agent_job, ray_api, read_claim
from bisect_cli.launchers.ray_job import Job
from bisect_cli.launchers.scheduler import Scheduler

OLDEST = (2, 9)  # of Ray; tried are 2.51 and 2.60
LABELS = (2, 54)  # the first Ray that lets the labels of a node choose it
AGAIN = (401, 403, 408, 429)  # HTTP: refused now, not for good
UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
SELECTOR = "entrypoint_label_selector"


class Ray(agent_job.AgentLauncher):
    """{key: why}: refusals, of the jobs that Ray will never take; early_ends, of those that it has ended before they
    began, and that it is given again.
    """

    OPTIONS = {  # noqa: RUF012 - never written to
        "address": Option(str, "Ray's dashboard; by default RAY_API_SERVER_ADDRESS, or http://127.0.0.1:8265"),
        "cpus": Option(int, "of a run; 1 by default"),
        "gpus": Option(float, "of a run, as 1 or 0.5"),
        "memory": Option(str, "of a run, as 32G"),
        "resources": Option(list, "custom resources of a run, as a100=1; repeatable"),
        "labels": Option(list, "labels that its node has, as accelerator=A100, from Ray 2.54 on; repeatable"),
        "python": Option(str, "on the nodes, 3.6 or later; by default the one here"),
        "token_file": Option(str, "a file with Ray's token; by default RAY_AUTH_TOKEN, or where Ray keeps it"),
        "poll_seconds": Option(float, "between looks at the jobs; 10 by default"),
        "vanish_seconds": Option(float, "until a job that is gone is given up; 120 by default"),
    }

    def __init__(self, slots=None, options=None, fills_machine=False):
        super().__init__(slots, options, fills_machine)
        self.refusals, self.early_ends = {}, {}
        self._answered = {}  # key -> when its submission was answered: what was listed before says nothing
        self._graces = {}
        self._keys, self._looked = set(), 0.0
        self._knows_labels = True
        self.api = ray_api.Api(self.options)
        self.scheduler = Scheduler(ray_api.ALL_JOBS, ray_api.parse_jobs, _is_settled, self.poll_seconds, self._call)

    @property
    def trouble(self):
        return self.scheduler.trouble or next(iter(self.early_ends.values()), "")

    def check(self):
        resources_of(self.options)
        address = ray_api.address_of(self.options)
        ray_api.token_of(self.options)
        for question in (ray_api.VERSION, ray_api.ALL_JOBS):
            answer = self.api.call(question)
            if answer.code is None:
                remedy = "start Ray there (ray start --head), or name it: --launcher-option address=http://HEAD:8265"
                raise UserError(f"{answer.words}; {remedy}.")
            if answer.code in ray_api.REFUSED:
                raise UserError(f"{answer.words} at {address}: set RAY_AUTH_TOKEN, or give token_file=FILE.")
            if answer.code:
                raise UserError(f"what answers at {address} is no dashboard of Ray ({answer.words}); mend the address.")
            _check_answer(question, answer.out, address, self.options)

    def open(self, folder, uid, tickets):
        self.folder, self.uid = Path(folder).resolve(), uid
        self._keys.update(ticket["key"] for ticket in tickets if "key" in ticket)
        agent_job.install_agent(self.folder)

    def prepare(self, job):
        job = job._replace(folder=job.folder.resolve())
        agent_job.prepare_folder(job, self.vanish_seconds, self.options.get("cpus"))
        key = f"mb-{self.uid}-{job.key}-{secrets.token_hex(3)}"  # parity, or a copy of this campaign, may come again
        self._keys.add(key)
        self._graces[key] = job.grace
        return Job(self, {"launcher": "ray", "key": key, "job": key}, job.folder, job.avoid)

    def reattach(self, ticket, folder):
        mine = str(ticket.get("key", "")).startswith(f"mb-{self.uid}-")
        return Job(self, ticket, Path(folder).resolve(), reattached=True) if mine else None

    def refresh(self):
        self.scheduler.look()
        snapshot = self.scheduler.snapshot
        if snapshot and snapshot.asked > self._looked:
            self._looked = snapshot.asked
            for key, listed in self._own(snapshot.jobs):
                if key not in self._keys and listed.status in ("PENDING", "RUNNING"):
                    self.scheduler.do(ray_api.stop(key))  # parity's, of a controller that died

    def submit(self, key, folder, avoid=()):
        """Has Ray take a job, as soon as it does. avoid: names of nodes."""
        words = [self.options.get("python", sys.executable), "-I", "-S", str(self.folder / "agent.py"), str(folder)]
        fields = resources_of(self.options)
        nodes = sorted(set(self._ids(avoid))) if self._knows_labels and avoid else []
        if nodes:
            fields[SELECTOR] = {"ray.io/node-id": f"!in({','.join(nodes)})", **fields.get(SELECTOR, {})}
        seconds = str(int(self._graces.get(key, 60.0)) + 5)  # else Ray kills what others stop after 3 s
        env = {"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": seconds}}
        self.scheduler.do(ray_api.submission(key, entrypoint=shlex.join(words), runtime_env=env, **fields))

    def forget(self, key):
        """Leaves a job out that has not been submitted yet."""
        self.scheduler.forget(lambda request: request.key == key)

    def listed(self, key, since):
        """The ray_api.Listed of a job, GONE if it is not shown; None if Ray has not been asked since then, or since it
        took the job.
        """
        snapshot = self.scheduler.snapshot
        if not snapshot or snapshot.asked <= max(since, self._answered.get(key, 0.0)):
            return None
        return snapshot.jobs.get(key, ray_api.GONE)

    def _own(self, jobs):
        """(key, Listed) of the jobs of this campaign, and not of a copy of it."""
        for key, listed in jobs.items():
            if key.startswith(f"mb-{self.uid}-") and Path(listed.folder).resolve().is_relative_to(self.folder):
                yield key, listed

    def _ids(self, names):
        """Ray's ids of the nodes of these names, as far as the jobs that it still knows of say them."""
        jobs = self.scheduler.snapshot.jobs if self.scheduler.snapshot else {}
        for _, listed in self._own(jobs):
            if listed.node and (listed.node in names or (read_claim(listed.folder) or {}).get("node") in names):
                yield listed.node

    def _call(self, request):
        """Asks Ray, beside the loop; notes what became of submissions."""
        answer = self.api.call(request)
        if SELECTOR in answer.err and "labels" not in self.options:
            self._knows_labels = False
            answer = self.api.call(ray_api.without(request, SELECTOR))
        if request.key:
            if answer.code == 400 and "already exists" not in answer.err:
                self.refusals[request.key] = answer.words
            if answer.code in (0, 400):
                self._answered[request.key] = time.monotonic()
        return answer


def resources_of(options):
    """The fields of a job that say what it needs. Raises UserError."""
    fields = {"entrypoint_num_cpus": options.get("cpus", 1)}  # without any it would run on the head
    if "gpus" in options:
        fields["entrypoint_num_gpus"] = options["gpus"]
    if "memory" in options:
        fields["entrypoint_memory"] = _bytes(options["memory"])
    if "resources" in options:
        fields["entrypoint_resources"] = {name: _amount(name, text) for name, text in _pairs(options, "resources")}
    if "labels" in options:
        fields[SELECTOR] = dict(_pairs(options, "labels"))
    return fields


def _pairs(options, name):
    for text in options[name]:
        key, equals, value = text.partition("=")
        if not (key and equals and value):
            raise UserError(f"launcher option {name}={text}: write NAME=VALUE, as {name}=a100=1.")
        yield key, value


def _amount(name, text):
    try:
        if 0 < float(text) < 1e9:
            return float(text)
    except ValueError:
        pass
    raise UserError(f"launcher option resources={name}={text}: write a number above 0.")


def _bytes(text):
    number, unit = text.rstrip("KMGTkmgtiBb"), text.lstrip("0123456789.").upper().rstrip("B").rstrip("I")
    try:
        found = int(float(number) * UNITS[unit])
        if found > 0:
            return found
    except (KeyError, ValueError, OverflowError):
        pass
    raise UserError(f"launcher option memory={text}: write a size, as 32G.")


def _check_answer(question, text, address, options):
    """Raises UserError if that is no Ray, or too old for us."""
    try:
        if question == ray_api.ALL_JOBS:
            return ray_api.parse_jobs(text)
        version = json.loads(text)["ray_version"]
        number = tuple(int(part) for part in version.split(".")[:2])
    except (ValueError, TypeError, KeyError, AttributeError):
        raise UserError(f"what answers at {address} is no dashboard of Ray; mend the address.") from None
    for least, what in ((OLDEST, "this"), *([(LABELS, "labels=")] if "labels" in options else [])):
        if number < least:
            wanted = ".".join(map(str, least))
            raise UserError(f"Ray {version} at {address} is too old: {what} needs {wanted} or later; renew it.")


def _is_settled(answer):
    """A job that is gone, a second submission of a key, or one that will never be taken."""
    return answer.code is not None and 400 <= answer.code < 500 and answer.code not in AGAIN


LAUNCHER = Ray
