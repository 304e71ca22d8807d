"""Flags that are switched in source files: a constant gets another value, a placeholder of a template another text.

A constant is found in the syntax tree, never by its looks, and nothing but the span of its value is replaced; the
result is parsed again and must be the same tree apart from that value. A template is any text file and need not parse.
All edits of a file are found in the file as it is, then made at once, so that none sees what another has made. Files
keep their encoding, newlines and mode, and are replaced by rename: a file is never half edited.

Edits are made in copies of the source (`trainers.tree`), never in the source itself. `inside` is the folder that no
edit may leave, be it through "..", a symlink or the link that stands in a copy for an ignored folder.
"""

import ast
import builtins
import contextlib
import difflib
import io
import keyword
import math
import os
import re
import stat
import tempfile
import tokenize
import warnings
from dataclasses import dataclass
from typing import Any, NamedTuple

from bisect_cli.errors import UserError, nearest
from bisect_cli.trainers.source_state import is_within, repository

NEWLINE = re.compile(r"\r\n?|\n")  # what Python takes for the end of a line; str.splitlines knows more
MOST_LINKS = 40  # symlinks followed to a file, as many as Linux follows: beyond, they lead in a circle


class Span(NamedTuple):
    """A piece of a file's text, text[start:end], and what comes in its place."""

    start: int
    end: int
    text: str


@dataclass(frozen=True)
class Edit:
    """How a flag is switched in a file. file: relative to the folder that the training runs in. on, off: as they stand
    in the trainer's file.
    """

    flag: str
    file: str
    on: Any
    off: Any

    def check_values(self):
        """Raises UserError if on and off are not two different values that can be written."""
        raise NotImplementedError

    def spans(self, text, on):
        """The Spans to replace in the file's text for one state. Raises UserError if that cannot be."""
        raise NotImplementedError

    def wrong(self, text):
        """The UserError that says so of this edit, in one line."""
        return UserError(" ".join(f"flag {self.flag}, {self.file}: {text}".split()))


@dataclass(frozen=True)
class Constant(Edit):
    """The value of the one assignment `NAME = ...` or `NAME: type = ...`. name: plain at the top level of the module,
    where an `if` around it does not count; with dots in a class or function, "Config.USE_FUSED".
    """

    name: str

    def check_values(self):
        if not all(part.isidentifier() and not keyword.iskeyword(part) for part in self.name.split(".")):
            raise self.wrong(f'"{self.name}" is no name of a constant: write "USE_FUSED" or "Config.USE_FUSED".')
        if _same(self._expression(True)[1], self._expression(False)[1]):
            raise self.wrong(f"on and off are the same value of {self.name}: give two that differ.")

    def spans(self, text, on):
        new, expression = self._expression(on)
        try:
            tree = _syntax_tree(text)
            assignment = _find(tree, self.name)
            _check_known(tree, expression)
        except ValueError as error:
            raise self.wrong(f"it cannot be parsed ({error}): mend it, or switch {self.name} by a template.") from None
        except _Unfit as error:
            raise self.wrong(error.args[0]) from None
        start, end = _span(text, assignment.value)
        if _same(assignment.value, expression):
            return [Span(start, end, text[start:end])]
        new = _with_newlines_of(text, new)
        assignment.value = expression
        with contextlib.suppress(ValueError):
            if _same(_syntax_tree(text[:start] + new + text[end:]), tree):
                return [Span(start, end, new)]
        raise self.wrong(f"{self.name} cannot be set to `{new}` without changing more: write the value in parentheses.")

    def _expression(self, on):
        """The value of a state as Python text, and as a node."""
        value = self.on if on else self.off
        text = value.strip() if isinstance(value, str) else repr(value)
        with contextlib.suppress(ValueError):
            if isinstance(value, (str, bool, int)) or (isinstance(value, float) and math.isfinite(value)):
                return text, _syntax_tree(text, "eval").body
        state = "on" if on else "off"
        raise self.wrong(f'{state} = `{text}` is no Python expression: give one as text, such as "True" or "\'a\'".')


