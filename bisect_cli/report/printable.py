"""Text that others wrote, as it may be printed: a trainer, a scheduler, or whoever named a file may have put into it
what makes a terminal do something, as set the clipboard or show another text than stands there.
"""

import re

# CSI; OSC, DCS, SOS, PM and APC with all up to their end; other sequences; and what progress bars step back with
_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[]PX^_]|[\x90\x98\x9d-\x9f])[^\n\x07\x1b\x90\x98\x9c-\x9f]*(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]*[0-Z\\`-~]"
    r"|\x08"
)
# C0 and C1 but for tab and newline; line and paragraph separators; what changes the direction of writing; halves of
# characters, which names of files have in the place of bytes that are no UTF-8
_CONTROL = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(value):
    """A text without anything that a terminal would obey: escape sequences are left out, other control characters show
    as in `\\x07`, and of a line that was written over again with carriage returns the last state stays. Also of all the
    texts in lists, tuples and dicts. Anything else stays as it is.
    """
    if isinstance(value, str):
        return value if value.isprintable() else _cleaned(value)
    if isinstance(value, dict):
        return {printable(key): printable(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [printable(one) for one in value]
    return value


def _cleaned(text):
    text = _SEQUENCE.sub("", text)
    if "\r" in text:
        text = "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
    return _CONTROL.sub(_shown, text)


def _shown(match):
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
