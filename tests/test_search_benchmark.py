"""The benchmark of the searches: its landscapes, its clock and its peers do what they say, and a small part runs."""

import json
import random
import statistics
import subprocess
import sys
from statistics import NormalDist

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def benchmark(root, monkeypatch):
    monkeypatch.syspath_prepend(root / "benchmarks" / "search")


def test_journals_of_all_kinds_leave_the_result_as_it_is():
    import journals
    from click.testing import CliRunner
    from landscape import draw

    one = draw(journals.FLAGS, "one", journals.ERROR, 1)
    ((culprit,),) = one.truth("metric")
    right, wrong = (journals.journal(one, kind, 1) for kind in (journals.JOURNALS[1], journals.JOURNALS[3]))
    assert [flags for flags, odds in right.items() if odds > 0] == [(culprit,)] and wrong[(culprit,)] < 0
    assert journals.of_2019()["segm"][("ROI_ALIGN_MASK",)] < 0 < journals.of_2019()["segm"][("SAMPLE_TARGETS",)]
    done = CliRunner().invoke(journals.main, ["--campaigns", "1", "--truth", "one"])
    assert done.exit_code == 0, done.output
    assert done.output.count("100%") == 6 and "wrong |" not in done.output.partition("| one")[2]


def test_a_threshold_errs_as_often_as_the_cell_says():
    import landscape

    for error, heavy in ((0.02, False), (0.07, False), (0.16, False), (0.07, True)):
        one = landscape.draw(8, "one", error, "x", heavy=heavy)
        fine = [one.run((), k)[0]["metric"] for k in range(4000)]
        middle = landscape.BASE - landscape.GAP / 2
        seen = sum(value < middle for value in fine) / len(fine)
        assert statistics.mean(fine) == pytest.approx(landscape.BASE, abs=0.002)
        if heavy:  # of the same sd, so more in the middle and in the far tails
            far = landscape.BASE - 4 * landscape.noise(error)
            assert seen < error and sum(value < far for value in fine) > 5
        else:
            assert seen == pytest.approx(error, abs=4 * (error * (1 - error) / len(fine)) ** 0.5)


def test_runs_are_the_same_for_every_method_and_crash_as_often_as_said():
    import landscape

    one, other = (landscape.draw(16, "one+pair", 0.07, 5, crash=0.05, spread=0.2) for _ in range(2))
    runs = [one.run(one.flags[:5], k) for k in range(2000)]
    assert runs == [other.run(one.flags[:5], k) for k in range(2000)]
    assert len({values["metric"] for values, _ in runs if values}) > 1800
    assert sum(values is None for values, _ in runs) / len(runs) == pytest.approx(0.05, abs=0.02)
    assert all(0.8 <= duration <= 1.2 for values, duration in runs if values)


def test_a_combination_breaks_only_with_all_its_flags_on():
    import landscape

    one = landscape.draw(16, "one+pair", 0.07, 5)
    single, pair = sorted(one.truth("metric"), key=len)
    low = landscape.BASE - landscape.GAP
    assert not set(single) & set(pair)
    assert one.mean(pair[:1], "metric") == one.mean(pair[1:], "metric") == landscape.BASE
    assert one.mean(pair, "metric") == one.mean(single, "metric") == one.mean(one.flags, "metric") == low


def test_runs_of_a_seed_have_their_share_of_noise_in_common():
    import landscape

    one = landscape.draw(8, "none", 0.07, 1, alike=0.6)
    runs = [[one.run((flag,), seed)[0]["metric"] for flag in one.flags[:2]] for seed in range(2000)]
    a, b = zip(*runs)
    assert np.corrcoef(a, b)[0, 1] == pytest.approx(0.6, abs=0.06)
    assert statistics.stdev(a) == pytest.approx(landscape.noise(0.07), rel=0.06)


def test_the_measured_jobs_end_with_the_injected_faults():
    import jobs

    injected = {"all, one fault": ("ROI_ALIGN_MASK",), "all, the pair": ("CROP_AND_RESIZE_MASK", "MASK_LOSS")}
    for job, culprit in injected.items():
        outcome = jobs.campaign(job, "bayes", 2, 1)
        assert outcome.exact and outcome.named == {"bbox": set(), "segm": {culprit}}


