"""Built-in texts that every Python has: docstrings and source lines of the standard library, and its manual."""

import ast
import hashlib
import io
import keyword
import os
import re
import sysconfig
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from thalweg.errors import InputError


def _words(names: str) -> tuple[str, ...]:
    return tuple(names.split())


MIN_TEXTS: Final = 100  # a package with fewer docstrings is not a label
# Tests, bundled installers, third-party packages, and what some of Python 3.11 to 3.14 lack.
_LEFT_OUT: Final = _words(
    "test tests idlelib idle_test lib2to3 distutils site-packages dist-packages turtledemo pydoc_data ensurepip "
    "_pyrepl __phello__ __pycache__ lib-dynload asynchat asyncore imp smtpd msilib"
)
_WORD: Final = re.compile(r"\w+|[^\w\s]+")
# Modules that Python 3.11 to 3.14 all have, of many kinds.
_TOKEN_MODULES: Final = _words(
    "argparse base64 bisect calendar cmd codeop collections/__init__ configparser contextlib copy csv dataclasses "
    "difflib fileinput filecmp fnmatch fractions functools glob gzip heapq html/parser imaplib json/decoder "
    "json/encoder linecache mailbox netrc optparse pprint queue random sched shelve shlex shutil socketserver "
    "statistics string tempfile textwrap threading timeit trace uuid weakref"
)
_MAX_WORDS: Final = 60


def _library() -> Path:
    root = Path(sysconfig.get_path("stdlib"))
    if not (root / "argparse.py").is_file():
        raise InputError(
            f"{root}: the source files of Python's standard library are missing, so the built-in data can't be made; "
            "install them, or name a data file."
        )
    return root


def _packages(root: Path) -> dict[str, list[bytes]]:
    """The source files of each top-level package or module, without those left out."""
    packages: dict[str, list[bytes]] = defaultdict(list)
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(one for one in folders if one not in _LEFT_OUT and not one.startswith("config-"))
        for file in sorted(files):
            name = file.removesuffix(".py")
            if file.endswith(".py") and name not in _LEFT_OUT and not name.startswith("test_"):
                path = Path(folder, file)
                # _pydecimal and _pydatetime are the sources of decimal and datetime.
                top = path.relative_to(root).parts[0].removesuffix(".py").removeprefix("_py")
                packages[top].append(path.read_bytes())
    return packages


def docstrings() -> list[tuple[str, str]]:
    """Pairs (docstring, package) of the standard library, in a mixed order that is always the same.

    They are read from the source files with `ast`; nothing is imported. A text comes once; one that several packages
    share is left out, and so are texts of one or two words and packages with fewer than `MIN_TEXTS` texts. Raises
    `InputError` when the standard library was installed without its source files.
    """
    labels: dict[str, str] = {}
    shared = set()
    for package, sources in sorted(_packages(_library()).items()):
        # Each docstring has two triple quotes: this spares parsing what can't have enough.
        if sum(source.count(b'"""') + source.count(b"'''") for source in sources) < 2 * MIN_TEXTS:
            continue
        for text in (text for source in sources for text in _docstrings_of(source)):
            if labels.setdefault(text, package) != package:
                shared.add(text)
    counts = Counter(label for text, label in labels.items() if text not in shared)
    rows = [(text, label) for text, label in labels.items() if text not in shared and counts[label] >= MIN_TEXTS]
    return sorted(rows, key=lambda row: hashlib.blake2b(row[0].encode(), digest_size=8).digest())


def _docstrings_of(source: bytes) -> Iterator[str]:
    nodes: list[ast.AST] = [ast.parse(source)]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text and len(text.split(maxsplit=2)) > 2:
                yield text
        # Only statements have statements inside; leaving out the expressions halves the time.
        inner = (ast.stmt, ast.excepthandler, ast.match_case)
        nodes.extend(child for child in ast.iter_child_nodes(node) if isinstance(child, inner))


def manual() -> list[tuple[str]]:
    """Python's language manual (`pydoc_data.topics`), one line a row, topics in alphabetic order."""
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise InputError(
            "Python's manual (the module pydoc_data) is not installed, so the built-in data can't be made; install it, "
            "or name a text file."
        ) from None
    lines = []
    for topic in sorted(topics):
        lines.extend((line,) for line in topics[topic].strip("\n").split("\n"))
        lines.append(("",))
    return lines


