"""The controller: killed, refused by the system, paused, at another time, and several at once."""

import contextlib
import os
import random
import signal
import time

from faults.kind import Kind, counted

WHENS = ("before", "half", "after")
ERRORS = {
    "ENOSPC": ("open", "write", "fsync", "rename", "mkdir", "truncate"),
    "EIO": ("open", "read", "write", "fsync", "rename", "mkdir", "unlink", "truncate"),
    "EMFILE": ("open", "read", "pipe", "fork"),
}
JUMPS = (7200, -7200, 10 * 365 * 86400, -10 * 365 * 86400)  # seconds


def operations(site, reads=False):
    """The names of the operations of a campaign's controller, in order."""
    plan = {"reads": reads}
    return counted(site, ("controller", reads), lambda file: site.do(*site.start, plan={**plan, "count": file}))


def kill_points(site):
    for number, name in enumerate(operations(site), 1):
        yield from ({"at": number, "when": when, "do": "kill"} for when in WHENS if when != "half" or name == "write")


def after_fault(site, plan, number=0, alone=False):
    """Has a controller begin under a plan, then looks and resumes. alone: all that it has started dies with it."""
    site.clear()
    first = site.do(*site.start, plan=plan)
    if plan["do"] == "kill" and first.code != -signal.SIGKILL:
        return None  # it had ended before
    if alone:
        site.left_running()
    return site.judge([first, site.look(number), *site.resume()])


def killed(site, plan):
    return after_fault(site, plan, plan["at"])


def killed_with_runs(site, plan):
    return after_fault(site, plan, plan["at"], alone=True)


def chains(site):
    total = len(operations(site))
    chance = random.Random(1)
    return [[chance.randrange(1, total + 1) for _ in range(3)] for _ in range(total)]


def killed_again(site, ats):
    """Killed, resumed and killed, resumed and killed, and resumed."""
    site.clear()
    plans = [{"at": at, "when": WHENS[at % 3], "do": "kill"} for at in ats]
    calls = [site.do(*site.start, plan=plans[0])]
    for plan in plans[1:]:
        calls += site.resume(plan={**plan, "at": plan["at"] // 3 + 1})
    return site.judge([*calls, *site.resume()])


def error_points(site):
    for number, name in enumerate(operations(site, reads=True), 1):
        for error in (error for error, names in ERRORS.items() if name in names):
            yield {"at": number, "do": error, "names": ERRORS[error], "lasting": number % 2 == 0, "reads": True}


def refused(site, plan):
    return after_fault(site, plan, plan["at"])


def pause_points(site):
    return [{"at": number, "do": "pause"} for number in range(1, len(operations(site)) + 1)]


def paused(site, plan):
    """While it is stopped, another one tries to resume."""
    site.clear()
    pid, number = begun = site.begin(*site.start, plan=plan)
    calls = []
    while True:
        found, status = os.waitpid(pid, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            break
        calls += [site.do("resume", "c")]
    site.statuses[pid] = status
    return site.judge([site.end(begun), *calls, *site.resume()])


def outside_points(site):
    """(seconds after the first start, which processes, what becomes of them)"""
    which = (["trainer.py"], ["agent.py"], ["trainer.py", "agent.py"])
    return [(0.2 + number / 20, names, what) for number in range(30) for names in which for what in ("pause", "kill")]


def struck_outside(site, point):
    """Runs, their agents or both are stopped for a while, or killed."""
    seconds, names, what = point
    site.clear()
    begun = site.begin(*site.start)
    time.sleep(seconds)
    pids = [pid for pid, words in site.processes() if any(name in words for name in names)]
    if what == "kill":
        signal_all(pids, signal.SIGKILL)
    else:
        signal_all(pids, signal.SIGSTOP)
        time.sleep(0.7)
        signal_all(pids, signal.SIGCONT)
    calls = [site.end(begun), *site.resume()]
    return site.judge(calls) if pids else None


def signal_all(pids, number):
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def clock_points(site):
    total = len(operations(site))
    return [{"at": number, "do": JUMPS[number % 4]} for number in range(1, total + 1)]


def clock_set(site, plan):
    """Every third is killed later, at the wrong time."""
    site.clear()
    begun = site.begin(*site.start, plan=plan)
    if plan["at"] % 3 == 0:
        time.sleep(0.8)
        signal_all([begun[0]], signal.SIGKILL)
    return site.judge([site.end(begun), site.look(plan["at"]), *site.resume()])


def several_points(site):
    total = len(operations(site))
    chance = random.Random(2)
    return [
        {"together": 2 + number % 2, "at": chance.randrange(total) if number % 3 else 0, "kill": chance.random()}
        for number in range(120)
    ]


def several(site, point):
    """Two or three at once, on nothing or on what one that was killed has left; one of them is killed."""
    site.clear()
    calls, words = [], site.start
    if point["at"]:
        calls = [site.do(*site.start, plan={"at": point["at"], "do": "kill"})]
        words = ("resume", "c") if site.log.exists() else site.start
    begun = [site.begin(*words) for _ in range(point["together"])]
    time.sleep(point["kill"])
    signal_all([begun[0][0]], signal.SIGKILL)
    calls += [site.end(one) for one in begun]
    return site.judge([*calls, *site.resume()])


KINDS = (
    Kind("controller killed", kill_points, killed, 0.20),
    Kind("controller and its runs killed", kill_points, killed_with_runs, 0.07),
    Kind("killed three times", chains, killed_again, 0.07),
    Kind("controller: ENOSPC, EIO, EMFILE", error_points, refused, 0.18),
    Kind("controller paused, another resumes", pause_points, paused, 0.05),
    Kind("runs, agents paused, killed from outside", outside_points, struck_outside, 0.05),
    Kind("clock set forward, back", clock_points, clock_set, 0.05),
    Kind("two or three controllers", several_points, several, 0.06),
)
