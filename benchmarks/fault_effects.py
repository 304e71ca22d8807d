"""The spread of the baseline over seeds, and what each planted fault costs, by real training; as a markdown table.

    python benchmarks/fault_effects.py --slots 2 --write docs/fault-effects.md

Every run is the trainer command itself, in a folder of its own below runs/fault-effects, so that the script can be
interrupted and started again: finished runs are read, not repeated.
"""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import numpy as np
from pages import write_measured

from maskrcnn.errors import UserError
from maskrcnn.examples import PAIR
from maskrcnn.faults import FAULTS
from maskrcnn.pieces import PIECES

METRICS = ("bbox/AP", "bbox/AP_small", "bbox/AP_medium", "segm/AP", "segm/AP_small", "segm/AP_medium")


def cases(baseline_seeds, seeds):
    """(row's name, flags, plants, seed) of every run."""
    found = [("baseline", (), (), s) for s in range(baseline_seeds)]
    for fault in FAULTS.values():
        plant = f"{fault.flag}={fault.name}"
        found += [(plant, (fault.flag,), (plant,), s) for s in range(seeds)]
    found += [("all on", tuple(PIECES), (), s) for s in range(seeds)]
    for plants in ([PAIR[0]], [PAIR[1]], PAIR):
        flags = tuple(p.partition("=")[0] for p in plants)
        found += [
            (" + ".join(p.replace("maskrcnn.examples.", "") for p in plants), flags, tuple(plants), s)
            for s in range(seeds)
        ]
    return found


def train(case, folder, preset, settings, threads):
    """Trains one case and returns its result."""
    name, flags, plants, seed = case
    out = folder / f"{name.replace(' ', '').replace(':', '.')}-{seed}"
    argv = [sys.executable, "-m", "maskrcnn", "train", "--flags", ",".join(flags), "--seed", str(seed)]
    argv += ["--preset", preset, "--out", str(out)]
    for option, values in (("--plant", plants), ("--set", settings)):
        for value in values:
            argv += [option, value]
    out.mkdir(parents=True, exist_ok=True)
    with open(out / "log.txt", "a") as log:
        code = subprocess.run(
            argv, stderr=log, stdout=log, env={**os.environ, "OMP_NUM_THREADS": str(threads)}
        ).returncode
    if code:
        raise UserError(f"{name}, seed {seed}: the run ended with exit code {code}; see {out}/log.txt.")
    result = json.loads((out / "result.json").read_text())
    click.echo(f"{name}, seed {seed}: {result['status']} {result['metrics']} {result['img_per_s']} img/s", err=True)
    return result


def table(results):
    """Markdown lines from [(case, result)]: the baseline's runs, and what differs from that of the same seed."""
    rows = {}
    for (name, _, _, seed), result in results:
        rows.setdefault(name, []).append((seed, result))
    twin = dict(rows["baseline"])
    yield "| run | seed | " + " | ".join(METRICS) + " | img/s | minutes |"
    yield "| --- | --- |" + " --- |" * (len(METRICS) + 2)
    for seed, r in rows["baseline"]:
        values = " | ".join(f"{r['metrics'][m]:.3f}" for m in METRICS)
        yield f"| all off | {seed} | {values} | {r['img_per_s']:.1f} | {r['wall'] / 60:.1f} |"
    mean = {m: np.mean([r["metrics"][m] for _, r in rows["baseline"]]) for m in METRICS}
    yield "| **mean** | | " + " | ".join(f"{mean[m]:.3f}" for m in METRICS) + " | | |"
    spread = {m: np.std([r["metrics"][m] for _, r in rows["baseline"]], ddof=1) for m in METRICS}
    yield "| **standard deviation** | | " + " | ".join(f"{spread[m]:.3f}" for m in METRICS) + " | | |"
    yield ""
    yield "Differences to the baseline's run of the same seed, one figure a seed:"
    for kind in ("bbox", "segm"):  # side by side they are too wide for a page
        yield from differences({n: runs for n, runs in rows.items() if n != "baseline"}, twin, kind)


def differences(rows, twin, kind):
    """Markdown lines: what each case takes of the metrics of a kind. twin: {seed: the baseline's result}."""
    metrics = [metric for metric in METRICS if metric.startswith(kind)]
    yield ""
    yield "| fault | " + " | ".join(metrics) + " |"
    yield "| --- |" + " --- |" * len(metrics)
    for name, runs in rows.items():
        cells = [", ".join(_difference(r, twin[seed], metric) for seed, r in runs) for metric in metrics]
        yield f"| {name.replace('truncated_masks:', '')} | " + " | ".join(cells) + " |"


def _difference(result, twin, metric):
    if metric not in result["metrics"]:
        return result["status"]
    return f"{result['metrics'][metric] - twin['metrics'][metric]:+.3f}"


@click.command()
@click.option("--slots", default=2, show_default=True, help="Runs at once, one thread each.")
@click.option("--baseline-seeds", default=5, show_default=True)
@click.option("--seeds", default=2, show_default=True, help="Seeds of every fault, at most the baseline's.")
@click.option("--preset", default="shapes", show_default=True)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="As for the trainer.")
@click.option("--only", default="", help="Only rows whose name holds this text (and the baseline).")
@click.option("--folder", default="runs/fault-effects", show_default=True, type=click.Path(path_type=Path))
@click.option("--write", type=click.Path(path_type=Path), help="Put the table into this file, below its marked line.")
def main(slots, baseline_seeds, seeds, preset, settings, only, folder, write):
    """Measure the baseline's spread and the effect of each fault."""
    wanted = [c for c in cases(baseline_seeds, seeds) if c[0] == "baseline" or only in c[0]]
    with ThreadPoolExecutor(slots) as pool:
        results = list(zip(wanted, pool.map(lambda c: train(c, folder, preset, settings, 1), wanted)))
    text = "\n".join(table(results)) + "\n"
    click.echo(text)
    if write:
        write_measured(write, text)


if __name__ == "__main__":
    main()
