"""How flags are switched, as the options of a trainer's file have it: {flag: {"args", "env": {"on", "off"}, "constant",
"template": an edit}}. A flag of which nothing is said goes by its name alone, in the comma list of flags.
"""

from bisect_cli.trainers import edits

WAYS = ("args", "env", "constant", "template")
IN_SOURCE = ("constant", "template")


def edits_of(options, flag):
    """The edits.Edits of a flag. Raises UserError if the file declares one that is none."""
    return edits.of_switch(flag, options["switches"][flag], options["root"], options["workdir"])


def all_edits(options):
    """The Edits of all flags."""
    return [edit for flag in options["switches"] for edit in edits_of(options, flag)]


def in_source(options):
    """Whether flags are switched in the source, so that a run needs a copy of it."""
    return any(way in switch for switch in options["switches"].values() for way in IN_SOURCE)


def arguments(options, flags):
    """The arguments of all flags, those of these on; None if no flag is switched by arguments."""
    tables = {flag: switch["args"] for flag, switch in options["switches"].items() if "args" in switch}
    if not tables:
        return None
    return [word for flag, table in tables.items() for word in table.get(_side(flag, flags), ())]


def environment(options, flags):
    """What all flags add to the environment."""
    added = {}
    for flag, switch in options["switches"].items():
        added.update(switch.get("env", {}).get(_side(flag, flags), {}))
    return added


def states(options, flags):
    """(Edit, whether its flag is on) of all flags."""
    return [(edit, edit.flag in flags) for edit in all_edits(options)]


def _side(flag, flags):
    return "on" if flag in flags else "off"
