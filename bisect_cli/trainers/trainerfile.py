"""A trainer described in a TOML file (docs/trainers.md): read, checked, and made into a Spec whose options are all that
`trainers.command` needs, so that a campaign does not depend on the file any more.
"""

import math
import signal
import sys
from pathlib import Path

from bisect_cli import launchers
from bisect_cli.campaign.spec import Flag, Group, Metric, Spec
from bisect_cli.errors import UserError, nearest
from bisect_cli.trainers import edits, readers, switches
from bisect_cli.trainers.placeholders import names_in

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

VERSION = 1  # of the format
KEYS = {
    "": ("version", "trainer", "flags", "groups", "metrics", "length", "fingerprint", "launcher"),
    "trainer": ("name", "command", "workdir", "env", "resume", "stop", "wrong_input", "check"),
    "trainer.stop": ("signal", "grace"),
    "flags.*": ("help", "args", "env", "constant", "template", "needs", "excludes"),
    "metrics.*": (
        *("source", "file", "key", "step", "pattern", "tag"),
        *("better", "final", "range", "noise", "smallest_drop", "target"),
    ),
    "length": ("steps", "args"),
    "fingerprint": ("files", "commands"),
}
SIDES = ("on", "off")
STOP = {"signal": "TERM", "grace": 60}


def read(path):
    """The Spec of the trainer in a file. Raises UserError for whatever is wrong in it: the file, the line or the key,
    what is wrong, and what would be right.
    """
    path = Path(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
        tables = tomllib.loads(text)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): name a TOML file.") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is no TOML file in UTF-8: save it as one.") from None
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path}: {error}") from None
    try:
        return spec_of(tables, path.resolve().parent, str(path.resolve()))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def spec_of(tables, root, file=""):
    """The Spec of the tables of a trainer's file. root: the folder that its paths are relative to. Raises UserError
    that names the key.
    """
    _check_keys(tables, "")
    if tables.get("version", VERSION) != VERSION:
        raise UserError(f"version: {tables['version']} is not known; this program reads version {VERSION}.")
    for name in ("trainer", "flags", "metrics"):
        if not tables.get(name):
            raise UserError(f"[{name}] is missing: {_EXAMPLES[name]}")
    trainer = _trainer(tables["trainer"], root)
    flags = {name: _flag(name, table, tables["flags"]) for name, table in _tables(tables, "flags")}
    metrics = {name: _metric(name, table) for name, table in _tables(tables, "metrics")}
    _check_names(list(flags), list(tables.get("groups", {})), list(metrics))
    _check_switched({name: switch for name, (_, switch) in flags.items()})
    length, made_of = _length(tables.get("length", {})), _fingerprint(tables.get("fingerprint", {}))
    options = {
        **{"file": file, "root": str(root)},
        **trainer,
        "switches": {name: switch for name, (_, switch) in flags.items()},
        "sources": {name: source for name, (_, source) in metrics.items()},
        "length": length,
        "made_of": made_of,
        "declared": _declared(tables),
        **_launcher(tables),
    }
    _check_placeholders(options)
    edits.check(switches.all_edits(options), options["workdir"])
    return Spec(
        "command",
        tuple(flag for flag, _ in flags.values()),
        tuple(_groups(tables.get("groups", {}), list(flags))),
        tuple(metric for metric, _ in metrics.values()),
        tuple(metrics),
        description=(f"trainer {trainer['title']}",),
        options=options,
    )


