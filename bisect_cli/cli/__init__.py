"""The commands of maskrcnn-bisect, a file each: they parse, call and print. What decides stands elsewhere.

Exit codes: 0 finished (culprits named, or nothing breaks), 1 failure, 2 wrong input, 3 inconclusive, 130 interrupted.
Those of `parity` are its trainer's: 0 all agree, 1 a piece differs.
"""

import importlib
import os
import sys

import click

from bisect_cli.errors import UserError

EXIT = {"finished": 0, "failed": 1, "inconclusive": 3, "interrupted": 130}
COMMANDS = (
    *("start", "resume", "ask", "tell", "stop", "status", "nodes", "list", "explain", "logs", "flags", "parity"),
    "trainer",
)


class _Main(click.Group):
    """A group that says in one line what is wrong with the input, and imports a command when it is used."""

    def list_commands(self, ctx):
        return COMMANDS

    def get_command(self, ctx, name):
        return importlib.import_module(f"bisect_cli.cli.{name}").command if name in COMMANDS else None

    def main(self, *args, **kwargs):
        try:
            code = super().main(*args, **{**kwargs, "standalone_mode": False})
        except UserError as error:
            code = _fail(error, 2)
        except click.ClickException as error:
            context = error.ctx if isinstance(error, click.UsageError) else None
            where = f" (see `{context.command_path} --help`)" if context else ""
            code = _fail(f"{' '.join(error.format_message().split())}{where}", 2)
        except (click.Abort, KeyboardInterrupt):
            code = 130
        except BrokenPipeError:  # the reader of our output has gone
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 1
        except RuntimeError as error:
            code = _fail(error, 1)
        sys.exit(code if isinstance(code, int) else 0)


def _fail(error, code):
    click.echo(f"maskrcnn-bisect: {error}", err=True)
    return code


@click.group(cls=_Main, context_settings={"help_option_names": ["-h", "--help"]})
def main():
    """Finds which flag of a training, or which combination of flags, breaks its accuracy.

    \b
    Exit codes: 0 finished (culprits named, or nothing breaks), 1 failure,
    2 wrong input, 3 inconclusive (budget spent, undecided, crashed), 130 interrupted.
    Of parity: 0 all agree, 1 a piece differs.
    """
