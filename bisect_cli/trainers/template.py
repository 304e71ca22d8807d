"""A first trainer file for a user's training, with a comment beside everything that can be said (docs/trainers.md)."""

import json
import re

from bisect_cli.errors import UserError, unknown

WAYS = {
    "args": "args = {{ on = [{words}], off = [] }}   # arguments that it adds, on and off",
    "env": 'env = {{ on = {{ {name} = "1" }}, off = {{ {name} = "0" }} }}   # environment variables',
    "constant": 'constant = {{ file = "train.py", name = "{name}", on = "True", off = "False" }}   # in the source',
    "template": 'template = {{ file = "config.yaml", placeholder = "@{name}@", on = "true", off = "false" }}',
}
SOURCES = {
    "jsonl": ['file = "{{out}}/metrics.jsonl"', 'key = "{name}"', 'step = "step"   # leave it out if lines have none'],
    "csv": ['file = "{{out}}/metrics.csv"', 'key = "{name}"   # the column', 'step = "step"'],
    "json": ['file = "{{out}}/result.json"', 'key = "{name}"   # dots go down: "val.acc"'],
    "stdout": ["pattern = 'step (?P<step>\\d+).*{name} (?P<value>\\S+)'   # a regular expression on what it prints"],
    "tensorboard": ['file = "{{out}}"   # the folder of the event files', 'tag = "{name}"'],
}

HEAD = """\
# A trainer for maskrcnn-bisect; docs/trainers.md has every key. Try it, before anything is trained:
#
#     maskrcnn-bisect trainer check {path}
#     maskrcnn-bisect start --trainer {path} --flags all --dry-run

[trainer]
name = {name}
# An argv list, no shell. {{out}}: the folder that each run has for itself; {{seed}}: what replicates differ by;
# "{{flags}}", as a word by itself: the arguments of all flags.
command = {command}
# workdir = "."              # where it runs, relative to this file
# env = {{ RUN = "{{trial}}" }}
# resume = "same"            # another attempt of a run: "same" command, "restart" from nothing, or arguments to add
# stop = {{ signal = "TERM", grace = 60 }}   # how it is asked to save and end, and the seconds that it has for that
# wrong_input = [2]          # exit codes after which a retry would end the same
# check = ["python", "train.py", "--check"]  # checks its arguments and trains nothing
"""
FLAG = """
[flags.{name}]
# help = "what it switches, in a few words"
{way}
# needs = ["OTHER"]          # makes sense only with that one on
"""
METRIC = """
[metrics.{name}]
source = "{source}"
{lines}
better = "{better}"
# final = "last"             # or "best", or "mean of the last 3"
# range = [0.0, 1.0]         # what is known of it saves runs: its ends, what seeds differ by,
# noise = 0.01               # the smallest loss worth naming, and what a training that works reaches,
# smallest_drop = 0.02       # all in its own unit; what is not known the baseline shows
# target = 0.9
"""
TAIL = """
[length]
# steps = 1000               # of a whole run: for progress, and for stopping runs early
# args = ["--steps", "{steps}"]

# [groups]                   # names for several flags, neighbours in their order
# kernels = ["A", "B"]

# [fingerprint]              # what a run is computed with. Default: the state of the git repository
# files = ["train.py", "models/**/*.py"]
# commands = [["python", "-c", "import numpy; print(numpy.__version__)"]]
"""


def template(path, name, command, flags, way, metrics, source):
    """The text of a trainer file. command: an argv list. flags: their names. way: one of WAYS, for all of them.
    metrics: texts, "NAME:higher". source: one of SOURCES. Raises UserError for a name that is not known.
    """
    if way not in WAYS:
        raise unknown("way to switch a flag", way, WAYS)
    if source not in SOURCES:
        raise unknown("source of a metric", source, SOURCES)
    text = HEAD.format(path=path, name=json.dumps(name), command=json.dumps(command))
    for flag in flags:
        words = json.dumps("--" + flag.lower().replace("_", "-"))
        text += FLAG.format(name=_key(flag), way=WAYS[way].format(name=flag, words=words))
    for metric in metrics:
        key, _, better = metric.rpartition(":")
        if not key or better not in ("higher", "lower"):
            raise UserError(f"--metric {metric}: write NAME:higher or NAME:lower: which values are the good ones?")
        lines = "\n".join(line.format(name=key) for line in SOURCES[source])
        text += METRIC.format(name=_key(key), source=source, lines=lines, better=better)
    return text + TAIL


def _key(name):
    """A name as a key of TOML: in quotes where it has to be, as with dots."""
    return name if re.fullmatch("[A-Za-z0-9_-]+", name) else json.dumps(name)
