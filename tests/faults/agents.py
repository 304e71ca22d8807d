"""The agent that stands beside a run: killed, refused by the system, and paused."""

from faults.controllers import ERRORS, WHENS
from faults.kind import Kind, counted

WHICH = (1, 2, 4, 7)  # of the agents started


def operations(site):
    """The names of the operations of one agent, in order."""

    def run(file):
        return site.do(*site.start, plan={"agents": {"3": {"count": file, "reads": True}}})

    return counted(site, "agent", run)


def points(site):
    """(number of the agent, its plan)"""
    for at, name in enumerate(operations(site), 1):
        for which in WHICH:
            for when in WHENS if name == "write" else ("before", "after"):
                yield which, {"at": at, "when": when, "do": "kill", "reads": True}
            for error in (error for error, names in ERRORS.items() if name in names):
                plan = {"at": at, "do": error, "names": ERRORS[error], "lasting": which % 2 == 0}
                yield which, {**plan, "reads": True}
            yield which, {"at": at, "do": "pause", "reads": True}


def struck(site, point):
    which, plan = point
    site.clear()
    first = site.do(*site.start, plan={"agents": {str(which): plan}})
    return site.judge([first, *site.resume()])


def struck_unwatched(site, point):
    """The controller has been killed, too, once that agent had been started."""
    which, plan = point
    site.clear()
    fork = 20 * which + 12
    first = site.do(*site.start, plan={"at": fork, "do": "kill", "agents": {str(which): plan, str(which - 1): plan}})
    return site.judge([first, *site.resume()])


KINDS = (
    Kind("agent: killed, paused, ENOSPC, EIO, EMFILE", points, struck, 0.08),
    Kind("agent struck, and the controller killed", points, struck_unwatched, 0.04),
)
