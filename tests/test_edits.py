"""Flags switched in source files: only what was meant changes, and whatever is doubtful is refused in one line."""

import ast
import os
import sys

import pytest

from bisect_cli.errors import UserError
from bisect_cli.trainers import edits
from bisect_cli.trainers.edits import Constant, Template


def constant(name="USE", on="True", off="False", file="train.py", flag="FLAG"):
    return Constant(flag=flag, file=file, on=on, off=off, name=name)


def template(placeholder="@USE@", on="yes", off="no", file="conf.yaml", flag="FLAG"):
    return Template(flag=flag, file=file, on=on, off=off, placeholder=placeholder)


@pytest.fixture
def folder(tmp_path):
    """A folder, and how to write a file into it."""

    def write(text, file="train.py"):
        place = tmp_path / file
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(text if isinstance(text, bytes) else text.encode())
        return place

    write.path = tmp_path
    return write


def switched(folder, text, *states, file="train.py"):
    """The text of a file after edits."""
    place = folder(text, file)
    edits.check([edit for edit, _ in states], folder.path)
    edits.apply(states, folder.path)
    return place.read_bytes().decode()


def refusal(folder, text, *ones, file="train.py"):
    """What is said of edits that cannot be."""
    before = folder(text, file).read_bytes()
    with pytest.raises(UserError) as error:
        edits.check(ones, folder.path)
    said = str(error.value)
    assert "\n" not in said and "FLAG" in said and "train.py" in said
    with pytest.raises(UserError):
        for on in (True, False):
            edits.apply([(one, on) for one in ones], folder.path)
    assert (folder.path / file).read_bytes() == before
    return said


# --- constants

ASSIGNMENTS = {
    "USE = False": "USE = True",
    "USE=False#off": "USE=True#off",
    "USE: bool = False  # why\n": "USE: bool = True  # why\n",
    "A = 1; USE = False; B = 2\n": "A = 1; USE = True; B = 2\n",
    "é = 'ü'; USE = False; ñ = 1\n": "é = 'ü'; USE = True; ñ = 1\n",
    "# ß\r\nUSE = False\r\nX = 1\r\n": "# ß\r\nUSE = True\r\nX = 1\r\n",
    "X = '''\x0c\n\u2028'''\n\x0cUSE = False\n": "X = '''\x0c\n\u2028'''\n\x0cUSE = True\n",
    "X = 1\rUSE = False\rY = 2\r": "X = 1\rUSE = True\rY = 2\r",
    "USE = (\n    False  # yet\n)\n": "USE = (\n    True  # yet\n)\n",
    "USE = [\n    1,  # é\n    2,\n]  # end\nX = 1\n": "USE = True  # end\nX = 1\n",
    "USE = 1, 2\n": "USE = True\n",
    "USE = False or \\\n    None\nX = 2\n": "USE = True\nX = 2\n",
    "if a:\n\tUSE = False\n": "if a:\n\tUSE = True\n",
    "try:\n    import x\nexcept E:\n    USE = False\n": "try:\n    import x\nexcept E:\n    USE = True\n",
    "USE: bool\nUSE = False\n": "USE: bool\nUSE = True\n",
    "class C:\n    USE = 1\ndef f(USE=2):\n    USE = 3\nUSE = False\n[USE for USE in ()]\n": (
        "class C:\n    USE = 1\ndef f(USE=2):\n    USE = 3\nUSE = True\n[USE for USE in ()]\n"
    ),
    "import USE as other\nx.USE = 1\nx[USE] = 2\nUSE = False\nprint(USE)": (
        "import USE as other\nx.USE = 1\nx[USE] = 2\nUSE = True\nprint(USE)"
    ),
    "SUM = " + " + ".join(["'a'"] * 900) + "\nUSE = False\n": "SUM = " + " + ".join(["'a'"] * 900) + "\nUSE = True\n",
}


