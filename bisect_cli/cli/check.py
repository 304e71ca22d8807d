"""`maskrcnn-bisect check`"""

import click

from bisect_cli.cli import options, screen

VERSION = 1  # of the JSON


@click.command("check")
@click.argument("name", required=False)
@click.option("--repair", "mend", is_flag=True, help="Mend what can be mended; what is taken away is kept aside.")
@click.option("--json", "as_json", is_flag=True, help="As JSON (docs/files.md).")
@options.runs_dir
def command(name, mend, as_json, runs_dir):
    """Compare a campaign's log, folders and results, and say what is wrong; by default of the most recent campaign.

    Exit codes: 0 nothing is wrong, 1 something is.
    """
    from bisect_cli.run.inspection import inspect
    from bisect_cli.run.repair import repair
    from bisect_cli.storage import lease, store

    folder = runs_dir / name if name and (runs_dir / name).is_dir() else store.find(runs_dir, name)
    done, backup = repair(folder) if mend else ((), None)
    found = inspect(folder, lease.holder(folder))
    if as_json:
        screen.say_json(_json(folder, found, done, backup))
    else:
        for line in _lines(folder, found, done, backup):
            screen.say(line)
    return 1 if found.findings else 0


def _json(folder, found, done, backup):
    return {
        "version": VERSION,
        "name": folder.name,
        "running": found.running,
        "wrong": [_values(one) for one in found.findings],
        "mended": [_values(one) for one in done],
        "backup": backup and str(backup),
    }


def _values(finding):
    values = {"kind": finding.kind, "what": finding.what}
    return {**values, "repair": finding.mend or None, "remedy": finding.remedy or None}


def _lines(folder, found, done, backup):
    from bisect_cli.report.numbers import count
    from bisect_cli.storage import store

    name = folder.name
    if found.running:
        yield f"Campaign {name} runs now: what is being written is left out, and nothing can be repaired."
    for one in done:
        yield f"mended: {one.what}."
    if backup:
        yield f"What was changed or taken away lies in {backup}."
    for one in found.findings:
        yield f"wrong: {one.what}; {'--repair would ' + one.mend if one.mend else 'remedy: ' + one.remedy}."
    if not found.findings:
        begun = found.sound.state.settings is not None
        yield f"Nothing is wrong with campaign {name}." if begun else f"Campaign {name} has not begun."
    mendable = sum(bool(one.mend) for one in found.findings)
    if mendable and not found.running:
        command = store.command_line("check", folder, "--repair")
        yield f"{count(mendable, 'thing')} of {len(found.findings)} can be mended: {command}"
    if done:
        yield f"Go on with: {store.resume_command(folder)}"
