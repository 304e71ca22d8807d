"""Parity as the tool uses it: shown, logged once, and the order in which a search tries, never its result."""

import json
import random
import signal
import subprocess
import sys
import time
from itertools import combinations
from statistics import mean

import pytest
from bisecting import BLOCK, Bench, wait_for
from test_halving import Table

from bisect_cli.analysis import analyse, parity_order
from bisect_cli.campaign import subsets as sets
from bisect_cli.search import Order
from bisect_cli.storage import store
from bisect_cli.trainers import parity
from bisect_cli.trainers.maskrcnn import SPEC

ALL = SPEC.flag_names

FAULT = {"segm": [["ROI_ALIGN_MASK"]]}
DIFFERS = {"agrees": False, "error": 0.031, "worst": "value of output 'crops', boxes over the border, B=3, training"}


def verdict(table):
    return {"RPN_HEAD": {"same_computation": True}, **{flag: DIFFERS for flag in table}}


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path, breaks=FAULT, parity=verdict(["ROI_ALIGN_MASK"]))


def compared(bench):
    return [line for line in bench.starts() if line.startswith("parity ")]


# The order, by itself


def search(flags, culprits, order):
    """The runs of a search with this test order; it must name exactly the culprits, and leave nothing open."""
    table = Table(flags, breaks=culprits, suspects=order.suspects, placebos=order.placebos)
    _, plan = table.search()
    assert sorted(one.flags for one in plan.culprits) == sorted(culprits) and not plan.unresolved
    return sum(table.runs.values())


def explanations(flags):
    """What may break: one flag, an interacting pair, two independent culprits."""
    pairs = list(combinations(flags, 2))
    return [[(flag,)] for flag in flags], [[pair] for pair in pairs], [[(a,), (b,)] for a, b in pairs]


def test_any_order_ends_with_the_same_culprits():
    rng = random.Random(1)
    for culprits in sum(explanations(ALL), []):
        for _ in range(8):
            mixed = rng.sample(ALL, len(ALL))
            first, last = sorted(rng.choices(range(len(mixed) + 1), k=2))
            search(ALL, culprits, Order(tuple(mixed[:first]), tuple(mixed[last:])))
    for culprits in explanations(ALL[:6])[1]:
        search(ALL[:6], culprits, Order(ALL[:6], ()))
        search(ALL[:6], culprits, Order((), ALL[:6]))
    assert search(ALL, [], Order(ALL[3:5], ALL[7:])) == 4


def test_a_right_order_never_costs_runs_and_a_wrong_one_few():
    rng, singles = random.Random(2), []
    for flags in (ALL, ALL[:5], BLOCK):
        for kind in explanations(flags):
            for culprits in kind:
                true = sets.union(*culprits, order=flags)
                assert search(flags, culprits, Order(true)) <= search(flags, culprits, Order())
    for flag in ALL:
        wrong = tuple(rng.sample(sets.minus(ALL, (flag,)), 2))
        orders = (Order(), Order((flag,)), Order((wrong[0], flag)), Order(wrong[:1]), Order((), wrong))
        singles.append([search(ALL, [(flag,)], order) for order in orders])
    none, right, second, wrong, placebos = map(mean, zip(*singles))
    assert right == 3 + 1 + 2 + 2  # baseline, the set, the suspect and the rest, a fresh seed of both
    assert second <= right + 2
    assert placebos <= none <= wrong <= none + 2


