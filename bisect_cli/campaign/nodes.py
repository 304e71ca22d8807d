"""Which nodes are left out: those on which runs crash at once, which is more likely the node's fault than the run's."""

from typing import NamedTuple, Optional

from bisect_cli.campaign.state import CRASHED

AT_ONCE = 60.0  # seconds within which a crash speaks against the node
LEFT_OUT = 3600.0  # seconds that a node is left out after such a crash
SEVERAL = 3  # nodes, or two of one run: more than that fails for a reason of its own


class NodeRecord(NamedTuple):
    """What became of the attempts on a node. blamed: when the last crash was that speaks against it, or None."""

    runs: int
    crashes: int
    blamed: Optional[float]


def node_records(state):
    """{node: NodeRecord} of a State, by name."""
    blamed = {use.node: use.time for use in _blamed(state.node_uses)}
    found = {}
    for node in sorted({use.node for use in state.node_uses}):
        own = [use for use in state.node_uses if use.node == node]
        found[node] = NodeRecord(len(own), sum(use.outcome == CRASHED for use in own), blamed.get(node))
    return found


def left_out(state, now):
    """{node: until when} of the nodes that no run is to be started on. Empty if it is not for the nodes that runs
    crash.
    """
    recent = {use.node: min(use.time, now) + LEFT_OUT for use in _blamed(state.node_uses) if _is_recent(use, now)}
    return recent if len(recent) < SEVERAL else {}


def elsewhere(state, now):
    """Nodes on which runs have crashed at once of late, so many that it is not for them; empty if it may be."""
    recent = {use.node for use in state.node_uses if _crashed_at_once(use) and _is_recent(use, now)}
    blamed = {use.node for use in _blamed(state.node_uses) if _is_recent(use, now)}
    return tuple(sorted(recent)) if len(recent) > 1 and (len(blamed) >= SEVERAL or not blamed) else ()


def _is_recent(use, now):
    """Also right after the clock was set back; what it was set back by far more is not waited for."""
    return abs(now - use.time) < LEFT_OUT


def _blamed(uses):
    """The ends that speak against their nodes: a run that crashes on another node as well speaks against itself."""
    crashed = [use for use in uses if _crashed_at_once(use)]
    nodes = {}
    for use in crashed:
        nodes.setdefault(use.trial, set()).add(use.node)
    return [use for use in crashed if len(nodes[use.trial]) == 1]


def _crashed_at_once(use):
    """A run that was never seen on its node, outcome `lost` after no time, counts as well."""
    return use.seconds is not None and use.seconds < (AT_ONCE if use.outcome == CRASHED else 1e-9)
