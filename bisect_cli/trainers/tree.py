"""A copy of the source for one run, in which its flags are edited: never in the user's own.

A copy holds what git lists, tracked files and those that are new and not ignored, as they are in the working tree, so
uncommitted changes are in it. It is no `git worktree`: that would be registered in the user's repository, to be cleaned
up after every kill, would leave submodules empty, and would need the changes put onto it as a patch, which breaks on
filters and on a merge under way. Here there is nothing to clean up but a folder. What the training asks git for, it
gets from the user's repository if the runs folder lies in it, else not at all. Without git everything is copied.

All else that lies in the source is reachable in the copy by a symlink to the original, as high up as can be: ignored
files and folders such as data, weights and extensions that were built in place, and virtual environments. So what a
training writes into an ignored folder of its source, rather than into its {out}, is shared by all runs, as it is where
flags are switched by arguments. Left out are campaigns, version control's own folders, and what Python has compiled:
it knows a source by size and time, and could take a switched file for the old one.

A copy is made beside its place under another name, edited, and renamed when it is whole. So what stands in its place is
whole, after whatever kill, and is used again by the next attempt of the run. One process at a time makes a copy, as the
campaign's lease sees to; copies in other places do not disturb it.

A training that imports its own modules as an installed package (`pip install -e`) finds the originals, not the copies,
unless PYTHONPATH has {tree} in it.
"""

import contextlib
import os
import shutil
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import NamedTuple

from bisect_cli.errors import UserError
from bisect_cli.trainers import edits as switching
from bisect_cli.trainers.source_state import NOT_SOURCE, folders_of, is_campaign, is_within, listed_files, repository

MOST_BYTES = 2**30  # to copy: every run with edits has a copy of its own, and a search has dozens of runs
TRIES = 3  # to remove a folder into which a dying process may still write,
PAUSE = 0.2  # seconds apart
ENVIRONMENTS = ("pyvenv.cfg", "conda-meta")  # what a folder has in it that is an environment of Python's

FOLDER, COPY, SYMLINK, ORIGINAL = "folder", "copy", "symlink", "original"  # what becomes of an entry; the last: a link


class Outline(NamedTuple):
    """What a copy would be. top: the folder it is made of. entries: (what becomes of it, path relative to `top`), each
    folder before what is in it. size: bytes to copy.
    """

    top: str
    entries: list
    size: int

    @property
    def originals(self):
        """What stays where it is, and is linked."""
        return [path for kind, path in self.entries if kind == ORIGINAL]

    @property
    def files(self):
        """How many files are copied."""
        return sum(kind == COPY for kind, _ in self.entries)


def top_of(workdir):
    """The folder that copies are made of: the top of the git work tree that `workdir` is in, else `workdir` itself."""
    if not os.path.isdir(workdir):
        raise UserError(f"there is no folder {workdir}: mend the workdir of the training.")
    return repository(workdir) or os.path.realpath(workdir)


def outline(workdir, edits=(), target=None):
    """The Outline of a copy. edits: Edits whose files are copied even if they are ignored. target: where the copy goes.
    Raises UserError if that is more than MOST_BYTES.
    """
    top = top_of(workdir)
    listed = set(listed_files(top)) if repository(workdir) else None  # without git, everything
    edited = {os.path.relpath(path, top) for edit in edits for path in _paths_of(edit, workdir)}
    places = [os.path.realpath(path) for path in ((target, _partial(target)) if target else ())]
    entries = list(_walk(top, _Choice(listed, edited, places)))
    sizes = {}
    for kind, path in entries:
        with contextlib.suppress(FileNotFoundError):  # gone since it was listed
            sizes.update({path: os.lstat(os.path.join(top, path)).st_size} if kind == COPY else {})
    size = sum(sizes.values())
    if size > MOST_BYTES:
        raise UserError(
            f"every run of flags that edit files has a copy of {top}, and that is {_amount(size)}, more than "
            f"{_amount(MOST_BYTES)} (largest: {_largest(sizes)}): name data in .gitignore, keep it elsewhere, or "
            "switch the flags by arguments or environment."
        )
    return Outline(top, entries, size)


def workdir_in(workdir, target):
    """The folder that corresponds to `workdir` in a copy at `target`, which need not be there yet."""
    return Path(os.path.abspath(target), os.path.relpath(os.path.realpath(workdir), top_of(workdir)))


def copy_tree(workdir, target, states=()):
    """Copies the source to `target` and switches flags there; returns the folder in it that corresponds to `workdir`. A
    copy that is there already is whole, and stays as it is. states: (Edit, whether the flag is on) of each. Raises
    UserError as `outline` and `edits.apply` do.
    """
    if os.path.isdir(target) and not os.path.islink(target):
        return workdir_in(workdir, target)
    plan = outline(workdir, [edit for edit, _ in states], target)
    remove_tree(target)  # what a kill has left beside it
    partial = _partial(target)
    partial.mkdir(parents=True)
    for kind, path in plan.entries:
        _make(kind, os.path.join(plan.top, path), os.path.join(partial, path), plan.top)
    switching.apply(states, workdir_in(workdir, partial), partial)
    os.rename(partial, target)
    return workdir_in(workdir, target)


