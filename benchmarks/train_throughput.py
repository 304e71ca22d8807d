"""How fast training is, and where its time goes. Docs: docs/speed.md, which holds the table this writes.

    python benchmarks/train_throughput.py --json runs/speed.json --write docs/speed.md      # all of it
    python benchmarks/train_throughput.py --part steps --model shapes --batch 4             # the main ratio alone

Nothing else should run meanwhile. What is compared takes turns on the same cores, and the figure of a comparison is
the median of the ratios of its turns: a machine that slows down for a while slows both. What one call measures
replaces the same in the file of --json and leaves the rest of it, so that the whole can be measured in pieces.
"""

import json
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import NamedTuple

import click
import training_processes as processes
from pages import write_measured

from maskrcnn.pieces import PIECES
from maskrcnn.runfolder import write_json
from maskrcnn.version import code_version

ALL_ON, ALL_OFF = tuple(PIECES), ()
SIDES = {"off": ALL_OFF, "on": ALL_ON}
TOP = 12  # lines of a table of where the time goes


class Model(NamedTuple):
    """A preset with changes; `batches` are measured by default, `profiled` is the one looked into."""

    preset: str
    settings: tuple
    batches: tuple
    profiled: int
    log_every: int  # steps between two looks at the clock


MODELS = {
    "shapes": Model("shapes", (), (1, 2, 4, 8), 4, 5),
    "resnet50-320": Model(
        "tensorpack-160",
        ("short_edge=320", "long_edge=320", "blocks=3,4,6,3", "fpn_channels=256"),
        (1, 2, 4, 8),
        4,
        1,
    ),
    "tensorpack-160": Model("tensorpack-160", (), (1, 4), 1, 5),
    "tiny": Model("tiny", (), (1, 2), 2, 5),
}
BY_DEFAULT = ("shapes", "resnet50-320")


def measure_steps(name, batches, rounds, seconds, threads, folder):
    """Training of `name` with all pieces per image and all batched, at each batch size: {batch: figures}."""
    found = {}
    for batch in batches or MODELS[name].batches:
        contestants = []
        try:
            for side, flags in SIDES.items():
                out = folder / f"{name}-{batch}-{side}"
                argv = processes.command(MODELS[name], flags, out, endless(MODELS[name], batch))
                log = folder / f"{name}-{batch}-{side}.txt"
                contestants.append(processes.Contestant(argv, log, out / "metrics.jsonl", batch, threads))
            off, on = processes.take_turns(contestants, rounds, seconds)
            peaks = [c.peak_mib() for c in contestants]
        finally:
            for c in contestants:
                c.end()
        found[str(batch)] = {
            **{f"{side}_img_per_s": speed for side, speed in zip(SIDES, (off, on))},
            **{f"{side}_peak_mib": peak for side, peak in zip(SIDES, peaks)},
            "ratio": median(b / a for a, b in zip(off, on)),
        }
        note(f"{name}, batch {batch}: all-on / all-off {found[str(batch)]['ratio']:.2f}")
    return found


def endless(model, batch):
    """The settings of a training that goes on until it is ended from outside."""
    steps = processes.FOREVER
    return f"batch={batch}", f"log_every={model.log_every}", f"steps={steps}", f"save_every={steps}"


def measure_profile(name, batch, steps, threads):
    """What `training_graph.py` finds for all pieces per image and all batched: {side: figures}."""
    model, found = MODELS[name], {}
    for side, flags in SIDES.items():
        argv = [sys.executable, str(Path(__file__).with_name("training_graph.py")), f"--preset={model.preset}"]
        argv += [f"--flags={','.join(flags)}", f"--steps={steps}", f"--set=batch={batch or model.profiled}"]
        argv += [f"--set={s}" for s in model.settings]
        with tempfile.TemporaryFile() as log:
            process = subprocess.run(argv, stdout=subprocess.PIPE, stderr=log, env=processes.environment(threads))
            if process.returncode:
                log.seek(0)
                raise click.ClickException(f"{' '.join(argv)}:\n{log.read().decode(errors='replace')}")
        found[side] = {"batch": batch or model.profiled, **json.loads(process.stdout.splitlines()[-1])}
        note(f"{name}, {side}: {found[side]['img_per_s']:.1f} img/s")
    return found


