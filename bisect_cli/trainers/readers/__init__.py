"""Reads metrics out of whatever a training writes, without importing the training or its framework.

A table [metrics.NAME] of a trainer's file is a `source`: which format (formats.py; a file each), where, and by which
key, pattern or tag. Its Reader looks into a run's folder (Places) as often as one likes, reads on from where it was,
and returns all of the metric so far (Series). What is in a run's folder is data of anyone's: no file there can make the
reading wait, go astray or fill the memory (files.py).
"""

from bisect_cli.trainers.readers import explain
from bisect_cli.trainers.readers.check import check_source
from bisect_cli.trainers.readers.formats import FORMATS
from bisect_cli.trainers.readers.places import Places
from bisect_cli.trainers.readers.reader import Reader
from bisect_cli.trainers.readers.rules import final
from bisect_cli.trainers.readers.series import Series

__all__ = ["Places", "Reader", "Series", "check_source", "explain_nothing", "final", "make_reader"]


def make_reader(source) -> Reader:
    """The Reader of a [metrics.NAME] table that `check_source` has passed: one for each run, or one for several."""
    return FORMATS[source["source"]](source)


def explain_nothing(source, series):
    """Why a Series has no points, in a sentence without a full stop: what was looked for, in which files, and what is
    there instead.
    """
    return explain.nothing(make_reader(source), series.looked_at)
