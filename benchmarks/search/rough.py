"""Landscapes that are rougher than the judge's model, and how often what the search says in them is true.

    python benchmarks/search/rough.py --docs docs                      # the table of docs/rough.md
    python benchmarks/search/rough.py --landscape "scatter" --n 11 --campaigns 20
    python benchmarks/search/rough.py --quick                          # a small part, in a minute

Each is what some broken training does. As in landscape.py a run's outcome follows from the landscape's seed, the subset
and the replicate; here also from how many runs were begun before it, where that makes a difference.
"""

import math
import os
import random
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import click
from landscape import BASE, GAP, Effect, names, noise
from measure import percentile_90
from report import rows
from simulate import simulate

from bisect_cli.search import DEFAULT
from bisect_cli.search import names as search_names

NODES = 4  # that runs are spread over, one after the other
WORTH_NAMING = GAP / 2
LOUD = 0.98  # stated probabilities from here on have to be true


class Rough(NamedTuple):
    """One metric, "metric", whose baseline has BASE.

    effects: {"metric": Effects}; the worst counts in a set that has several, or with `adds` their sum.
    gains: {flag: AP that it adds}.
    masks: {culprit: flags with any of which on it does no harm}.
    sd: of AP between runs.
    scatter: of broken runs it is so many times that; with `tails` their tails are heavy.
    louder: with any flag on it is so many times that; louder_each: with each it grows by this share.
    sometimes: share of the runs of a broken set that fail; the others are fine.
    drift: AP that a run loses for each one begun before it.
    worse_node: AP that is lost on one of NODES nodes.
    crashes: flags with which, all of them on, each run crashes; () for none.
    """

    flags: tuple
    effects: dict
    sd: float
    seed: object
    adds: bool = False
    gains: dict = {}  # noqa: RUF012 - never written to
    masks: dict = {}  # noqa: RUF012 - never written to
    scatter: float = 1.0
    tails: bool = False
    louder: float = 1.0
    louder_each: float = 0.0
    sometimes: float = 1.0
    drift: float = 0.0
    worse_node: float = 0.0
    crashes: tuple = ()

    # What simulate asks of a landscape
    alike, noise_priors, groups = 0.0, {}, ()  # noqa: RUF012 - never written to

    def drop(self, subset):
        """What a set loses by its culprits, in AP; what its flags gain aside."""
        on = set(subset)
        lost = [
            effect.drop
            for effect in self.effects["metric"]
            if set(effect.flags) <= on and not on & set(self.masks.get(effect.flags, ()))
        ]
        return sum(lost) if self.adds else max(lost, default=0.0)

    def truth(self, metric="metric"):
        """The culprits, as a set of tuples of flags. What loses less than is worth naming is none, even if many such
        flags together lose more.
        """
        return {effect.flags for effect in self.effects[metric] if effect.drop >= WORTH_NAMING}

    def run(self, subset, replicate, begun=0):
        """As Landscape.run. begun: runs that were begun before it."""
        rng = random.Random(f"{self.seed} {','.join(subset)} {replicate}")
        if self.crashes and set(self.crashes) <= set(subset):
            return None, rng.random()
        drop = self.drop(subset)
        fails = drop > 0 and rng.random() < self.sometimes
        sd = self.sd * (self.louder if subset else 1.0) * (1 + self.louder_each * len(subset))
        error = rng.gauss(0, 1)
        if fails:
            sd *= self.scatter
            error /= math.sqrt(rng.gammavariate(1.5, 2)) if self.tails else 1.0  # Student's t, as in landscape.py
        value = BASE - (drop if fails else 0.0) + sum(self.gains.get(flag, 0.0) for flag in subset) + sd * error
        value -= self.drift * begun + self.worse_node * (begun % NODES == 1)
        return {"metric": value}, 1.0


def _drawn(n, sizes, seed):
    """The flags, and culprits of these sizes at random places, apart from each other; the rest is shuffled."""
    flags, rng = names(n), random.Random(f"rough {n} {seed}")
    left = list(flags)
    rng.shuffle(left)
    culprits = []
    for size in sizes:
        culprits.append(tuple(sorted(left[:size])))
        left = left[size:]
    return flags, culprits, left


