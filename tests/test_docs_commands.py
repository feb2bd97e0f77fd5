"""Every command and every Python sample in README and docs runs, and what a page shows is what is printed.

A block of `sh` or `python` runs unless `<!-- not run: reason -->` stands before it. A block of `text` is what the block
before it prints: each of its lines must be printed, in this order, with numbers within the tolerance; `...` stands for
anything, and what follows the word `seconds` may be any number. The tutorial's files and runs are there on every page.
"""

import contextlib
import io
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import final

import pytest

from thalweg.cli import main

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TUTORIAL = ROOT / "docs" / "tutorial.md"
BLOCK = re.compile(
    r"(?:^<!-- not run(?:: (?P<reason>.+))? -->\n+)?(?:^<!-- command: \w+ -->\n)?"
    r"^```(?P<kind>sh|python|text)\n(?P<text>.*?)^```$",
    re.S | re.M,
)

# A number on a page may differ from the printed one by this much, since other processors add in another order. The
# built-in texts are those of Python's own library, so with another Python than the pages' own only words are compared.
RELATIVE, ABSOLUTE = 0.05, 0.02
WRITTEN_WITH = (3, 11)

NUMBER = r"[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?"
PIECE = re.compile(rf"(?P<any>\.\.\.)|(?P<time>seconds\W+{NUMBER})|(?P<number>{NUMBER})|(?P<bar>[█-▏]+)|(?P<space>\s+)")


@final
@dataclass(frozen=True)
class Block:
    kind: str
    text: str
    reason: str | None
    line: int


def blocks(page):
    text = page.read_text(encoding="utf-8")
    return [
        Block(found["kind"], found["text"], found["reason"], text.count("\n", 0, found.start("text")))
        for found in BLOCK.finditer(text)
    ]


def is_run(block):
    return block.kind != "text" and block.reason is None


# Running


