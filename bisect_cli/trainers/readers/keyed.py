"""What the formats that name their values have in common: the names."""

import abc

from bisect_cli.errors import nearest
from bisect_cli.trainers.readers.reader import Reader
from bisect_cli.trainers.readers.values import number

MOST_NAMES = 12  # in a message


class KeyedReader(Reader):
    """Looks for a value by its name."""

    needs = ("file", "key")
    name = "key"  # where its table has the name

    @property
    def sought(self):
        return f"`{self.source[self.name]}`"

    @abc.abstractmethod
    def named(self, paths):
        """{name: a value of it} in these files; for messages, so it need not be all."""

    def instead(self, paths):
        values = self.named(paths)
        sought = self.source[self.name]
        if sought in values:
            is_number = number(values[sought]) is not None
            return "it is there by now" if is_number else f"it is there, but {_short(values[sought])} is no number"
        names = sorted(name for name, value in values.items() if number(value) is not None) or sorted(values)
        if not names:
            return "nothing was found there that has a name"
        near = [name for name in nearest(sought, names) if name != sought]
        shown = list(dict.fromkeys([*near, *names]))[:MOST_NAMES] if len(names) > MOST_NAMES else names
        more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
        return f"it has {', '.join(shown)}{more}" + (f": did you mean {' or '.join(near)}?" if near else "")


def _short(value, most=40):
    text = repr(value)
    return text if len(text) <= most else f"{text[: most - 3]}..."
