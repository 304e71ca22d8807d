"""`maskrcnn-bisect parity`"""

import tempfile
from pathlib import Path

import click

from bisect_cli import trainers
from bisect_cli.cli import options, screen

TRAINER = trainers.find(trainers.DEFAULT)


@click.command("parity")
@click.option("--flags", "flag_text", default="all", show_default=True, metavar="A,B,...", help="Flags or groups.")
@options.of_trainer(TRAINER, parity=True)
@click.option("--seed", default=0, show_default=True, help="Of the random inputs.")
@click.option("--case", metavar="NAME", help="Only this case, to see again what was found.")
@click.option("--json", "as_json", is_flag=True, help="As JSON (docs/parity.md).")
@click.pass_obj
def command(trainer_command, flag_text, seed, case, as_json, **given):
    """Compare the implementations of each piece. Trains nothing.

    They get the same random inputs; values, gradients and, where chance plays a part, distributions must agree.

    Exit codes: 0 all agree, 1 a piece differs.
    """
    from bisect_cli.campaign.settings import Settings
    from bisect_cli.errors import UserError
    from bisect_cli.storage import untrusted
    from bisect_cli.trainers import check, parity

    spec = TRAINER.spec(options.trainer_options(TRAINER, given, trainer_command))
    settings = Settings("", spec, spec.parse_flags(flag_text), spec.default_metrics, seed=seed)
    for sentence in TRAINER.notes(settings):
        screen.note(sentence)
    if TRAINER.missing(settings):
        raise UserError(TRAINER.missing(settings))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "parity.json"
        code = parity.show(settings, file, case, table=not as_json)
        found = untrusted.read_object(file, parity.MOST_JSON) if file.exists() else None
        if code != trainers.USER_ERROR and found is None:
            raise RuntimeError(f"parity gave no result, {check.exit_words(code)}: its own words are above.")
        if as_json and found is not None:
            screen.say_json(found)
    return code
