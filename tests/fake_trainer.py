"""A trainer of milliseconds that keeps the whole contract, with the accuracies looked up in a table. Run as a script.

First argument: a JSON file with
  breaks    {metric: [[flags], ...]}: a run that has all flags of one of these on loses `drop` (default .2) of it;
  diverges, refuses   [[flags], ...];
  crashes   [[flags], times]: exit code 1 for so many attempts of each such run;
  base      accuracy (default .7); seconds of a run (default .05);
  stubborn  SIGTERM is ignored;
  curves    evaluations are written as `--set eval_every` asks, its steps taken as those of 1000: the accuracies at the
            end, times a part that grows towards 1, and give or take this number;
  slow      {flags joined by commas: seconds of such a run, instead};
  poison    [[flags], text]: result.json of such a run is this text, as it is;
  more      text that the metrics in its result.json end with, as '"bbox/AP_large": NaN';
  key       the fingerprint that it reports; {"flags": {flag: text}} among it where that flag is on; none without this;
  elsewhere what the fingerprint of a run has instead, as on a machine that is unlike;
  check     seconds that `--check` takes;
  sizes     reports bbox/AP_small and segm/AP_small, too, which `breaks` may name;
  parity    {flag: what differs from a piece that agrees}, or {"sleep": seconds}, {"crash": words} for the command
            `parity`, which there is none of without this.
It keeps its step in `state.json`, so that a run is resumed where it was, and notes each start beside the table in
`starts.txt`.
"""

import argparse
import fcntl
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

STEPS = 20


def has(flags, sets):
    return any(set(wanted) <= set(flags) for wanted in sets)


