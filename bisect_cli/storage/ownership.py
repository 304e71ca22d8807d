"""Whether a campaign's commands are this user's own: a signature beside its log says so, made with a key that is kept
outside of all campaigns.

A folder that others have made, or into whose log they have written, has no such signature. Of a campaign that is
changed by its user, what it was before stays signed, so that one which is killed meanwhile is still its user's.
"""

import contextlib
import hashlib
import hmac
import json
import os
import secrets
import tempfile
from pathlib import Path

from bisect_cli.storage import eventlog, untrusted

FILE = "owner.json"  # in a campaign's folder: {"signatures": [texts]}
PLACE = Path("maskrcnn-bisect", "key")  # in $XDG_STATE_HOME
KEY_BYTES, MOST_SIGNATURES = 32, 100
SIGNED = ("uid", "flags", "seed", "launcher", "launcher_options", "workdir")  # of the settings


def is_own(folder, settings):
    """Whether this user has begun the campaign in this folder with these Settings, or has said that they are fine."""
    key, signatures = _key()[0], _signatures(folder)
    if key is None:
        return False
    own = _signature(key, settings)
    return any(hmac.compare_digest(own, other) for other in signatures)


def sign(folder, settings):
    """Notes that the commands of these Settings are this user's own, if there is a key. Raises OSError."""
    key = _key()[0]
    if key is None or is_own(folder, settings):
        return
    signatures = [*_signatures(folder), _signature(key, settings)][-MOST_SIGNATURES:]
    fresh = _write_beside(Path(folder) / FILE, json.dumps({"signatures": signatures}), 0o644)
    os.replace(fresh, Path(folder) / FILE)
    eventlog.sync_folder(folder)


def trouble():
    """Why this user has no key, "" if there is one: then no campaign can be known to be the user's own."""
    return _key()[1]


def _key():
    """(key, ""), or (None, why there is none)."""
    try:
        base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        path = Path(base) / PLACE
        return _read_key(path) or _make_key(path), ""
    except (OSError, RuntimeError) as error:  # the latter: there is no home
        return None, getattr(error, "strerror", None) or str(error)


def _read_key(path):
    """The key in a file; None if there is none, or if anybody else may know it or have put it there."""
    try:
        with untrusted.opened(path) as (file, status):
            text = untrusted.read_from(file, 2 * KEY_BYTES).decode(errors="replace")
    except FileNotFoundError:
        return None
    mine = status.st_uid == os.geteuid() and not status.st_mode & 0o077
    with contextlib.suppress(ValueError):
        return bytes.fromhex(text) if mine and len(text) == 2 * KEY_BYTES else None


def _make_key(path):
    """A new key, or that of another process which has made one just now."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = _write_beside(path, secrets.token_hex(KEY_BYTES), 0o600)
    try:
        if os.path.lexists(path) and not _read_key(path):
            os.replace(fresh, path)  # it was none
        else:
            with contextlib.suppress(FileExistsError):
                os.link(fresh, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(fresh)
    key = _read_key(path)
    if key is None:
        raise OSError(f"{path} cannot be kept from others")
    return key


def _write_beside(path, text, mode):
    """A new file in the folder of `path`, of another name, to be renamed; it is on disk."""
    handle, name = tempfile.mkstemp(prefix=f"{path.name}.new-", dir=path.parent)
    with os.fdopen(handle, "w") as file:
        os.fchmod(handle, mode)
        file.write(text)
        file.flush()
        os.fsync(handle)
    return name


def _signatures(folder):
    try:
        found = (untrusted.read_object(Path(folder) / FILE) or {}).get("signatures")
    except OSError:
        return []
    return [text for text in found if isinstance(text, str) and text.isascii()] if isinstance(found, list) else []


def _signature(key, settings):
    """Of all that decides what a campaign executes."""
    values = {name: getattr(settings, name) for name in SIGNED}
    values.update(trainer=settings.spec.trainer, options=settings.spec.options)
    return hmac.new(key, json.dumps(values, sort_keys=True).encode(), hashlib.sha256).hexdigest()