def _rough(flags, effects, sd, seed, **more):
    return Rough(flags, {"metric": tuple(effects)}, sd, seed, **more)


def _plain(n, seed, error, sizes=(1,), drops=(GAP,) * 4, **more):
    flags, culprits, _ = _drawn(n, sizes, seed)
    effects = [Effect(one, drop) for one, drop in zip(culprits, drops)]
    return _rough(flags, effects, noise(error), seed, **more)


def _overlapping(n, seed):
    flags, (three,), _ = _drawn(n, (3,), seed)
    effects = (Effect(three[:2], GAP), Effect(three[1:], GAP))
    return _rough(flags, effects, noise(0.07), seed)


def _many_small(n, seed):
    flags = names(n)
    return _rough(flags, [Effect((flag,), 0.13 / n) for flag in flags], noise(0.07), seed, adds=True)


def _helping(n, seed, broken=True):
    flags, culprits, rest = _drawn(n, (1,) if broken else (), seed)
    gains = dict.fromkeys(rest[:3], 0.006)
    return _rough(flags, [Effect(one, GAP) for one in culprits], noise(0.02), seed, gains=gains)


def _masked(n, seed):
    flags, culprits, rest = _drawn(n, (1, 1), seed)
    effects = [Effect(one, GAP) for one in culprits]
    return _rough(flags, effects, noise(0.02), seed, masks={culprits[1]: (rest[0],)})


def _crash_beside(n, seed, size):
    flags, culprits, rest = _drawn(n, (1,), seed)
    return _rough(flags, (Effect(culprits[0], GAP),), noise(0.07), seed, crashes=tuple(sorted(rest[:size])))


def _gap(n, seed, deviations):
    flags, culprits, _ = _drawn(n, (1,), seed)
    return _rough(flags, (Effect(culprits[0], GAP),), GAP / deviations, seed)


LANDSCAPES = {  # name: (what it is, function of n and seed)
    "scatter": ("broken runs scatter three times as much", partial(_plain, error=0.02, scatter=3.0)),
    "tails": (
        "broken runs have heavy tails, three times as wide",
        partial(_plain, error=0.02, scatter=3.0, tails=True),
    ),
    "louder": ("any flag doubles the noise, which the baseline does not show", partial(_plain, error=0.02, louder=2.0)),
    "louder each": ("each flag adds a tenth to the noise", partial(_plain, error=0.02, louder_each=0.1)),
    "unequal": (
        "two culprits that add up, .10 and .04",
        partial(_plain, error=0.02, sizes=(1, 1), drops=(0.1, 0.04), adds=True),
    ),
    "unequal three": (
        "three culprits that add up, .10, .06 and .04",
        partial(_plain, error=0.02, sizes=(1, 1, 1), drops=(0.1, 0.06, 0.04), adds=True),
    ),
    "overlapping": ("two interacting pairs that share a flag", _overlapping),
    "quadruple": ("four flags that break together only", partial(_plain, error=0.02, sizes=(4,))),
    "four": ("four culprits, each by itself", partial(_plain, error=0.02, sizes=(1, 1, 1, 1))),
    "small effects": ("all flags lose a little, .13 together, and there is no culprit", _many_small),
    "helping": ("three flags gain .006 each, beside a culprit", _helping),
    "helping alone": ("three flags gain .006 each, and nothing breaks", partial(_helping, broken=False)),
    "masked": ("two culprits, one of which a third flag makes harmless", _masked),
    "sometimes": ("runs of a broken set fail half the time", partial(_plain, error=0.02, sometimes=0.5)),
    "drift": ("each run is .001 worse than the one before", partial(_plain, error=0.02, drift=0.001)),
    "worse node": ("one node of four loses .02", partial(_plain, error=0.02, worse_node=0.02)),
    "understated": ("the baseline shows a quarter of the noise", partial(_plain, error=0.02 / 8, louder=2.5)),
    "crash": ("a culprit, and a flag whose runs crash", partial(_crash_beside, size=1)),
    "crash of a pair": ("a culprit, and a pair whose runs crash", partial(_crash_beside, size=2)),
    "gap 1.5": ("a culprit of 1.5 standard deviations", partial(_gap, deviations=1.5)),
    "gap 1": ("a culprit of 1 standard deviation", partial(_gap, deviations=1.0)),
}