@pytest.mark.parametrize("before", ASSIGNMENTS, ids=range(len(ASSIGNMENTS)))
def test_nothing_but_the_value_changes(folder, before):
    after = ASSIGNMENTS[before]
    assert switched(folder, before, (constant(), True)) == after
    assert switched(folder, after, (constant(), True)) == after  # it is so already
    assert switched(folder, switched(folder, before, (constant(), False)), (constant(), True)) == after


def test_a_value_that_is_there_already_stays_as_it_is_written(folder):
    text = "USE = {'a' : 0x10}  # as is\n"
    assert switched(folder, text, (constant(on="{'a': 16}", off="None"), True)) == text


SCOPED = """
class Config:
    class Inner:
        USE = 1
    USE: bool = 2
    def step(self):
        if self:
            USE = 3
        return USE
async def main():
    USE = 4
"""


@pytest.mark.parametrize(
    "name, value", [("Config.Inner.USE", 1), ("Config.USE", 2), ("Config.step.USE", 3), ("main.USE", 4)]
)
def test_a_dotted_name_is_in_a_class_or_function(folder, name, value):
    assert switched(folder, SCOPED, (constant(name), True)) == SCOPED.replace(f"= {value}", "= True")


@pytest.mark.parametrize(
    "value, text",
    [
        *((True, "True"), (3, "3"), (-1.5, "-1.5"), ("'fused'", "'fused'"), (" {'a': [1, 2]} ", "{'a': [1, 2]}")),
        *(("lambda x: x", "lambda x: x"), ("1, 2", "1, 2"), ("os.name", "os.name"), ("os", "os"), ("int", "int")),
        ("'''a\nb'''", "'''a\r\nb'''"),
    ],
)
def test_values_are_expressions_or_plain_toml(folder, value, text):
    assert switched(folder, "import os\r\nUSE = None\r\n", (constant(on=value), True)) == (
        f"import os\r\nUSE = {text}\r\n"
    )


def test_a_value_in_parentheses_takes_a_tuple(folder):
    assert switched(folder, "USE = (\n  False)\n", (constant(on="1, 2"), True)) == "USE = (\n  1, 2)\n"


UNFIT = {
    "USED = False\n": "did you mean USED?",
    "X = 1\n": "assigns no USE at its top level: mend the name",
    "class A:\n    def f(self):\n        USE = 1\n": "write it with dots, as A.f.USE",
    "USE = 1\nUSE = 2\n": "more than once at its top level (lines 1, 2)",
    "if a:\n    USE = 1\nelse:\n    USE = 2\n": "(lines 2, 4)",
    "USE = 1\nUSE += 1\n": "(lines 1, 2)",
    "USE += 1\n": "line 1 is no plain assignment of USE",
    "USE, X = 1, 2\n": "no plain assignment",
    "[USE, *X] = f()\n": "no plain assignment",
    "X = USE = 1\n": "no plain assignment",
    "print(USE := 1)\n": "no plain assignment",
    "import USE\n": "no plain assignment",
    "from a import b as USE\n": "no plain assignment",
    "def USE(): pass\n": "no plain assignment",
    "USE = 1\ndel USE\n": "(lines 1, 2)",
    "USE = 1\nfor USE in (): pass\n": "(lines 1, 2)",
    "USE = 1\nwith a as (b, USE): pass\n": "(lines 1, 2)",
    "USE = 1\ntry: pass\nexcept E as USE: pass\n": "(lines 1, 3)",
    "USE = 1\n[x for y in z if (USE := y)]\n": "(lines 1, 2)",
    "USE = 1\ndef f(args):\n    global USE\n    USE = args.use\n": "(lines 1, 3)",
    "USE: bool\n": "assigns no USE",
    "USE = = 1\n": "cannot be parsed (line 1: invalid syntax)",
    "USE = 1\n\0": "cannot be parsed",
    b"USE = 1  # \xff\n": "cannot be parsed (its bytes are not in its encoding)",
    b"# coding: no-such\nUSE = 1  # \xff\n": "cannot be parsed",
    "USE = " + "(" * 300 + ")" * 300: "cannot be parsed",
}


