"""Many campaigns of a cell of the benchmark, over processes, and what they come to."""

import math
import statistics
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

import peers
from landscape import draw
from simulate import simulate

BLOCK = 5  # campaigns that a process makes at a time
BINS = (0.0, 0.5, 0.8, 0.9, 0.925, 0.975, 0.99, 0.999, 1.0)  # of stated probabilities


class Cell(NamedTuple):
    """What a campaign is up against. error: of one run held against the middle of the gap. noise: normal or heavy."""

    n: int
    truth: str
    error: float
    slots: int = 1
    noise: str = "normal"
    crash: float = 0.0
    spread: float = 0.0

    def landscape(self, number):
        """The landscape of a campaign; the slots make no difference to it."""
        seed = f"{self.n} {self.truth} {self.error} {number}"
        heavy = self.noise == "heavy"
        return draw(self.n, self.truth, self.error, seed, heavy=heavy, crash=self.crash, spread=self.spread)


class Summary(NamedTuple):
    """Of the campaigns of one method in one cell. Rates are shares of campaigns. stated and believed: for every bin of
    BINS [statements, sum of the probabilities, how many were right].
    """

    campaigns: int
    runs: float
    runs_90: float
    before: float
    rounds: float
    rounds_90: float
    exact: float
    wrong: float
    inconclusive: float
    stated: list
    believed: list


def measure(jobs, processes, note=lambda text: None):
    """{(cell, method): Summary} of jobs [(cell, method, campaigns)]. method: the name of a search or of a peer."""
    blocks = [
        (cell, method, range(start, min(start + BLOCK, campaigns)))
        for cell, method, campaigns in jobs
        for start in range(0, campaigns, BLOCK)
    ]
    blocks.sort(key=lambda block: -block[0].n)  # the longest first, so that all processes end at about the same time
    found = {}
    with ProcessPoolExecutor(processes) as pool:
        for number, (block, outcomes) in enumerate(zip(blocks, pool.map(_campaigns, blocks)), 1):
            found.setdefault(block[:2], []).extend(outcomes)
            if number % (len(blocks) // 20 + 1) == 0:
                note(f"{number / len(blocks):.0%}")
    return {(cell, method): summary(found[cell, method]) for cell, method, _ in jobs}


def campaign(cell, method, number):
    """The Outcome of one campaign."""
    landscape = cell.landscape(number)
    others = peers.installed()
    return peers.simulate(landscape, others[method]) if method in others else simulate(landscape, method, cell.slots)


def _campaigns(block):
    cell, method, numbers = block
    return [campaign(cell, method, number)._replace(lines=()) for number in numbers]


def summary(outcomes):
    """The Summary of Outcomes."""

    def share(field):
        return sum(getattr(outcome, field) for outcome in outcomes) / len(outcomes)

    believed = [one for outcome in outcomes for statements in outcome.believed.values() for one in statements]
    return Summary(
        len(outcomes),
        share("runs"),
        percentile_90([outcome.runs for outcome in outcomes]),
        share("before"),
        share("rounds"),
        percentile_90([outcome.rounds for outcome in outcomes]),
        share("exact"),
        share("wrong"),
        share("inconclusive"),
        binned([one for outcome in outcomes for one in outcome.stated]),
        binned(believed),
    )


def percentile_90(values):
    """The least value that nine tenths do not exceed."""
    return sorted(values)[math.ceil(0.9 * len(values)) - 1]


def binned(statements):
    """Statements by BINS, as in a Summary."""
    bins = [[0, 0.0, 0] for _ in BINS[1:]]
    for one in statements:
        bin = next(i for i, top in enumerate(BINS[1:]) if one.probability < top or top == BINS[-1])
        bins[bin] = [bins[bin][0] + 1, bins[bin][1] + one.probability, bins[bin][2] + one.right]
    return bins


def added(tables):
    """Binned statements of several cells together."""
    return [[sum(column) for column in zip(*rows)] for rows in zip(*tables)]


def interval(share, of):
    """The 95 % interval of Wilson for a share seen in `of` trials."""
    z = statistics.NormalDist().inv_cdf(0.975)
    middle = (share + z * z / (2 * of)) / (1 + z * z / of)
    half = z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of)) / (1 + z * z / of)
    return max(0.0, middle - half), min(1.0, middle + half)
