"""The GPUs of this machine: which there are, which of them runs may use, and how they are shared out.

A GPU goes by its name in CUDA_VISIBLE_DEVICES: its index, or an id such as GPU-8932f937 or MIG-c7384736. Two names may
be those of one GPU, which nvidia-smi tells.
"""

import contextlib
import functools
import os
import re
import shutil
import signal
import subprocess
from typing import NamedTuple, Optional

from bisect_cli.errors import UserError
from bisect_cli.launchers import process

VISIBLE, ORDER = "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"
QUERY = ("--query-gpu=index,uuid", "--format=csv,noheader")
SECONDS = 10  # that nvidia-smi may take: with eight GPUs that it has to wake first it takes a few
NAME = re.compile(r"\d+|(?:GPU|MIG)-[\w./-]+")


class Machine(NamedTuple):
    """gpus: {index: id}, None where it is not known. trouble: why nvidia-smi does not say, "" if it does or is not
    there.
    """

    gpus: Optional[dict]
    trouble: str = ""

    def gpu(self, name):
        """What tells the GPU of this name from any other: its id or, where that is not known, the name."""
        known = self.gpus or {}
        if name in known:
            return known[name]
        found = [one for one in known.values() if one.startswith(name)]  # CUDA takes the beginning of an id
        return found[0] if len(found) == 1 else name

    def has(self, name):
        """Whether there may be a GPU of this name. nvidia-smi does not list the parts of one (MIG)."""
        return self.gpus is None or name.startswith("MIG-") or self.gpu(name) in self.gpus.values()


def machine():
    """The Machine that this is."""
    program = shutil.which("nvidia-smi")
    return _ask(program) if program else Machine(None)