def test_suspects_are_split_off_first_and_placebos_weigh_nothing():
    suspects = ("MASK_LOSS", "RPN_LOSS")
    assert sets.splits(ALL, SPEC.blocks, suspects)[0] == (("RPN_LOSS", "MASK_LOSS"), sets.minus(ALL, suspects))
    assert sets.splits(("RPN_LOSS", "MASK_LOSS"), SPEC.blocks, suspects)[0] == (("MASK_LOSS",), ("RPN_LOSS",))
    assert sets.splits(BLOCK, SPEC.blocks, BLOCK[::-1])[0] == (
        ("MASK_LOSS",),
        ("ROI_ALIGN_MASK", "CROP_AND_RESIZE_MASK"),
    )
    first, second = sets.splits(ALL, SPEC.blocks, (), ALL[:6])[0]
    assert first == ("FAST_RCNN_OUTPUTS", "FAST_RCNN_LOSSES") and second == (*ALL[:6], *BLOCK)
    placebos = ("RPN_HEAD", "ROI_ALIGN_BOX")
    assert sets.splits(("RPN_HEAD", "RPN_LOSS", "ROI_ALIGN_BOX"), SPEC.blocks, (), placebos)[0] == (
        ("RPN_LOSS",),
        placebos,
    )
    for order in ((suspects, ()), ((), placebos), (suspects, placebos), (ALL[::-1], ())):
        for first, second in sets.splits(ALL, SPEC.blocks, *order):
            assert first and second and sets.union(first, second, order=ALL) == ALL
            assert (
                first == sets.ordered(first, ALL)
                and second == sets.ordered(second, ALL)
                and not set(first) & set(second)
            )


def written(folder, *pieces, **extra):
    """A trainer's JSON with these pieces: (flag, same computation, [(agrees, error)])."""
    record = [
        {
            **{"flag": flag, "agrees": all(agrees for agrees, _ in checks), "same_computation": same},
            **{"error": checks[0][1], "p_value": None, "worst": "w", "reproduce": "r", "note": "", "seconds": 1},
            "checks": [{"name": "n", "agrees": agrees, "error": error, "p_value": None} for agrees, error in checks],
        }
        for flag, same, checks in pieces
    ]
    (folder / "parity.json").write_text(json.dumps({"version": 1, "seconds": 3, "pieces": record, **extra}))
    return folder / "parity.json"


def test_a_digest_orders_what_differs_by_how_badly(tmp_path):
    file = written(
        tmp_path,
        ("RPN_HEAD", True, [(True, 0.0)]),
        ("RPN_LOSS", False, [(True, 0.5), (False, 0.01)]),  # the error of what agrees, by a wider tolerance, is none
        ("SAMPLE_TARGETS", False, [(True, 1e-7), (False, None)]),  # a wrong distribution
        ("ROI_ALIGN_BOX", False, [(False, 0.3)]),
        ("MASK_LOSS", False, [(False, float("nan"))]),
        ("FAST_RCNN_LOSSES", False, [(True, 1e-7)]),
    )
    record = parity.digest(file)
    assert [one["flag"] for one in record["differ"]] == ["SAMPLE_TARGETS", "MASK_LOSS", "ROI_ALIGN_BOX", "RPN_LOSS"]
    assert record["same_computation"] == ["RPN_HEAD"] and record["agree"] == ["FAST_RCNN_LOSSES"]
    assert record["differ"][1]["error"] is None
    json.dumps(record, allow_nan=False)
    order = Order(("SAMPLE_TARGETS", "MASK_LOSS", "ROI_ALIGN_BOX", "RPN_LOSS"), ("RPN_HEAD",))
    assert parity_order(record) == order and parity_order(None) == parity_order(parity.nothing("x")) == Order()


def test_half_a_file_is_none(tmp_path):
    file = written(tmp_path, ("RPN_HEAD", True, [(True, 0.0)]))
    assert parity.digest(file)
    file.write_text(file.read_text()[:-9])
    assert parity.digest(file) is None and parity.digest(tmp_path / "no") is None
    assert parity.digest(written(tmp_path, pieces=[{"flag": "RPN_HEAD"}])) is None


# In a campaign


def culprits(state):
    return [culprit.flags for culprit in analyse(state).plans["segm"].culprits]


