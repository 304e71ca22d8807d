"""What stopping runs early saves, and how often it is wrong, replayed from recorded curves of real trainings.

    python benchmarks/early_stop.py --write docs/early-stopping.md

The curves in benchmarks/data/curves.csv are of trainings of the preset `shapes` that were evaluated every 100 of 1000
steps: the baseline, every fault, all flags on without one, and the pair of pieces that break only together.
Every run is replayed against every choice of three of the baseline's seeds; a run of the baseline itself only against
choices without it. It is looked at as often as in a campaign, and evaluations cost what they took.

Other recordings, made by benchmarks/fault_effects.py with `--set eval_every=100`, are condensed into such a file with

    python benchmarks/early_stop.py --record runs/fault-effects --data my_curves.csv
"""

import csv
import itertools
import json
import math
import random
import statistics
from pathlib import Path
from typing import NamedTuple

import click
from pages import write_measured

from bisect_cli.evidence import curves
from bisect_cli.evidence.yardstick import measure
from bisect_cli.search import Question, Relevance, find
from bisect_cli.trainers import maskrcnn

METRICS = ("bbox", "segm")
QUESTIONS = (*((metric,) for metric in METRICS), METRICS)  # the metrics that a campaign is about
YARDSTICKS = {metric: measure(maskrcnn.SPEC.metric(metric)) for metric in METRICS}
SEEDS = 3  # of a baseline
ALL_ON = "allon"  # the case of all flags on without a fault
FINE = (ALL_ON, "DATA_PIPELINE=no_flip", "GENERATE_PROPOSALS=no_joint_topk", "ROI_ALIGN_BOX=half_pixel")  # cost nothing
DATA = Path(__file__).with_name("data") / "curves.csv"
FIELDS = ("case", "seed", "step", "trained", "evaluation", "bbox", "segm")


class Recorded(NamedTuple):
    """A training: its case and seed; trained: {step: seconds until there without evaluations}; evaluation: seconds of
    one, and first: how much more the first of a process takes; curve: {metric: {step: AP}}.
    """

    case: str
    seed: int
    trained: dict
    evaluation: float
    first: float
    curve: dict

    @property
    def steps(self):
        return max(self.trained)

    def seconds(self, step, evaluations):
        """Of this training if it ends at a step, with so many evaluations until then."""
        return self.trained[step] + evaluations * self.evaluation + self.first


def load(path):
    """The Recorded trainings in a file."""
    rows = {}
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            rows.setdefault((row["case"], int(row["seed"])), []).append(row)
    return [_recorded(*key, own) for key, own in rows.items()]


def _recorded(case, seed, rows):
    steps = [int(row["step"]) for row in rows]
    first, *others = (float(row["evaluation"]) for row in rows)
    usual = statistics.median(others)
    return Recorded(
        case,
        seed,
        {step: float(row["trained"]) for step, row in zip(steps, rows)},
        usual,
        max(0.0, first - usual),
        {metric: {step: float(row[metric]) for step, row in zip(steps, rows)} for metric in METRICS},
    )


def record(folder):
    """Rows of FIELDS from the run folders in a folder, each named CASE-SEED."""
    for run in sorted(Path(folder).iterdir()):
        case, _, seed = run.name.rpartition("-")
        if not (run / "result.json").exists() or json.loads((run / "result.json").read_text())["status"] != "finished":
            continue
        evaluations, before = 0.0, {}
        for line in (run / "metrics.jsonl").read_text().splitlines():
            after = json.loads(line)
            if "bbox/AP" in after:
                took = after["wall"] - before["wall"]
                trained = before["wall"] - evaluations
                evaluations += took
                yield case, seed, after["step"], f"{trained:.2f}", f"{took:.2f}", after["bbox/AP"], after["segm/AP"]
            before = after


class Replay(NamedTuple):
    """A training beside one choice of baseline seeds, with some metrics open. step: where it was stopped, or None.
    saved: share of the time of a whole run. false: stopped, though a metric ended more likely fine than broken.
    """

    step: object
    saved: float
    false: bool


def replay(run, baseline, metrics, every):
    """The Replay of a Recorded training with the Recorded ones of a baseline, looked at every so many steps."""
    whole = run.seconds(run.steps, 1)
    looked_at = range(every, run.steps, every)
    for number, step in enumerate(looked_at, 1):
        looks = {metric: _looks(run, baseline, metric, every, step) for metric in metrics}
        if curves.stop(looks, {metric: Relevance(True) for metric in metrics}, run.steps):
            return Replay(
                step, 1 - run.seconds(step, number) / whole, any(_ends_fine(run, baseline, m) for m in metrics)
            )
    return Replay(None, 1 - run.seconds(run.steps, len(looked_at) + 1) / whole, False)


def _looks(run, baseline, metric, every, until):
    seen = {
        one.seed: {s: v for s, v in one.curve[metric].items() if s % every == 0 or s == one.steps} for one in baseline
    }
    own = {step: value for step, value in run.curve[metric].items() if step % every == 0 and step <= until}
    return YARDSTICKS[metric].compare(seen, own, run.seed, run.steps)


