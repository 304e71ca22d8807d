"""Ray's Jobs API over HTTP, with the standard library alone: whoever asks needs no Ray, and may stand anywhere."""

import http.client
import json
import os
import re
import shlex
import urllib.error
import urllib.request
from pathlib import Path
from typing import NamedTuple, Optional
from urllib.parse import quote

from bisect_cli.errors import UserError
from bisect_cli.launchers import scheduler

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
ADDRESSES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")  # of the environment, the first that is set
RAYS_TOKEN = "~/.ray/auth_token"  # where `ray get-auth-token --generate` puts it
REFUSED = (401, 403)  # HTTP: no token, a wrong one


class Request(NamedTuple):
    """A question or a command. body: JSON, None for none. key: of the job, if this is its submission."""

    method: str
    path: str
    body: Optional[str] = None
    key: str = ""


def submission(key, **fields):
    """What submits a job. fields: of Ray's Jobs API."""
    return Request("POST", "/api/jobs/", json.dumps({"submission_id": key, **fields}), key)


def without(request, field):
    """A submission less one of its fields."""
    fields = json.loads(request.body)
    fields.pop(field, None)
    return request._replace(body=json.dumps(fields))


def stop(key):
    return Request("POST", f"/api/jobs/{quote(key)}/stop")


def delete(key):
    return Request("DELETE", f"/api/jobs/{quote(key)}")


ALL_JOBS = Request("GET", "/api/jobs/")
VERSION = Request("GET", "/api/version")


class Listed(NamedTuple):
    """A job as Ray shows it. status: PENDING, RUNNING, STOPPED, SUCCEEDED, FAILED or our GONE. node: Ray's id of its
    node, "" before it has one. error, message: why it failed. folder: of the run, the last word of its command.
    """

    status: str
    node: str = ""
    error: str = ""
    message: str = ""
    folder: str = ""

    @property
    def waited(self):
        """Whether Ray has given it up because it waited too long, by default 15 minutes."""
        given_up = re.search("START_TIMEOUT|failed to start within", self.error + self.message)
        return self.status == "FAILED" and bool(given_up)

    @property
    def died(self):
        """Whether something of Ray's own has ended it, mostly the end of its node."""
        return self.error.startswith("JOB_SUPERVISOR") or bool(
            re.match("Job supervisor|Unexpected error", self.message)
        )

    @property
    def impossible(self):
        """Whether Ray can start no such job at all."""
        return self.status == "FAILED" and self.message.startswith("Failed to start supervisor actor")


GONE = Listed("GONE")  # not shown any more


def parse_jobs(text):
    """{submission id: Listed} of the answer to ALL_JOBS. Raises ValueError if it is something else."""
    jobs = json.loads(text)
    if not isinstance(jobs, list) or not all(isinstance(job, dict) for job in jobs):
        raise ValueError("no list of jobs")
    return {job["submission_id"]: _listed(job) for job in jobs if job.get("submission_id")}


def _listed(job):
    try:
        folder = shlex.split(job.get("entrypoint") or "")[-1]
    except (ValueError, IndexError):  # a job of others
        folder = ""
    words = [str(job.get(key) or "") for key in ("status", "driver_node_id", "error_type", "message")]
    return Listed(*words, folder)


def address_of(options):
    """Where Ray's dashboard is: the option `address`, the environment's, or that of this machine. Raises UserError for
    one that is not of a dashboard.
    """
    found = [("launcher option address", options.get("address")), *((name, os.environ.get(name)) for name in ADDRESSES)]
    where, address = next(((where, text) for where, text in found if text), ("", DEFAULT_ADDRESS))
    if not address.startswith(("http://", "https://")):
        raise UserError(f"{where} is {address}: jobs need the dashboard's address, as address=http://HEAD:8265.")
    return address.rstrip("/")


def token_of(options):
    """The bearer token, "" if there is none: of the option token_file, or from where Ray itself takes it. Raises
    UserError, in which nothing of the token is shown.
    """
    token, where = os.environ.get("RAY_AUTH_TOKEN", ""), "RAY_AUTH_TOKEN"
    if "token_file" in options or not token:
        where = options.get("token_file") or os.environ.get("RAY_AUTH_TOKEN_PATH") or RAYS_TOKEN
        try:
            token = Path(where).expanduser().read_text()
        except (OSError, RuntimeError, ValueError) as error:
            if where == RAYS_TOKEN:
                return ""
            reason = getattr(error, "strerror", None) or "it is not text"
            raise UserError(f"the file of Ray's token, {where}: {reason}.") from None
    token = token.strip()
    if not token or not token.isascii() or not token.isprintable():
        raise UserError(f"{where} holds no token of Ray: it has to be one line of plain text.")
    return token


class Api:
    """Asks one Ray. options: of the launcher; they and the environment are read at each request."""

    def __init__(self, options):
        self.options = options
        self._opener = urllib.request.build_opener(_NoRedirect)

    def call(self, request):
        """The scheduler.Answer to a Request: code 0 if it has worked, the HTTP status if it was refused, None if there
        was no answer. What was lost on the way may have been done.
        """
        try:
            address, token = address_of(self.options), token_of(self.options)
        except UserError as error:
            return scheduler.Answer(400, "", str(error))
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
        body = None if request.body is None else request.body.encode()
        try:
            asked = urllib.request.Request(address + request.path, body, headers, method=request.method)
            with self._opener.open(asked, timeout=scheduler.SECONDS) as answer:
                return scheduler.Answer(0, answer.read().decode(errors="replace"), "")
        except urllib.error.HTTPError as error:
            with error:
                return _refusal(error, bool(token))
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, "reason", error)
            why = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
            return scheduler.Answer(None, "", f"Ray at {address} does not answer: {why}")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A token is for whom it was given to alone."""

    def redirect_request(self, *_):
        return None


def _refusal(error, with_token):
    """The scheduler.Answer of an HTTPError, in one line. Where the dashboard has passed a request on, the answer that
    it got is in the text of its own; of a traceback the last line says what is wrong.
    """
    if error.code in REFUSED:
        return scheduler.Answer(error.code, "", "Ray refuses the token" if with_token else "Ray wants a token")
    try:
        text = error.read(1_000_000).decode(errors="replace")
    except (OSError, http.client.HTTPException):
        text = ""
    inner = re.findall(r"Request failed with status code (\d+)", text)
    lines = [line.strip() for line in text.splitlines() if line.strip(" .")]
    words = re.sub(r"^(?:\w+Error: )+", "", lines[-1] if lines else str(error.reason))
    return scheduler.Answer(int(inner[-1]) if inner else error.code, "", words)