def commands(text):
    """The command lines of a block: continued lines joined, comments left out; what `pip` installs is there already."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["pip"]:
            words = words[words.index("&&") + 1 :]
        if words:
            yield tuple(words)


def call(words, printed):
    """Run one command line; `thalweg` in this process, since importing torch takes longer than most commands."""
    given = None
    if words[0] == "echo" and "|" in words:
        cut = words.index("|")
        given, words = " ".join(words[1:cut]) + "\n", words[cut + 1 :]
    if words[0] != "thalweg":
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        printed.write(done.stdout + done.stderr)
        return done.returncode
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(printed))
        stack.enter_context(contextlib.redirect_stderr(printed))
        if given is not None:
            patch = stack.enter_context(pytest.MonkeyPatch.context())
            patch.setattr(sys, "stdin", io.StringIO(given))
        with pytest.raises(SystemExit) as ended:
            main.run(list(words[1:]))
    return ended.value.code


def run_page(page, known):
    """Run the blocks of a page one after the other, and compare what they print with what is shown.

    `known` has what commands have printed in this folder already.
    """
    names = {"__name__": "__main__"}
    printed, shown = "", blocks(page)
    for number, block in enumerate(shown):
        place = f"{page.name}, line {block.line}"
        follows = shown[number + 1] if number + 1 < len(shown) else None
        shown_after = follows.text if follows is not None and follows.kind == "text" else ""
        fails = "error:" in shown_after or "no weights were saved" in shown_after
        if block.kind == "text":
            compare(block.text, printed, place)
        elif block.reason is not None:
            assert follows is None or follows.kind != "text", f"{place} shows what nobody can compare"
        elif block.kind == "python":
            output = io.StringIO()
            with contextlib.redirect_stdout(output):
                exec(compile("\n" * block.line + block.text, str(page), "exec"), names)
            printed = output.getvalue()
        elif (lines := tuple(commands(block.text))) in known:
            printed = known[lines]
        else:
            output = io.StringIO()
            codes = [call(words, output) for words in lines]
            printed = known[lines] = output.getvalue()
            assert any(codes) == fails, f"{place}: exit codes {codes}\n{printed}"


# Comparing


def pattern(shown):
    """A shown line as an expression whose groups are the printed numbers, and the numbers that are shown."""
    parts, numbers, end = [], [], 0
    for found in PIECE.finditer(shown):
        parts.append(re.escape(shown[end : found.start()]))
        end = found.end()
        if found["number"]:
            numbers.append(found["number"])
        parts.append(
            {"any": ".*", "time": rf"seconds\W+{NUMBER}", "number": f"({NUMBER})", "bar": "[█-▏]*", "space": r"\s+"}[
                found.lastgroup
            ]
        )
    return re.compile("".join(parts) + re.escape(shown[end:])), numbers


def close(shown, printed):
    shown, printed = (float(number.replace(",", "")) for number in (shown, printed))
    return sys.version_info[:2] != WRITTEN_WITH or abs(shown - printed) <= max(ABSOLUTE, RELATIVE * abs(shown))


def compare(shown, printed, place):
    lines = iter([line.rstrip() for line in printed.splitlines()])
    for wanted in (line.strip() for line in shown.splitlines()):
        if wanted in {"", "..."}:
            continue
        expression, numbers = pattern(wanted)
        matches = (expression.fullmatch(line.strip()) for line in lines)
        assert any(match and all(map(close, numbers, match.groups())) for match in matches), (
            f"{place} shows {wanted!r}, and this is not what is printed (in this order):\n{printed}"
        )


@pytest.fixture(scope="module")
def tutorial(tmp_path_factory):
    """The folder in which the tutorial has run, and what its commands printed."""
    folder, known = tmp_path_factory.mktemp("tutorial"), {}
    with contextlib.chdir(folder):
        run_page(TUTORIAL, known)
    # The run that README and tutorial show is trained once; what a page's own files give belongs to that page.
    first = (("thalweg", "train"),)
    return folder, {first: known[first]}


@pytest.mark.slow
def test_the_tutorial_shows_what_is_printed(tutorial):
    folder, known = tutorial
    assert (folder / "runs" / "reviews" / "report.html").is_file()
    assert "accuracy" in known[("thalweg", "train"),]


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in PAGES if page != TUTORIAL and any(map(is_run, blocks(page)))], ids=lambda page: page.name
)
def test_a_page_shows_what_is_printed(page, tutorial, tmp_path, monkeypatch):
    folder, known = tutorial
    if any(block.kind == "sh" and is_run(block) for block in blocks(page)):
        for name in ("reviews.csv", "held-out.csv"):
            shutil.copy(folder / name, tmp_path)
        for name in ("reviews", "docstrings"):
            shutil.copytree(folder / "runs" / name, tmp_path / "runs" / name)
    monkeypatch.chdir(tmp_path)
    run_page(page, dict(known))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_block_that_is_not_run_says_why(page):
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"<!-- not run(?!: \w+ \w+)", text)
    for mark in re.finditer(r"<!-- not run.*-->\n", text):
        assert re.match(r"\n*(<!-- command: \w+ -->\n)?```(sh|python)\n", text[mark.end() :]), (
            "the mark belongs to the block below it"
        )


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("accuracy  0.9171", "accuracy 0.9144", True),
        ("accuracy  0.9171", "accuracy 0.6800", False),
        ("304 steps", "100 steps", False),
        ("step 16, epoch 2: ...", "step 16, epoch 2: validation loss 0.3", True),
        ("seconds   6.5", "seconds  21.0", True),
        ('{"seconds": 3.5, "steps": 304}', '{"seconds": 9.25, "steps": 304}', True),
        ("relative gap 2.6e-06", "relative gap 9.7e-06", True),
        ("3,162 texts", "3,160 texts", True),
        ("good 262 ████", "good 262 ███", True),
        ("Report: runs/a", "Report: runs/b", False),
        ("first\nsecond", "second\nfirst", False),
    ],
)
def test_the_comparison_sees_what_matters(shown, printed, same):
    if same or sys.version_info[:2] != WRITTEN_WITH:
        compare(shown, printed, "here") if same else None
    else:
        with pytest.raises(AssertionError, match="this is not what is printed"):
            compare(shown, printed, "here")
