"""A Ray of one file: a server that answers as its Jobs API does, and starts jobs as processes of this machine.

What it does wrong is set by its attributes:
  submissions  a list, of which each submission takes the first: "lose" (taken, and no answer), "slow" (taken, and an
               answer too late), "fail" (HTTP 500, not taken), "twice" (started twice)
  down         no request is answered
  nodes        the nodes that there are, a job each at a time
  blind        nodes that do not see our folder
  token        that every request has to bring
  refuse       words with which it refuses all submissions
  version, labels   of Ray; whether it knows labels
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

OVER = ("STOPPED", "SUCCEEDED", "FAILED")
NESTED = "Traceback:\nRuntimeError: Request failed with status code {}: Traceback:\nValueError: {}\n."


class Ray:
    """jobs: {submission id: job}, also of jobs that were forgotten; requests: what was asked, "METHOD path" each."""

    def __init__(self):
        self.jobs, self.requests, self.fields = {}, [], []
        self.submissions, self.blind, self.nodes = [], [], ["n1", "n2", "n3"]
        self.down, self.token, self.refuse, self.version, self.labels = False, "", "", "2.60.0", True
        self.lock = threading.RLock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"ray": self}))
        self.server.daemon_threads = True
        self._closed = threading.Event()
        self._threads = [threading.Thread(target=target, daemon=True) for target in (self._serve, self._schedule)]
        for thread in self._threads:
            thread.start()

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def close(self):
        self._closed.set()
        self.server.shutdown()
        for thread in self._threads:
            thread.join()
        self.server.server_close()
        self.forget()

    def forget(self):
        """Ends all jobs and knows of none, as a head that begins anew."""
        with self.lock:
            for job in self.jobs.values():
                end(job)
            self.jobs.clear()

    def running(self):
        with self.lock:
            return [key for key, job in self.jobs.items() if job["status"] == "RUNNING"]

    def lose_node(self, node):
        """Node and runs die; Ray sees that."""
        with self.lock:
            self.nodes.remove(node)
            for job in self.jobs.values():
                if job["node"] == node and job["status"] == "RUNNING":
                    end(job)
                    fail(job, "JOB_SUPERVISOR_ACTOR_DIED", "Job supervisor actor died: The actor died unexpectedly.")

    def _serve(self):
        self.server.serve_forever(poll_interval=0.05)

    def _schedule(self):
        while not self._closed.wait(0.05):
            with self.lock:
                for job in self.jobs.values():
                    self._look_at(job)

    def _look_at(self, job):
        if job["status"] == "RUNNING" and all(process.poll() is not None for process in job["processes"]):
            code = job["processes"][0].returncode
            if job["stop"]:
                job["status"] = "STOPPED"
            elif code == 0:
                job["status"] = "SUCCEEDED"
            else:
                said = job["processes"][0].stdout.read() if job["node"] in self.blind else b""
                words = f"Job entrypoint command failed with exit code {code}, last available logs:\n{said.decode()}"
                fail(job, "JOB_ENTRYPOINT_COMMAND_ERROR", words)
        elif job["status"] == "RUNNING" and job["stop"] and time.monotonic() > job["stop"]:
            end(job)
        elif job["status"] == "PENDING":
            busy = {other["node"] for other in self.jobs.values() if other["status"] == "RUNNING"}
            free = [node for node in self.nodes if node not in busy and f"id{node}" not in job["avoid"]]
            if free:
                self._start(job, free[0])

    def _start(self, job, node):
        job.update(status="RUNNING", node=node)
        words = f"exec {job['entrypoint']}" if node not in self.blind else "echo no such file: agent.py; exit 2"
        env = {**os.environ, "BISECT_NODE_NAME": node, **job["fields"]["runtime_env"]["env_vars"]}
        for _ in range(1 + job["twice"]):
            options = {"shell": True, "env": env, "start_new_session": True, "stdout": subprocess.PIPE}
            job["processes"].append(subprocess.Popen(words, stderr=subprocess.STDOUT, **options))
        if job["stop"]:
            stop(job)

    def submit(self, fields):
        """-> (HTTP status, answer, what goes wrong)."""
        what = self.submissions.pop(0) if self.submissions else ""
        key, selector = fields["submission_id"], fields.get("entrypoint_label_selector", {})
        self.fields.append(fields)
        if selector and not self.labels:
            words = "JobSubmitRequest.__init__() got an unexpected keyword argument 'entrypoint_label_selector'"
            return 400, f"Traceback:\nTypeError: {words}\n", ""
        if self.refuse or what == "fail":
            return 500, NESTED.format(400, self.refuse) if self.refuse else "Traceback:\nOSError: no agent", ""
        if key in self.jobs:
            return 500, NESTED.format(400, f"Job with submission_id {key} already exists. Please use another."), what
        avoid = re.findall(r"\w+", selector.get("ray.io/node-id", "").partition("(")[2])
        self.jobs[key] = {
            **{"entrypoint": fields["entrypoint"], "fields": fields, "status": "PENDING", "node": "", "avoid": avoid},
            **{"processes": [], "stop": 0.0, "twice": what == "twice", "error_type": None, "message": "waiting"},
        }
        return 200, json.dumps({"job_id": key, "submission_id": key}), what

    def listing(self):
        shown = ("entrypoint", "status", "error_type", "message")
        rows = [
            {**{name: job[name] for name in shown}, "driver_node_id": job["node"] and f"id{job['node']}"}
            for job in self.jobs.values()
        ]
        rows = [{**row, "submission_id": key, "type": "SUBMISSION"} for key, row in zip(self.jobs, rows)]
        return [*rows, {"type": "DRIVER", "submission_id": None, "status": "RUNNING", "entrypoint": "python 'x"}]


def fail(job, error, message):
    job.update(status="FAILED", error_type=error, message=message)


def stop(job):
    """Of a job that waits Ray only remembers that it is to be stopped."""
    job["stop"] = time.monotonic() + float(job["fields"]["runtime_env"]["env_vars"]["RAY_JOB_STOP_WAIT_TIME_S"])
    for process in job["processes"]:
        process.terminate()


def end(job):
    for process in job["processes"]:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()


class _Handler(BaseHTTPRequestHandler):
    ray = None

    def do_GET(self):  # noqa: N802 - the names of http.server
        if self.path == "/api/version":
            self._answer(200, json.dumps({"version": "4", "ray_version": self.ray.version}))
        elif self.path == "/api/jobs/":
            with self.ray.lock:
                rows = json.dumps(self.ray.listing())
            self._answer(200, rows)
        else:
            self._answer(404, "not found")

    def do_POST(self):  # noqa: N802
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not self._admitted():
            return
        if self.path != "/api/jobs/":
            return self._of_job(self.path.split("/")[3], stop)
        with self.ray.lock:
            status, answer, what = self.ray.submit(json.loads(body))
        if what == "slow":
            time.sleep(3)
        if what == "lose":
            return self.close()
        self._answer(status, answer, admitted=True)

    def do_DELETE(self):  # noqa: N802
        if self._admitted():
            self._of_job(self.path.split("/")[3], None)

    def _of_job(self, key, do):
        with self.ray.lock:
            job = self.ray.jobs.get(key)
            if job and do and job["status"] not in OVER:
                do(job)
            elif job and not do:
                del self.ray.jobs[key]
        self._answer(200 if job else 404, "{}" if job else f"Job {key} does not exist", admitted=True)

    def _admitted(self):
        self.ray.requests.append(f"{self.command} {self.path}")
        if self.ray.down:
            self.close()
            return False
        given = self.headers.get("Authorization", "")
        if self.ray.token and given != f"Bearer {self.ray.token}":
            self._answer(403 if given else 401, "Unauthorized", admitted=True)
            return False
        return True

    def close(self):
        self.close_connection = True

    def _answer(self, status, text, admitted=False):
        if admitted or self._admitted():
            with contextlib.suppress(OSError):  # the client has gone
                self.send_response(status)
                self.send_header("Content-Length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())

    def log_message(self, *_):
        """The tests say what is wrong."""