def test_the_bound_is_bits_over_capacity():
    import landscape

    assert landscape.bound(64, "one", 0.0) == 6
    assert landscape.bound(64, "one", 0.07) == pytest.approx(9.46, abs=0.01)
    assert landscape.bound(64, "pair", 0.07) == landscape.bound(64, "two", 0.07) == pytest.approx(17.3, abs=0.05)
    assert landscape.noise(0.07) * 2 * NormalDist().inv_cdf(0.93) == pytest.approx(landscape.GAP)


@pytest.mark.parametrize("search", ["halving", "bayes"])
def test_runs_in_several_slots_take_their_time(search):
    """Every run that was started is counted, none before the slots allow, and as late as its durations say."""
    import landscape
    import simulate

    one = landscape.draw(8, "one", 0.0, 3, spread=0.2, crash=0.1)
    many = {slots: simulate.simulate(one, search, slots) for slots in (1, 4)}
    for slots, outcome in many.items():
        assert outcome.exact and outcome.named == {"metric": one.truth("metric")}
        ends = sorted(line[0] for line in outcome.lines)
        assert outcome.runs >= len(ends) > simulate.SEEDS and outcome.rounds == ends[-1]
        assert all(end > 0.8 * (number // slots + 1) for number, end in enumerate(ends))
        assert outcome.before <= outcome.runs - simulate.SEEDS
    assert many[4].rounds < many[1].rounds


def test_the_noise_free_oracle_gives_every_peer_what_it_claims_to_find():
    import landscape
    import peers

    finds = {"git-bayesect": {"none", "one"}}
    for name, peer in peers.installed().items():
        for truth in landscape.TRUTHS:
            for number in range(5):
                one = landscape.draw(11, truth, 0.0, number)
                outcome = peers.simulate(one, peer)
                assert simulate_counts(outcome) and not outcome.inconclusive
                if truth in finds.get(name, landscape.TRUTHS):
                    assert outcome.exact and not outcome.wrong, (name, truth, number)


def simulate_counts(outcome):
    return outcome.runs == outcome.before + 3 and outcome.rounds == outcome.runs


def test_peers_of_other_packages_take_part():
    pytest.importorskip("picire")
    pytest.importorskip("git_bayesect")
    import peers

    assert {"picire", "git-bayesect"} <= set(peers.installed())


def test_ddmin_tests_what_the_paper_does():
    """Eight changes of which 1, 7 and 8 fail together: halves, quarters, then complements of quarters."""
    from peers import ddmin

    tested = []

    def fails(subset):
        tested.append("".join(subset))
        return {"1", "7", "8"} <= set(subset)

    assert ddmin.minimise(list("12345678"), fails) == ["1", "7", "8"]
    assert tested[:7] == ["1234", "5678", "12", "34", "56", "78", "345678"]
    assert "1278" in tested


def test_probdd_deletes_what_is_expected_to_gain_most():
    from peers import probdd

    assert len(probdd._deletion(dict.fromkeys(range(64), 0.1))) in (9, 10)  # the largest k * 0.9 ** k
    needed = probdd.minimise(list(range(20)), {3, 11}.issubset)
    assert sorted(needed) == [3, 11]


def test_a_go_bisect_that_meets_a_contradiction_stops():
    from peers import go_bisect
    from peers.inconclusive import Inconclusive

    rng = random.Random(1)
    with pytest.raises(Inconclusive):
        for _ in range(50):
            go_bisect.search(tuple("abcdefgh"), lambda subset: rng.random() < 0.5, 0, count=2)


def test_probabilities_are_binned_with_what_came_true():
    import measure
    from simulate import Statement

    said = [(0.94, True), (0.96, False), (0.95, True), (1.0, True), (0.3, False)]
    bins = measure.binned([Statement((), probability, right, 1) for probability, right in said])
    assert bins[measure.BINS.index(0.925)] == [3, pytest.approx(2.85), 2]
    assert bins[-1] == [1, 1.0, 1] and bins[0] == [1, 0.3, 0] and sum(one[0] for one in bins) == 5
    assert measure.added([bins, bins])[0] == [2, 0.6, 0]
    low, high = measure.interval(0.98, 100)
    assert 0.92 < low < 0.98 < high < 1
    assert measure.percentile_90([*range(1, 11)]) == 9


def test_the_history_is_the_recorded_one():
    import history

    assert len(history.timeline()) == 95
    assert len(history.whole_set()) == 9
    one = history.landscape(3)
    assert {culprit for metric in ("bbox", "segm") for culprit in one.truth(metric)} == history.BOTH
    assert one.mean(("ROI_ALIGN_MASK",), "bbox") == history.BASE["bbox"]
    assert 0.03 <= history.BASE["segm"] - one.mean(("ROI_ALIGN_MASK",), "segm") <= 0.08
    assert 0.04 <= history.BASE["bbox"] - one.mean(("RPN_LOSS",), "bbox") <= 0.05


def test_a_small_part_of_the_benchmark(root, tmp_path):
    script = root / "benchmarks" / "search" / "run.py"
    argv = [sys.executable, str(script), "--quick", "--jobs", "2", "--json", "found.json"]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    own = [cell for cell in found["cells"] if cell["method"] == "bayes"]
    assert {cell["truth"] for cell in own} >= {"none", "one", "pair"} and {cell["slots"] for cell in own} == {1, 4}
    for cell in found["cells"]:
        assert cell["exact"] + cell["inconclusive"] <= 1 and 0 <= cell["wrong"] <= 1
        assert 4 <= cell["runs"] <= cell["runs_90"] * 2 and cell["before"] < cell["runs"] - 2.9
    assert sum(cell["exact"] for cell in own) > len(own) / 2
    assert len(found["replays"]) == 3
    assert "| 8 | pair |" in done.stdout and "wrong name" in done.stdout


def runs_of(landscape, subset, number=4000):
    return [landscape.run(subset, k)[0]["metric"] for k in range(number)]


def test_rough_landscapes_are_as_rough_as_they_say():
    import rough
    from landscape import BASE, GAP, noise

    def drawn(name):
        found = rough.LANDSCAPES[name][1](11, 3)
        assert all(abs(found.run((), k)[0]["metric"] - BASE) < 6 * found.sd for k in range(100))
        return found, [effect.flags for effect in found.effects["metric"]], set(found.flags)

    scatter, (culprit,), _ = drawn("scatter")
    assert statistics.stdev(runs_of(scatter, culprit)) == pytest.approx(3 * noise(0.02), rel=0.1)
    assert statistics.mean(runs_of(scatter, culprit)) == pytest.approx(BASE - GAP, abs=0.003)
    louder, (culprit,), flags = drawn("louder")
    other = min(flags - set(culprit))
    assert statistics.stdev(runs_of(louder, (other,))) == pytest.approx(2 * noise(0.02), rel=0.1)
    sometimes, (culprit,), _ = drawn("sometimes")
    failed = sum(value < BASE - GAP / 2 for value in runs_of(sometimes, culprit))
    assert failed / 4000 == pytest.approx(0.5, abs=0.05)

    unequal, culprits, flags = drawn("unequal")
    assert unequal.drop(sorted(flags)) == pytest.approx(0.14) and unequal.truth() == set(culprits)
    masked, (first, second), flags = drawn("masked")
    (mask,) = masked.masks[second]
    assert masked.drop(second) == GAP and masked.drop((*second, mask)) == 0 and masked.drop(sorted(flags)) == GAP
    small, _, flags = drawn("small effects")
    assert small.drop(sorted(flags)) == pytest.approx(0.13) and small.truth() == set()
    overlapping, (one, other), _ = drawn("overlapping")
    assert len(set(one) & set(other)) == 1 and overlapping.drop(one[:1]) == 0 and overlapping.truth() == {one, other}


def test_rough_landscapes_know_the_order_of_runs_and_what_crashes():
    import rough

    drift = rough.LANDSCAPES["drift"][1](8, 1)
    assert drift.run((), 0)[0]["metric"] - drift.run((), 0, begun=10)[0]["metric"] == pytest.approx(0.01)
    node = rough.LANDSCAPES["worse node"][1](8, 1)
    assert node.run((), 0, 4)[0]["metric"] - node.run((), 0, 5)[0]["metric"] == pytest.approx(0.02)
    crash = rough.LANDSCAPES["crash of a pair"][1](8, 1)
    assert crash.run(crash.flags, 0)[0] is None and crash.run(crash.crashes[:1], 0)[0]
    assert not set(crash.crashes) & set(*crash.truth())


def test_a_small_part_of_the_rough_benchmark():
    import rough
    from click.testing import CliRunner

    done = CliRunner().invoke(rough.main, ["--quick", "--campaigns", "1", "--jobs", "1"])
    assert done.exit_code == 0, done.output
    assert "| broken runs scatter three times as much | 8 | 1 |" in done.output