def _ends_fine(run, baseline, metric):
    ends = [one.curve[metric][one.steps] for one in baseline]
    return YARDSTICKS[metric].judge_all(ends, {"run": [run.curve[metric][run.steps]]})["run"].log_odds < 0


def choices(run, baseline):
    """Every choice of the seeds of a baseline that a training can be put beside."""
    return itertools.combinations([one for one in baseline if one is not run], SEEDS)


def replays(runs, every):
    """{case: {metrics that have to be settled: its Replays, over its seeds and all choices of the baseline}}."""
    baseline = [run for run in runs if run.case == "baseline"]
    done = {}
    for run in runs:
        for metrics in QUESTIONS:
            own = [replay(run, chosen, metrics, every) for chosen in choices(run, baseline)]
            done.setdefault(run.case, {}).setdefault(metrics, []).extend(own)
    return done


def ends(runs, replayed):
    """Markdown lines: how each case ends, and how often it is stopped falsely."""
    yield from _head("run", *METRICS, "false stops")
    baseline = [run for run in runs if run.case == "baseline"]
    means = {m: statistics.mean(one.curve[m][one.steps] for one in baseline) for m in METRICS}
    for case, by_metrics in replayed.items():
        own = [run for run in runs if run.case == case]
        cells = [", ".join(f"{run.curve[m][run.steps] - means[m]:+.3f}" for run in own) for m in METRICS]
        if case == "baseline":
            cells = [f"{means[m]:.3f}" for m in METRICS]
        yield _row(_short(case), *cells, _false(by_metrics))
    yield _row("**all**", "", "", _false(_pooled(replayed)))


def stops(replayed):
    """Markdown lines: at which step each case is stopped, in what share of its Replays, and the time saved."""
    heads = [f"to settle: {METRICS[0]}", METRICS[1], "both"]
    yield from _head("run", *(cell for head in heads for cell in (head, "saved")))
    for case, by_metrics in (*((_short(case), own) for case, own in replayed.items()), ("**all**", _pooled(replayed))):
        yield _row(case, *(cell for own in by_metrics.values() for cell in (_steps(own), _mean_saved(own))))


def _pooled(replayed):
    return {metrics: [one for by_metrics in replayed.values() for one in by_metrics[metrics]] for metrics in QUESTIONS}


def _false(by_metrics):
    every_one = [one for own in by_metrics.values() for one in own]
    return f"{sum(one.false for one in every_one)} of {len(every_one)}"


def _steps(own):
    """Where Replays were stopped: `750: 40%`."""
    steps = sorted({one.step for one in own if one.step})
    return ", ".join(f"{step}: {sum(one.step == step for one in own) / len(own):.0%}" for step in steps) or "-"


def _mean_saved(own):
    return f"{statistics.mean(one.saved for one in own):+.0%}"


class Bisect(NamedTuple):
    """A campaign whose runs are recorded ones. seconds: of all of them; early: how many were stopped; found: {metric:
    the culprits named}; false: how many were stopped whose set is fine.
    """

    runs: int
    seconds: float
    early: int
    found: dict
    false: int


def bisect(runs, case, metrics, every=0):
    """The Bisect of all flags, one run at a time, with the default search, with the faults of a case and no others.

    A set with all flags of the case on trains as its recorded runs did, any other as one of FINE, drawn by its flags.
    every: where runs are looked at; 0 lets all of them end.
    """
    recorded = {(run.case, run.seed): run for run in runs}
    baseline = [recorded["baseline", seed] for seed in range(SEEDS)]
    ended, early = {(): baseline}, {}  # {set: its runs}, and {set: the curves.stop of its runs}
    seconds = sum(run.seconds(run.steps, 1 + bool(every)) for run in baseline)
    false = 0
    while True:
        tables = {metric: _verdicts(ended, early, metric) for metric in metrics}
        begun = {subset: len(ended.get(subset, ())) + len(early.get(subset, ())) for subset in (*ended, *early)}
        answer = _ask(tables, in_flight=(), slots=1)
        wanted = [one.flags for one in answer.requests if begun.get(one.flags, 0) < one.runs]
        if not wanted:
            found = {metric: tuple(one.flags for one in plan.culprits) for metric, plan in answer.plans.items()}
            return Bisect(sum(begun.values()), seconds, sum(map(len, early.values())), found, false)
        subset = wanted[0]
        kind = _kind(subset, case)
        run = recorded[kind, begun.get(subset, 0) % (5 if kind == "baseline" else 2)]
        stop = _stop(run, subset, baseline, tables, every) if every and subset else None
        if stop:
            early.setdefault(subset, []).append(stop)
            false += kind in FINE
            seconds += run.seconds(every, 1)
        else:
            ended.setdefault(subset, []).append(run)
            seconds += run.seconds(run.steps, 1 + bool(every))


def _ask(tables, in_flight, slots):
    spec = maskrcnn.SPEC
    return find("bayes").answer(Question(spec.flag_names, tables, in_flight, slots, SEEDS, groups=spec.blocks))


