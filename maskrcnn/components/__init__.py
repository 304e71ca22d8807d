"""The eleven pieces, one file each; every file holds `nobatch` and `batched`, and the faults that once broke it.

Every piece of the graph takes the true image sizes hw [B,2] first, then canonical tensors, then keywords.
"""

import importlib

from maskrcnn.errors import UserError
from maskrcnn.pieces import PIECES


def implementations(flags, plants=None):
    """The function for every piece, {flag: function}: batched where its flag is on, else per-image.

    `plants` {flag: "module:function"} replaces batched implementations; it acts on a flag that is on and nowhere else.
    Raises UserError if a planted function cannot be imported.
    """
    plants = plants or {}
    return {
        flag: load(plants[flag]) if flag in flags and flag in plants else piece.implementation(flag in flags)
        for flag, piece in PIECES.items()
    }


def load(target):
    """The function that "package.module:function" names. Raises UserError."""
    module, _, name = target.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except ImportError as e:
        raise UserError(
            f"--plant {target}: cannot import {module} ({e}); is it in this folder or on PYTHONPATH?"
        ) from e
    except AttributeError:
        raise UserError(f"--plant {target}: {module} has no function '{name}'.") from None
