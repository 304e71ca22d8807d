"""How often parity finds a difference in the standard pieces, where there is none; and how near it comes to it.

    python benchmarks/parity_false_alarms.py --seeds 0 200

Prints, for every piece, the largest error and the smallest corrected p-value over the seeds, and every false alarm.
Graphs are built once a piece. Seeds can be split over several calls: --flags, and --seeds FIRST END.
"""

import time

import click

from maskrcnn.config import preset
from maskrcnn.parity.checks import with_correction
from maskrcnn.parity.engine import trial
from maskrcnn.pieces import PIECES, parse_flags


@click.command()
@click.option("--seeds", nargs=2, type=int, default=(0, 200), show_default=True, metavar="FIRST END")
@click.option("--flags", default="", help="[default: all]")
@click.option("--preset", "name", default="shapes", show_default=True)
def main(seeds, flags, name):
    alarms = 0
    for flag in parse_flags(flags) or PIECES:
        start = time.monotonic()
        tried = trial(flag, {}, preset(name))
        error, p_value, worst = 0.0, 1.0, ""
        for seed in range(*seeds):
            for check in with_correction(tried.checks(seed, tried.cases())):
                if not check.agrees:
                    alarms += 1
                    click.echo(f"FALSE ALARM  {flag} seed {seed}: {check}")
                if (check.error or 0) > error:
                    error, worst = check.error, f"seed {seed}: {check.worst}"
                p_value = min(p_value, 1.0 if check.p_value is None else check.p_value)
        seconds = time.monotonic() - start
        click.echo(f"{flag:22} error {error:.1e}  p {p_value:.1e}  {seconds:5.1f} s  {worst}", nl=True)
    click.echo(f"{alarms} false alarms on seeds {seeds[0]} to {seeds[1] - 1}")
    raise SystemExit(1 if alarms else 0)


if __name__ == "__main__":
    main()