def plain(words, flags, metrics):
    """The Spec of a command that takes its flags as a comma list and writes its metrics into metrics.jsonl or
    result.json of its folder.

    words: the command, as after --. flags: their names. metrics: texts, "NAME:higher" or "NAME:lower". Raises
    UserError.
    """
    if "all" in (flag.lower() for flag in flags):
        raise UserError("--flags all: nothing else names the flags of a command: name each of them.")
    sources = {}
    for text in metrics:
        name, _, better = text.rpartition(":")
        if better not in ("higher", "lower") or not name:
            raise UserError(f"--metric {text}: write NAME:higher or NAME:lower: which values are the good ones?")
        if name in sources:
            raise UserError(f"--metric {text}: there are two metrics of that name.")
        sources[name] = {
            "source": "jsonl",
            "file": "{out}/metrics.jsonl",
            "key": name,
            "step": "step",
            "better": better,
        }
    if not sources:
        raise UserError("--metric is missing: say what the training reports and which values are good, as acc:higher.")
    tables = {"trainer": {"command": list(words)}, "flags": {name: {} for name in flags}, "metrics": sources}
    spec = spec_of(tables, Path.cwd())
    for name, source in spec.options["sources"].items():
        source["else"] = {"source": "json", "file": "{out}/result.json", "key": name}
    return spec


_EXAMPLES = {
    "trainer": 'give at least command = ["python", "train.py", "--seed", "{seed}", "--out", "{out}", "{flags}"].',
    "flags": 'give a table for each flag, as [flags.FUSED] with args = { on = ["--fused"] }.',
    "metrics": 'give a table for each metric, as [metrics.acc] with source = "jsonl", key = "acc", better = "higher".',
}


def _trainer(table, root):
    _check_keys(table, "trainer")
    if "command" not in table:
        raise UserError(f"trainer.command is missing: {_EXAMPLES['trainer']}")
    command = _words(table["command"], "trainer.command")
    if not command:
        raise UserError(f"trainer.command is empty: {_EXAMPLES['trainer']}")
    workdir = (root / _text(table.get("workdir", "."), "trainer.workdir")).resolve()
    if not workdir.is_dir():
        raise UserError(f"trainer.workdir: {workdir} is no folder: name the one to train in.")
    stop = table.get("stop", {})
    _check_keys(stop, "trainer.stop")
    stop = {**STOP, **stop}
    if f"SIG{stop['signal']}" not in signal.Signals.__members__:
        raise UserError(f"trainer.stop.signal: '{stop['signal']}' is no signal: write TERM, INT, USR1 or another.")
    _positive(stop["grace"], "trainer.stop.grace")
    resume = table.get("resume", "same")
    if resume not in ("same", "restart"):
        resume = _words(resume, "trainer.resume", 'write "same", "restart", or the arguments to add, as ["--resume"]')
    codes = table.get("wrong_input", [2])
    if not isinstance(codes, list) or not all(isinstance(code, int) and 0 < code < 256 for code in codes):
        raise UserError("trainer.wrong_input: write a list of exit codes from 1 to 255, as [2].")
    return {
        "title": _text(table.get("name", root.name), "trainer.name"),
        "command": command,
        "workdir": str(workdir),
        "env": _environment(table.get("env", {}), "trainer.env"),
        "resume": resume,
        "stop": stop,
        "wrong_input": codes,
        "check": _words(table["check"], "trainer.check") if "check" in table else None,
    }


def _flag(name, table, every):
    """The Flag of a table, and how it is switched."""
    where = f"flags.{name}"
    _check_name(name, where)
    _check_keys(table, "flags.*", where)
    switch = {way: table[way] for way in switches.WAYS if way in table}
    for way, make in (("args", _words), ("env", _environment)):
        if way in switch:
            _check_sides(switch[way], f"{where}.{way}")
            switch[way] = {side: make(v, f"{where}.{way}.{side}") for side, v in switch[way].items()}
    if "args" in switch and "on" in switch["args"] and switch["args"].get("on") == switch["args"].get("off"):
        raise UserError(f"{where}.args: on and off are the same, so the flag switches nothing.")
    others = {}
    for kind in ("needs", "excludes"):
        others[kind] = tuple(_words(table.get(kind, []), f"{where}.{kind}"))
        for other in others[kind]:
            if other not in every or other == name:
                near = nearest(other, [one for one in every if one != name])
                raise UserError(f"{where}.{kind}: '{other}' is no other flag{_did_you_mean(near)}.")
    return Flag(name, _text(table.get("help", ""), f"{where}.help"), others["needs"], others["excludes"]), switch


