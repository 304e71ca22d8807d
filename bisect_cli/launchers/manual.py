"""Runs that people start themselves, by hand or from a job system of their own: `ask` hands out a command, and `tell`
says how it ended.
"""

import shlex

from bisect_cli.launchers import Handle, Launcher, write_job


class Manual(Launcher):
    """node: where the jobs will run, as people call it; "" if nobody says."""

    by_hand = True

    def __init__(self, slots=None, options=None, fills_machine=False, node=""):
        self.slots, self.node = slots or 1, node

    def prepare(self, job):
        write_job(job)
        return _HandedOut({"launcher": "manual", **({"node": self.node} if self.node else {})})

    def reattach(self, ticket, folder):
        return _HandedOut(ticket)


class _HandedOut(Handle):
    """A run that is out of reach: only its people know whether it lives."""

    def __init__(self, ticket):
        self.ticket = ticket

    def go(self):
        """It begins when somebody starts it."""

    def poll(self):
        return None

    def ask_to_stop(self):
        """There is nothing to ask."""

    def kill(self):
        """There is nothing to kill."""


def shell_line(job):
    """A Job as one line to paste into a shell, with its output in the files of its folder, as of any other run."""
    env = ["env", *(f"{name}={text}" for name, text in job.env.items())] if job.env else []
    command = shlex.join([*env, *map(str, job.argv)])
    out, err = (shlex.quote(str(job.folder / name)) for name in ("stdout.txt", "stderr.txt"))
    return f"cd {shlex.quote(str(job.cwd))} && {command} >> {out} 2>> {err}"


LAUNCHER = Manual
