"""The convergence tests of 2019 once more, by the tool.

Nine pieces of a Mask R-CNN had been batched one by one, and trained with all of them on it lost mask accuracy. What was
wrong is known today; data/convergence_timeline.csv says what a team knew and when, and data/README.md where it is from.
Here the culprits have the effects that were recorded, drawn anew in every replay, and runs the noise between seeds.
"""

import csv
import random
import statistics
from pathlib import Path
from typing import NamedTuple

from landscape import COCO, Effect, Landscape
from simulate import simulate

from bisect_cli.search import DEFAULT
from bisect_cli.trainers.maskrcnn import SPEC

TIMELINE = Path(__file__).with_name("data") / "convergence_timeline.csv"
BASE = {"bbox": 0.377, "segm": 0.339}  # of the published model
SD = 0.003
WITHIN, AFTER_FAILURE = 12, 8  # runs in all, and after the first that failed
BOTH = {("ROI_ALIGN_MASK",), ("RPN_LOSS",)}


class Replay(NamedTuple):
    """Runs until both culprits were named, in all and after the first failure, and until the end of the campaign, that
    is with the confirmation; None if never. wrong: something was named at the end that breaks nothing.
    """

    named: object
    after: object
    ended: object
    wrong: bool


def timeline():
    """The rows of the recorded history."""
    with open(TIMELINE, newline="") as file:
        return list(csv.DictReader(file))


def whole_set():
    """The nine flags of the run that was to have them all on, in the order of the model."""
    return tuple(next(row for row in timeline() if row["block"] == "All (9 flags)")["flags"].split())


def landscape(number, small=False):
    """One replay's. small: with the two pieces still broken that cost little and were mended before the search began:
    SAMPLE_TARGETS (2 points on small and 1 on medium objects: taken as 1) and GENERATE_PROPOSALS (.5 on small: .2).
    """
    rng = random.Random(f"history {number}")
    effects = {
        "bbox": [Effect(("RPN_LOSS",), rng.uniform(0.04, 0.05))],
        "segm": [Effect(("RPN_LOSS",), rng.uniform(0.02, 0.03)), Effect(("ROI_ALIGN_MASK",), rng.uniform(0.03, 0.08))],
    }
    if small:
        for metric in effects:
            effects[metric] += [Effect(("SAMPLE_TARGETS",), 0.01), Effect(("GENERATE_PROPOSALS",), 0.002)]
    frozen = {metric: tuple(found) for metric, found in effects.items()}
    known = {"sd": dict.fromkeys(BASE, SD), "noise_priors": dict.fromkeys(BASE, COCO), "groups": SPEC.blocks}
    return Landscape(whole_set(), frozen, BASE, seed=f"history {number}", **known)


def replay(number, search=DEFAULT, slots=1, small=False):
    """The Replay of one number."""
    outcome = simulate(landscape(number, small), search, slots)
    failure = _first_failure(outcome)
    named = _named(outcome)
    right = set().union(*outcome.named.values()) >= BOTH and not outcome.inconclusive
    return Replay(
        named,
        named - failure if named and failure else None,
        outcome.runs if right else None,
        outcome.wrong,
    )


def _first_failure(outcome):
    """The number of runs up to the first in which a culprit was on, None without any."""
    numbers = [i for i, (_, subset, *_) in enumerate(outcome.lines, 1) if {flag for (flag,) in BOTH} & set(subset)]
    return min(numbers, default=None)


def _named(outcome):
    """After how many runs the search was sure of both culprits, be it for one metric or the other; None if never."""
    sure = [min((runs for (_, one), runs in outcome.since.items() if one == culprit), default=None) for culprit in BOTH]
    return None if None in sure else max(sure)


def report(replays):
    """Markdown of {how: [Replay]}, line by line."""
    head = [
        "",
        "replays",
        "in time",
        "after failure",
        "both",
        "runs until named",
        "runs in all",
        "ended right",
        "wrong name",
    ]
    yield f"| {' | '.join(head)} |"
    yield f"|{' --- |' * len(head)}"
    for how, many in replays.items():
        soon = [one.named is not None and one.named <= WITHIN for one in many]
        after = [one.after is not None and one.after <= AFTER_FAILURE for one in many]
        both = [a and b for a, b in zip(soon, after)]
        named = [one.named for one in many if one.named is not None]
        ended = [one.ended for one in many if one.ended is not None]
        cells = [how, len(many), *(f"{sum(kind) / len(many):.1%}" for kind in (soon, after, both))]
        cells += [
            _range(named),
            _range(ended),
            f"{len(ended) / len(many):.1%}",
            f"{sum(one.wrong for one in many) / len(many):.1%}",
        ]
        yield f"| {' | '.join(map(str, cells))} |"


def _range(numbers):
    return f"{statistics.mean(numbers):.1f} (at most {max(numbers)})" if numbers else "never"
