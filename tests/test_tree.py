"""Copies of a source for runs, and what is known of its state: with real git repositories, and without git."""

import os
import shutil
import socket
import subprocess
import sys
import time

import pytest

from bisect_cli.errors import UserError
from bisect_cli.trainers import edits, source_state, tree
from bisect_cli.trainers.edits import Constant, Template


def git(folder, *arguments):
    settings = ("user.name=a", "user.email=a@b", "protocol.file.allow=always", "init.defaultBranch=main")
    words = [word for setting in settings for word in ("-c", setting)]
    return subprocess.run(
        ["git", *words, *arguments], cwd=folder, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ).stdout


@pytest.fixture(autouse=True)
def a_user_without_settings(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path_factory.getbasetemp()))


def write(place, text="x\n"):
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)
    return place


def commit(folder):
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "a")


@pytest.fixture
def plain(tmp_path):
    """A source without git, with what they have in them."""
    top = tmp_path / "my söurce"
    write(top / "train.py", "USE = False\n")
    write(top / "pkg" / "model.py")
    write(top / "pkg" / "__pycache__" / "model.pyc")
    write(top / "pkg" / "no data" / "größe\n.txt")
    write(top / "data" / "big.bin", "b" * 1000)
    write(top / "runs" / "README.md")
    write(top / "runs" / "c1" / "events.jsonl")
    write(top / "runs" / "c1" / "lease.json")
    write(top / "runs" / "c1" / "trials" / "t01" / "out" / "x")
    write(top / ".venv" / "pyvenv.cfg")
    write(top / ".venv" / "bin" / "python")
    write(top / "node_modules" / "a.js")
    (top / "empty").mkdir()
    return top


@pytest.fixture
def repository(plain):
    """The same in git, with uncommitted changes of all kinds."""
    write(plain / ".gitignore", "data/\n__pycache__/\n.venv\n*.so\nlocal.py\n/scratch\n")
    git(plain, "init", "-q")
    write(plain / "gone.py")
    write(plain / "renamed.py", "renamed\n" * 9)
    write(plain / "staged.py")
    commit(plain)
    (plain / "gone.py").unlink()
    git(plain, "mv", "renamed.py", "new name.py")
    write(plain / "staged.py", "staged\n")
    git(plain, "add", "staged.py")
    write(plain / "train.py", "USE = False  # changed\n")
    write(plain / "new" / "untracked é.py")
    write(plain / "pkg" / "fast.so")
    write(plain / "local.py", "LOCAL = False\n")
    return plain


def target_in(top, trial="t01"):
    return top / "runs" / "c1" / "trials" / trial / "tree"


def contents(folder):
    """{path: text, or where it leads} of all that is in a folder; folders have a slash behind and no text."""
    found = {}
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = os.path.join(parent, name)
            key = os.path.relpath(path, folder)
            if os.path.islink(path):
                found[key] = f"-> {os.readlink(path)}"
            elif name in folders:
                found[f"{key}/"] = None
            else:
                with open(path, errors="replace") as file:
                    found[key] = file.read()
    return found


USE = Constant(flag="FLAG", file="train.py", on="True", off="False", name="USE")
STATES = [(USE, True)]


# --- copies


def test_a_copy_of_a_work_tree_is_what_git_lists_and_links_to_the_rest(repository):
    before = contents(repository)
    copied = tree.copy_tree(repository, target_in(repository), STATES)
    assert copied == target_in(repository)
    assert contents(copied) == {
        ".gitignore": before[".gitignore"],
        "train.py": "USE = True  # changed\n",
        "new name.py": "renamed\n" * 9,
        "staged.py": "staged\n",
        **{"pkg/": None, "pkg/model.py": "x\n", "pkg/no data/": None, "pkg/no data/größe\n.txt": "x\n"},
        **{"new/": None, "new/untracked é.py": "x\n", "runs/": None, "runs/README.md": "x\n", "empty/": None},
        "local.py": "LOCAL = False\n",  # ignored, and Python
        **{name: f"-> {repository}/{name}" for name in ("data", ".venv", "node_modules", "pkg/fast.so")},
    }
    shutil.rmtree(copied)
    assert contents(repository) == before
    assert "worktree" not in git(repository, "worktree", "list", "--porcelain").splitlines()[1:]


