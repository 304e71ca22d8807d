"""All kinds of faults within a budget of time, and a table of what came out: `make test-faults`."""

import argparse
import json
import multiprocessing
import os
import shlex
import sys
import tempfile
import time
from pathlib import Path

MARK = "<!-- measured -->"
ROOT = Path(__file__).resolve().parents[2]


def prepare():
    """Before anything is imported: as tests/conftest.py has it, and with one thread of linear algebra a process."""
    for place in (ROOT, ROOT / "tests"):
        if str(place) not in sys.path:
            sys.path.insert(0, str(place))
    os.environ["PYTHONPATH"] = str(ROOT)
    os.environ["PATH"] = os.pathsep.join((str(ROOT / "tests" / "no_gpus"), os.environ["PATH"]))
    os.environ["OPENBLAS_NUM_THREADS"] = "1"


def main():
    prepare()
    from faults import harness

    parser = argparse.ArgumentParser(prog="make test-faults")
    parser.add_argument("--minutes", type=float, default=28, help="at most, of all kinds (default 28)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes at once (default: one a core)")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of points, where there is no time for all")
    parser.add_argument("--only", default="", help="kinds with this in their name, or those of a file: controllers")
    parser.add_argument("--points", type=int, default=None, help="of each kind, at most")
    parser.add_argument("--write", type=Path, help=f"a page, whose end from its line {MARK} on is replaced")
    given = parser.parse_args()
    kinds = harness.find(given.only)
    began = time.monotonic()
    if not kinds:
        parser.error(f"--only {given.only}: there is {', '.join(kind.name for kind in harness.find(''))}.")
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        os.environ["XDG_STATE_HOME"] = folder  # what says that a campaign is the user's own
        results = harness.run(Path(folder), kinds, given.minutes * 60, given.jobs, given.seed, given.points)
    minutes = (time.monotonic() - began) / 60
    words = f"`python -m faults {shlex.join(sys.argv[1:])}`, {time.strftime('%Y-%m-%d')}: {minutes:.0f} minutes with "
    report = f"{words}{given.jobs} processes at once.\n\n{harness.table(results)}\n"
    print(report)
    if given.write:
        before = given.write.read_text().partition(MARK)[0]
        given.write.write_text(f"{before}{MARK}\n\n{report}")
    for one in results:
        for point, words in one.found:
            print(f"{one.kind}: {json.dumps(point)}: {words}")
    return int(any(one.found for one in results))


if __name__ == "__main__":
    multiprocessing.set_start_method("fork")
    sys.exit(main())