class Figures(NamedTuple):
    """Of the campaigns in one landscape. Rates are shares of campaigns. loud: statements of LOUD and more, and how many
    of them were right.
    """

    campaigns: int
    runs: float
    runs_90: float
    exact: float
    wrong: float
    inconclusive: float
    loud: tuple


def campaign(name, n, search, number):
    """The simulate.Outcome of one campaign."""
    return simulate(LANDSCAPES[name][1](n, number), search)._replace(lines=(), believed={})


def figures(outcomes):
    """The Figures of Outcomes."""

    def mean(field):
        return sum(getattr(outcome, field) for outcome in outcomes) / len(outcomes)

    loud = [one.right for outcome in outcomes for one in outcome.stated if one.probability >= LOUD]
    return Figures(
        *(len(outcomes), mean("runs"), percentile_90([outcome.runs for outcome in outcomes])),
        *(mean(field) for field in ("exact", "wrong", "inconclusive")),
        (sum(loud), len(loud)),
    )


HEAD = ["landscape", "n", "campaigns", "runs", "90 %", "exact", "wrong", "inconclusive", f"right of stated {LOUD:.0%}"]


def table(found):
    """A Markdown table of {(name, n): Figures}, a line each."""
    body = []
    for (name, n), one in found.items():
        rates = [f"{share:.0%}" for share in (one.exact, one.wrong, one.inconclusive)]
        loud = "{} of {}".format(*one.loud)
        body.append([LANDSCAPES[name][0], n, one.campaigns, f"{one.runs:.1f}", one.runs_90, *rates, loud])
    return rows(HEAD, body)


@click.command()
@click.option(
    "--landscape", "chosen", multiple=True, type=click.Choice(list(LANDSCAPES)), help="Repeatable.  [default: all]"
)
@click.option(
    "--n", "sizes", multiple=True, type=click.IntRange(4, 64), help="Flags; repeatable.  [default: 8, 11, 32]"
)
@click.option(
    "--campaigns", default=60, show_default=True, type=click.IntRange(1), help="Of each; with 32 flags a third."
)
@click.option("--search", default=DEFAULT, show_default=True, type=click.Choice(search_names()))
@click.option("--quick", is_flag=True, help="A small part.")
@click.option("--jobs", default=os.cpu_count(), show_default=True, type=click.IntRange(1), help="Processes.")
@click.option("--docs", type=click.Path(path_type=Path, file_okay=False, exists=True), help="Writes the page there.")
def main(chosen, sizes, campaigns, search, quick, jobs, docs):
    """Measure a search where runs are not as tidy as its model."""
    started, found = time.monotonic(), {}
    if quick:
        chosen, sizes, campaigns = chosen or ("scatter", "overlapping", "crash"), sizes or (8,), min(campaigns, 6)
    with ProcessPoolExecutor(jobs) as pool:
        for n in sizes or (8, 11, 32):
            for name in chosen or LANDSCAPES:
                many = campaigns if n < 32 else max(1, campaigns // 3)
                outcomes = list(pool.map(partial(campaign, name, n, search), range(many)))
                found[name, n] = figures(outcomes)
                click.echo(list(table({(name, n): found[name, n]}))[-1], err=True)
    measured = f"Measured in {(time.monotonic() - started) / 60:.0f} minutes by {jobs} processes."
    page = "\n".join([*table(found), "", measured]) + "\n"
    click.echo(page)
    if docs:
        sys.path.append(str(Path(__file__).parents[1]))
        from pages import write_measured

        write_measured(docs / "rough.md", page)


if __name__ == "__main__":
    main()