def test_a_copy_without_git_has_everything_but_what_is_no_source(plain):
    copied = tree.copy_tree(plain, target_in(plain), STATES)
    assert contents(copied) == {
        "train.py": "USE = True\n",
        **{"pkg/": None, "pkg/model.py": "x\n", "pkg/no data/": None, "pkg/no data/größe\n.txt": "x\n"},
        **{"data/": None, "data/big.bin": "b" * 1000, "runs/": None, "runs/README.md": "x\n", "empty/": None},
        **{name: f"-> {plain}/{name}" for name in (".venv", "node_modules")},
    }
    assert (plain / "train.py").read_text() == "USE = False\n"


def test_where_git_is_not_installed_a_work_tree_is_plain(repository, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert source_state.source_state(repository) == ""
    copied = tree.copy_tree(repository, target_in(repository))
    assert (copied / "data" / "big.bin").is_file() and not (copied / "data").is_symlink()
    assert not (copied / ".git").exists()


def test_the_workdir_may_be_a_subfolder(repository, tmp_path):
    model = Constant(flag="FLAG", file="../train.py", on="True", off="False", name="USE")
    copied = tree.copy_tree(repository / "pkg", tmp_path / "elsewhere" / "tree", [(model, True)])
    assert copied == tree.workdir_in(repository / "pkg", tmp_path / "elsewhere" / "tree")
    assert copied == tmp_path / "elsewhere" / "tree" / "pkg"
    assert (copied.parent / "train.py").read_text() == "USE = True  # changed\n"
    assert (copied.parent / "runs" / "README.md").exists() and not (copied.parent / "runs" / "c1").exists()


def test_the_workdir_may_be_reached_by_a_link(repository, tmp_path):
    (tmp_path / "link").symlink_to(repository / "pkg")
    assert tree.copy_tree(tmp_path / "link", tmp_path / "copy") == tmp_path / "copy" / "pkg"


def test_a_workdir_that_git_ignores_is_plain(repository, tmp_path):
    write(repository / "scratch" / "train.py")
    copied = tree.copy_tree(repository / "scratch", tmp_path / "copy")
    assert contents(copied) == {"train.py": "x\n"} and copied == tmp_path / "copy"
    assert source_state.source_state(repository / "scratch") == ""


def test_an_ignored_runs_folder_is_not_linked_into_its_own_copy(repository):
    write(repository / ".gitignore", "runs\n")
    git(repository, "rm", "-q", "--cached", "runs/README.md")
    write(repository / "runs" / "data" / "image")
    copied = tree.copy_tree(repository, target_in(repository))
    assert sorted(os.listdir(copied / "runs")) == ["README.md", "data"]
    assert (copied / "runs" / "data").is_symlink()


def test_the_runs_folder_may_be_the_source_itself(plain):
    write(plain / "c2" / "lease.json")
    copied = tree.copy_tree(plain, plain / "c2" / "trials" / "t01" / "tree")
    assert not (copied / "c2").exists() and (copied / "train.py").exists()


def test_an_edited_file_is_copied_even_if_it_is_ignored(repository):
    write(repository / "data" / "conf" / "a.yaml", "use: @USE@")
    write(repository / "data" / "conf" / "b.yaml")
    (repository / "conf.yaml").symlink_to("data/conf/a.yaml")
    edit = Template(flag="FLAG", file="conf.yaml", on="yes", off="no", placeholder="@USE@")
    copied = tree.copy_tree(repository, target_in(repository), [(edit, True)])
    assert (copied / "conf.yaml").read_text() == "use: yes"
    assert (copied / "data" / "conf" / "a.yaml").read_text() == "use: yes"
    assert (repository / "data" / "conf" / "a.yaml").read_text() == "use: @USE@"
    assert (copied / "data" / "big.bin").is_symlink() and (copied / "data" / "conf" / "b.yaml").is_symlink()


def test_links_lead_where_they_led(repository, tmp_path):
    write(tmp_path / "outside" / "x")
    for name, leads in {
        "inside": "pkg/model.py",
        "pkg/up": "../train.py",
        "absolute": repository / "pkg",
        "outside": "../outside/x",
        "broken": "nowhere",
        "pkg/out": tmp_path / "outside",
    }.items():
        (repository / name).symlink_to(leads)
    copied = tree.copy_tree(repository, target_in(repository))
    assert {name: os.readlink(copied / name) for name in ("inside", "pkg/up", "absolute", "broken")} == {
        **{"inside": "pkg/model.py", "pkg/up": "../train.py", "absolute": "pkg", "broken": "nowhere"}
    }
    assert os.readlink(copied / "outside") == str(tmp_path / "outside" / "x")
    assert os.readlink(copied / "pkg" / "out") == str(tmp_path / "outside")


def test_modes_and_times_are_kept(plain):
    (plain / "train.py").chmod(0o555)
    os.utime(plain / "train.py", ns=(10**18, 10**18))
    copied = tree.copy_tree(plain, target_in(plain))
    found = (copied / "train.py").stat()
    assert found.st_mode & 0o777 == 0o555 and found.st_mtime_ns == 10**18


def test_sockets_and_pipes_are_left_out(plain, monkeypatch):
    os.mkfifo(plain / "pipe")
    monkeypatch.chdir(plain)  # the path of a socket is short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        copied = tree.copy_tree(plain, target_in(plain))
    assert not {"pipe", "socket"} & set(os.listdir(copied))


def test_submodules_and_repositories_within_are_copied(repository, tmp_path):
    library = tmp_path / "library"
    write(library / "lib.py", "LIB = False\n")
    git(library, "init", "-q")
    commit(library)
    git(repository, "submodule", "--quiet", "add", str(library), "third party/lib")
    git(repository, "submodule", "--quiet", "add", str(library), "not-here")
    commit(repository)
    git(repository, "submodule", "--quiet", "deinit", "--force", "not-here")
    write(repository / "third party" / "lib" / "new.py")
    write(repository / "nested" / "inner.py")
    git(repository / "nested", "init", "-q")
    write(repository / "broken" / "inner.py")
    write(repository / "broken" / ".git", "gitdir: nowhere\n")
    copied = tree.copy_tree(repository, target_in(repository))
    assert sorted(os.listdir(copied / "third party" / "lib")) == ["lib.py", "new.py"]
    assert os.listdir(copied / "not-here") == [] and os.listdir(copied / "nested") == ["inner.py"]
    assert (copied / "broken" / "inner.py").exists()
    lib = Constant(flag="FLAG", file="lib.py", on="True", off="False", name="LIB")
    inner = tree.copy_tree(repository / "third party" / "lib", tmp_path / "copy", [(lib, True)])
    assert inner == tmp_path / "copy" and (inner / "lib.py").read_text() == "LIB = True\n"


def test_a_merge_under_way_is_copied_as_it_is(plain):
    git(plain, "init", "-q")
    commit(plain)
    git(plain, "checkout", "-qb", "other")
    write(plain / "train.py", "USE = 1\n")
    commit(plain)
    git(plain, "checkout", "-q", "main")
    write(plain / "train.py", "USE = 2\n")
    commit(plain)
    with pytest.raises(subprocess.CalledProcessError):
        git(plain, "merge", "-q", "other")
    assert " + changes " in source_state.source_state(plain)
    assert "<<<<" in (tree.copy_tree(plain, target_in(plain)) / "train.py").read_text()


def test_windows_line_ends_are_copied_as_they_are(repository):
    (repository / "pkg" / "model.py").write_bytes(b"a\r\nb\r\n")
    git(repository, "config", "core.autocrlf", "input")
    copied = tree.copy_tree(repository, target_in(repository))
    assert (copied / "pkg" / "model.py").read_bytes() == b"a\r\nb\r\n"


def test_a_training_sees_the_switched_value_and_not_what_python_compiled_before(repository):
    """Size and time of the source stay the same, so that a compiled file beside it would count."""
    write(repository / "pkg" / "__init__.py", "")
    write(repository / "pkg" / "model.py", "USE = 10\n")
    run = [sys.executable, "-c", "from pkg import model; print(model.USE)"]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    edit = Constant(flag="FLAG", file="pkg/model.py", on="20", off="10", name="USE")
    for on, value in ((False, "10"), (True, "20")):
        copied = tree.copy_tree(repository, target_in(repository, f"t{on:d}"), [(edit, on)])
        for folder, printed in ((repository, "10"), (copied, value)):
            assert subprocess.check_output(run, cwd=folder, env=environment, text=True).strip() == printed


# --- size


def test_too_much_is_refused_before_anything_is_copied(plain, monkeypatch):
    monkeypatch.setattr(tree, "MOST_BYTES", 900)
    with pytest.raises(UserError) as error:
        tree.copy_tree(plain, target_in(plain))
    said = str(error.value)
    assert "data/big.bin with 0.0 MiB" in said and ".gitignore" in said and "\n" not in said
    assert not target_in(plain).exists() and not list(target_in(plain).parent.glob(".*"))


def test_ignored_data_does_not_count(repository, monkeypatch):
    monkeypatch.setattr(tree, "MOST_BYTES", 900)
    found = tree.outline(repository)
    assert found.size < 900 and found.top == str(repository)
    assert found.files == 9 and found.originals == [".venv", "data", "node_modules", "pkg/fast.so"]


def test_the_largest_entries_are_named_as_deep_as_they_are_one_thing():
    sizes = {"a/b/c/x": 9 * 2**30, "a/b/y": 2**20, "d": 3 * 2**20, "e/1": 2**21, "e/2": 2**21, "f": 1}
    assert tree._largest(sizes) == "a/b/c/x with 9.0 GiB, e with 4.0 MiB, d with 3.0 MiB"


# --- kills, and removing


def test_a_copy_is_made_once(repository):
    copied = tree.copy_tree(repository, target_in(repository), STATES)
    write(repository / "train.py", "USE = None\n")
    write(copied / "log.txt")
    assert tree.copy_tree(repository, target_in(repository), STATES) == copied
    assert (copied / "train.py").read_text() == "USE = True  # changed\n" and (copied / "log.txt").exists()


@pytest.mark.parametrize("after", [0, 5, 12, "edits", "rename"])
def test_a_copy_that_was_not_finished_is_made_anew(repository, monkeypatch, after):
    made = []

    def dying(*arguments, _make=tree._make):
        if after == "rename" and not os.path.exists(arguments[0]):
            raise FileNotFoundError  # there was no copy to remove
        made.append(arguments)
        if after in ("edits", "rename") or len(made) > after:
            raise KeyboardInterrupt
        _make(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(*{"edits": (edits, "apply"), "rename": (os, "rename")}.get(after, (tree, "_make")), dying)
        with pytest.raises(KeyboardInterrupt):
            tree.copy_tree(repository, target_in(repository), STATES)
    assert not target_in(repository).exists()
    (target_in(repository).parent / ".tree.partial" / "left").mkdir()
    copied = tree.copy_tree(repository, target_in(repository), STATES)
    assert (copied / "train.py").read_text() == "USE = True  # changed\n" and not (copied / "left").exists()
    assert sorted(os.listdir(copied.parent)) == ["out", "tree"]


def test_an_edit_that_cannot_be_leaves_no_copy(repository):
    with pytest.raises(UserError, match="assigns no NONE"):
        tree.copy_tree(repository, target_in(repository), [(Constant("FLAG", "train.py", "1", "2", "NONE"), True)])
    assert not target_in(repository).exists()


def test_runs_at_once_do_not_disturb_one_another(repository):
    code = (
        "import sys; from bisect_cli.trainers import tree\n"
        "for n in range(5):\n"
        "    tree.copy_tree(sys.argv[1], f'{sys.argv[2]}/tree'); tree.remove_tree(f'{sys.argv[2]}/tree')\n"
        "tree.copy_tree(sys.argv[1], f'{sys.argv[2]}/tree')\n"
    )
    folders = [target_in(repository, f"t{n}").parent for n in range(3)]
    running = [subprocess.Popen([sys.executable, "-c", code, repository, folder]) for folder in folders]
    assert [one.wait() for one in running] == [0, 0, 0]
    first, *others = [contents(folder / "tree") for folder in folders]
    assert all(other == first for other in others)


def test_a_copy_is_removed_with_what_a_run_left_in_it(repository):
    copied = tree.copy_tree(repository, target_in(repository))
    write(copied / "cache" / "read only" / "x").chmod(0o400)
    (copied / "cache" / "read only").chmod(0o500)
    (copied / "cache").chmod(0)
    (copied / "link").symlink_to(repository / "pkg")
    before = contents(repository / "data"), (repository / "pkg").stat().st_mode
    tree.remove_tree(target_in(repository))
    tree.remove_tree(target_in(repository))
    tree.remove_tree(repository / "no" / "such" / "folder")
    assert sorted(os.listdir(copied.parent)) == ["out"]
    assert (contents(repository / "data"), (repository / "pkg").stat().st_mode) == before


def test_removing_that_was_killed_leaves_nothing_that_looks_whole(repository, monkeypatch):
    def killed(path):
        raise KeyboardInterrupt  # no signal: a shell may have it ignored

    tree.copy_tree(repository, target_in(repository))
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            tree.remove_tree(target_in(repository))
    assert not target_in(repository).exists()
    tree.remove_tree(target_in(repository))
    assert os.listdir(target_in(repository).parent) == ["out"]


def test_a_link_in_the_place_of_a_copy_is_not_followed(repository, tmp_path):
    write(tmp_path / "foreign" / "x")
    target_in(repository).symlink_to(tmp_path / "foreign")
    copied = tree.copy_tree(repository, target_in(repository))
    assert not copied.is_symlink() and (copied / "train.py").exists() and (tmp_path / "foreign" / "x").exists()


def test_no_workdir_is_said(tmp_path):
    with pytest.raises(UserError, match="there is no folder"):
        tree.copy_tree(tmp_path / "none", tmp_path / "copy")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_what_cannot_be_read_is_said(plain):
    (plain / "train.py").chmod(0)
    with pytest.raises(UserError, match="train.py, which cannot be read"):
        tree.copy_tree(plain, target_in(plain))


# --- the state of the source


def test_the_state_is_the_commit_and_a_digest_of_the_changes(repository):
    head = git(repository, "rev-parse", "HEAD")[:12]
    changed = source_state.source_state(repository)
    assert changed.startswith(f"{head} + changes ") and len(changed) == len(head) + 11 + 12
    assert source_state.source_state(repository / "pkg") == changed
    git(repository, "add", "-A")
    assert source_state.source_state(repository) == changed  # staged or not is the same
    commit(repository)
    assert source_state.source_state(repository) == f"{git(repository, 'rev-parse', 'HEAD')[:12]} clean"


CHANGES = {
    "a tracked file": lambda top: write(top / "train.py", "USE = 3\n"),
    "a deleted file": lambda top: (top / "train.py").unlink(),
    "a new file": lambda top: write(top / "new.py"),
    "a renamed file": lambda top: (top / "train.py").rename(top / "trained.py"),
    "a program": lambda top: (top / "train.py").chmod(0o755),
    "a link": lambda top: (top / "link").symlink_to("train.py"),
    "a name with a newline": lambda top: write(top / "a\n\tß '\".py"),
    "a repository within": lambda top: git(write(top / "in" / "x.py").parent, "init", "-q"),
}
NO_CHANGES = {
    "a touched file": lambda top: os.utime(top / "train.py"),
    "an ignored file": lambda top: write(top / "data" / "more"),
    "a campaign": lambda top: write(top / "runs" / "c1" / "events.jsonl", "more\n"),
    "a campaign begun": lambda top: write(top / "runs" / "c2" / "lease.json"),
    "a campaign's runs": lambda top: write(top / "runs" / "c1" / "trials" / "t02" / "out" / "train.py"),
    "compiled Python": lambda top: write(top / "new" / "__pycache__" / "a.pyc"),
    "an environment": lambda top: write(write(top / "env" / "pyvenv.cfg").parent / "lib" / "a.py"),
    "packages": lambda top: write(top / "web" / "node_modules" / "a.js"),
}


@pytest.fixture
def clean(repository):
    write(repository / ".gitignore", "data/\n.venv\n")
    commit(repository)
    return repository


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_the_source_changes_its_state(clean, change):
    before = source_state.source_state(clean)
    CHANGES[change](clean)
    after = source_state.source_state(clean)
    assert " clean" in before and after.startswith(f"{before[:12]} + changes ")
    write(clean / "another.py")
    assert source_state.source_state(clean) not in (before, after)
    (clean / "another.py").unlink()
    assert source_state.source_state(clean) == after


@pytest.mark.parametrize("change", NO_CHANGES)
def test_what_is_no_source_does_not_change_its_state(clean, change):
    before = source_state.source_state(clean)
    NO_CHANGES[change](clean)
    assert source_state.source_state(clean) == before


def test_a_change_in_a_submodule_changes_the_state(clean, tmp_path):
    library = write(tmp_path / "library" / "lib.py").parent
    git(library, "init", "-q")
    commit(library)
    git(clean, "submodule", "--quiet", "add", str(library), "lib")
    commit(clean)
    states = [source_state.source_state(clean)]
    write(clean / "lib" / "lib.py", "changed\n")
    states.append(source_state.source_state(clean))
    commit(clean / "lib")
    states.append(source_state.source_state(clean))
    assert len(set(states)) == 3 and states[0].endswith(" clean")


def test_a_repository_without_a_commit_has_a_state(plain):
    git(plain, "init", "-q")
    first = source_state.source_state(plain)
    assert first.startswith("no commit + changes ")
    write(plain / "train.py", "USE = 7\n")
    assert source_state.source_state(plain) != first


def test_large_files_count_by_size_and_time(clean, monkeypatch):
    monkeypatch.setattr(source_state, "LARGE", 10)
    place = write(clean / "weights.bin", "a" * 20)
    os.utime(place, ns=(1, 1))
    before = source_state.source_state(clean)
    assert source_state.source_state(clean) == before
    os.utime(place, ns=(1, 2))
    assert source_state.source_state(clean) != before


def test_without_git_there_is_no_state(plain, tmp_path):
    assert source_state.source_state(plain) == ""
    assert source_state.source_state(tmp_path / "none") == ""
    git(plain, "init", "-q", "--bare", "bare.git")
    assert source_state.source_state(plain / "bare.git") == ""


def test_the_users_settings_change_nothing_and_git_writes_nothing(clean, monkeypatch):
    write(clean / "träin.py", "a\r\n")
    commit(clean)
    write(clean / "träin.py", "b\n")
    (clean / "pkg" / "model.py").rename(clean / "pkg" / "renamed.py")
    before = source_state.source_state(clean)
    for setting in (
        *("diff.external=false", "diff.noprefix=true", "diff.relative=true", "diff.renames=copies", "color.ui=always"),
        *("status.renames=copies", "status.showStash=true", "color.status=always", "column.ui=always"),
        *("core.quotepath=on", "status.showUntrackedFiles=no", "diff.ignoreSubmodules=all", "core.fsmonitor=false x"),
        *("diff.autoRefreshIndex=false", "status.branch=true", "status.short=true", "status.relativePaths=true"),
    ):
        git(clean, "config", "--global", *setting.split("=", 1))
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("GIT_INDEX_FILE", "/nowhere")
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", "false")
    time.sleep(1.1)  # no longer in the second of its last change: git would now write what it has found
    os.utime(clean / "train.py")
    index = (clean / ".git" / "index").stat()
    for workdir in (clean, clean / "pkg"):
        assert source_state.source_state(workdir) == before
    assert (clean / ".git" / "index").stat() == index


def test_a_repository_that_git_refuses_is_said(clean):
    (clean / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    (clean / ".git" / "config").write_text("[core\n")
    with pytest.raises(UserError, match="make `git status` work there first. It says: .*bad config"):
        source_state.source_state(clean)


# --- files and commands


def test_the_digest_of_files_is_of_names_and_contents(plain):
    patterns = ["train.py", "pkg/**/*", "*/*.bin"]
    before = source_state.digest_of_files(patterns, plain)
    assert list(before) == patterns and len(set(before.values())) == 3
    assert all(len(digest) == 12 for digest in before.values())
    write(plain / "pkg" / "__pycache__" / "more.pyc")
    os.utime(plain / "train.py")
    assert source_state.digest_of_files(patterns, plain) == before
    write(plain / "pkg" / "no data" / "größe\n.txt", "y")
    after = source_state.digest_of_files(patterns, plain)
    assert [before[one] == after[one] for one in patterns] == [True, False, True]
    (plain / "pkg" / "model.py").rename(plain / "pkg" / "models.py")
    assert source_state.digest_of_files(patterns, plain)["pkg/**/*"] not in (
        before["pkg/**/*"],
        after["pkg/**/*"],
    )


def test_the_digest_of_files_is_the_same_elsewhere(plain, tmp_path):
    before = source_state.digest_of_files(["**/*.py"], plain)
    plain.rename(tmp_path / "else[w]here")
    assert source_state.digest_of_files(["**/*.py"], tmp_path / "else[w]here") == before


@pytest.mark.parametrize("pattern, said", [("*.none", "mend or drop the pattern"), ("pkg", "FOLDER/**/*")])
def test_a_pattern_without_files_is_refused(plain, pattern, said):
    with pytest.raises(UserError, match="matches no file") as error:
        source_state.digest_of_files(["train.py", pattern], plain)
    assert pattern in str(error.value) and said in str(error.value)


def test_the_output_of_commands(tmp_path):
    commands = [[sys.executable, "-c", "print(1)"], [sys.executable, "-c", "import os; print(os.getcwd())"]]
    found = source_state.output_of_commands(commands, tmp_path)
    assert len(found) == 2 and len(set(found.values())) == 2
    assert list(found)[0] == f"{sys.executable} -c 'print(1)'"
    assert source_state.output_of_commands(commands, tmp_path) == found


@pytest.mark.parametrize(
    "command, said",
    [
        (["-c", "import sys; print('x'); sys.exit('no such module\\nreally')"], "exit code 1.*Last line: really"),
        (["-c", "raise SystemExit(3)"], "exit code 3.*nothing printed"),
        (["-c", "import time; time.sleep(60)"], "took longer than 0.5 seconds"),
    ],
)
def test_a_command_that_fails_is_said(tmp_path, monkeypatch, command, said):
    monkeypatch.setattr(source_state, "TIMEOUT", 0.5)
    with pytest.raises(UserError, match=said) as error:
        source_state.output_of_commands([[sys.executable, *command]], tmp_path)
    assert "\n" not in str(error.value).replace("\\n", "")


def test_a_command_that_is_not_there_is_said(tmp_path):
    with pytest.raises(UserError, match="cannot be started .*no such file"):
        source_state.output_of_commands([["no-such-command"]], tmp_path)


def test_a_command_that_takes_too_long_leaves_nothing_running(tmp_path, monkeypatch):
    monkeypatch.setattr(source_state, "TIMEOUT", 0.5)
    with pytest.raises(UserError, match="took longer"):
        source_state.output_of_commands([["sh", "-c", "(sleep 2; touch late) & sleep 60"]], tmp_path)
    time.sleep(2.2)
    assert not (tmp_path / "late").exists()
