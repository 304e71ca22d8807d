"""Power losses. All that a campaign's processes do to its files is recorded; from that, states are made that a disk may
have after a loss of power at any of these operations, and the campaign is resumed in them.

What was written since a file's last fsync may be missing, or be there only in part; names that were made, moved or
deleted since the folder's last fsync may be as before. An fsync of a file makes its own name durable, too, as on all
file systems with a journal.
"""

import base64
import json
import os
import random
import shutil
from pathlib import Path

from faults.kind import Kind

PLACES = 1200  # about as many as there are operations
WAYS = ("nothing unsynced", "names alone", "data alone", "some of it")


def record(site):
    """Runs a campaign to its end; returns what was done in its folder, in order."""
    file = site.folder / "record.jsonl"
    plan = {"record": str(file), "agents": {"all": {"record": str(file)}}}
    done = site.do(*site.start, plan=plan, before=lambda: os.environ.update(FAULTS_RECORD=str(file)))
    assert done.code == 0, done.text
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    inside = f"{site.runs}{os.sep}"
    return sorted((line for line in lines if line["path"].startswith(inside)), key=lambda line: line["clock"])


class Disk:
    """What is on a disk and what is in memory, operation by operation. Of each file its content, by a number that no
    name changes, and its names, in memory and on disk.
    """

    def __init__(self):
        self.contents, self.durable = {}, {}  # number: bytes
        self.pending = {}  # number: what was done since the last fsync, as functions of the bytes
        self.names, self.durable_names = {}, {}  # path: number, None for a folder
        self.later = []  # changes of names since, as (path, number or DELETED)

    def apply(self, one):
        name, path = one["name"], one["path"]
        if name == "open" and one["empties"]:
            if path not in self.names:
                self.name(path, self._new())
            else:
                self.change(path, lambda data: b"")
        elif name == "write" and path in self.names:
            data, at = base64.b64decode(one["data"]), one["at"]
            self.change(path, lambda old: old[:at].ljust(at, b"\0") + data + old[at + len(data) :])
        elif name == "truncate" and path in self.names:
            self.change(path, lambda old: old[: one["size"]])
        elif name == "rename" and one["from"] in self.names:
            number = self.names[one["from"]]
            self.name(path, number)
            self.name(one["from"], DELETED)
        elif name == "unlink" and path in self.names:
            self.name(path, DELETED)
        elif name == "mkdir":
            self.name(path, None)
        elif name == "fsync":
            self.sync(path)

    def _new(self):
        number = len(self.contents)
        self.contents[number] = self.durable[number] = b""
        self.pending[number] = []
        return number

    def name(self, path, number):
        self._set(self.names, path, number)
        self.later.append((path, number))

    def _set(self, names, path, number):
        if number == DELETED:
            names.pop(path, None)
        else:
            names[path] = number

    def change(self, path, function):
        number = self.names[path]
        self.contents[number] = function(self.contents[number])
        self.pending[number].append(function)

    def sync(self, path):
        number = self.names.get(path)
        if number is not None:
            self.durable[number] = self.contents[number]
            self.pending[number] = []
        inside = [one for one in self.later if one[0] == path or os.path.dirname(one[0]) == path]
        folders = [one for one in self.later if one[1] is None and f"{path}/".startswith(f"{one[0]}/")]
        for one in [*folders, *inside]:
            self._set(self.durable_names, *one)
            if one in self.later:
                self.later.remove(one)

    def after_loss(self, way, chance):
        """{path: bytes, None for a folder} as it may be after a loss of power now."""
        names = dict(self.durable_names)
        keeps_names = {"nothing unsynced": 0, "names alone": 1, "data alone": 0, "some of it": 0.5}[way]
        keeps_data = {"nothing unsynced": 0, "names alone": 0, "data alone": 1, "some of it": 0.5}[way]
        for path, number in self.later:
            if chance.random() < keeps_names:
                self._set(names, path, number)
        found = {}
        for path, number in names.items():
            data = None if number is None else self.durable[number]
            for change in self.pending.get(number, ()) if number is not None else ():
                if chance.random() < keeps_data:
                    data = change(data)
            found[path] = data
        return found


DELETED = "deleted"


def points(site):
    """(after what part of all operations, way)"""
    return [(place / PLACES, way) for place in range(1, PLACES + 1) for way in WAYS]


def struck(site, point):
    place, way = point
    recorded = site.template("recorded", record)
    disk = Disk()
    for one in recorded[: round(place * len(recorded))]:
        disk.apply(one)
    shutil.rmtree(site.runs)
    for path, data in sorted(disk.after_loss(way, random.Random(place)).items()):
        path = Path(path)
        if data is None:
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    finished = forget_lost(site)
    outcome = site.judge([site.look(round(place * 1000)), *site.resume()])
    return outcome._replace(lost=(*outcome.lost, *(f"gone {run}" for run in finished - site.finished())))


def forget_lost(site):
    """Leaves in the trainer's notes those runs alone whose results have survived in the log; returns them. What a
    trainer has not synced itself may be lost as long as the log has not got it.
    """
    finished = set()
    started = {}
    for line in site.log.read_bytes().splitlines() if site.log.exists() else ():
        event = json.loads(line)["event"] if line.endswith(b"}") else {}
        if event.get("kind") == "started":
            started[event["trial"]] = f"{','.join(event['flags']) or '-'} {event['seed']}"
        elif event.get("kind") == "ended" and event["outcome"] == "finished":
            finished.add(started[event["trial"]])
    (site.folder / "notes.txt").write_text("".join(f"done {run}\n" for run in sorted(finished)))
    (site.folder / "starts.txt").unlink(missing_ok=True)
    return finished


KINDS = (Kind("power lost: unsynced writes dropped or reordered", points, struck, 0.10),)