def _kind(subset, case):
    """The case whose recorded runs stand for a set's where those of `case` is what is bisected."""
    if {part.partition("=")[0] for part in case.split("+")} <= set(subset):
        return case
    return random.Random(",".join(subset)).choice(FINE) if subset else "baseline"


def _stop(run, subset, baseline, tables, step):
    """Where a run of a set is stopped early, as curves.stop, if it is looked at at this step."""
    relevance = _ask(tables, in_flight=(subset,), slots=0).relevance[subset]
    looks = {metric: _looks(run, baseline, metric, step, step) for metric in tables}
    return curves.stop(looks, relevance, run.steps)


def _verdicts(ended, early, metric):
    ends = {subset: [(run.seed, run.curve[metric][run.steps]) for run in own] for subset, own in ended.items()}
    # a recording that stands for a further seed is of no seed of the baseline: it would be compared with the wrong run
    values = {
        subset: {seed if (seed, end) not in own[:place] else -place: end for place, (seed, end) in enumerate(own)}
        for subset, own in ends.items()
    }
    yardstick = YARDSTICKS[metric]
    stopped = {subset: [curves.early(stop, metric, yardstick.unit) for stop in own] for subset, own in early.items()}
    return yardstick.judge_all(values.pop(()), values, early=stopped)


def bisects(runs, every):
    """[(case, metrics, Bisect without stopping early, Bisect with it)] of all cases that a campaign can be about."""
    done = []
    for case in dict.fromkeys(run.case for run in runs if run.case != "baseline"):
        for metrics in (METRICS, *((metric,) for metric in METRICS)):
            plain, stopping = bisect(runs, case, metrics), bisect(runs, case, metrics, every)
            if metrics == METRICS or plain.found[metrics[0]]:
                done.append((case, metrics, plain, stopping))
    return done


def costs(bisected):
    """Markdown lines: the runs of whole campaigns."""
    yield from _head("fault", "metrics", "runs without", "runs with", "stopped early", "of fine subsets", "time saved")
    for case, metrics, plain, stopping in bisected:
        saved = f"{1 - stopping.seconds / plain.seconds:+.0%}"
        runs = plain.runs, stopping.runs, stopping.early, stopping.false
        yield _row(_short(case), _which(metrics), *map(str, runs), saved)


def names(bisected):
    """Markdown lines: what whole campaigns named."""
    yield from _head("fault", "metrics", "without", "with")
    for case, metrics, plain, stopping in bisected:
        alike = stopping.found == plain.found
        yield _row(_short(case), _which(metrics), _names(plain.found), "the same" if alike else _names(stopping.found))


def _names(found):
    named = [f"{metric}: {' and '.join(map('+'.join, culprits))}" for metric, culprits in found.items() if culprits]
    return ", ".join(named) or "nothing"


def _which(metrics):
    return "both" if metrics == METRICS else metrics[0]


def _short(case):
    return "nothing" if case == ALL_ON else case.replace("truncated_masks.", "")


def nearest(runs, every):
    """The largest log odds, at any look, of a run whose metric ended more likely fine than broken."""
    baseline = [run for run in runs if run.case == "baseline"]
    return max(
        look.log_odds
        for run in runs
        for metric in METRICS
        for chosen in choices(run, baseline)
        if _ends_fine(run, chosen, metric)
        for look in _looks(run, chosen, metric, every, run.steps)
    )


def page(runs, every):
    """The measured part of docs/early-stopping.md."""
    replayed, bisected = replays(runs, every), bisects(runs, every)
    near = (
        f"To be stopped takes log odds of {curves.SETTLED:.1f}. The largest of a run that ended fine were "
        f"{nearest(runs, every):.1f}, and {nearest(runs, 100):.1f} with a look every 100 steps."
    )
    parts = [
        ["At the end, AP to the baseline's mean, one figure a seed, and false stops over all replays of a run:"],
        ends(runs, replayed),
        ["Stopped at which step, in what share of the replays, and the time saved:"],
        stops(replayed),
        [near],
        ["Whole campaigns, without and with early stopping:"],
        costs(bisected),
        ["What these campaigns named:"],
        names(bisected),
    ]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _head(*cells):
    yield _row(*cells)
    yield _row(*("---" for _ in cells))


def _row(*cells):
    return "|" + "".join(f" {cell} |" if cell else " |" for cell in cells)


@click.command()
@click.option("--data", default=DATA, show_default=True, type=click.Path(path_type=Path), help="The recorded curves.")
@click.option("--record", "folder", type=click.Path(exists=True, path_type=Path), help="Write them, from run folders.")
@click.option(
    "--look", default=maskrcnn.FIRST_LOOK, show_default=True, help="Part of a run after which it is evaluated."
)
@click.option("--write", type=click.Path(path_type=Path), help="Put the table into this file, below its marked line.")
def main(data, folder, look, write):
    """Replay recorded curves, or record them."""
    if folder:
        with open(data, "w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(FIELDS)
            writer.writerows(record(folder))
        return
    runs = load(data)
    every = math.ceil(look * max(run.steps for run in runs))
    text = page(runs, every)
    click.echo(text)
    if write:
        write_measured(write, text)


if __name__ == "__main__":
    main()
