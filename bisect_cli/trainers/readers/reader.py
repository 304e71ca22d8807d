"""What the readers of all formats have in common: which files, what of them is known, and one Series of all."""

import abc
from itertools import chain

from bisect_cli.trainers.readers.files import Followed, is_regular
from bisect_cli.trainers.readers.series import Series


class Reader(abc.ABC):
    """Reads one metric. `needs` and `takes`: the keys of its table that must and may be there.

    It keeps the points and the place in each file that it has read, so that reading again costs what has been added.
    """

    needs: tuple = ()
    takes: tuple = ()

    def __init__(self, source):
        self.source = source
        self._followed = {}

    def read(self, places, ended=False) -> Series:
        """All of the metric that is there. ended: the run has ended by itself, so a last line that no newline ends is
        whole, and not one that a kill has cut off (which would make 0.93 a 0.9). That goes for the last file alone, as
        those before it may be of earlier attempts.
        """
        paths = self.paths(places)
        files = [self._updated(path) for path in paths]
        return Series(
            tuple(chain.from_iterable(self.points(file.parser, paths, ended and file is files[-1]) for file in files)),
            paths or self.sought_at(places),
            tuple(f"{file.path}: {file.parser.damage}" for file in files if file.parser.damage),
        )

    def _updated(self, path):
        if path not in self._followed:
            self._followed[path] = Followed(path, self.make_parser)
        self._followed[path].update()
        return self._followed[path]

    def points(self, parser, paths, ended):
        """Those of one of the files. ended: it is the last file, and will not grow."""
        return chain(parser.points, parser.unended()) if ended else parser.points

    def paths(self, places):
        """The files, in their order."""
        paths = places.paths(self.source["file"])
        return tuple(filter(is_regular, paths)) if "*" in self.source["file"] else paths

    def sought_at(self, places):
        """What to name where `paths` are none."""
        return (places.shown(self.source["file"]),)

    @property
    @abc.abstractmethod
    def sought(self):
        """What is looked for, as messages have it."""

    @abc.abstractmethod
    def make_parser(self):
        """Of one file; see `Followed`."""

    @abc.abstractmethod
    def instead(self, paths):
        """What is in these files, if not the metric; a clause for messages."""