def remove_tree(target):
    """Removes a copy, whole or not, with all that a run has left in it; nothing if there is none. It is renamed first,
    so that a kill leaves no part of it that looks whole.
    """
    partial = _partial(target)
    _remove(partial)
    with contextlib.suppress(FileNotFoundError):
        os.rename(target, partial)
    _remove(partial)


def _partial(target):
    target = Path(target)
    return target.with_name(f".{target.name}.partial")


# --- what becomes of each entry


class _Choice:
    """listed: the files to copy, all if None. edited: those to copy in any case. Both are relative to the top. places:
    where the copy goes, absolute.
    """

    def __init__(self, listed, edited, places):
        self.files = None if listed is None else listed | edited
        self.folders = folders_of(self.files or ())
        self.edited_folders = folders_of(edited)
        self.places = places

    def kind(self, path, entry):
        """What becomes of an os.DirEntry; None if it is left out. Sockets and pipes are."""
        if entry.name in NOT_SOURCE or entry.path in self.places:
            return None
        if entry.is_symlink():
            return SYMLINK
        if entry.is_dir():
            if is_campaign(entry.path):
                return None
            return FOLDER if self._is_entered(path, entry.path) else ORIGINAL
        # A script that is a link would import from where the link leads, so Python is copied even if it is ignored.
        chosen = self.files is None or path in self.files or path.endswith(".py")
        return (COPY if chosen else ORIGINAL) if entry.is_file() else None

    def _is_entered(self, path, folder):
        """Whether a folder is made anew, rather than linked whole. Those around the copy are, lest it contain itself,
        and empty ones: they are there to be written to.
        """
        if path in self.edited_folders or any(is_within(place, folder) for place in self.places):
            return True
        if os.path.basename(path) == "node_modules":
            return False
        if any(os.path.exists(os.path.join(folder, mark)) for mark in ENVIRONMENTS):
            return False
        return self.files is None or path in self.folders or _is_empty(folder)


def _is_empty(folder):
    try:
        with os.scandir(folder) as found:
            return next(found, None) is None
    except OSError:  # it is not ours to look into
        return False


def _walk(top, choice):
    """(what becomes of it, path relative to `top`) of each entry, folders before what is in them."""
    left = [""]
    while left:
        folder = left.pop()
        try:
            with os.scandir(os.path.join(top, folder)) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except FileNotFoundError:
            continue
        except PermissionError:
            raise _unreadable(os.path.join(top, folder)) from None
        for entry in entries:
            path = os.path.join(folder, entry.name)
            kind = choice.kind(path, entry)
            if kind:
                yield kind, path
                left += [path] if kind == FOLDER else []


def _paths_of(edit, workdir):
    path = os.path.normpath(os.path.join(os.path.realpath(workdir), edit.file))
    return path, os.path.realpath(path)


# --- making and removing


def _make(kind, source, copy, top):
    """One entry of a copy. Nothing if its source is gone since."""
    try:
        if kind == FOLDER:
            os.mkdir(copy)
        elif kind == COPY:
            shutil.copy2(source, copy, follow_symlinks=False)
        else:
            os.symlink(source if kind == ORIGINAL else _leads_to(source, top), copy)
    except FileNotFoundError:
        if os.path.lexists(source):
            raise
    except PermissionError as error:
        if kind != COPY or error.filename != source:
            raise
        raise _unreadable(source) from None


def _leads_to(link, top):
    """Where the copy of a symlink leads: to the same place in the copy, or else out of it to the same as before."""
    folder, leads = os.path.dirname(link), os.readlink(link)
    aim = os.path.normpath(os.path.join(folder, leads))
    aim = os.path.join(os.path.realpath(os.path.dirname(aim)), os.path.basename(aim))
    if not is_within(aim, top):
        return aim
    return os.path.relpath(aim, folder) if os.path.isabs(leads) else leads


def _unreadable(path):
    return UserError(
        f"a run's copy of the source takes in {path}, which cannot be read: make it readable or ignore it."
    )


def _remove(path):
    if os.path.islink(path) or not os.path.isdir(path):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        return
    for attempt in range(TRIES):
        try:
            _make_writable(path)
            shutil.rmtree(path)
            return
        except OSError:
            if not os.path.lexists(path):
                return
            if attempt == TRIES - 1:
                raise
            time.sleep(PAUSE)


def _make_writable(folder):
    """Lets all folders in one be emptied. No symlink is followed."""
    os.chmod(folder, 0o700)
    for parent, names, _ in os.walk(folder):
        for path in (os.path.join(parent, name) for name in names):
            if not os.path.islink(path):
                os.chmod(path, 0o700)


# --- sizes


def _largest(sizes, n=3):
    """The largest entries of {path: bytes}, as a text; of a folder that is mostly one thing, that thing."""
    totals, inner = Counter(), defaultdict(set)
    for path, size in sizes.items():
        parts = path.split(os.sep)
        for depth in range(1, len(parts) + 1):
            totals[os.sep.join(parts[:depth])] += size
            inner[os.sep.join(parts[: depth - 1])].add(os.sep.join(parts[:depth]))
    named = []
    for path in sorted(inner[""], key=lambda path: (-totals[path], path))[:n]:
        heavy = path
        while heavy:
            path = heavy
            heavy = next((one for one in inner.get(path, ()) if totals[one] > 0.8 * totals[path]), None)
        named.append(f"{path} with {_amount(totals[path])}")
    return ", ".join(named)


def _amount(size):
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"