@dataclass(frozen=True)
class Template(Edit):
    """A text that stands in a file wherever the flag's own is to come."""

    placeholder: str

    def check_values(self):
        if not self.placeholder:
            raise self.wrong('the placeholder is empty: give the text to replace, such as "@FUSED@".')
        if self._text(True) == self._text(False):
            raise self.wrong(f"on and off are the same text for {self.placeholder}: give two that differ.")

    def spans(self, text, on):
        new = _with_newlines_of(text, self._text(on))
        found = re.finditer(re.escape(_with_newlines_of(text, self.placeholder)), text)
        spans = [Span(*one.span(), new) for one in found]
        if not spans:
            raise self.wrong(f"a template without its placeholder: write {self.placeholder} where the value belongs.")
        return spans

    def _text(self, on):
        value = self.on if on else self.off
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            state = "on" if on else "off"
            raise self.wrong(f'{state} = {value!r} can be written in many ways: give it as a text, such as "true".')
        return str(value)


WAYS = {"constant": (Constant, "name"), "template": (Template, "placeholder")}  # in a trainer's file


def of_switch(flag, switch, root=None, workdir=None):
    """The Edits of a flag whose table in a trainer's file is `switch`; other ways in it are not ours. root, workdir:
    what files are relative to in that file, and what the training runs in, if they are not the same. Raises UserError
    for tables that make no sense; the files that they name are not looked at.
    """
    return [_edit(flag, way, switch[way], root, workdir) for way in WAYS if way in switch]


def _edit(flag, way, table, root, workdir):
    kind, target = WAYS[way]
    keys = ("file", target, "on", "off")
    odd = sorted(set(table) ^ set(keys)) if isinstance(table, dict) else keys
    if odd:
        raise UserError(f"flag {flag}: {way} takes the keys {', '.join(keys)}; missing or unknown: {', '.join(odd)}.")
    for key in ("file", target):
        if not isinstance(table[key], str) or not table[key]:
            raise UserError(f"flag {flag}: {key} = {table[key]!r} of its {way} must be a text.")
    file = os.path.relpath(os.path.join(root, table["file"]), workdir) if root and workdir else table["file"]
    edit = kind(flag=flag, **{**table, "file": file})
    edit.check_values()
    return edit


# --- edits of files


def check(edits, root):
    """Raises UserError, which names the flag, the file and the remedy, for the first edit that cannot be made in the
    source as it is, in either state, or not together with the others. root: the folder that the training runs in.
    """
    inside = edits and (repository(root) or root)
    for state in (True, False):
        _edited([(edit, state) for edit in edits], root, inside)


def apply(states, tree, inside=None):
    """Switches flags in the files of a copy. states: (Edit, whether the flag is on) of each. tree: the folder in the
    copy that the training runs in. inside: the whole copy, by default that folder. Raises UserError as `check` does,
    before anything is written.
    """
    for place, (source, text) in _edited(states, tree, inside or tree).items():
        if text != source.text:
            _replace(place, source.encode(text))


def diff(edit, on, root):
    """What an edit alone would change in the source, as a unified diff; "" if the file is in that state already."""
    ((source, after),) = _edited([(edit, on)], root, repository(root) or root).values()
    name = f"{edit.file} ({edit.flag} {'on' if on else 'off'})"
    lines = difflib.unified_diff(NEWLINE.split(source.text), NEWLINE.split(after), edit.file, name, lineterm="")
    return "\n".join(lines).encode(errors="replace").decode()


def _edited(states, root, inside):
    """{path: (_Source, text after all edits of it)}."""
    by_place = {}
    for edit, on in states:
        edit.check_values()
        by_place.setdefault(_place(edit, root, inside), []).append((edit, on))
    edited = {}
    for place, ones in by_place.items():
        source = _read(place, ones[0][0])
        edited[place] = source, _splice(source, ones)
    return edited


def _splice(source, ones):
    """A file's text after edits, (Edit, on) of each. Raises UserError if two are of the same place."""
    spans = [(span, edit) for edit, on in ones for span in edit.spans(source.text, on)]
    spans.sort(key=lambda one: one[0][:2])
    pieces, done, before = [], 0, None
    for span, edit in spans:
        if span.start < done:
            flags = f"flags {before.flag} and {edit.flag}" if before.flag != edit.flag else f"two edits of {edit.flag}"
            raise edit.wrong(f"{flags} change the same place: give each a constant or placeholder of its own.")
        try:
            source.encode(span.text)
        except UnicodeEncodeError:
            raise edit.wrong(f"`{span.text}` cannot be written in {source.encoding}: write it in ASCII.") from None
        pieces += [source.text[done : span.start], span.text]
        done, before = span.end, edit
    return "".join(pieces) + source.text[done:]


