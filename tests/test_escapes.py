"""What others have written never makes a terminal, or whoever reads a pipe, do anything; JSON is JSON."""

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from bisecting import COMMAND, ROOT, Bench

from bisect_cli.cli.logs import MOST_LINE, _Output
from bisect_cli.report import strict_json
from bisect_cli.report.printable import printable
from bisect_cli.storage import eventlog, store

CLIPBOARD = "\x1b]52;c;aGVsbG8=\x07"
EVIL = f"{CLIPBOARD}\x1b[2J\x9b5n\x1bP+q\x1b\\ [/red] [link=file:///]x[/link] :smile: \u202egnp\u2028 \x07\x1b]0;mine"
# What rich itself sends: styles, and how it draws a live table anew
OWN = re.compile(r"\x1b\[[0-9;]*m|\x1b\[\?25[lh]|\x1b\[[0-9]*[AK]|\x1b\[2K|\r")
SHOWING = 6  # of the commands: they show it, rather than something that is wrong
COMMANDS = (
    ["status", "c"],
    ["status", "c", "--json"],
    ["list"],
    ["explain", "c", "t01"],
    ["logs", "t01", "--name", "c"],
    ["nodes", "c"],
    ["explain", "c"],
    ["resume", "c"],
    ["stop", "c"],
    ["ask", "c"],
    ["tell", "c", "t01", EVIL],
    ["status", EVIL],
    ["logs", EVIL, "--name", "c"],
    ["resume", "c", f"--{EVIL}"],
    [EVIL],
    ["start", "--flags", EVIL],
    ["start", "--flags", "L2B5", "--name", EVIL],
    ["trainer", "check", EVIL],
    ["list", "--runs-dir", EVIL],
)


def unsafe(text):
    """The characters in a text that a terminal could obey."""
    return [char for char in text if (char not in "\n\t" and not char.isprintable()) or "\ud800" <= char <= "\udfff"]


def on_terminal(words, folder):
    """What a command shows on a terminal of 200 columns."""
    ours, its = pty.openpty()
    process = subprocess.Popen(
        words, cwd=folder, stdin=subprocess.DEVNULL, stdout=its, stderr=its, env={**ENVIRONMENT, "COLUMNS": "200"}
    )
    os.close(its)
    found = b""
    while True:
        try:
            data = os.read(ours, 1 << 16)
        except OSError:  # nobody has the other end any more
            break
        if not data:
            break
        found += data
    os.close(ours)
    process.wait(timeout=60)
    return found.decode()


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color"}


def planted(event):
    """An event with what a hostile log, trainer, scheduler or node may have put there."""
    event = json.loads(json.dumps(event))
    if event["kind"] == "ended":
        event.update(node=f"n1{EVIL}", ran=1.0, reason=f"{EVIL} why")
        if event["trial"] == "t01":
            event.update(outcome="crashed", metrics={})
    if event["kind"] == "started":
        event.update(why=f"because {EVIL}")
        event["ticket"]["gpus"] = [f"GPU-{EVIL}"]
    if event["kind"] == "closed":
        event.update(state="inconclusive", reason=f"{EVIL} over")
    if event["kind"] == "created":
        event["settings"].update(name=f"c{EVIL}")
        event["spec"]["description"] = [f"about {EVIL}"]
    if event["kind"] == "parity":
        piece = {"flag": f"F{EVIL}", "worst": EVIL, "error": None, "p_value": None, "reproduce": EVIL}
        event["result"] = {"reason": "", "seconds": 1.0, "differ": [piece], "same_computation": [EVIL], "agree": []}
    return event


@pytest.fixture(scope="module")
def campaign(tmp_path_factory):
    """A finished campaign whose log and folders are full of it."""
    bench = Bench(tmp_path_factory.mktemp("escapes"), breaks={"segm": [["ROI_ALIGN_MASK"]]})
    bench.run(parity=False)
    log = bench.runs / "c" / store.LOG
    events = [planted(event) for event in eventlog.read(log).events]
    log.write_bytes(b"")
    writer = eventlog.Writer(log)
    for event in events:
        writer.append(event)
    writer.close()
    for path in (bench.runs / "c").glob("trials/*/attempt-1"):
        (path / "stdout.txt").write_bytes(f"{EVIL}\nred \x1b[31mred\x1b[0m\r\n 5%\r50%\r".encode() + b"\x9b\xff\n" * 9)
        (path / "stderr.txt").write_text(f"{EVIL}\nValueError: {EVIL}")
    for name in (f"d{EVIL.replace('/', '')}".encode(), b"e\x9b[31m\xff"):
        folder = os.fsencode(bench.runs) + b"/" + name
        os.mkdir(folder)
        Path(os.fsdecode(folder), store.LOG).write_bytes(log.read_bytes())
    return bench


@pytest.mark.parametrize("number", range(len(COMMANDS)))
def test_no_command_hands_on_what_a_terminal_obeys(campaign, number):
    words = COMMANDS[number]
    call = [sys.executable, "-c", COMMAND, json.dumps(campaign.trainer), *words]
    shown = on_terminal(call, campaign.folder).replace("\r\n", "\n")
    assert not unsafe(OWN.sub("", shown)), shown
    for encoding in ("utf-8", "ascii"):
        env = {**ENVIRONMENT, "PYTHONIOENCODING": encoding}
        piped = subprocess.run(call, cwd=campaign.folder, env=env, capture_output=True, timeout=60)
        said = (piped.stdout + piped.stderr).decode()
        assert not unsafe(said), said
        assert "Traceback" not in shown + said
        assert number >= SHOWING or ("[link" in said and "[link" in shown), said
        if "--json" in words:
            read_strictly(piped.stdout)


