"""What runs are computed with, where the training does not say it itself: the state of its source in git, what is in
files, what commands print. All of it becomes short texts, for a fingerprint.

git is asked with every option said, so that a user's settings change no answer; it writes nothing, not even into its
index. Where git is not installed, or does not know the folder, there is no such state.
"""

import contextlib
import glob
import hashlib
import os
import shlex
import signal
import stat
import subprocess

from bisect_cli.errors import UserError
from bisect_cli.launchers import process

# Never source: what version control keeps for itself, and what Python makes of the source whenever it runs.
NOT_SOURCE = {".git", ".hg", ".svn", "__pycache__"}
LOG, LEASE, TRIALS = "events.jsonl", "lease.json", "trials"  # what the folder of a campaign has (`storage`)
DIGITS = 12  # of a commit, and of a digest in hexadecimal: 48 bits, and there are but a few states to tell apart
LARGE = 64 * 2**20  # bytes; an uncommitted file beyond counts by its size and time: reading it takes too long
BLOCK = 2**20  # bytes read at once
TIMEOUT = 60.0  # seconds for a command of the fingerprint: it prints a version, and trains nothing

# What points git to another repository than the folder's own: set where the tool is started by a hook of git.
DIVERSIONS = {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR", "GIT_NAMESPACE"}
SETTINGS = (
    *("core.quotepath=off", "core.fsmonitor=false", "submodule.recurse=false"),
    *("status.renames=false", "diff.renames=false"),
)


# --- git


def repository(workdir):
    """The top folder of the git work tree that `workdir` is in, without symlinks; None if there is none. None also if
    the tree has nothing in `workdir` that is not ignored: then it is not about this training, as a home folder under
    git is not that ignores all but a few files.
    """
    top = _git(workdir, "rev-parse", "--show-toplevel")
    listing = top and _git(workdir, "ls-files", "--cached", "--others", "--exclude-standard", "-z")
    return os.path.realpath(os.fsdecode(top.rstrip(b"\n"))) if listing else None


def listed_files(top):
    """The files of a work tree, as paths relative to `top`: tracked ones and those that are new and not ignored, in
    submodules and other repositories within as well. Tracked files that are deleted are among them.
    """
    for path in _paths(_git(top, "ls-files", "--cached", "--others", "--exclude-standard", "-z")):
        inner = os.path.join(top, path)
        if not os.path.isdir(inner) or os.path.islink(inner):
            yield path
        elif os.path.exists(os.path.join(inner, ".git")):
            yield from (os.path.join(path, file) for file in listed_files(inner))


def source_state(workdir):
    """The state of the source in `workdir`: "4e76efc12345 clean" where all is committed, else "4e76efc12345 + changes
    89ab89ab89ab", with a digest of the contents of all files that are changed, deleted or new and not ignored, in the
    whole work tree. "" where there is no git. Staged or not is the same, and campaigns do not count: they change while
    they run.
    """
    top = repository(workdir)
    return _state(top) if top else ""


def is_campaign(folder):
    """Whether a folder is a campaign's, even one that is just begun: it is no source, wherever it lies."""
    log, lease, trials = (os.path.lexists(os.path.join(folder, name)) for name in (LOG, LEASE, TRIALS))
    return log and (lease or trials) or lease and os.listdir(folder) == [LEASE]


def _state(top):
    commit = (_git(top, "rev-parse", "--verify", "--quiet", "HEAD") or b"").decode().strip()[:DIGITS]
    tracked, new = _changes(top)
    changed = sorted(_outside_campaigns({*tracked, *_source_among(new)}, top))
    if not changed:
        return f"{commit or 'no commit,'} clean"
    digest = _digest(part for path in changed for part in (path, _file_state(os.path.join(top, path))))
    return f"{commit or 'no commit'} + changes {digest}"


def _changes(top):
    """The paths of tracked files that are not as in HEAD, and those of new files that are not ignored. By `git status`:
    unlike `git diff` it can leave the index alone.
    """
    options = ("--porcelain", "-z", "--untracked-files=all", "--ignore-submodules=none")
    entries = iter((_git(top, "status", *options) or b"").split(b"\0"))
    tracked, new = [], []
    for entry in entries:
        marks, path = entry[:2], entry[3:]
        if path:
            (new if marks == b"??" else tracked).append(_path(path))
        if marks.strip(b" MADTU?!"):  # renamed or copied: from where comes next
            tracked.append(_path(next(entries)))
    return tracked, new


def _outside_campaigns(paths, top):
    campaigns = {folder for folder in folders_of(paths) if is_campaign(os.path.join(top, folder))}
    return {path for path in paths if not campaigns.intersection(folders_of([path]))}


def _source_among(paths):
    """Those of new files that may be source: not of Python's caches, nor of an environment of packages."""
    environments = [os.path.dirname(path) for path in paths if path.endswith("/pyvenv.cfg")]
    for path in paths:
        if not {*NOT_SOURCE, "node_modules"}.intersection(path.split("/")) and not any(
            is_within(path, folder) for folder in environments
        ):
            yield path


def _file_state(path):
    """What there is at a path, as a text."""
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return "gone"
    if stat.S_ISLNK(found.st_mode):
        return f"link to {os.readlink(path)}"
    if stat.S_ISDIR(found.st_mode):
        return f"repository {_state(path)}" if os.path.exists(os.path.join(path, ".git")) else "folder"
    kind = "program" if found.st_mode & stat.S_IXUSR else "file"
    if found.st_size <= LARGE:
        with contextlib.suppress(FileNotFoundError, PermissionError):
            return f"{kind} {_content(path)}"
    return f"{kind} of {found.st_size} bytes at {found.st_mtime_ns}"


def _git(folder, *arguments):
    """What a command of git prints in a folder, as bytes; b"" if it fails and has nothing to say. None if there is no
    git or no work tree. Raises UserError for any other failure, in git's own words: they name the remedy.
    """
    command = ["git", *(word for setting in SETTINGS for word in ("-c", setting)), *arguments]
    environment = {name: value for name, value in os.environ.items() if name not in DIVERSIONS}
    environment.update(GIT_OPTIONAL_LOCKS="0", GIT_TERMINAL_PROMPT="0", LC_ALL="C")
    try:
        answer = subprocess.run(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None
    if answer.returncode == 0:
        return answer.stdout
    says = " ".join(answer.stderr.decode(errors="replace").split())
    if "not a git repository" in says.lower() or "must be run in a work tree" in says:
        return None
    if says:
        raise UserError(f"git cannot read {folder}: make `git status` work there first. It says: {says}")
    return b""


def _paths(listing):
    """The paths of a listing that ends each with a zero byte. A repository within stands there with a slash behind."""
    return sorted({_path(path) for path in (listing or b"").split(b"\0")} - {"", "."})


def _path(listed):
    return os.fsdecode(listed).rstrip("/")


# --- files and commands


def digest_of_files(patterns, root):
    """{pattern: digest of the names and contents of the files that it matches}. patterns: paths relative to `root`,
    with * and, for folders to any depth, **. Raises UserError for one that matches no file.
    """
    return {pattern: _digest_of_matches(pattern, root) for pattern in patterns}


def _digest_of_matches(pattern, root):
    found = glob.glob(os.path.join(glob.escape(str(root)), pattern), recursive=True)
    files = {os.path.normpath(path) for path in found if os.path.isfile(path)}
    names = {os.path.relpath(path, root): path for path in files}
    names = {name: names[name] for name in sorted(names) if not NOT_SOURCE.intersection(name.split(os.sep))}
    if not names:
        remedy = "a folder's files are FOLDER/**/*" if any(map(os.path.isdir, found)) else "mend or drop the pattern"
        raise UserError(f"the fingerprint's '{pattern}' matches no file in {root}: {remedy}.")
    try:
        return _digest(part for name, path in names.items() for part in (name, _content(path)))
    except PermissionError as error:
        raise UserError(
            f"the fingerprint's '{pattern}' takes in {error.filename}, which cannot be read: make it readable, or "
            "narrow the pattern."
        ) from None


def output_of_commands(commands, root):
    """{command as text: digest of what it prints to stdout}. commands: argv lists, run in `root`. Raises UserError for
    one that fails, with the last line it printed, or takes longer than TIMEOUT.
    """
    return {shlex.join(command): _digest([_output(command, root)]) for command in commands}


def _output(command, root):
    said = f"the fingerprint's command `{shlex.join(command)}`"
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    try:
        running = subprocess.Popen(command, cwd=root, start_new_session=True, **pipes)
    except (OSError, ValueError) as error:
        reason = os.strerror(error.errno).lower() if getattr(error, "errno", None) else error
        raise UserError(f"{said} cannot be started in {root} ({reason}): mend or drop it.") from None
    with running:
        try:
            output, errors = running.communicate(timeout=TIMEOUT)
        except BaseException as error:
            process.signal_group(running.pid, signal.SIGKILL)  # with what it has started itself
            if isinstance(error, subprocess.TimeoutExpired):
                raise UserError(f"{said} took longer than {TIMEOUT:g} seconds: give a quicker one.") from None
            raise
    if running.returncode:
        lines = (errors.strip() or output.strip()).decode(errors="replace").splitlines() or ["(nothing printed)"]
        raise UserError(f"{said} ended with exit code {running.returncode}: mend or drop it. Last line: {lines[-1]}")
    return output


# --- paths and digests


def is_within(path, folder):
    """Whether a path is a folder or lies in it; both absolute, and no symlinks looked at."""
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def folders_of(paths):
    """All folders that have one of these paths in them, at any depth. All relative to the same folder."""
    folders = set()
    for path in paths:
        folder = os.path.dirname(path)
        while folder and folder not in folders:
            folders.add(folder)
            folder = os.path.dirname(folder)
    return folders


def _content(path):
    """The digest of a file's content."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(BLOCK), b""):
            digest.update(block)
    return digest.hexdigest()


def _digest(parts):
    """A digest of texts or bytes, in their order. Their lengths count: they cannot run into one another."""
    digest = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else os.fsencode(part)
        digest.update(b"%d:" % len(data) + data)
    return digest.hexdigest()[:DIGITS]