@pytest.mark.parametrize("text", UNFIT, ids=range(len(UNFIT)))
def test_what_is_no_plain_constant_is_refused(folder, text):
    assert UNFIT[text] in refusal(folder, text, constant())


@pytest.mark.skipif(sys.version_info < (3, 10), reason="`match` came with Python 3.10")
def test_a_pattern_that_binds_the_name_is_seen(folder):
    assert "(lines 1, 3)" in refusal(folder, "USE = 1\nmatch x:\n    case [USE]: pass\n", constant())


@pytest.mark.parametrize(
    "name, said",
    [
        ("Conf.USE", "no classes or functions Conf at its top level"),
        ("Config.No.USE", "no classes or functions No in Config"),
        ("Config.step.USED", "assigns no USED in step: did you mean USE?"),
    ],
)
def test_a_dotted_name_that_leads_nowhere_is_refused(folder, name, said):
    assert said in refusal(folder, SCOPED, constant(name))


def test_a_class_defined_twice_is_refused(folder):
    assert "2 classes or functions C" in refusal(folder, "class C:\n    USE = 1\n" * 2, constant("C.USE"))


def test_a_function_whose_name_is_global_or_rebound_within_is_refused(folder):
    assert "lines 2, 3" in refusal(folder, "def f():\n    global USE\n    USE = 1\n", constant("f.USE"))
    inner = "def f():\n    USE = 1\n    def g():\n        nonlocal USE\n        USE = 2\n"
    assert "lines 2, 4" in refusal(folder, inner, constant("f.USE"))


@pytest.mark.parametrize(
    "on, off, said",
    [
        ("True", "True", "on and off are the same value of USE"),
        ("True", True, "on and off are the same value"),
        ("(1)", "1", "on and off are the same value"),
        ("1 +", "2", "on = `1 +` is no Python expression"),
        ("1", "", "off = `` is no Python expression"),
        ("a = 1", "2", "is no Python expression"),
        ("1\n2", "2", "is no Python expression"),
        (float("nan"), "2", "is no Python expression"),
        (["a"], "2", "is no Python expression"),
        ("true", "False", "it knows no `true`: Python writes True and False, and a text in quotes of its own"),
        ("fused", "'plain'", "\"'fused'\""),
    ],
)
def test_values_that_make_no_sense_are_refused(folder, on, off, said):
    assert said in refusal(folder, "USE = False\n", constant(on=on, off=off))


def test_a_comment_in_a_value_cannot_swallow_code(folder):
    assert "without changing more" in refusal(folder, "USE = (0)\n", constant(on="1  # one", off="2"))
    assert "without changing more" in refusal(folder, "USE = 0; X = 1\n", constant(on="1  # one", off="2"))
    assert switched(folder, "USE = 0\n", (constant(on="1  # one", off="2"), True)) == "USE = 1  # one\n"


def test_a_warning_of_the_source_is_not_ours(folder, recwarn):
    switched(folder, "X = '\\d'\nUSE = False\n", (constant(), True))
    assert not recwarn.list


# --- templates


def test_every_placeholder_is_replaced_and_nothing_else(folder):
    before = "a: @USE@\r\nb: '@USE@@USE@' # é\r\nc: @USER@\r\n"
    after = switched(folder, before, (template(on="x\n@USE@"), True), file="conf.yaml")
    new = "x\r\n@USE@"
    assert after == f"a: {new}\r\nb: '{new}{new}' # é\r\nc: @USER@\r\n"


def test_a_number_is_written_as_it_is(folder):
    assert switched(folder, "lr: @USE@", (template(on=0.1, off=1), True), file="conf.yaml") == "lr: 0.1"


def test_a_template_need_not_be_in_any_encoding(folder):
    place = folder(b"\xff\x00 @USE@ \xfe\r\n", "conf.yaml")
    edits.apply([(template(), True)], folder.path)
    assert place.read_bytes() == b"\xff\x00 yes \xfe\r\n"