def main():
    table_path = Path(sys.argv[1])
    table = json.loads(table_path.read_text())
    if sys.argv[2] == "parity" and "parity" in table:
        sys.exit(parity(table_path, table["parity"], sys.argv[3:]))
    parser = argparse.ArgumentParser()
    for option in ("--flags", "--preset", "--out", "--data"):
        parser.add_argument(option, default="")
    for option in ("--seed", "--batch"):
        parser.add_argument(option, type=int)
    for option in ("--plant", "--set"):
        parser.add_argument(option, action="append", default=[])
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args(sys.argv[2:])
    flags = [flag for flag in given.flags.split(",") if flag]

    if given.preset not in ("shapes", "tiny"):
        sys.exit(refuse(f"unknown preset '{given.preset}': known: shapes, tiny."))
    if any("=no_such" in plant for plant in given.plant):
        sys.exit(refuse(f"unknown fault '{given.plant[0]}': see the faults command."))
    if given.data and not (Path(given.data) / "annotations").is_dir():
        sys.exit(refuse(f"{given.data} is not a COCO folder: it has no annotations/."))
    if given.check:
        time.sleep(table.get("check", 0))
        print(json.dumps({"key": table.get("key"), "metrics": sorted(accuracies(table, flags, 0))}))
        return
    if has(flags, table.get("refuses", [])):
        sys.exit(refuse("--plant mod:fn: no module named 'mod'; mend the name."))

    out = Path(given.out)
    out.mkdir(parents=True, exist_ok=True)
    alone = os.open(out / "lock", os.O_RDWR | os.O_CREAT)
    run = f"{','.join(flags) or '-'} {given.seed}"
    try:
        fcntl.flock(alone, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        note(table_path, f"TWICE {run}")
        sys.exit(1)
    if (out / "result.json").exists():
        return
    note(table_path, run)

    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(not table.get("stubborn")))
    wanted, times = table.get("crashes", [[], 0])
    starts = (table_path.parent / "starts.txt").read_text().splitlines().count(run)
    state = out / "state.json"
    first = json.loads(state.read_text())["step"] if state.exists() else 0
    seconds = table.get("slow", {}).get(given.flags, table.get("seconds", 0.05)) / STEPS
    every = next((int(one.partition("=")[2]) * STEPS // 1000 for one in given.set if one.startswith("eval_every=")), 0)
    for step in range(first + 1, STEPS + 1):
        time.sleep(seconds)
        replace(state, json.dumps({"step": step}))  # else a kill leaves it empty, and the next attempt crashes
        with open(out / "metrics.jsonl", "a") as file:
            print(json.dumps({"step": step, "steps": STEPS, "wall": step * seconds, "total_loss": 1 / step}), file=file)
            if "curves" in table and every and step % every == 0 and step < STEPS:
                print(json.dumps(evaluation(table, flags, given.seed, step, seconds)), file=file)
        if wanted and has(flags, [wanted]) and starts <= times and step >= STEPS // 2:
            sys.exit("RuntimeError: out of luck")
        if any(stop):
            sys.exit(143)
    diverged = has(flags, table.get("diverges", []))
    result = {
        "status": "diverged" if diverged else "finished",
        "preset": given.preset,
        "metrics": {} if diverged else accuracies(table, flags, given.seed),
        "wall": STEPS * seconds,
    }
    if "key" in table:
        on = {flag: text for flag, text in table["key"].get("flags", {}).items() if flag in flags}
        result["key"] = {**table["key"], "flags": on, **table.get("elsewhere", {})}
    text = json.dumps(result)
    if table.get("more") and not diverged:
        text = text.replace('"metrics": {', '"metrics": {' + table["more"] + ", ", 1)
    if "poison" in table and set(table["poison"][0]) == set(flags):
        text = table["poison"][1]
    replace(out / "result.json", text)


def parity(table_path, table, words):
    """What the real one prints, writes and exits with, for pieces as the table has them."""
    parser = argparse.ArgumentParser()
    for option in ("--flags", "--preset", "--seed", "--case", "--json"):
        parser.add_argument(option)
    for option in ("--plant", "--set"):
        parser.add_argument(option, action="append", default=[])
    given = parser.parse_args(words)
    note(table_path, f"parity {' '.join(words[:-2])}")
    if given.preset not in ("shapes", "tiny"):
        return refuse(f"unknown preset '{given.preset}': known: shapes, tiny.")
    if "crash" in table:
        sys.exit(f"RuntimeError: {table['crash']}")
    time.sleep(table.get("sleep", 0))
    pieces = []
    for flag in given.flags.split(","):
        piece = {
            **{"flag": flag, "agrees": True, "same_computation": False, "error": 1e-7, "p_value": None, "note": ""},
            **{"worst": "value, B=3", "reproduce": f"python -m maskrcnn parity --flags {flag}", "seconds": 0.1},
            **table.get(flag, {}),
        }
        check = {key: piece[key] for key in ("agrees", "error", "p_value")}
        pieces.append({**piece, "checks": [{"name": "forms", **check}]})
    print(f"table of {len(pieces)} pieces")
    report = {"version": 1, "preset": given.preset, "seed": int(given.seed), "seconds": 0.5, "pieces": pieces}
    Path(given.json).write_text(json.dumps(report))
    return int(not all(piece["agrees"] for piece in pieces))


def accuracies(table, flags, seed):
    noise = random.Random(f"{','.join(flags)} {seed}")
    metrics = {}
    for metric in ("bbox", "segm", *(("bbox/AP_small", "segm/AP_small") if table.get("sizes") else ())):
        drop = table.get("drop", 0.2) if has(flags, table.get("breaks", {}).get(metric, [])) else 0.0
        metrics[metric if "/" in metric else f"{metric}/AP"] = (
            table.get("base", 0.7) - drop + noise.uniform(-0.01, 0.01)
        )
    return metrics


def evaluation(table, flags, seed, step, seconds):
    noise = random.Random(f"{','.join(flags)} {seed} {step}")
    part = 1 - 0.8 ** (20 * step / STEPS)
    found = {key: part * value for key, value in accuracies(table, flags, seed).items()}
    found = {key: value + noise.uniform(-1, 1) * table["curves"] for key, value in found.items()}
    return {"step": step, "steps": STEPS, "wall": step * seconds, **found}


def replace(path, text):
    """Writes a file whole or not at all."""
    path.with_suffix(".tmp").write_text(text)
    os.replace(path.with_suffix(".tmp"), path)


def note(table_path, line):
    with open(table_path.parent / "starts.txt", "a") as file:
        print(line, file=file)


def refuse(message):
    print(message, file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
