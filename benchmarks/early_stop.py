"""What stopping runs early saves, and how often it is wrong, replayed from recorded curves of real trainings.

    python benchmarks/early_stop.py --write docs/early-stopping.md

The curves in benchmarks/data/curves.csv are of trainings of the preset `shapes` that were evaluated every 100 of 1000
steps: the baseline, every planted fault, all flags on without one, and the pair of pieces that break only together.
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

from bisect_cli.evidence import curves, judge
from bisect_cli.search import Question, Stake, find
from bisect_cli.trainers import runfiles as trainer
from maskrcnn.pieces import PIECES

METRICS = ("bbox", "segm")
SEEDS = 3  # of a baseline
ALL_ON = "allon"  # the case of all flags on with nothing planted
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
            told = json.loads(line)
            if "bbox/AP" in told:
                took = told["wall"] - before["wall"]
                trained = before["wall"] - evaluations
                evaluations += took
                yield case, seed, told["step"], f"{trained:.2f}", f"{took:.2f}", told["bbox/AP"], told["segm/AP"]
            before = told


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
        if curves.stop(looks, {metric: Stake(True) for metric in metrics}, run.steps):
            return Replay(
                step, 1 - run.seconds(step, number) / whole, any(_ends_fine(run, baseline, m) for m in metrics)
            )
    return Replay(None, 1 - run.seconds(run.steps, len(looked_at) + 1) / whole, False)


def _looks(run, baseline, metric, every, until):
    seen = {
        one.seed: {s: v for s, v in one.curve[metric].items() if s % every == 0 or s == one.steps} for one in baseline
    }
    own = {step: value for step, value in run.curve[metric].items() if step % every == 0 and step <= until}
    return curves.compare(seen, own, run.seed, run.steps, judge.scale_of("shapes", metric))


def _ends_fine(run, baseline, metric):
    ends = [one.curve[metric][one.steps] for one in baseline]
    return judge.judge(ends, [run.curve[metric][run.steps]], scale=judge.scale_of("shapes", metric)).log_odds < 0


def choices(run, baseline):
    """Every choice of the seeds of a baseline that a training can be put beside."""
    return itertools.combinations([one for one in baseline if one is not run], SEEDS)


def table(runs, every):
    """Markdown lines: a row a case, over its seeds and all choices of the baseline."""
    baseline = [run for run in runs if run.case == "baseline"]
    ends = {m: statistics.mean(one.curve[m][one.steps] for one in baseline) for m in METRICS}
    questions = [*((metric,) for metric in METRICS), METRICS]
    heads = " | ".join(f"{' and '.join(q)}: stopped at | time saved" for q in questions)
    yield f"| run | at the end, bbox | segm | {heads} | false stops |"
    yield "| --- " * (4 + 2 * len(questions)) + "|"
    totals = {}
    for case in dict.fromkeys(run.case for run in runs):
        own = [run for run in runs if run.case == case]
        cells = [", ".join(f"{run.curve[m][run.steps] - ends[m]:+.3f}" for run in own) for m in METRICS]
        if case == "baseline":
            cells = [f"{ends[m]:.3f}" for m in METRICS]
        wrong = number = 0
        for question in questions:
            told = [replay(run, chosen, question, every) for run in own for chosen in choices(run, baseline)]
            cells += [_stops(told), f"{statistics.mean(one.saved for one in told):+.0%}"]
            wrong, number = wrong + sum(one.false for one in told), number + len(told)
            totals.setdefault(question, []).extend(told)
        yield f"| {_short(case)} | {' | '.join(cells)} | {wrong} of {number} |"
    cells = [
        cell for told in totals.values() for cell in (_stops(told), f"{statistics.mean(o.saved for o in told):+.0%}")
    ]
    every_one = [one for told in totals.values() for one in told]
    yield f"| **all** | | | {' | '.join(cells)} | {sum(one.false for one in every_one)} of {len(every_one)} |"


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
    """The Bisect of all flags, one run at a time, with the default search, where `case` is planted and nothing else.

    A set with all flags of the case on trains as its recorded runs did, any other as one of FINE, drawn by its flags.
    every: where runs are looked at; 0 lets all of them end.
    """
    flags = tuple(PIECES)
    culprit = {part.partition("=")[0] for part in case.split("+")}
    recorded = {(run.case, run.seed): run for run in runs}
    baseline = [recorded["baseline", seed] for seed in range(SEEDS)]
    ended, early = {(): baseline}, {}  # {set: its runs}, and {set: the curves.Stops of its runs}
    seconds = sum(run.seconds(run.steps, 1 + bool(every)) for run in baseline)
    false = 0
    while True:
        tables = {metric: _verdicts(ended, early, metric) for metric in metrics}
        begun = {subset: len(ended.get(subset, ())) + len(early.get(subset, ())) for subset in (*ended, *early)}
        answer = find("bayes")(Question(flags, tables, (), 1, SEEDS))
        wanted = [want.flags for want in answer.wanted if begun.get(want.flags, 0) < want.runs]
        if not wanted:
            found = {metric: tuple(one.flags for one in plan.culprits) for metric, plan in answer.plans.items()}
            return Bisect(sum(begun.values()), seconds, sum(map(len, early.values())), found, false)
        subset, seed = wanted[0], begun.get(wanted[0], 0)
        kind = (
            case if culprit <= set(subset) else random.Random(",".join(subset)).choice(FINE) if subset else "baseline"
        )
        run = recorded[kind, seed % (5 if kind == "baseline" else 2)]
        stop = None
        if every and subset:
            stakes = find("bayes")(Question(flags, tables, (subset,), 0, SEEDS)).stakes[subset]
            looks = {metric: _looks(run, baseline, metric, every, every) for metric in metrics}
            stop = curves.stop(looks, stakes, run.steps)
        if stop:
            early.setdefault(subset, []).append(stop)
            false += kind in FINE
            seconds += run.seconds(every, 1)
        else:
            ended.setdefault(subset, []).append(run)
            seconds += run.seconds(run.steps, 1 + bool(every))


def _verdicts(ended, early, metric):
    ends = {subset: [(run.seed, run.curve[metric][run.steps]) for run in own] for subset, own in ended.items()}
    # a recording that stands for a further seed is of no seed of the baseline: it would be compared with the wrong run
    values = {
        subset: {seed if (seed, end) not in own[:place] else -place: end for place, (seed, end) in enumerate(own)}
        for subset, own in ends.items()
    }
    told = {subset: [curves.told(stop, metric) for stop in own] for subset, own in early.items()}
    return judge.judge_all(values.pop(()), values, early=told, scale=judge.scale_of("shapes", metric))


def bisects(runs, every):
    """Markdown lines: whole campaigns with each case planted, with and without stopping early."""
    yield "| planted | metrics | named without | runs | named with | runs | stopped early | of fine sets | time saved |"
    yield "| --- " * 9 + "|"
    for case in dict.fromkeys(run.case for run in runs if run.case != "baseline"):
        for metrics in (METRICS, *((metric,) for metric in METRICS)):
            plain, stopping = bisect(runs, case, metrics), bisect(runs, case, metrics, every)
            if metrics == METRICS or plain.found[metrics[0]]:
                yield (
                    f"| {_short(case)} | {' and '.join(metrics)} | {_names(plain.found)} | {plain.runs} | "
                    f"{_names(stopping.found)} | {stopping.runs} | {stopping.early} | {stopping.false} | "
                    f"{1 - stopping.seconds / plain.seconds:+.0%} |"
                )


def _names(found):
    named = [f"{metric}: {' and '.join(map('+'.join, culprits))}" for metric, culprits in found.items() if culprits]
    return ", ".join(named) or "nothing"


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


def _stops(told):
    """Where replays were stopped: `750: 40%`."""
    steps = sorted({one.step for one in told if one.step})
    return ", ".join(f"{step}: {sum(one.step == step for one in told) / len(told):.0%}" for step in steps) or "-"


@click.command()
@click.option("--data", default=DATA, show_default=True, type=click.Path(path_type=Path), help="The recorded curves.")
@click.option("--record", "folder", type=click.Path(exists=True, path_type=Path), help="Write them, from run folders.")
@click.option("--look", default=trainer.LOOK, show_default=True, help="Part of a run after which it is evaluated.")
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
    near = (
        f"To be stopped takes log odds of {curves.SETTLED:.1f}. The largest of a run that ended fine were "
        f"{nearest(runs, every):.1f}, and {nearest(runs, 100):.1f} with a look every 100 steps."
    )
    text = "\n".join([*table(runs, every), "", near, "", *bisects(runs, every)]) + "\n"
    click.echo(text)
    if write:
        write_measured(write, text)


if __name__ == "__main__":
    main()
