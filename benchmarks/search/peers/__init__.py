"""Other searches, run on the same landscapes.

They know a run as failed or passed, so theirs is put to a threshold: below the mean of the baseline's runs by more than
half of what a culprit costs. They are given what a culprit costs, which our own search is not. A crashed run is made
again. Every run counts, the baseline's too.

A peer is a function `peer(flags, fails, seed) -> culprits`: fails(subset) makes a run and says whether it failed; seed
is for what the peer draws at random. It returns a list of sets of flags, or raises Inconclusive.
"""

from functools import partial

from landscape import GAP
from simulate import MOST_RUNS, SEEDS, Outcome

from peers import ddmin, go_bisect, probdd
from peers.inconclusive import Inconclusive

PEERS = {
    "go bisect": go_bisect.search,
    "go bisect, 2": partial(go_bisect.search, count=2),
    "ddmin, 2 of 3": ddmin.search,
    "probdd": probdd.search,
}


def installed():
    """The PEERS, with those of other packages as far as they are installed."""
    found = dict(PEERS)
    try:
        from peers import by_picire

        found["picire"] = by_picire.search
    except ImportError:
        pass
    try:
        from peers import by_bayesect

        found["git-bayesect"] = by_bayesect.search
    except ImportError:
        pass
    return found


class Oracle:
    """Makes runs of a landscape, one after another, and counts them. runs: attempts made."""

    def __init__(self, landscape):
        self.landscape, self.replicate, self.runs, self.time = landscape, {}, 0, 0.0
        (self.metric,) = landscape.effects
        baseline = [self._value(()) for _ in range(SEEDS)]
        self.threshold = sum(baseline) / SEEDS - GAP / 2

    def __call__(self, subset):
        return self._value(tuple(flag for flag in self.landscape.flags if flag in set(subset))) < self.threshold

    def _value(self, subset):
        while True:
            if self.runs >= MOST_RUNS:
                raise Inconclusive
            replicate = self.replicate.get(subset, 0)
            self.replicate[subset] = replicate + 1
            values, duration = self.landscape.run(subset, replicate)
            self.runs += 1
            self.time += duration
            if values:
                return values[self.metric]


def simulate(landscape, peer):
    """The Outcome of a campaign in one slot."""
    fails, flags = Oracle(landscape), landscape.flags
    truth, found, sure = landscape.truth(fails.metric), [], True
    try:
        found = peer(flags, fails, landscape.seed)
    except Inconclusive:
        sure = False
    named = {tuple(flag for flag in flags if flag in culprit) for culprit in found}
    return Outcome(
        fails.runs,
        fails.runs - SEEDS,
        fails.time,
        {fails.metric: named},
        exact=sure and named == truth,
        wrong=bool(named - truth),
        inconclusive=not sure,
    )
