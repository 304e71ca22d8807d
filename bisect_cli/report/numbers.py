"""Numbers as people write them."""

import math
import time


def number(value, metric=None, signed=False):
    """A metric's value, or a difference of two: an AP as .712, others with the digits that their range deserves."""
    if value is None:
        return "-"
    if not math.isfinite(value):
        return "NaN"
    sign = "+" if signed else ""
    size = (metric.high - metric.low) if metric and metric.range else None if metric else 1.0
    if size is None:
        return f"{value:{sign}.{3 if signed else 4}g}"
    text = f"{value:{sign}.{max(0, 3 - math.ceil(math.log10(size)))}f}"
    return text.replace("0.", ".", 1) if size <= 1 and abs(value) < 1 else text


def percent(probability):
    """A probability in percent that never rounds up to certainty."""
    return f"{min(math.floor(1000 * probability) / 10, 99.9):.1f}%"


def count(number, noun, plural=""):
    """A number with its noun: 1 run, 2 runs."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def duration(seconds):
    """A duration in the unit that suits it."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def moment(seconds):
    """A time, given as seconds since 1970, as clocks here show it."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def clock(seconds):
    """A duration as m:ss or h:mm:ss."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
