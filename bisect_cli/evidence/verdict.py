"""The verdict on one set of flags and one metric, in a word and in numbers.

fine       its runs are as the baseline's
broken     its runs are as the baseline's but for a drop
undecided  neither is VERDICT_ODDS times likelier than the other
crashed    none of its runs gave a result
baseline   no verdict: the numbers of the baseline itself
"""

import math
from typing import NamedTuple, Optional

import numpy as np

from bisect_cli.evidence.grid import ParameterGrid

FINE, BROKEN, UNDECIDED, CRASHED, BASELINE = "fine", "broken", "undecided", "crashed", "baseline"
VERDICT_ODDS = 20  # a verdict needs these odds, both being as likely beforehand
MOST_RUNS = 4  # of one set; undecided after that stays undecided


class Verdict(NamedTuple):
    """What the runs of one set say about one metric.

    call: fine, broken, undecided, crashed or baseline. runs: those that ended, crashed ones included.
    log_odds: natural logarithm of broken : fine.
    mean, sd: of the runs with a value (None without any; sd None for one). difference: mean minus the baseline's mean.
    diverged: how many diverged.
    largest_drop: of the baseline's verdict; what at least two runs of the campaign have lost, be they of one set or of
    two. It is never negative.
    log_likelihoods, grid: what a search needs to weigh several sets together, as the parameters are the same for all of
    them. grid is the baseline's. log_likelihoods, [2, K], is any other set's: of its runs if it is fine and if it is
    broken, at each of the K grid points. None where there is none.

    mean, sd, difference and largest_drop are in the unit of the values that were judged; the grid is normalised.
    """

    call: str
    runs: int
    log_odds: float = 0.0
    mean: Optional[float] = None
    sd: Optional[float] = None
    difference: Optional[float] = None
    diverged: int = 0
    largest_drop: float = 0.0
    log_likelihoods: Optional[np.ndarray] = None
    grid: Optional[ParameterGrid] = None

    @property
    def broken(self):
        """The probability that the set is broken."""
        return 1 / (1 + math.exp(-max(-500.0, min(500.0, self.log_odds))))
