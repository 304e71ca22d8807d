"""The nodes that a campaign's runs were on: how they did there, and which are left out."""

from bisect_cli.campaign import nodes
from bisect_cli.report.numbers import count, duration

SPELL = f"within {nodes.AT_ONCE:.0f} s"


def node_rows(state, now):
    """(node, attempts that ended there, crashes, whether it is left out and why) of each."""
    out, elsewhere = nodes.left_out(state, now), nodes.elsewhere(state, now)
    for node, record in nodes.node_records(state).items():
        words = ""
        if node in out:
            words = f"left out for {duration(out[node] - now)}: a run crashed {SPELL}"
        elif node in elsewhere:
            words = f"not left out: runs crash {SPELL} on {count(len(elsewhere), 'node')}, so it is not for the node"
        elif record.blamed:
            words = f"used again: the last crash {SPELL} is {duration(now - record.blamed)} ago"
        yield node, record.runs, record.crashes, words


def notes_of_nodes(state, now):
    """What a reader should know of nodes, in sentences."""
    out, elsewhere = nodes.left_out(state, now), nodes.elsewhere(state, now)
    if elsewhere:
        yield f"runs crash {SPELL} on {', '.join(elsewhere)}: it is not for the nodes, so none is left out"
    for node in out:
        yield f"node {node} is left out for {duration(out[node] - now)}: a run crashed there {SPELL}"
