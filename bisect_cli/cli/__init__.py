"""The commands of maskrcnn-bisect, a file each: they parse, call and print. What decides stands elsewhere.

Exit codes: 0 finished (culprits named, or nothing breaks), 1 failure, 2 wrong input, 3 inconclusive, 130 interrupted.
Those of `parity` are its trainer's: 0 all agree, 1 a piece differs. Of `check`: 0 nothing is wrong, 1 something is.
No command ends in a traceback; with BISECT_DEBUG=1 in the environment one is shown before the line that says what is
wrong.
"""

import contextlib
import importlib
import os
import sys
import traceback

import click

from bisect_cli.errors import UserError

COMMANDS = (
    *("start", "resume", "ask", "tell", "stop", "status", "nodes", "list", "explain", "logs", "flags", "parity"),
    *("check", "trainer"),
)
DEBUG = "BISECT_DEBUG"


class _Main(click.Group):
    """A group that says in one line what is wrong with the input, and imports a command when it is used."""

    def list_commands(self, ctx):
        return COMMANDS

    def get_command(self, ctx, name):
        return importlib.import_module(f"bisect_cli.cli.{name}").command if name in COMMANDS else None

    def main(self, *args, **kwargs):
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(AttributeError):  # of a stream that a program has put there
                stream.reconfigure(errors="backslashreplace")  # a name need not be of the terminal's characters
        try:
            code = super().main(*args, **{**kwargs, "standalone_mode": False})
        except UserError as error:
            code = _fail(error, 2, error.__cause__)
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
            code = _fail(error, 1, error)
        except Exception as error:
            code = _fail(_explain(error), 1, error)
        sys.exit(code if isinstance(code, int) else 0)


def _explain(error):
    """What nobody has foreseen, in one line."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    words = " ".join(f"{type(error).__name__}: {str(error)[:200]}".split())
    return (
        f"{words} ({os.path.basename(last.filename)}:{last.lineno}). What a campaign's folder says may make no sense: "
        f"`maskrcnn-bisect check NAME` looks; with {DEBUG}=1 before the command all is shown."
    )


def _fail(error, code, cause=None):
    """Says what is wrong in a line. cause: the exception behind it, for those who mend this program."""
    from bisect_cli.cli import screen

    if cause is not None and os.environ.get(DEBUG):
        traceback.print_exception(type(cause), cause, cause.__traceback__)
    screen.say(f"maskrcnn-bisect: {error}", err=True)
    return code


@click.group(cls=_Main, context_settings={"help_option_names": ["-h", "--help"]})
def main():
    """Finds which flag of a training, or which combination of flags, breaks its accuracy.

    \b
    Exit codes: 0 finished (culprits named, or nothing breaks), 1 failure,
    2 wrong input, 3 inconclusive (budget spent, undecided, crashed), 130 interrupted.
    Of parity: 0 all agree, 1 a piece differs. Of check: 0 nothing is wrong, 1 something is.
    """
