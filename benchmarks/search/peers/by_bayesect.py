"""git-bayesect, https://github.com/hauntsaninja/git_bayesect: Bayesian bisection of a history whose tests are flaky.

The history here: the flags switched on one after another, beginning with the baseline. It knows one culprit, the flag
with which failures begin, and learns how often runs fail before and after it. Its command stops at 95 %. Whether
anything fails at all it does not ask; one run of the whole set does so first.
"""

import numpy as np
from git_bayesect import Bisector
from simulate import SEEDS

CONFIDENCE = 0.95


def search(flags, fails, seed):
    if not fails(flags):
        return []
    n = len(flags)
    bisector = Bisector(np.array([1.0] * n + [0.0]))  # index 0, the newest: all flags on; index n: none
    bisector.record(0, True)
    for _ in range(SEEDS):
        bisector.record(n, False)
    with np.errstate(divide="ignore", invalid="ignore"):  # it takes logarithms of zeros and throws them away
        while bisector.distribution.max() < CONFIDENCE:
            index = bisector.select()
            bisector.record(index, bool(n - index) and fails(flags[: n - index]))
        return [(flags[n - 1 - bisector.distribution.argmax()],)]
