"""Finds which batched pieces of a training break its accuracy. Knows flags, runs and statistics; never imports
TensorFlow.

For programs: `Bisection` (docs/ask-and-tell.md).
"""

__all__ = ["Bisection"]


def __getattr__(name):
    if name != "Bisection":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from bisect_cli.run.bisection import Bisection

    return Bisection
