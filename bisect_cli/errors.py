"""A user's mistake, said in one line that names the input and the remedy."""

import difflib


class UserError(Exception):
    """Wrong input. Command lines print it as one line and exit with code 2; it never carries a traceback."""


def nearest(name, known, n=3):
    """The up to `n` names of `known` that look most like `name`, best first, case aside."""
    by_upper = {k.upper(): k for k in known}
    return [by_upper[m] for m in difflib.get_close_matches(name.upper(), list(by_upper), n=n, cutoff=0.5)]


def unknown(kind, name, known):
    """A UserError for a name that is not among `known`, with the nearest ones or, if none is near, all of them."""
    known = list(known)
    near = nearest(name, known)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known)}."
    return UserError(f"unknown {kind} '{name}': {hint}")
