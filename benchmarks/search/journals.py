"""What a journal of old verdicts saves, and what a false one costs: simulated campaigns that use one, in markdown.

python benchmarks/search/journals.py --campaigns 80     # about ten minutes on one core
"""

import math
import random
import statistics

import click
import history
from landscape import draw
from simulate import simulate

from bisect_cli.campaign.settings import Settings
from bisect_cli.evidence import prior
from bisect_cli.trainers.maskrcnn import SPEC

ODDS = math.log(prior.MOST_ODDS)
FLAGS, ERROR = 11, 0.07
JOURNALS = ("none", "right", "a quarter wrong", "wrong about the culprits")
BEFORE = "2019-03-22"  # the day on which segm was first seen to fail


def journal(landscape, kind, number):
    """Prior evidence on every flag by itself, {subset: log odds}, of one of JOURNALS."""
    if kind == "none":
        return {}
    rng = random.Random(f"journal {number}")
    culprits = landscape.truth("metric")
    bad = {flag for culprit in culprits for flag in culprit}
    evidence = {(flag,): ODDS if (flag,) in culprits else -ODDS for flag in landscape.flags}
    if kind == "a quarter wrong":
        return {subset: -odds if rng.random() < 0.25 else odds for subset, odds in evidence.items()}
    if kind == "wrong about the culprits":  # which are fine, as is all of them; another is not, nor all but they
        others = tuple(flag for flag in landscape.flags if flag not in bad)
        evidence.update({(flag,): -ODDS for flag in bad})
        evidence.update({(rng.choice(others),): ODDS, others: ODDS})
    return evidence


def of_2019():
    """What the real journal said before the failure: all of it fine but SAMPLE_TARGETS, two culprits among the fine."""
    flags = history.whole_set()
    rows = [
        ([flag for flag in flags if flag in row["flags"].split()], metric, ODDS if row[metric] == "fail" else -ODDS)
        for row in history.timeline()
        if row["kind"] == "convergence" and row["date"] < BEFORE
        for metric in history.BASE
        if row[metric]
    ]
    return prior.weigh(rows, Settings("2019", SPEC, flags, tuple(history.BASE)))


def mean(outcomes):
    wrong = sum(one.wrong for one in outcomes)
    named = (
        f"{statistics.mean(one.runs for one in outcomes):.1f}, {sum(one.exact for one in outcomes) / len(outcomes):.0%}"
    )
    return f"{named}, {wrong} wrong" if wrong else named


@click.command()
@click.option("--campaigns", default=80, show_default=True, help="In each cell.")
@click.option("--truth", "truths", multiple=True, default=("none", "one", "pair", "two"), show_default=True)
def main(campaigns, truths):
    """Mean runs and how often the result was exactly right, by what breaks and by journal."""
    click.echo(f"| what breaks | {' | '.join(JOURNALS)} |\n| --- |{' --- |' * len(JOURNALS)}")
    for truth in truths:
        cells = []
        for kind in JOURNALS:
            if truth == "none" and kind == JOURNALS[-1]:
                cells.append("")
                continue
            drawn = [draw(FLAGS, truth, ERROR, f"journal {number}") for number in range(campaigns)]
            known = [{"metric": journal(one, kind, number)} for number, one in enumerate(drawn)]
            cells.append(mean([simulate(one, prior_evidence=evidence) for one, evidence in zip(drawn, known)]))
        click.echo(f"| {truth} | {' | '.join(cells)} |")
    real = [
        [simulate(history.landscape(i), prior_evidence=evidence) for i in range(campaigns)]
        for evidence in ({}, of_2019())
    ]
    click.echo(f"| 2019 | {mean(real[0])} | | | {mean(real[1])} |")


if __name__ == "__main__":
    main()
