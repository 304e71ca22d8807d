"""The one number that a run ends with, by the rule of the trainer's file."""

import math
import re

LAST, BEST = "last", "best"
MEAN = re.compile(r"mean of the last ([1-9][0-9]{0,5})")
RULES = f'"{LAST}", "{BEST}" or "mean of the last N", such as "mean of the last 3"'


def is_rule(rule):
    return rule in (LAST, BEST) or (isinstance(rule, str) and MEAN.fullmatch(rule) is not None)


def final(series, rule=LAST, higher_is_better=True):
    """The number of a Series by a rule; None if it has no points, NaN or an infinity if the run has diverged.

    The best is that of the finite values. A mean is over evaluations, so one that was made again after a crash counts
    once, and over fewer than N where there are no more. Raises ValueError for what is no rule.
    """
    if not is_rule(rule):
        raise ValueError(f"{rule!r} is no rule: {RULES}")
    if not series.points:
        return None
    last = series.points[-1][1]
    if rule == LAST:
        return last
    if rule == BEST:
        finite = [value for _, value in series.points if math.isfinite(value)]
        return (max if higher_is_better else min)(finite, default=last)
    values = _evaluations(series.points)[-int(MEAN.fullmatch(rule)[1]) :]
    return sum(values) / len(values)


def _evaluations(points):
    """The values in the order they were written, without those of a step that was written again later."""
    place = {step: i for i, (step, _) in enumerate(points)}
    return [value for i, (step, value) in enumerate(points) if step is None or place[step] == i]