def _place(edit, root, inside):
    """Where an edit's file lies, symlinks followed as long as they stay inside. One that leads out of there is itself
    what is replaced: the file behind it is not ours.
    """
    inside = os.path.realpath(inside)
    place, path = None, os.path.join(root, edit.file)
    for _ in range(MOST_LINKS):
        folder = os.path.realpath(os.path.dirname(path))
        if not is_within(folder, inside):
            break
        place = os.path.join(folder, os.path.basename(path))
        if not os.path.islink(place):
            break
        path = os.path.join(folder, os.readlink(place))
    if place is None:
        raise edit.wrong(f"it lies outside of {inside}, all that runs have a copy of: move it there.")
    if not os.path.isfile(place):
        raise edit.wrong(f"there is no such file in {root}: mend its name.")
    return place


class _Source(NamedTuple):
    """A file's text, and how it is written back."""

    text: str
    encoding: str
    errors: str = "strict"

    def encode(self, text):
        return text.encode(self.encoding, self.errors)


def _read(place, edit):
    """The _Source in a file, in the encoding that its first lines declare, as Python reads them, or UTF-8. A file in
    neither is read as ASCII among other bytes.
    """
    try:
        with open(place, "rb") as file:
            data = file.read()
    except PermissionError:
        raise edit.wrong("it cannot be read: make it readable.") from None
    with contextlib.suppress(SyntaxError, ValueError):
        encoding = tokenize.detect_encoding(io.BytesIO(data).readline)[0]
        source = _Source(data.decode(encoding), encoding)
        if source.encode(source.text) == data:
            return source
    return _Source(data.decode("ascii", "surrogateescape"), "ascii", "surrogateescape")


def _replace(place, data):
    mode = stat.S_IMODE(os.stat(place).st_mode)
    handle, temporary = tempfile.mkstemp(prefix=".edit-", dir=os.path.dirname(place))
    try:
        with open(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, mode)
        os.replace(temporary, place)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def _with_newlines_of(text, new):
    """A text with the newlines that the file's first one has."""
    first = NEWLINE.search(text)
    return NEWLINE.sub(first[0] if first else "\n", new)


# --- constants in a syntax tree


class _Unfit(Exception):
    """A constant that cannot be switched, with the reason and the remedy."""


SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)  # their loops have names of their own


