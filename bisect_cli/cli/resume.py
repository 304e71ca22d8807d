"""`maskrcnn-bisect resume`"""

import click

from bisect_cli.cli import options, permission, screen


@click.command("resume")
@click.argument("name")
@click.option("--add-flags", metavar="A,B,...", help="Flags or groups to bisect as well; the runs so far still count.")
@options.of_launcher
@options.slots
@options.max_runs
@options.detach
@click.option(
    "--elsewhere-ended",
    is_flag=True,
    help="Nothing is left of what was started on another machine or in another container.",
)
@permission.yes
@options.runs_dir
def command(name, add_flags, slots, max_runs, detach, elsewhere_ended, yes, runs_dir, **given):
    """Resume a campaign where it was; also with more slots, runs or flags, or on other GPUs or by another launcher.

    Where code, data or software have changed since, runs of before are stale: they say little, and others are made.
    """
    from bisect_cli import launchers
    from bisect_cli.run import manual, session
    from bisect_cli.storage import store

    options.check_numbers(slots, max_runs)
    folder = store.find(runs_dir, name)
    kept = store.load(folder)[0].settings
    launcher = options.launcher_said(given, kept=kept)
    permission.ask(folder, yes)
    by_hand = kept and kept.launcher != launcher[0] and launchers.find(launcher[0]).by_hand
    outcome = session.resume(
        folder,
        screen.listener(folder),
        screen.note,
        slots=slots,
        max_runs=max_runs,
        add_flags=add_flags,
        detach=detach,
        elsewhere_ended=elsewhere_ended,
        launcher=launcher,
        begin=manual.begin if by_hand else None,
    )
    return screen.finish(folder, outcome)