def tokens() -> list[tuple[list[str], list[str]]]:
    """Pairs (words, tags) of lines of the standard library's source, each once, of 3 to 60 words.

    The tags are spans (B- begins one, I- continues it): keyword, number, string, comment, function, class, parameter,
    call, attribute, argument, import, decorator and name; O is for operators and punctuation. Strings, comments and
    dotted imports are spans of several words. Raises `InputError` when the library was installed without its source
    files.
    """
    root = _library()
    rows: dict[tuple[str, ...], list[str]] = {}
    for module in _TOKEN_MODULES:
        path = root / f"{module}.py"
        if path.is_file():
            for words, tags in tagged_lines(path.read_text(encoding="utf-8")):
                if 3 <= len(words) <= _MAX_WORDS:
                    rows.setdefault(tuple(words), tags)
    return [(list(words), tags) for words, tags in rows.items()]


def tagged_lines(source: str) -> Iterator[tuple[list[str], list[str]]]:
    """The logical lines of a Python source text: words and their tags (see `tokens`)."""
    line: list[tuple[str, str]] = []  # (kind of Python token, text)
    for kind, text in _python_tokens(source):
        if kind in ("newline", "comment line"):
            if kind == "comment line":
                line.append(("comment", text))
            if line:
                yield _tagged(line)
            line = []
        else:
            line.append((kind, text))


def _python_tokens(source: str) -> Iterator[tuple[str, str]]:
    """(kind, text); the parts into which newer Pythons split an f-string are one string again."""
    lines = io.StringIO(source).readlines()
    kinds = {tokenize.NAME: "name", tokenize.NUMBER: "number", tokenize.STRING: "string", tokenize.OP: "operator"}
    depth, start, at_line_start = 0, (1, 0), True
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        name = tokenize.tok_name[token.type]
        if name in ("FSTRING_START", "TSTRING_START"):
            start = start if depth else token.start
            depth += 1
        elif name in ("FSTRING_END", "TSTRING_END"):
            depth -= 1
            if not depth:
                yield "string", _between(lines, start, token.end)
        elif depth:
            continue
        elif token.type == tokenize.COMMENT:
            yield ("comment line" if at_line_start else "comment"), token.string
        elif token.type == tokenize.NEWLINE:
            yield "newline", ""
        elif token.type in kinds:
            yield kinds[token.type], token.string
        if token.type not in (tokenize.INDENT, tokenize.DEDENT, tokenize.COMMENT):
            at_line_start = token.type == tokenize.NEWLINE or (token.type == tokenize.NL and at_line_start)
    yield "newline", ""


def _between(lines: list[str], start: tuple[int, int], end: tuple[int, int]) -> str:
    if start[0] == end[0]:
        return lines[start[0] - 1][start[1] : end[1]]
    return "".join([lines[start[0] - 1][start[1] :], *lines[start[0] : end[0] - 1], lines[end[0] - 1][: end[1]]])


def _tagged(line: list[tuple[str, str]]) -> tuple[list[str], list[str]]:
    words, tags = [], []
    texts = [text for _, text in line]
    depth = 0
    for i, (kind, text) in enumerate(line):
        before, after = texts[i - 1] if i else "", texts[i + 1] if i + 1 < len(line) else ""
        if kind in ("string", "comment"):
            parts = _WORD.findall(text)
            words.extend(parts)
            tags.extend([f"B-{kind}", *[f"I-{kind}"] * (len(parts) - 1)])
            continue
        if kind == "operator":
            depth += (text in "([{") - (text in ")]}")
            tag = "O"
        elif kind == "number":
            tag = "B-number"
        else:
            tag = _tag_of_name(text, before, after, texts, depth)
        if text == "." and tags and tags[-1].endswith("-import"):
            tag = "I-import"
        words.append(text)
        tags.append(tag)
    return words, tags


def _tag_of_name(text: str, before: str, after: str, texts: list[str], depth: int) -> str:
    if keyword.iskeyword(text):
        return "B-keyword"
    if texts[0] in ("import", "from"):
        return "I-import" if before == "." else "B-import"
    is_definition = "def" in texts[:2]
    if before in ("def", "class"):
        return "B-function" if before == "def" else "B-class"
    if is_definition and depth == 1 and before in ("(", ",", "*", "**"):
        return "B-parameter"
    if texts[0] == "@" and "(" not in texts[: texts.index(text)]:
        return "B-decorator"
    if after == "(":
        return "B-call"
    if before == ".":
        return "B-attribute"
    return "B-argument" if depth and after == "=" and before in ("(", ",") else "B-name"
