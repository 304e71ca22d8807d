"""tests/fake_trainer.py, watched: of each run, that is of each flags and seed, one may be there at a time, whatever its
trial, and none after it has finished. Beside the table stand in notes.txt, a line each: "done RUN", "twice RUN" (it was
under way) and "again RUN" (it had finished before).
"""

import fcntl
import json
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import fake_trainer  # noqa: E402

from faults.injector import Injector  # noqa: E402


def main():
    table = Path(sys.argv[1])
    given = dict(zip(sys.argv[2:], sys.argv[3:]))
    if "--check" in sys.argv or "--out" not in given:
        return fake_trainer.main()
    if "FAULTS_RECORD" in os.environ:
        Injector(table.parent, {"record": os.environ["FAULTS_RECORD"]}).install()
    run, out = f"{given.get('--flags') or '-'} {given['--seed']}", Path(given["--out"])
    alone = os.open(table.parent / f"lock-{run.replace(',', '+').replace(' ', '-')}", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(alone, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        note(table, "twice", run)
        sys.exit(1)
    if not (out / "result.json").exists() and f"done {run}" in notes(table.parent):
        note(table, "again", run)
    fake_trainer.main()
    if (out / "result.json").exists() and f"done {run}" not in notes(table.parent):
        json.loads((out / "result.json").read_text())
        note(table, "done", run)


def note(table, word, run):
    with open(table.with_name("notes.txt"), "a") as file:
        print(word, run, file=file)


def notes(folder):
    """The lines of notes.txt."""
    path = Path(folder) / "notes.txt"
    return path.read_text().splitlines() if path.exists() else []


if __name__ == "__main__":
    main()
