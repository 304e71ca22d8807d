"""Parity of any of the eleven pieces, as one JSON-ready dict."""

import shlex
import time

from maskrcnn.components import implementations
from maskrcnn.errors import UserError, unknown
from maskrcnn.faults import parse_plant
from maskrcnn.parity.cases import CASES, small
from maskrcnn.parity.checks import with_correction
from maskrcnn.parity.deterministic import UNUSED_GRADIENTS, Deterministic
from maskrcnn.parity.pipeline import Pipeline
from maskrcnn.parity.sampling import DISTRIBUTION, Sampling
from maskrcnn.pieces import PIECES
from maskrcnn.version import code_version

TESTERS = {"DATA_PIPELINE": Pipeline, "SAMPLE_TARGETS": Sampling}
CASE_NAMES = [*(c.name for c in CASES), DISTRIBUTION.name]


def trial(flag, plants, config):
    """What tries out a piece: its batched implementation, or the function planted for it, against its per-image
    implementation.

    It has `cases()`, `checks(seed, cases)`, `same_computation()` of what was checked so far, and perhaps a `note`.
    Raises UserError if a planted function cannot be imported.
    """
    forms = (PIECES[flag].implementation(False), implementations((flag,), plants)[flag])
    return TESTERS.get(flag, Deterministic)(flag, *forms, small(config))


def run(settings, case=None, changes=()):
    """Parity of `settings.flags` (a Settings; all pieces if there is none), optionally in one case only.

    `changes` are the texts of --set, for the commands that reproduce a finding. Returns what docs/parity.md describes.
    Raises UserError.
    """
    start = time.monotonic()
    flags = settings.flags or tuple(PIECES)
    if case is not None and case not in CASE_NAMES:
        raise unknown("case", case, CASE_NAMES)
    plants = settings.plants()
    trials = {flag: trial(flag, plants, settings.config) for flag in flags}
    pieces = []
    for flag, tried in trials.items():
        before = time.monotonic()
        cases = [c for c in tried.cases() if case in (None, c.name)]
        if not cases:
            if settings.flags:
                names = ", ".join(c.name for c in tried.cases())
                raise UserError(f"--case '{case}': {flag} has no such case; it has: {names}.")
            continue
        checks = with_correction(tried.checks(settings.seed, cases))
        piece = _piece(flag, checks, tried, _command(flag, settings, changes))
        piece["seconds"] = round(time.monotonic() - before, 2)
        pieces.append(piece)
    return {
        "version": 1,
        "preset": settings.preset,
        "seed": settings.seed,
        "flags": [piece["flag"] for piece in pieces],
        "plant": list(settings.plant),
        "code_version": code_version(),
        "seconds": round(time.monotonic() - start, 2),
        "pieces": pieces,
    }


def _piece(flag, checks, tried, command):
    counted = [c for c in checks if not c.beyond]
    beyond = [c for c in checks if c.beyond and not c.agrees]
    worst = max(counted or checks, key=_severity)
    errors = [c.error for c in counted if c.error is not None]
    p_values = [c.p_value for c in counted if c.p_value is not None]
    same = tried.same_computation()
    notes = [tried.note] if hasattr(tried, "note") and not same else []
    differing = [c for c in counted if not c.agrees]
    if differing and all(c.name.startswith(UNUSED_GRADIENTS) for c in differing):
        notes.append("only gradients differ that reach no weight, so that training would not notice")
    if beyond:
        found = max(beyond, key=_severity)
        notes.append(
            f"differs in case '{found.case}' (error {found.error:.1g}), on inputs that no standard piece makes; what "
            "that does, only training shows, beside a piece that makes them"
        )
    return {
        "flag": flag,
        "agrees": all(c.agrees for c in counted),
        "same_computation": same,
        "error": max(errors, default=None),
        "p_value": min(p_values, default=None),
        "worst": worst.worst,
        "reproduce": f"{command} --case {shlex.quote(worst.case)}",
        "note": "; ".join(notes),
        "checks": [{"name": c.name, "agrees": c.agrees, "error": c.error, "p_value": c.p_value} for c in counted],
    }


def _severity(check):
    """Differing ones first, then by the error or by how improbable it is."""
    surprise = 0.0 if check.p_value is None else 1 - check.p_value
    return not check.agrees, check.error or 0.0, surprise


def _command(flag, settings, changes):
    words = ["python", "-m", "maskrcnn", "parity", "--flags", flag]
    for text in settings.plant:
        if parse_plant(text)[0] == flag:
            words += ["--plant", text]
    if settings.preset != "shapes":
        words += ["--preset", settings.preset]
    for change in changes:
        words += ["--set", change]
    return shlex.join([*words, "--seed", str(settings.seed)])
