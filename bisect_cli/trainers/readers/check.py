"""What can be wrong with a [metrics.NAME] table, found before anything runs."""

import re

from bisect_cli.errors import UserError, unknown
from bisect_cli.trainers.readers.formats import FORMATS
from bisect_cli.trainers.readers.log_text import value_group
from bisect_cli.trainers.readers.places import PLACEHOLDER
from bisect_cli.trainers.readers.rules import RULES, is_rule

READING = ("file", "key", "step", "pattern", "tag")  # keys that say where a metric is
OTHERS = ("source", "better", "final", "range", "noise", "smallest_drop", "target")
PLACEHOLDERS = ("out", "seed", "flags", "trial", "attempt", "steps", "tree")
OF_THE_RUN = ("out", "trial", "tree")  # placeholders that differ between any two runs
EXAMPLE = r"'val loss (?P<value>\S+)'"


def check_source(name, source):
    """Raises UserError, a line that begins with the key, if a [metrics.NAME] table does not say how to read the metric.

    Of `better`, `range` and what else says what the numbers mean, only the names are checked here.
    """
    where = f"metrics.{name}"
    if not isinstance(source, dict):
        raise UserError(f"{where}: must be a table with source and better, not {source!r}.")
    for key in source:
        if key not in (*READING, *OTHERS):
            raise UserError(f"{where}.{key}: {unknown('key', key, [*READING, *OTHERS])}")
    _check_keys(where, source, _format(where, source))
    for key, check in CHECKS.items():
        if key in source:
            check(f"{where}.{key}", source[key])


def _format(where, source):
    name = source.get("source")
    if name is None:
        raise UserError(f"{where}.source: is missing; one of {', '.join(FORMATS)}.")
    if not isinstance(name, str) or name not in FORMATS:
        raise UserError(f"{where}.source: {unknown('source', str(name), FORMATS)}")
    return FORMATS[name]


def _check_keys(where, source, reader):
    may = (*reader.needs, *reader.takes)
    for key in READING:
        if key in reader.needs and key not in source:
            raise UserError(f"{where}.{key}: is missing; the source {source['source']} needs {_listed(reader.needs)}.")
        if key in source and key not in may:
            raise UserError(f"{where}.{key}: the source {source['source']} takes none, only {_listed(may)}.")
        if key in source and (not isinstance(source[key], str) or not source[key].strip() or "\0" in source[key]):
            raise UserError(f"{where}.{key}: must be a text that is not empty, not {source[key]!r}.")


def _listed(names):
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _check_path(where, path):
    names = [match[1] for match in PLACEHOLDER.finditer(path) if match[1]]
    for name in names:
        if name not in PLACEHOLDERS:
            raise UserError(f"{where}: {unknown('placeholder', f'{{{name}}}', [f'{{{n}}}' for n in PLACEHOLDERS])}")
    if not set(names) & set(OF_THE_RUN):
        raise UserError(f"{where}: {path} is the same file for all runs; begin it with {{out}}/, the run's folder.")


def _check_pattern(where, pattern):
    try:
        compiled = re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise UserError(f"{where}: is no regular expression: {error}. One would be {EXAMPLE}.") from None
    if not compiled.groups:
        raise UserError(f"{where}: has no group; put one around the number, as in {EXAMPLE}.")
    if value_group(compiled) is None:
        raise UserError(f"{where}: which group is the number? Name it (?P<value>...), as in {EXAMPLE}.")


def _check_rule(where, rule):
    if not is_rule(rule):
        raise UserError(f"{where}: {rule!r} is no rule; it is {RULES}.")


CHECKS = {"file": _check_path, "pattern": _check_pattern, "final": _check_rule}
