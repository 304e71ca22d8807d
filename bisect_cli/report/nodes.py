"""The nodes that a campaign's runs were on: how they did there, and which are left out."""

from bisect_cli.campaign import nodes
from bisect_cli.report.numbers import count, duration
from bisect_cli.storage import store
from bisect_cli.trainers import trainer_of

SPELL = f"within {nodes.AT_ONCE:.0f} s"


def node_rows(state, now, folder=None):
    """(node, attempts that ended there, crashes, steps a second, whether it is left out and why) of each. folder: the
    campaign's; without one no speed is known, which is None then.
    """
    speeds = _speeds(state, folder) if folder else {}
    out, elsewhere = nodes.left_out(state, now), nodes.elsewhere(state, now)
    for node, record in nodes.node_records(state).items():
        words = ""
        if node in out:
            words = f"left out for {duration(out[node] - now)}: a run crashed {SPELL}"
        elif node in elsewhere:
            words = f"not left out: runs crash {SPELL} on {count(len(elsewhere), 'node')}, so it is not for the node"
        elif record.blamed:
            words = f"used again: the last crash {SPELL} is {duration(max(0, now - record.blamed))} ago"
        yield node, record.runs, record.crashes, speeds.get(node), words


def _speeds(state, folder):
    """{node: steps a second} over the runs that were on one node alone, as they say how far they are."""
    nodes_of, steps, seconds = {}, {}, {}
    for use in state.node_uses:
        nodes_of.setdefault(use.trial, set()).add(use.node)
    for trial, used in nodes_of.items():
        far = trainer_of(state.settings).progress(state.settings, store.trial_folder(folder, trial))
        if len(used) == 1 and far and far.step > 0 and far.wall > 0:
            (node,) = used
            steps[node], seconds[node] = steps.get(node, 0) + far.step, seconds.get(node, 0.0) + far.wall
    return {node: steps[node] / seconds[node] for node in steps}


def notes_of_nodes(state, now):
    """What a reader should know of nodes, in sentences."""
    out, elsewhere = nodes.left_out(state, now), nodes.elsewhere(state, now)
    if elsewhere:
        yield f"runs crash {SPELL} on {', '.join(elsewhere)}: it is not for the nodes, so none is left out"
    for node in out:
        yield f"node {node} is left out for {duration(out[node] - now)}: a run crashed there {SPELL}"