def _metric(name, table):
    """The Metric of a table, and where it is read from."""
    where = f"metrics.{name}"
    _check_name(name, where)
    _check_keys(table, "metrics.*", where)
    source = {key: table[key] for key in ("source", "file", "key", "step", "pattern", "tag", "final") if key in table}
    readers.check_source(name, source)
    if table.get("better") not in ("higher", "lower"):
        raise UserError(f'{where}.better: write "higher" or "lower": which values are the good ones?')
    low, high = _range(table.get("range"), f"{where}.range")
    for key in ("noise", "smallest_drop"):
        if key in table:
            _positive(table[key], f"{where}.{key}")
    if "target" in table:
        _number(table["target"], f"{where}.target")
    amounts = {key: float(table[key]) for key in ("noise", "smallest_drop", "target") if key in table}
    return Metric(name, name, "", table["better"] == "higher", low, high, **amounts), source


def _groups(table, flags):
    if not isinstance(table, dict):
        raise UserError('[groups]: write NAME = ["FLAG", "FLAG"].')
    for name, members in table.items():
        where = f"groups.{name}"
        if name in flags or name == "all":
            raise UserError(f"{where}: that is the name of a flag, or of all of them: choose another.")
        members = _words(members, where)
        for flag in members:
            if flag not in flags:
                raise UserError(f"{where}: '{flag}' is no flag{_did_you_mean(nearest(flag, flags))}.")
        yield Group(name, tuple(flag for flag in flags if flag in members))


def _length(table):
    _check_keys(table, "length")
    if "steps" in table and (not isinstance(table["steps"], int) or table["steps"] < 1):
        raise UserError("length.steps: write the number of steps of a whole run, as 1000.")
    args = _words(table.get("args", []), "length.args")
    if args and "steps" not in table:
        raise UserError("length.args: give length.steps, too: how many is a whole run?")
    return {"steps": table.get("steps"), "args": args}


def _fingerprint(table):
    _check_keys(table, "fingerprint")
    commands = table.get("commands", [])
    if not isinstance(commands, list):
        raise UserError('fingerprint.commands: write a list of commands, each a list: [["python", "--version"]].')
    return {
        "files": _words(table.get("files", []), "fingerprint.files"),
        "commands": [_words(command, "fingerprint.commands") for command in commands],
    }


def _launcher(tables):
    """Where runs are made, as a name and the launcher's own options, which it checks itself."""
    if "launcher" not in tables:
        return {}
    table = tables["launcher"]
    if not isinstance(table, dict) or "name" not in table:
        raise UserError('[launcher]: write name = "slurm" and its options, as partition = "gpu".')
    name, options = table["name"], {key: value for key, value in table.items() if key != "name"}
    return {"launcher": {"name": name, "options": launchers.parse_options(name, options.items(), "launcher.{}")}}


def _check_placeholders(options):
    """Every placeholder is known, and runs have folders of their own."""
    used = set()
    texts = [("trainer.command", word) for word in options["command"]]
    texts += [(f"trainer.env.{name}", text) for name, text in options["env"].items()]
    for flag, switch in options["switches"].items():
        for side in SIDES:
            texts += [(f"flags.{flag}.args.{side}", word) for word in switch.get("args", {}).get(side, ())]
            texts += [(f"flags.{flag}.env.{side}", text) for text in switch.get("env", {}).get(side, {}).values()]
    for where, text in texts:
        used.update(names_in(text, where))
    for word in options["length"]["args"]:
        names_in(word, "length.args", ("steps",))
    for where in ("check", "resume"):
        for word in options[where] if isinstance(options[where], list) else ():
            names_in(word, f"trainer.{where}")
    for name, source in options["sources"].items():
        names_in(source.get("file", ""), f"metrics.{name}.file", ("out", "trial", "tree"))
    reads_files = any(source["source"] not in ("stdout", "stderr") for source in options["sources"].values())
    if reads_files and "out" not in used:
        raise UserError(
            "trainer.command: {out} is missing, the folder that each run has for itself: hand it to the training, as "
            '"--out", "{out}", or by trainer.env.'
        )
    by_words = [flag for flag, switch in options["switches"].items() if "args" in switch or not switch]
    if by_words and "flags" not in used:
        raise UserError(
            f'trainer.command: "{{flags}}" is missing, so {by_words[0]} would never be switched: put it where the '
            "arguments of the flags belong."
        )
    if options["length"]["args"] and not any("{steps}" in word for word in options["length"]["args"]):
        raise UserError('length.args: {steps} is missing: write ["--steps", "{steps}"].')


