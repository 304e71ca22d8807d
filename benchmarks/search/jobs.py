"""The jobs of docs/measured-campaigns.md many times over: simulated campaigns, with what real training measured.

    python benchmarks/search/jobs.py --campaigns 100

Effects, noise and what runs of a seed have in common are those of docs/fault-effects.md. Parity suspects the flags with
an injected fault, as it did each time.
"""

import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import click
from landscape import SHAPES, Effect, Landscape
from measure import summary
from report import rows
from simulate import simulate

from bisect_cli import search as searches
from bisect_cli.trainers.maskrcnn import SPEC

ALL = SPEC.flag_names
BASE = {"bbox": 0.694, "segm": 0.642}
SD = {"bbox": 0.027, "segm": 0.013}
ALIKE = 0.6
MASK = {"bbox": (), "segm": (Effect(("ROI_ALIGN_MASK",), 0.285),)}
BOTH = {
    "bbox": (Effect(("GENERATE_PROPOSALS",), 0.18),),
    "segm": (Effect(("GENERATE_PROPOSALS",), 0.11), *MASK["segm"]),
}
PAIR = {"bbox": (), "segm": (Effect(("CROP_AND_RESIZE_MASK", "MASK_LOSS"), 0.51),)}
BENEATH = {"segm": (Effect(("CROP_AND_RESIZE_MASK",), 0.025),)}
JOBS = {
    "L2B5, one fault": (SPEC.parse_flags("L2B5"), MASK, {}),
    "all, one fault": (ALL, MASK, {}),
    "all, two faults": (ALL, BOTH, {}),
    "all, the pair": (ALL, PAIR, BENEATH),
    "all, no fault": (ALL, {"bbox": (), "segm": ()}, {}),
}


def campaign(job, search, slots, number):
    """The Outcome of one campaign of a job."""
    flags, effects, beneath = JOBS[job]
    landscape = Landscape(
        flags,
        effects,
        BASE,
        SD,
        seed=f"{job} {number}",
        alike=ALIKE,
        beneath=beneath,
        noise_priors=SHAPES,
        groups=SPEC.blocks,
        spread=0.2,
    )
    injected = {flag for found in effects.values() for effect in found for flag in effect.flags}
    order = searches.Order(tuple(flag for flag in flags if flag in injected))
    return simulate(landscape, search, slots, parity_order=order)._replace(lines=())


@click.command()
@click.option("--campaigns", default=100, show_default=True, type=click.IntRange(1), help="Of every job and search.")
@click.option("--slots", default=2, show_default=True, type=click.IntRange(1))
@click.option("--job", "jobs", multiple=True, type=click.Choice(list(JOBS)), help="Repeat for more.  [default: all]")
def main(campaigns, slots, jobs):
    """Measure the searches on the jobs of docs/measured-campaigns.md."""
    body = []
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for job in jobs or JOBS:
            for search in searches.names():
                one = summary(list(pool.map(partial(campaign, job, search, slots), range(campaigns), chunksize=5)))
                rates = [f"{share:.0%}" for share in (one.exact, one.wrong, one.inconclusive)]
                body.append([job, search, f"{one.runs:.1f}", one.runs_90, f"{one.rounds:.1f}", *rates])
    click.echo("\n".join(rows(["job", "search", "runs", "90 %", "rounds", "exact", "wrong", "inconclusive"], body)))


if __name__ == "__main__":
    main()