def _syntax_tree(text, mode="exec"):
    """The syntax tree. Raises ValueError with the reason in a few words."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the user's escapes; they are not ours to mention
            return ast.parse(text, mode=mode)
    except SyntaxError as error:
        raise ValueError(f"line {error.lineno}: {error.msg}") from None
    except UnicodeEncodeError:
        raise ValueError("its bytes are not in its encoding") from None
    except (RecursionError, MemoryError):
        raise ValueError("it is nested too deeply") from None


def _same(first, second):
    """Whether two nodes are the same but for where they stand. Without recursion: long sums are nested deeply."""
    left = [(first, second)]
    while left:
        one, other = left.pop()
        if type(one) is not type(other):
            return False
        if isinstance(one, ast.AST):
            left += [(getattr(one, field, None), getattr(other, field, None)) for field in one._fields]
        elif isinstance(one, list):
            if len(one) != len(other):
                return False
            left += zip(one, other)
        elif one != other:
            return False
    return True


def _span(text, node):
    """Where a node stands in the text. Its columns count bytes of UTF-8."""
    data = text.encode()
    starts = [0, *(end.end() for end in re.finditer(NEWLINE.pattern.encode(), data))]
    ends = ((node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset))
    return tuple(len(data[: starts[line - 1] + column].decode()) for line, column in ends)


def _find(tree, name):
    """The one assignment of a constant. Raises _Unfit with the reason and the remedy."""
    *scopes, last = name.split(".")
    scope, where = tree, "at its top level"
    for part in scopes:
        found = [node for node in _nodes_of(scope) if isinstance(node, SCOPES) and node.name == part]
        if len(found) != 1:
            raise _Unfit(f"it has {len(found) or 'no'} classes or functions {part} {where}: mend the name {name}.")
        scope, where = found[0], f"in {part}"
    plain, others = _bindings(scope, last)
    lines = sorted([node.lineno for node in plain] + others)
    if not lines:
        raise _Unfit(f"it assigns no {last} {where}: {_hint(tree, scope, name)}")
    if len(lines) > 1:
        listed = ", ".join(map(str, lines))
        raise _Unfit(f"it sets {last} more than once {where} (lines {listed}): keep one `{last} = ...`.")
    if others:
        raise _Unfit(f"line {lines[0]} is no plain assignment of {last}: make it `{last} = ...`.")
    return plain[0]


def _nodes_of(scope):
    """The nodes that bind names in this scope: not those within its functions, classes and comprehensions."""
    left = list(scope.body)
    while left:
        node = left.pop()
        yield node
        if isinstance(node, COMPREHENSIONS):
            left += [inner.target for inner in ast.walk(node) if isinstance(inner, ast.NamedExpr)]
        elif not isinstance(node, (*SCOPES, ast.Lambda)):
            left += ast.iter_child_nodes(node)


def _bindings(scope, name):
    """The plain assignments of a name in a scope, and the lines of all else that gives it a value there, or may from
    within a function that declares it as `global` or `nonlocal`. A declaration without a value is neither.
    """
    plain, targets, others = [], [], []
    for node in _nodes_of(scope):
        target = node.targets[0] if isinstance(node, ast.Assign) and len(node.targets) == 1 else None
        target = node.target if isinstance(node, ast.AnnAssign) else target
        if isinstance(target, ast.Name) and target.id == name:
            targets.append(target)
            plain += [node] if node.value else []
    for node in _nodes_of(scope):
        if isinstance(node, ast.alias) or any(node is target for target in targets):
            continue
        if isinstance(node, ast.Name):
            bound = [] if isinstance(node.ctx, ast.Load) else [node.id]
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            bound = [alias.asname or alias.name.partition(".")[0] for alias in node.names]
        else:  # functions, classes, `except ... as`, and the patterns of `match`
            bound = [getattr(node, "name", None), getattr(node, "rest", None)]
        others += [node.lineno] if name in bound else []
    inner = ast.Global if isinstance(scope, ast.Module) else ast.Nonlocal
    declared = [node.lineno for node in ast.walk(scope) if isinstance(node, inner) and name in node.names]
    declared += [node.lineno for node in _nodes_of(scope) if isinstance(node, ast.Global) and name in node.names]
    return plain, others + sorted(set(declared))


def _hint(tree, scope, name):
    """What may have been meant by a constant that is not there."""
    last = name.rpartition(".")[2]
    inner = [dotted for dotted, node in _scopes_of(tree) if _bindings(node, last)[0]]
    if inner:
        return f"write it with dots, as {inner[0]}.{last}."
    stored = {node.id for node in _nodes_of(scope) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    near = nearest(last, sorted(stored))
    return f"did you mean {' or '.join(near)}?" if near else "mend the name, or add the assignment."


def _scopes_of(scope, prefix=""):
    """(dotted name, node) of the classes and functions in a scope, to any depth."""
    for node in _nodes_of(scope):
        if isinstance(node, SCOPES):
            yield prefix + node.name, node
            yield from _scopes_of(node, f"{prefix}{node.name}.")


def _check_known(tree, expression):
    """A value that is a bare name must occur in the file: mostly it is a text without its quotes, or `true`."""
    if not isinstance(expression, ast.Name) or hasattr(builtins, expression.id):
        return
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.alias):
            names.add(node.asname or node.name.partition(".")[0])
        elif isinstance(node, SCOPES):
            names.add(node.name)
        elif isinstance(node, (ast.Name, ast.arg)):
            names.add(node.id if isinstance(node, ast.Name) else node.arg)
    if not {expression.id, "*"} & names:
        raise _Unfit(
            f"it knows no `{expression.id}`: Python writes True and False, and a text in quotes of its own, "
            f"\"'{expression.id}'\"."
        )