@pytest.mark.parametrize(
    "edit, said",
    [
        (template("@NO@", file="train.py"), "a template without its placeholder: write @NO@"),
        (template("", file="train.py"), "the placeholder is empty"),
        (template(on="a", off="a", file="train.py"), "on and off are the same text"),
        (template(on="1", off=1, file="train.py"), "on and off are the same text"),
        (
            template(on=True, file="train.py"),
            'on = True can be written in many ways: give it as a text, such as "true"',
        ),
    ],
)
def test_templates_that_make_no_sense_are_refused(folder, edit, said):
    assert said in refusal(folder, "x: @USE@", edit)


# --- files


def test_encoding_byte_order_mark_and_mode_are_kept(folder):
    latin = "# -*- coding: latin-1 -*-\nNAME = 'é'; USE = False\n"
    place = folder(latin.encode("latin-1"))
    place.chmod(0o750)
    edits.apply([(constant(on="'ü'"), True)], folder.path)
    assert place.read_bytes() == latin.replace("False", "'ü'").encode("latin-1")
    assert place.stat().st_mode & 0o777 == 0o750
    place = folder("\ufeffUSE = False\n")
    edits.apply([(constant(), True)], folder.path)
    assert place.read_bytes() == "\ufeffUSE = True\n".encode()
    assert os.listdir(folder.path) == ["train.py"]


def test_what_the_encoding_lacks_is_refused(folder):
    text = "# coding: latin-1\nUSE = False\n".encode("latin-1")
    assert "`'€'` cannot be written in iso-8859-1" in refusal(folder, text, constant(on="'€'"))