def _check_names(flags, groups, metrics):
    """Names are looked up whatever their case, flags and groups in one place."""
    for kind, names in (("flags or groups", [*flags, *groups]), ("metrics", metrics)):
        seen = {}
        for name in names:
            other = seen.setdefault(name.upper(), name)
            if other is not name or names.count(name) > 1:
                raise UserError(f"there are two {kind} of that name, {other} and {name}: rename one.")


def _check_switched(ways):
    """A flag goes by its name alone only where all do: else nothing would switch it."""
    silent = [flag for flag, switch in ways.items() if not switch]
    if silent and any("args" in switch for switch in ways.values()):
        raise UserError(
            f"flags.{silent[0]}: nothing says how it is switched: give it {', '.join(switches.WAYS[:-1])} "
            f"or {switches.WAYS[-1]}."
        )


def _declared(tables):
    """What is said of flags and metrics beside how they are switched and read: campaigns may differ in that alone."""
    flags = {
        name: {key: table[key] for key in ("needs", "excludes") if key in table}
        for name, table in _tables(tables, "flags")
    }
    return {"flags": flags, "metrics": {name: dict(table) for name, table in _tables(tables, "metrics")}}


def _tables(tables, name):
    if not isinstance(tables[name], dict):
        raise UserError(f"[{name}]: {_EXAMPLES[name]}")
    return tables[name].items()


def _check_keys(table, kind, where=None):
    where = kind if where is None else where
    if not isinstance(table, dict):
        raise UserError(f"{where}: that has to be a table, [{where}].")
    for key in table:
        if key not in KEYS[kind]:
            full = f"{where}.{key}" if where else key
            near = nearest(key, KEYS[kind])
            hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(KEYS[kind])}."
            raise UserError(f"unknown key '{full}': {hint}")


def _check_sides(table, where):
    if not isinstance(table, dict) or not table:
        raise UserError(f"{where}: write {{ on = .., off = .. }}.")
    for key in table:
        if key not in SIDES:
            raise UserError(f"unknown key '{where}.{key}': known: {', '.join(SIDES)}.")


def _check_name(name, where):
    if not name or any(c in name for c in ",=+ \t\n/{}"):
        raise UserError(f"{where}: a name has no commas, blanks, '=', '+', '/' or braces: choose another.")


def _words(value, where, hint='write a list of words, as ["--fused"]'):
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise UserError(f"{where}: {hint}.")
    return list(value)


def _text(value, where):
    if not isinstance(value, str):
        raise UserError(f"{where}: write a text in quotes.")
    return value


def _environment(value, where):
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise UserError(f'{where}: write {{ NAME = "value" }}.')
    return dict(value)


def _range(value, where):
    if value is None:
        return None, None
    if not isinstance(value, list) or len(value) != 2:
        raise UserError(f"{where}: write [lowest, highest], as [0.0, 1.0].")
    low, high = (_number(one, where) for one in value)
    if low >= high:
        raise UserError(f"{where}: the first has to be the lower one.")
    return low, high


def _number(value, where):
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise UserError(f"{where}: write a number.")
    return float(value)


def _positive(value, where):
    if _number(value, where) <= 0:
        raise UserError(f"{where}: write a number above 0.")


def _did_you_mean(near):
    return f"; did you mean {' or '.join(near)}?" if near else ""