@functools.cache
def _ask(program):
    try:
        asked = subprocess.Popen(
            [program, *QUERY],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        return Machine(None, error.strerror)
    try:
        out, _ = asked.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        process.signal_group(asked.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            asked.wait(1)  # no longer: a driver that hangs may not let it end
        return Machine(None, f"no answer within {SECONDS} s")
    if asked.returncode != 0:
        lines = [line.strip() for line in out.splitlines() if line.strip()]
        return Machine(None, lines[0].rstrip(".") if lines else f"exit code {asked.returncode}")
    return Machine(dict(re.findall(r"^\s*(\d+),\s*(GPU-\S+)\s*$", out, re.MULTILINE)))


class Share(NamedTuple):
    """How GPUs are shared out. names: those there are; per_run: so many a run; runs_per_gpu: so many runs on one at a
    time. slots: runs at once, unless the user says. env: what a run finds in its environment beside their names. whole:
    whether they are all that a process finds here anyway.
    """

    names: tuple
    per_run: int = 1
    runs_per_gpu: int = 1
    slots: Optional[int] = None
    env: dict = {}  # noqa: RUF012 - never written to
    whole: bool = False

    def pick(self, held):
        """The GPUs of a further run, those with the fewest runs; None if there are not enough now. held: the names of
        those that runs have, one for each run that has it.
        """
        if not self.names:
            return ()
        here = machine()
        used = [here.gpu(name) for name in held]
        runs = {name: used.count(here.gpu(name)) for name in self.names}
        free = sorted((name for name in self.names if runs[name] < self.runs_per_gpu), key=runs.get)[: self.per_run]
        return tuple(name for name in self.names if name in free) if len(free) == self.per_run else None

    def environment(self, names):
        """What a run that has these GPUs finds in its environment."""
        return {VISIBLE: ",".join(names), **self.env} if names and not (self.whole and names == self.names) else {}


def share(options, slots=None, fills_machine=False):
    """The Share that the options gpus, gpus_per_run and runs_per_gpu ask for; one without names where runs are given no
    GPUs. slots: what the user says. fills_machine: a run has all GPUs if the user does not say otherwise. Raises
    UserError where there are not so many.
    """
    per_run, runs_per_gpu = options.get("gpus_per_run"), options.get("runs_per_gpu")
    names, env, whole = _choose(options.get("gpus"))
    if (per_run or 1) > 1 and (runs_per_gpu or 1) > 1:
        raise UserError(
            f"--gpus-per-run {per_run} and --runs-per-gpu {runs_per_gpu}: a run has either several GPUs or a part of "
            "one; leave one of them at 1."
        )
    if not names:
        if per_run or runs_per_gpu:
            said = f"--gpus-per-run {per_run}" if per_run else f"--runs-per-gpu {runs_per_gpu}"
            raise UserError(f"{said}: runs are given no GPU here{_why_none(options)}; name some, as --gpus 0,1.")
        return Share(())
    shared = runs_per_gpu or 1
    if per_run is None:
        per_run = min(len(names), max(1, len(names) * shared // (slots or 1))) if fills_machine else 1
    if per_run > len(names):
        raise UserError(f"--gpus-per-run {per_run}: there are no more than {_words(names)}; give fewer.")
    most = len(names) * shared // per_run
    if slots and slots > most:
        raise UserError(_too_many_slots(slots, most, names, per_run))
    one_at_a_time = fills_machine and not options.get("gpus_per_run") and not runs_per_gpu
    return Share(names, per_run, shared, 1 if one_at_a_time else most, env, whole and one_at_a_time)


def _choose(text):
    """The names of the GPUs that runs may use, what else a run needs in its environment for CUDA to know them by these,
    and whether they are all that there are. text: of the option, None if the user does not say.
    """
    here, allowed = machine(), _allowed()
    if text == "none":
        return (), {}, False
    if text in (None, "all"):
        names = tuple(here.gpus or ()) if allowed is None else allowed
        if text and not names:
            raise UserError(f"--gpus all: none is found here{_why_none({})}; name them, as --gpus 0,1.")
    else:
        names = _listed(text, here)
    if allowed is None:  # by itself CUDA counts the fastest first, nvidia-smi by their places
        return names, {ORDER: "PCI_BUS_ID"} if any(map(str.isdigit, names)) else {}, text in (None, "all")
    same = {here.gpu(name): name for name in allowed}
    for name in names:
        if here.gpu(name) not in same:
            raise UserError(
                f"--gpus {text}: {name} is not among {VISIBLE}={os.environ[VISIBLE]}, which is set here; name some of "
                "those, or unset it."
            )
    return tuple(same[here.gpu(name)] for name in names), {}, False


def _allowed():
    """The GPUs in the user's own CUDA_VISIBLE_DEVICES, as CUDA reads it: up to the first that there is not. None if it
    is not set.
    """
    if VISIBLE not in os.environ:
        return None
    here, names = machine(), {}
    for name in (name.strip() for name in os.environ[VISIBLE].split(",")):
        if not NAME.fullmatch(name) or not here.has(_plain(name)):
            break
        names.setdefault(here.gpu(_plain(name)), _plain(name))
    return tuple(names.values())


def _listed(text, here):
    names = [_plain(name.strip()) for name in text.split(",")]
    for name in names:
        if not NAME.fullmatch(name):
            raise UserError(f"--gpus {text}: write a list of GPUs as nvidia-smi counts them, as 0,1, or all, or none.")
        if not here.has(name):
            raise UserError(f"--gpus {text}: there is no GPU {name} here; nvidia-smi shows {_words(here.gpus)}.")
    if len(set(map(here.gpu, names))) < len(names):
        raise UserError(f"--gpus {text}: a GPU is there twice; to have several runs on one, add --runs-per-gpu 2.")
    return tuple(names)


def _plain(name):
    return str(int(name)) if re.fullmatch("[0-9]+", name) else name


def _too_many_slots(slots, most, names, per_run):
    if per_run > 1:
        return f"--slots {slots}: with {per_run} GPUs a run, {_words(names)} take {most} at once; give fewer of either."
    shared = -(-slots // len(names))
    return (
        f"--slots {slots}: {_words(names)} {'take' if len(names) > 1 else 'takes'} {most} at once; to have runs share "
        f"a GPU, add --runs-per-gpu {shared}, and if they need none, --gpus none."
    )


def _why_none(options):
    if options.get("gpus") == "none":
        return " (--gpus none)"
    if VISIBLE in os.environ:
        return f" ({VISIBLE} is '{os.environ[VISIBLE]}')"
    here = machine()
    if here.gpus is not None:
        return " (nvidia-smi shows none)"
    return f" (nvidia-smi: {here.trouble})" if here.trouble else " (nvidia-smi is not on the path)"


def _words(names):
    names = list(names)
    if not names:
        return "none"
    return f"{len(names)} GPU{'s' if len(names) > 1 else ''} ({','.join(names)})"