def test_a_campaign_under_way_hands_on_nothing_either(tmp_path):
    """The table that is drawn anew, and the lines: of a trainer whose last words are hostile."""
    bench = Bench(tmp_path, parity={"crash": EVIL}, crashes=[[], 1])
    words = ["start", "--flags", "L2B5", "--name", "c", "--slots", "2", "--max-runs", "3"]
    call = [sys.executable, "-c", COMMAND, json.dumps(bench.trainer), *words]
    shown = on_terminal(call, tmp_path).replace("\r\n", "\n")
    assert "parity" in shown and not unsafe(OWN.sub("", shown)), shown
    code, out, err = bench.call("resume", "c", "--max-runs", "4")
    assert code == 3 and "parity" in out and not unsafe(out + err), err


def read_strictly(text):
    """The value of a JSON text, which must not have what JSON has not."""

    def refuse(constant):
        raise AssertionError(f"{constant} in {text[:200]}")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize(
    "text, shown",
    [
        ("a\tb\n\u00e9\u4e2d", "a\tb\n\u00e9\u4e2d"),
        ("\x1b[1;31mError\x1b[0m: no", "Error: no"),
        (f"a{CLIPBOARD}b", "ab"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x9b31mred\x9d0;t\x9c", "red"),
        ("\x1b]52;c;never ended\nnext", "\\x1b]52;c;never ended\nnext"),
        ("  5%\r 50%\r100%\nnext\r\nlast\r", "100%\nnext\nlast"),
        ("1/2\x08\x08\x08\r2/2", "2/2"),
        ("\x1b\x1b[31m[31m", "\\x1b[31m"),
        ("a\u202eb\udc9b\x07\u2028", "a\\u202eb\\udc9b\\x07\\u2028"),
        ("[/red] [bold]", "[/red] [bold]"),
    ],
)
def test_what_is_left_of_a_text(text, shown):
    assert printable(text) == shown
    assert printable({text: [text, (1, None)]}) == {shown: [shown, [1, None]]}


@pytest.mark.parametrize("piece", ["\x1b]", "\x9d", "\x1b[", "\x1bP", "\r", "a\r", "\x08", "\x1b[0"])
def test_a_long_text_takes_no_time(piece):
    """It would take hours, were each piece compared with all those behind it."""
    assert not unsafe(printable(piece * 500_000 + "\n" + "a" * 500_000))


def test_logs_of_lines_that_come_in_pieces(tmp_path, capfd):
    output = _Output("stdout.txt")
    with open(tmp_path / "stdout.txt", "wb", buffering=0) as file:
        for piece in (
            "50%\r",
            "60",
            "%\r\x1b[3",
            "1mdone\x1b[",
            "0m\n\u4e2d".encode()[:-1],
            "\u4e2d".encode()[-1:],
            "!",
        ):
            file.write(piece if isinstance(piece, bytes) else piece.encode())
            output.show(tmp_path)
    output.end()
    assert capfd.readouterr().out == "done\n\u4e2d!"


def test_logs_of_a_line_without_end(tmp_path, capfd):
    """Nobody waits for its end, and memory has one."""
    output = _Output("stdout.txt")
    (tmp_path / "stdout.txt").write_text("x" * (3 * MOST_LINE))
    output.show(tmp_path)
    assert len(output._line) <= MOST_LINE
    output.end()
    assert capfd.readouterr().out == "x" * (3 * MOST_LINE)


def test_all_that_is_printed_goes_one_way():
    """screen.py prints what is safe; anything else in a command would have to see to that itself."""
    for path in sorted((ROOT / "bisect_cli").rglob("*.py")):
        if path.name not in ("screen.py", "agent.py", "template.py"):
            text = path.read_text()
            assert not re.search(r"click\.(echo|secho)|(?<![\w.])print\(|sys\.std(out|err)\.write", text), path
            assert "json.dump" not in text or "cli" not in path.parts[-2:], f"{path}: say_json"


def test_numbers_that_json_has_not():
    values = {"a": float("nan"), "b": [1.5, float("inf"), {"c": (-float("inf"), "\x7f\x1b\u202e")}], "d": None}
    text = strict_json.dumps(values)
    assert read_strictly(text) == {"a": None, "b": [1.5, None, {"c": [None, "\x7f\x1b\u202e"]}], "d": None}
    assert not unsafe(text) and text.isascii()


def test_all_that_is_written_is_json(tmp_path):
    """Where runs report NaN and infinities."""
    bench = Bench(tmp_path, breaks={"segm": [["ROI_ALIGN_MASK"]]}, diverges=[["MASK_LOSS"]])
    bench.set(diverges=[["MASK_LOSS"]], more='"bbox/AP_large": NaN, "bbox/AP_small": -Infinity')
    bench.run(parity=False)
    for words in (["status", "c", "--json"], ["status", "c", "--json", "--watch"]):
        code, out, err = bench.call(*words)
        assert code == 0, err
        summary = read_strictly(out)
    assert any(trial["state"] == "diverged" for trial in summary["trials"])
    written = [path for path in (bench.runs / "c").rglob("*") if path.suffix in (".json", ".jsonl")]
    written = [path for path in written if "out" not in path.parts and path.stat().st_size]
    assert {path.name for path in written} >= {"events.jsonl", "job.json", "exit.json"}
    for path in written:
        for line in path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]:
            read_strictly(line)
