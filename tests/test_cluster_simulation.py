"""The real controller on a simulated cluster: whatever dies, it names the culprit, and idle nodes save rounds."""

import pytest


@pytest.fixture(autouse=True)
def benchmark(root, monkeypatch):
    monkeypatch.syspath_prepend(root / "benchmarks")
    monkeypatch.syspath_prepend(root / "benchmarks" / "search")


def cell(n=6, truth="one", nodes=8):
    from measure import Cell

    return Cell(n, truth, 0.0, nodes, spread=0.2)


def test_it_names_the_culprit_through_queues_preemptions_and_lost_nodes():
    import cluster

    found = cluster.campaign(cell(), trouble=cluster.Trouble(preempted=0.3, lost=0.2, queue=0.5))
    assert found.exact and not found.wrong
    assert found.attempts > found.runs  # what was preempted or lost went on in another attempt ...
    assert found.work < found.attempts  # ... from its checkpoint
    assert 0 < found.utilisation <= 1 and found.work <= found.rounds * 8


def test_the_same_campaign_is_simulated_the_same():
    import cluster

    one, other = (cluster.campaign(cell(), 3)._replace(steps=(), cpu=0) for _ in range(2))
    assert one == other


def test_idle_nodes_save_rounds():
    import cluster

    quiet = cluster.Trouble(0.0, 0.0, 0.0)
    rounds = [
        cluster.campaign(cell(nodes=nodes), trouble=quiet, eager=eager).rounds
        for nodes, eager in ((1, 0.0), (8, 0.0), (64, 1.0))
    ]
    assert rounds[1] <= rounds[0] / 2 and rounds[2] <= rounds[1]


def test_looks_at_the_pace_of_a_real_controller_come_to_the_same_end():
    import cluster

    found = cluster.campaign(cell(), seconds=60.0, steps=True, early_stop=True)
    assert found.exact and found.cpu > 0
