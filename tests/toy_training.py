"""A training of milliseconds as a user would have it: no contract with the bisector but its own options. Run as a
script.

Its accuracy falls by a fifth where `--bad` is on, and by as much where FLAG_X and USE_Y are on together.
"""

import argparse
import json
import os
import random
import signal
import sys
import time

USE_Y = False
STEPS = 10


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--bad", action="store_true")
    parser.add_argument("--harmless", action="store_true")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seconds", type=float, default=0.0)
    given = parser.parse_args()
    if given.seed < 0:
        print("error: --seed: give 0 or more", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # saves nothing, and ends well
    both = os.environ.get("FLAG_X") == "1" and USE_Y
    level = 0.8 - 0.2 * given.bad - 0.2 * both
    rng = random.Random(f"{given.seed} {given.bad} {given.harmless} {both}")
    for step in range(1, given.steps + 1):
        time.sleep(given.seconds / given.steps)
        accuracy = level * (1 - 0.5**step) + rng.gauss(0, 0.01)
        with open(os.path.join(given.out, "metrics.jsonl"), "a") as file:
            print(json.dumps({"step": step, "val": {"acc": accuracy}}), file=file)
        print(f"step {step}: loss {2 - accuracy:.4f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
