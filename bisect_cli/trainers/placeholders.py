"""Words with placeholders, as `{seed}`, in a trainer's file. `{{` and `}}` stand for braces."""

import string

from bisect_cli.errors import UserError, unknown

RUN = ("out", "seed", "flags", "trial", "attempt", "steps", "tree")  # what a run fills in
FLAGS_WORD = "{flags}"  # as a word by itself it becomes several


def names_in(text, where, known=RUN):
    """The placeholders of a text, in their order. Raises UserError, that names `where` they stand, if one is not known,
    and for a brace without its other half.
    """
    try:
        parts = list(string.Formatter().parse(text))
    except ValueError:
        raise UserError(
            f"{where}: '{text}' has a brace without its other half; write {{{{ or }}}} for a brace."
        ) from None
    names = [name for _, name, _, _ in parts if name is not None]
    for name in names:
        if name not in known:
            raise UserError(f"{where}: {unknown('placeholder', '{' + name + '}', ['{' + one + '}' for one in known])}")
    if any(form or conversion for _, name, form, conversion in parts if name is not None):
        raise UserError(f"{where}: '{text}': a placeholder is a name in braces and nothing else.")
    return names


def fill(text, values):
    """The text with its placeholders replaced by these values."""
    return text.format_map({name: str(value) for name, value in values.items()})


def fill_words(words, values, flag_words):
    """An argv list filled in: a word that is `{flags}` alone becomes `flag_words`, if these are not None."""
    filled = []
    for word in words:
        if word == FLAGS_WORD and flag_words is not None:
            filled += flag_words
        else:
            filled.append(fill(word, values))
    return filled
