"""Runs that are made ahead of need, on nodes that would be idle: they cost compute and save rounds.

What decides how long a search takes with many nodes is not the bits but the steps that wait for one another: after the
runs that find the culprit those that confirm it, and after them another seed where one of them misled. So a run is
worth its information, given all runs in flight, and the probability that a confirmation will need it.
"""

import math

import numpy as np

from bisect_cli.search.bayes.posterior import DIGITS, ranked

LEAST_WORTH = 0.03  # of a run made ahead of need, in bits and probability that it is needed, added ...
SPENDING = 0.9  # ... and the share of it that no longer counts with eager 1
MOST_SHARE = 4.0  # of the runs that are still needed, that may be in flight beside as many, with eager 1
BASELINE_RUNS = 2.0  # ahead of need, with eager 1: as soon as `seeds` of all have ended, the others are judged
REPEATED = 0.3  # share of the confirmations of which another seed is needed
RESCORED = 16  # candidates that are looked at again for each run, those worth most before


class Ahead:
    """Chooses runs to be made ahead of need.

    worth: a Worth that samples, and expects all that is in flight and requested. due: {subset: the probability that its
    run will be needed by a confirmation}. out: {subset: its runs that are in flight or requested}. eager: as in
    Question.
    """

    def __init__(self, worth, due, out, eager):
        self.least = LEAST_WORTH * (1 - SPENDING * eager)
        self.worth, self.out = worth, {worth.row(subset).tobytes(): runs for subset, runs in out.items()}
        self.due = {worth.row(subset).tobytes(): probability for subset, probability in due.items()}
        known = {row.tobytes() for row in worth.candidates}
        more = [row for row in map(worth.row, due) if row.tobytes() not in known]
        worth.add_candidates(more)
        self.rows = worth.candidates
        self.keys = [row.tobytes() for row in self.rows]
        self.bits = worth.score_candidates(slice(None))[1]

    def best(self, spent):
        """The subset most worth another run, and why; None if none but those `spent` is worth one."""
        without = {self.worth.row(subset).tobytes() for subset in spent}
        open_ones = np.array([key not in without for key in self.keys])
        needed = np.array([self._needed(key) for key in self.keys])
        some = ranked(np.where(open_ones, self.bits + needed, -1))[:RESCORED]
        self.bits[some] = self.worth.score_candidates(some)[1]
        value = np.where(open_ones[some], np.round(self.bits[some] + needed[some], DIGITS), -1)
        number = some[int(ranked(value)[0])]
        if value.max() < self.least:
            return None
        key = self.keys[number]
        self.out[key] = self.out.get(key, 0) + 1
        subset = tuple(flag for flag, on in zip(self.worth.flags, self.rows[number]) if on)
        return subset, f"ahead of need: {self.bits[number]:.2f} bits, {needed[number]:.0%} to confirm"

    def _needed(self, key):
        """The probability that a confirmation will need one more run of a candidate."""
        due, out = self.due.get(key, 0.0), self.out.get(key, 0)
        return due if not out else REPEATED * due if out == 1 else 0.0


def runs_left(worth, due):
    """About how many more runs a search takes if they are made one at a time. worth: expects no run yet. due: as of
    Ahead.
    """
    unknown = sum(outlook.entropy for outlook in worth.outlooks)
    most = float(worth.score_candidates(slice(None))[1].max())
    return unknown / max(most, LEAST_WORTH) + sum(due.values())


def most_in_flight(eager, left):
    """How many runs may be in flight if runs are made ahead of need; left: of `runs_left`."""
    return math.ceil((1 + MOST_SHARE * eager) * left)
