"""Checks all 2,048 combinations of the pieces' two implementations: python scripts/all_combinations.py --out
combinations.jsonl

Each has to give the losses of two steps and the gradient of the first that all flags off give, with unequal images, at
1 and at 4 images a batch. Not every combination needs a graph of its own:

- Both implementations of DATA_PIPELINE make the same arrays, bit for bit, where nothing is left to chance. This is
  checked.
- The loss is a sum of terms (RPN, boxes, masks), and a term depends on no other piece than those it is computed with.
  These are read from each graph that is built: about half of the flags. Two combinations that agree in them
  have the same graph for this term, so 64 models hold every term in all the states of its flags.

--each builds all 1,024 graphs instead (hours). A line of the output is one model; started again, the script goes on.
"""

import argparse
import functools
import itertools
import json
import multiprocessing
import os
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from maskrcnn.pieces import PIECES  # noqa: E402

BATCHES = (1, 4)
TOLERANCE = 1e-4  # relative
SHARED = ("RPN_HEAD", "GENERATE_PROPOSALS", "SAMPLE_TARGETS")
BOX = ("ROI_ALIGN_BOX", "FAST_RCNN_OUTPUTS", "FAST_RCNN_LOSSES")
MASK = ("ROI_ALIGN_MASK", "CROP_AND_RESIZE_MASK", "MASK_LOSS")


def subsets(flags):
    return [tuple(itertools.compress(flags, on)) for on in itertools.product((0, 1), repeat=len(flags))]


def few_models():
    """64 flag sets: every state of the shared pieces with every state of the box pieces, and of the mask pieces."""
    tails = [
        box + mask + (("RPN_LOSS",) if i % 2 else ()) for i, (box, mask) in enumerate(zip(*map(subsets, (BOX, MASK))))
    ]
    return [tuple(f for f in PIECES if f in head + tail) for head in subsets(SHARED) for tail in tails]


@functools.lru_cache(None)
def feeds(folder, b):
    """The batches, made by both implementations of the data pipeline and the same."""
    import numpy as np
    from combinations import batches, dataset

    one, other = (batches(flags, dataset(folder), b) for flags in ((), tuple(PIECES)))
    if not all(np.array_equal(x, y) for f, g in zip(one, other) for x, y in zip(f, g)):
        raise SystemExit("the two forms of DATA_PIPELINE make different batches")
    return one


@functools.lru_cache(None)
def reference(folder, b):
    from combinations import train

    return train((), feeds(folder, b))


def check(task):
    """Builds and steps one model; returns its line of the output."""
    flags, b, folder = task
    from combinations import disagreement, train

    began = time.monotonic()
    expected = reference(folder, b)
    outcome = train(flags, feeds(folder, b))
    loss, gradient = disagreement(outcome, expected)
    return {
        "flags": flags,
        "batch": b,
        "loss": loss,
        "gradient": gradient,
        "needs": outcome.needs,
        "agrees": max(loss, gradient) < TOLERANCE and bool(outcome.moved > 0),
        "seconds": round(time.monotonic() - began, 2),
    }


def summary(lines):
    """Of all 2,048 combinations: how many agree in every term at every batch size, differ, or are yet to be checked."""
    known = {}
    for line in lines:
        for term, needs in line["needs"].items():
            key = (term, line["batch"], tuple(needs), tuple(f for f in needs if f in line["flags"]))
            known[key] = known.get(key, True) and line["agrees"]
    terms = {key[:3] for key in known}
    counts = {"agree": 0, "differ": 0, "missing": 0}
    expected = 3 * len(BATCHES)
    for combination in subsets(tuple(PIECES)):
        found = [known.get((*term, tuple(f for f in term[2] if f in combination))) for term in terms]
        if len(found) < expected or None in found:
            counts["missing"] += 1
        else:
            counts["agree" if all(found) else "differ"] += 1
    return counts


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("combinations.jsonl"), help="one JSON object a model")
    parser.add_argument("--each", action="store_true", help="build every graph")
    parser.add_argument("--limit", type=int, help="check at most so many models now")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    options = parser.parse_args()
    done = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.exists() else []
    seen = {(tuple(line["flags"]), line["batch"]) for line in done}
    models = subsets(tuple(PIECES)[1:]) if options.each else few_models()
    with tempfile.TemporaryDirectory() as folder:
        tasks = [(flags, b, folder) for b in BATCHES for flags in models if (flags, b) not in seen][: options.limit]
        # TensorFlow gives the memory of a graph back with its process only.
        processes = multiprocessing.get_context("spawn").Pool(options.workers, maxtasksperchild=16)
        with processes as pool, open(options.out, "a") as out:
            for line in pool.imap_unordered(check, tasks):
                done.append(line)
                out.write(json.dumps(line) + "\n")
                out.flush()
                print(
                    f"{len(done)}  batch {line['batch']}  loss {line['loss']:.1e}  gradient {line['gradient']:.1e}  "
                    f"{line['seconds']:.1f} s  {','.join(line['flags']) or 'all off'}",
                    flush=True,
                )
    counts = summary(done)
    seconds = sum(line["seconds"] for line in done)
    print(
        f"{counts['agree']} combinations agree, {counts['differ']} differ, {counts['missing']} are yet to be checked; "
        f"{len(done)} models in {seconds:.0f} s of one core"
    )
    sys.exit(0 if counts["agree"] == 2 ** len(PIECES) else 1)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    main()