def test_a_read_only_file_is_replaced_and_an_unchanged_one_is_left(folder):
    place = folder("USE = False\n")
    place.chmod(0o444)
    before = place.stat()
    edits.apply([(constant(), False)], folder.path)
    assert (place.stat().st_ino, place.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    edits.apply([(constant(), True)], folder.path)
    assert place.read_text() == "USE = True\n" and place.stat().st_mode & 0o777 == 0o444


def test_flags_in_one_file_are_switched_together(folder):
    ones = [
        (constant("A", flag="FLAG_A"), True),
        (constant("C.B", on="[\n1]", off="'long enough'", flag="FLAG_B"), True),
        (template("@T@", on="@A@", off="@", file="./train.py", flag="FLAG_T"), True),
        (template("@A@", on="@T@", off="", file="sub/../train.py", flag="FLAG_U"), True),
    ]
    text = "A = False; X = '@T@@A@'\nclass C:\n    B = 'é'\nY = '@A@'\n"
    (folder.path / "sub").mkdir()
    assert switched(folder, text, *ones) == "A = True; X = '@A@@T@'\nclass C:\n    B = [\n1]\nY = '@T@'\n"


@pytest.mark.parametrize(
    "first, second",
    [
        (constant(flag="FLAG_A"), constant(on="1", off="2", flag="FLAG_B")),
        (template(file="train.py", flag="FLAG_A"), template(file="train.py", flag="FLAG_B", on="1")),
        (template("@U", file="train.py", flag="FLAG_A"), template("USE@", file="train.py", flag="FLAG_B")),
        (constant(flag="FLAG_A"), template(file="train.py", flag="FLAG_B")),
    ],
)
def test_two_edits_of_one_place_are_refused(folder, first, second):
    said = refusal(folder, "USE = ['@USE@']\n", first, second)
    assert "flags FLAG_" in said and "change the same place" in said


def test_nothing_is_written_if_a_later_file_is_unfit(folder):
    place = folder("USE = False\n")
    with pytest.raises(UserError, match="there is no such file"):
        edits.apply([(constant(), True), (template(file="none.yaml"), True)], folder.path)
    assert place.read_text() == "USE = False\n"


def test_no_edit_leaves_the_copy(folder):
    original = folder("USE = False\n", "mine/train.py")
    folder("USE = False\n", "mine/data/conf.py")
    copy = folder.path / "copy"
    copy.mkdir()
    (copy / "data").symlink_to(folder.path / "mine" / "data")
    (copy / "train.py").symlink_to(original)
    for file in ("data/conf.py", "../mine/train.py", str(original)):
        with pytest.raises(UserError, match="lies outside of"):
            edits.apply([(constant(file=file), True)], copy)
    edits.apply([(constant(), True)], copy)  # a link to the original: replaced, and the original left
    assert original.read_text() == "USE = False\n"
    assert not (copy / "train.py").is_symlink() and (copy / "train.py").read_text() == "USE = True\n"


def test_a_link_within_is_followed(folder):
    place = folder("USE = False\n", "configs/a.py")
    (folder.path / "train.py").symlink_to("configs/a.py")
    edits.apply([(constant(), True)], folder.path)
    assert place.read_text() == "USE = True\n" and (folder.path / "train.py").is_symlink()


def test_links_in_a_circle_are_no_file(folder):
    (folder.path / "train.py").symlink_to("train.py")
    with pytest.raises(UserError, match="there is no such file"):
        edits.check([constant()], folder.path)


def test_a_name_with_blanks_and_accents(folder):
    file = "mein ördner/träin 1.py"
    assert switched(folder, "USE = False", (constant(file=file), True), file=file) == "USE = True"


def test_the_difference_is_shown(folder):
    folder("A = 1\r\nUSE = False\r\n")
    assert edits.diff(constant(), True, folder.path).splitlines() == [
        *("--- train.py", "+++ train.py (FLAG on)", "@@ -1,3 +1,3 @@", " A = 1", "-USE = False", "+USE = True", " "),
    ]
    assert edits.diff(constant(), False, folder.path) == ""


# --- a trainer's file


def test_edits_of_a_trainers_file():
    tables = {
        "args": {"on": ["--fused"]},
        "constant": {"file": "train.py", "name": "USE", "on": True, "off": "False"},
        "template": {"file": "conf.yaml", "placeholder": "@USE@", "on": "yes", "off": "no"},
    }
    assert edits.of_switch("FLAG", tables) == [constant(on=True), template()]
    moved = edits.of_switch("FLAG", tables, root="/a/b", workdir="/a/c")
    assert [edit.file for edit in moved] == ["../b/train.py", "../b/conf.yaml"]
    assert edits.of_switch("FLAG", {"env": {}}) == []


@pytest.mark.parametrize(
    "way, table, said",
    [
        ("constant", {"file": "a.py", "name": "A", "on": 1}, "missing or unknown: off"),
        ("constant", {"file": "a.py", "name": "A", "on": 1, "off": 2, "of": 3}, "missing or unknown: of"),
        ("constant", {"file": 1, "name": "A", "on": 1, "off": 2}, "file = 1 of its constant must be a text"),
        ("constant", {"file": "a.py", "name": "A.", "on": 1, "off": 2}, '"A." is no name of a constant'),
        ("constant", {"file": "a.py", "name": "A b", "on": 1, "off": 2}, "is no name of a constant"),
        ("constant", {"file": "a.py", "name": "A", "on": 1, "off": "1"}, "on and off are the same value"),
        ("template", {"file": "a", "placeholder": "", "on": "1", "off": "2"}, "must be a text"),
        ("template", "a", "missing or unknown: file, placeholder, on, off"),
    ],
)
def test_tables_that_make_no_sense_are_refused(way, table, said):
    with pytest.raises(UserError) as error:
        edits.of_switch("FLAG", {way: table})
    assert said in str(error.value) and str(error.value).startswith("flag FLAG")


def test_files_of_this_repository_can_be_switched(root, folder):
    """Real sources: every constant at their top level, one by one."""
    for path in sorted((root / "bisect_cli").rglob("*.py")):
        text = path.read_text()
        for node in ast.parse(text).body:
            if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
                name = node.targets[0].id
                (span,) = constant(name, on="['é', 1]").spans(text, True)
                assert text[span.start : span.end] == ast.get_source_segment(text, node.value)
