"""What people need to know who start the runs of a campaign themselves: what is out, what is next, and what to do."""

from bisect_cli.launchers.manual import shell_line
from bisect_cli.report.numbers import count
from bisect_cli.storage import lease, store

SHOWN = 3  # runs that are next


def run_words(settings, flags, seed, why=""):
    """A run, with all its flags."""
    on = f"{', '.join(flags)} on" if flags else settings.label(flags)
    return f"{on}, seed {seed}{f' ({why})' if why and why != 'baseline' else ''}"


def hand_out_lines(folder, state, handed_out):
    """Lines of what `ask` has handed out, as run.manual.HandedOut: all but the commands begin with #, so that a shell
    can take them as they are.
    """
    for trial, job in handed_out:
        again = f", attempt {trial.attempts}" if trial.attempts > 1 else ""
        yield f"# {trial.id}: {run_words(state.settings, trial.flags, trial.seed, trial.why)}{again}"
        yield shell_line(job)
    if handed_out:
        name = handed_out[0].trial.id if len(handed_out) == 1 else "TRIAL"
        yield f"# then say how it ended: {tell_command(folder, state, name)}"


def hand_out_json(folder, state, handed_out, count):
    """The same as plain values (docs/ask-and-tell.md). count: how many were asked for."""
    runs = [
        {
            "id": trial.id,
            "flags": list(trial.flags),
            "seed": trial.seed,
            "attempt": trial.attempts,
            "why": trial.why,
            "node": trial.node or None,
            "argv": list(map(str, job.argv)),
            "cwd": str(job.cwd),
            "env": dict(job.env),
            "command": shell_line(job),
            "folder": str(store.trial_folder(folder, trial.id).resolve()),
        }
        for trial, job in handed_out
    ]
    return {
        "name": state.settings.name,
        "state": lease.live_state(folder, state),
        "reason": state.reason,
        "runs": runs,
        "waits_for": [trial.id for trial in state.running] if len(runs) < count else [],
    }


def tell_command(folder, state, trial):
    """The command that says how a run ended, with its values to be filled in."""
    values = [f"{metric}=VALUE" for metric in state.settings.metrics]
    return store.command_line("tell", folder, trial, *values)


def how_to_lines(folder, state):
    """Lines that say how to go on."""
    yield f"Take a run with: {store.command_line('ask', folder)}"
    yield f"Say how it ended with: {tell_command(folder, state, 'TRIAL')}"


def next_lines(state, runs):
    """Lines of what is next, as schedule.NextRuns, or else of what is waited for."""
    for run in runs[:SHOWN]:
        again = f"{run.trial.id} again, " if run.trial else ""
        yield f"next: {again}{run_words(state.settings, run.flags, run.seed, run.why)}"
    if len(runs) > SHOWN:
        yield f"next: {len(runs) - SHOWN} more"
    if state.running:
        yield f"out: {out_words(state.running)}"


def out_words(trials):
    """Trials that are out, and where."""
    return ", ".join(f"{trial.id} (node {trial.node})" if trial.node else trial.id for trial in trials)


def why_no_more(state):
    """Why no more runs are handed out while the campaign is not over."""
    if state.slots is not None and len(state.running) >= state.slots:
        runs = count(len(state.running), "run is", "runs are")
        return f"{runs} out, as many as --slots allows: {out_words(state.running)}"
    spent = state.max_runs is not None and state.trained >= state.max_runs
    why = f"the budget of {state.max_runs} runs is spent" if spent else "no other run is worth it"
    return f"{why} before these have ended: {out_words(state.running)}"