def test_a_campaign_tries_what_differs_first_and_compares_once(bench):
    code, out, err = bench.call(
        "start", "--flags", "all", "--name", "c", "--slots", "1", "--max-runs", "7", "--search", "halving"
    )
    assert code == 3 and err == ""
    lines = out.splitlines()
    assert lines[1:5] == [
        "parity: comparing the implementations of each flag; the runs start after it",
        "parity: 11 flags compared in 0 s: 1 differs, 1 placebo, 9 agree",
        f"  ROI_ALIGN_MASK differs, so it is tried first: {DIFFERS['worst']}, error 0.031",
        "  RPN_HEAD: the same computation on or off (placebo), tried last",
    ]
    assert bench.starts()[0] == f"parity --flags {','.join(ALL)} --preset shapes --seed 0"
    assert bench.starts()[6:] == ["ROI_ALIGN_MASK 0", f"{','.join(sets.minus(ALL, ('ROI_ALIGN_MASK',)))} 0"]
    record = bench.status()["parity"]
    assert record["differ"][0]["flag"] == "ROI_ALIGN_MASK" and record["differ"][0]["error"] == 0.031
    assert record["same_computation"] == ["RPN_HEAD"] and len(record["agree"]) == 9 and record["reason"] == ""
    documented = (store.Path(__file__).parents[1] / "docs" / "status-json.md").read_text()
    for key in (*record, *record["differ"][0]):
        assert f"`{key}`" in documented, f"{key} is not documented"

    code, out, _ = bench.call("resume", "c", "--slots", "1", "--max-runs", "30")
    assert code == 0 and "ROI_ALIGN_MASK is a culprit" in out
    assert len(compared(bench)) == 1 and len(bench.starts()) == 1 + 9
    assert "placebo" in bench.call("status", "c")[1]


def test_arguments_reach_the_comparison(bench):
    words = ["--plant", "ROI_ALIGN_MASK=half_pixel_train", "--set", "a=1", "--preset", "tiny", "--seed", "7"]
    bench.call("start", "--flags", "ROI_ALIGN_MASK", "--name", "c", *words)
    assert compared(bench) == [
        "parity --flags ROI_ALIGN_MASK --preset tiny --seed 7 --plant ROI_ALIGN_MASK=half_pixel_train --set a=1"
    ]


@pytest.mark.parametrize(
    "table, options, reason",
    [
        ({}, {}, "the trainer has no parity command"),
        ({"parity": {"crash": "no memory"}}, {}, "it gave no result, exit code 1: RuntimeError: no memory"),
        ({"parity": {"sleep": 60}}, {"patience": 0.5}, "it took more than 0.5 s"),
        ({"parity": {}}, {"parity": False}, "turned off"),
        ({"parity": {"ROI_ALIGN_MASK": {"agrees": False, "error": "much"}}}, {}, "it gave no result, exit code 1"),
    ],
)
def test_a_campaign_goes_on_without_parity(bench, table, options, reason):
    bench.set(breaks=FAULT, **table)
    state = bench.run(**options)
    assert state.state == "finished" and culprits(state) == [("ROI_ALIGN_MASK",)]
    assert state.parity["reason"] == reason
    asked = compared(bench)
    again = bench.run()
    assert compared(bench) == asked and again.parity == state.parity


def test_a_campaign_from_before_parity_is_compared_when_it_goes_on(bench):
    bench.run(max_runs=4, parity=False)
    log = bench.runs / "c" / store.LOG
    log.write_bytes(b"".join(line for line in log.read_bytes().splitlines(True) if b'"kind":"parity"' not in line))
    state = bench.run(max_runs=20)
    assert state.state == "finished" and len(state.parity["differ"]) == len(compared(bench)) == 1


