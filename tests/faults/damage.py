"""Logs that were damaged: cut, and lines deleted, doubled, swapped and changed; of a campaign that has finished, and of
one whose controller was killed half way.
"""

import functools

from faults.kind import Kind

TEMPLATES = {"finished": 30, "half": 20}  # lines of their logs, at most


def make(site, name):
    """A campaign as in the template `name`; returns nothing of note."""
    plan = {"at": 160, "do": "kill"} if name == "half" else None
    done = site.do(*site.start, plan=plan)
    assert site.log.exists(), done.text


def put(site, name):
    """Has the site as in the template `name`."""
    site.template(name, functools.partial(make, name=name))


def points(ways, site):
    """(template, way, place from 0 to 1): each line, or so many bytes of each line."""
    for name, lines in TEMPLATES.items():
        for way in ways:
            number = lines * (8 if way in ("cut", "flip") else 1)
            yield from ((name, way, place / number) for place in range(number))


def damaged(data, way, place):
    """The bytes of a log, damaged in one way at one place."""
    lines = data.splitlines(keepends=True)
    line, byte = int(place * len(lines)), int(place * len(data))
    if way == "cut":
        return data[:byte]
    if way == "flip":
        return data[:byte] + bytes([data[byte] ^ (1 << byte % 8)]) + data[byte + 1 :]
    if way == "zeros":
        start = sum(map(len, lines[:line]))
        return data[:start] + bytes(min(512, len(data) - start)) + data[start + 512 :]
    if way == "delete":
        del lines[line]
    elif way == "double":
        lines.insert(line, lines[line])
    elif way == "swap":
        other = (line + 1) % len(lines)
        lines[line], lines[other] = lines[other], lines[line]
    return b"".join(lines)


def struck(site, point):
    name, way, place = point
    put(site, name)
    site.log.write_bytes(damaged(site.log.read_bytes(), way, place))
    number = int(place * 1000)
    return site.judge([site.look(number), *site.resume(), site.look(number + 1)], damaged=True)


def kept_points(site):
    """As `points`, with a file. A lease with another host's name is another host's, so in that nothing is flipped."""
    ways = {"kept.jsonl": ["cut", "flip", "zeros"], "lease.json": ["cut", "zeros"]}
    return [(*point, file) for file in ways for point in points(ways[file], site)]


def kept_struck(site, point):
    name, way, place, file = point
    put(site, name)
    path = site.log.with_name(file)
    if path.exists() and path.stat().st_size:
        path.write_bytes(damaged(path.read_bytes(), way, place))
    number = int(place * 1000)
    return site.judge([site.look(number), *site.resume(), site.look(number + 1)])


KINDS = (
    Kind("log cut", functools.partial(points, ["cut"]), struck, 0.06),
    Kind("log lines deleted, doubled, swapped", functools.partial(points, ["delete", "double", "swap"]), struck, 0.06),
    Kind("log bytes changed", functools.partial(points, ["flip", "zeros"]), struck, 0.06),
    Kind("what is kept beside the log damaged", kept_points, kept_struck, 0.03),
)