def measure_start(rounds, threads, folder):
    """Seconds from the start of the real command to its first finished step: {side: [phases of every round]}."""
    model, found = MODELS["shapes"], {side: [] for side in SIDES}
    for i in range(rounds):
        for side, flags in SIDES.items():
            out, log = folder / f"start-{side}-{i}", folder / f"start-{side}-{i}.txt"
            began = time.monotonic()
            process = processes.start(processes.command(model, flags, out, ["log_every=1"]), log, threads)
            try:
                ready = processes.wait_for_text(process, log, "training for") - began
                first = processes.wait_for_text(process, log, "step 1/") - began
            finally:
                process.kill()
                process.wait()
            # The line of the first step tells how long the loop has run, which is that step alone.
            step = processes.lines(out / "metrics.jsonl")[0]["wall"]
            found[side].append(
                {"import": ready, "graph": first - ready - step, "first step": step, "first step done": first}
            )
            note(f"start, {side}: {first:.1f} s")
    return found


def measure_runs(cores, folder):
    """Whole runs of the small model, all-off and all-on, in the ways that two of them can share the cores."""
    cores = sorted(cores)
    halves = [set(cores[: len(cores) // 2]), set(cores[len(cores) // 2 :])]
    ways = {  # how many at once, threads of each, cores of either
        "side by side, bound to cores": (2, len(halves[0]), halves),
        "side by side": (2, len(halves[0]), (None, None)),
        "one after the other": (1, len(cores), (None, None)),
    }
    found = {}
    for i, (way, (at_once, threads, places)) in enumerate(ways.items()):

        def job(side, place, i=i, threads=threads):
            out, log = folder / f"run-{i}-{side}", folder / f"run-{i}-{side}.txt"
            return processes.whole(processes.command(MODELS["shapes"], SIDES[side], out), log, threads, place)

        with ThreadPoolExecutor(at_once) as pool:
            found[way] = dict(zip(SIDES, pool.map(job, SIDES, places)))
        lasted = [r["seconds"] for r in found[way].values()]
        found[way]["runs_an_hour"] = at_once * 3600 / (sum(lasted) / len(lasted))
        note(f"{way}: {found[way]['runs_an_hour']:.0f} runs an hour")
    return found


def note(text):
    click.echo(text, err=True)


# What was found, as markdown


def report(found):
    """Markdown lines of all figures in `found`."""
    machine = found["machine"]
    yield f"{machine['cpu']}: {machine['cores']} cores, {machine['threads']} threads; code {machine['code']}."
    for part, table in (("steps", steps_table), ("profile", profile_tables), ("start", start_table)):
        if part in found:
            yield ""
            yield from table(found[part])
    if "runs" in found:
        yield ""
        yield from runs_table(found["runs"])


def rows(head, body):
    """A markdown table."""
    yield "| " + " | ".join(head) + " |"
    yield "| --- |" + " --: |" * (len(head) - 1)
    for row in body:
        yield "| " + " | ".join(row) + " |"


def steps_table(found):
    yield "### Images a second, and peak memory"
    yield ""
    head = ["model, batch", "all-off img/s", "all-on img/s", "all-on / all-off", "all-off MiB", "all-on MiB"]
    body = []
    for name, batches in found.items():
        for batch, r in sorted(batches.items(), key=lambda item: int(item[0])):
            speeds = [f"{median(r[f'{side}_img_per_s']):.1f}" for side in SIDES]
            peaks = [f"{r[f'{side}_peak_mib']:.0f}" for side in SIDES]
            body.append([f"{name}, {batch}", *speeds, f"**{r['ratio']:.2f}**", *peaks])
    yield from rows(head, body)


def profile_tables(found):
    yield "### Arithmetic and input"
    yield ""
    head = ["model, batch, pieces", "operations", "GFLOP an image", "share of matrix rate", "input / training"]
    body = []
    for name, sides in found.items():
        for side, r in sides.items():
            ratio = r["data_img_per_s"] / r["img_per_s"]
            work = sides["on"]["gflop_an_image"]  # the same for both, but can be seen in a graph without functions only
            share = work * r["img_per_s"] / r["matrix_gflops"]
            body.append(
                [f"{name}, {r['batch']}, all-{side}", f"{r['operations']:,}", f"{work:.2f}"]
                + [f"{share:.0%} of {r['matrix_gflops']:.0f} GFLOP/s", f"{ratio:.1f}"]
            )
    yield from rows(head, body)
    for key, title in (("by_kind", "kind of operation"), ("by_part", "part of the model")):
        yield ""
        yield f"### Where the time goes, by {title}"
        columns = [(f"{name}, all-{side}", r[key]) for name, sides in found.items() for side, r in sides.items()]
        total = {k: sum(shares.get(k, 0) for _, shares in columns) for _, s in columns for k in s}
        top = sorted(total, key=total.get, reverse=True)[:TOP]
        yield ""
        yield from rows(
            [title, *(c for c, _ in columns)],
            [[k, *(f"{shares.get(k, 0):.1%}" for _, shares in columns)] for k in top],
        )


def start_table(found):
    yield "### From the start of the process to the end of the first step, in seconds"
    yield ""
    phases = list(found["off"][0])
    body = [[f"all-{side}", *(f"{median(r[p] for r in found[side]):.1f}" for p in phases)] for side in found]
    yield from rows(["pieces", *phases], body)


def runs_table(found):
    yield "### Two whole runs, and how they share the cores"
    yield ""
    head = ["how", "all-off s", "all-on s", "evaluation, all-off", "evaluation, all-on", "runs an hour"]
    body = []
    for way, r in found.items():
        seconds = [f"{r[side]['seconds']:.0f}" for side in SIDES]
        share = [f"{r[side]['evaluation'] / r[side]['seconds']:.1%}" for side in SIDES]
        body.append([way, *seconds, *share, f"**{r['runs_an_hour']:.0f}**"])
    yield from rows(head, body)


PARTS = ("steps", "profile", "start", "runs")


@click.command()
@click.option("--part", "parts", multiple=True, type=click.Choice(PARTS), help="Repeat for more.  [default: all]")
@click.option("--model", "models", multiple=True, type=click.Choice(list(MODELS)), default=BY_DEFAULT)
@click.option("--batch", "batches", multiple=True, type=click.IntRange(1), help="[default: 1, 2, 4 and 8]")
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1), help="Turns of each side.")
@click.option("--seconds", default=2.0, show_default=True, help="A turn lasts at least.")
@click.option("--profile-steps", default=20, show_default=True)
@click.option("--threads", type=click.IntRange(1), help="Of every process.  [default: the cores]")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Adds the figures to this file.")
@click.option("--write", type=click.Path(path_type=Path), help="Puts the tables below the marked line of this file.")
def main(parts, models, batches, rounds, seconds, profile_steps, threads, json_file, write):
    """Measure how fast training is."""
    parts = parts or PARTS
    cores = processes.cores()
    threads = threads or len(cores)
    found = json.loads(json_file.read_text()) if json_file and json_file.exists() else {}
    processes.prepare_data(MODELS[m].preset for m in models)
    with tempfile.TemporaryDirectory(prefix="train-throughput-") as scratch:
        folder = Path(scratch)
        for name in models:
            if "steps" in parts:
                measured = measure_steps(name, batches, rounds, seconds, threads, folder)
                found.setdefault("steps", {}).setdefault(name, {}).update(measured)
            if "profile" in parts:
                found.setdefault("profile", {})[name] = measure_profile(
                    name, batches[0] if batches else None, profile_steps, threads
                )
        if "start" in parts:
            found["start"] = measure_start(rounds, threads, folder)
        if "runs" in parts and len(cores) > 1:
            found["runs"] = measure_runs(cores, folder)
    found["machine"] = {"cpu": processes.cpu(), "cores": len(cores), "threads": threads, "code": code_version()}
    text = "\n".join(report(found)) + "\n"
    click.echo(text)
    if json_file:
        write_json(json_file, found)
    if write:
        write_measured(write, text)


if __name__ == "__main__":
    main()