@pytest.mark.parametrize("how", ["ctrl-c", "stop"])
def test_stopping_a_comparison_leaves_it_to_be_done(bench, how):
    bench.set(breaks=FAULT, parity={"sleep": 60})
    controller = bench.spawn("start", "--flags", "L2B5", "--name", "c")
    wait_for(lambda: compared(bench))
    began = time.monotonic()
    if how == "ctrl-c":
        controller.send_signal(signal.SIGINT)
    else:
        assert bench.call("stop", "c")[0] == 0
    out, err = controller.communicate(timeout=300)
    assert controller.returncode == 130 and err == "" and time.monotonic() - began < 20
    assert "Interrupted (stopped on request). Resume it with: maskrcnn-bisect resume c" in out
    bench.set(breaks=FAULT, parity=verdict(["ROI_ALIGN_MASK"]))
    assert bench.call("resume", "c")[0] == 0
    assert len(compared(bench)) == 2 and bench.status()["parity"]["differ"]


# The command


def test_the_command_passes_the_trainers_table_and_exit_code_on(bench):
    assert bench.call("parity", "--flags", "L2B2") == (0, "table of 2 pieces\n", "")
    assert bench.call("parity")[:2] == (1, "table of 11 pieces\n")
    words = ["--plant", "MASK_LOSS=x", "--preset", "tiny", "--seed", "3", "--case", "border", "--set", "a=1"]
    bench.call("parity", "--flags", "MASK_LOSS", *words)
    wanted = "--flags MASK_LOSS --preset tiny --seed 3 --plant MASK_LOSS=x --set a=1 --case border"
    assert compared(bench)[-1] == f"parity {wanted}"


def test_json_on_standard_output(bench):
    code, out, err = bench.call("parity", "--flags", "L2B5", "--json")
    record = json.loads(out)
    assert code == 1 and err == "" and [piece["flag"] for piece in record["pieces"]] == list(BLOCK)
    assert record["pieces"][0]["worst"] == DIFFERS["worst"]


def test_a_plant_outside_the_flags_is_said_and_left_out(bench):
    code, _, err = bench.call("parity", "--flags", "MASK_LOSS", "--plant", "rpn_loss=sum_over_batch")
    assert (
        code == 0 and err == "note: --plant rpn_loss=sum_over_batch will do nothing: RPN_LOSS is not among --flags.\n"
    )
    assert compared(bench) == ["parity --flags MASK_LOSS --preset shapes --seed 0"]
    assert "unknown flag 'RPN_LOS'" in bench.call("parity", "--plant", "RPN_LOS=x")[2]


def test_wrong_input_and_crashes(bench):
    code, out, err = bench.call("parity", "--flags", "RPN_LOS")
    assert code == 2 and out == "" and "did you mean RPN_LOSS" in err and err.count("\n") == 1
    code, out, err = bench.call("parity", "--preset", "shape", "--json")
    assert code == 2 and out == "" and "unknown preset 'shape'" in err and err.count("\n") == 1
    bench.set(parity={"crash": "no memory"})
    code, out, err = bench.call("parity")
    assert code == 1 and out == ""
    assert err.splitlines() == [
        "RuntimeError: no memory",
        "maskrcnn-bisect: parity gave no result, exit code 1: its own words are above.",
    ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_the_comparison_too(bench, number):
    bench.set(parity={"sleep": 60})
    command = bench.spawn("parity", "--json")
    wait_for(lambda: compared(bench))
    command.send_signal(number)
    out, err = command.communicate(timeout=300)  # the pipe closes only when nobody holds it any more
    assert out == "" and err.strip() == ""
    assert command.returncode == 130


@pytest.mark.training
def test_the_real_trainer_keeps_to_what_is_read(tmp_path):
    words = ["--flags", "ROI_ALIGN_MASK,MASK_LOSS", "--plant", "ROI_ALIGN_MASK=half_pixel_train", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "bisect_cli", "parity", *words], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 1, done.stderr
    (tmp_path / "parity.json").write_text(done.stdout)
    record = parity.digest(tmp_path / "parity.json")
    assert [one["flag"] for one in record["differ"]] == ["ROI_ALIGN_MASK"] and record["differ"][0]["error"] > 0.01
    assert "training" in record["differ"][0]["worst"] and record["agree"] == ["MASK_LOSS"]
