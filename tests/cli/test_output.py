"""What reaches the standard streams: nothing that steers a terminal, JSON that any program reads, and no traceback."""

import csv
import errno
import io
import json
import os
import sys

import pytest
from rich.table import Table

from thalweg.cli.output import CsvTable, Terminal, cell, print_answers, print_json, print_lines, standard_streams

HOSTILE = "\x1b]0;title\x07\x1b[31mred\x9b2J\x08\x7f\u202eback\u2066\u200f\udcff\ud83d"
SHOWN = r"␛]0;title␇␛[31mred\x9b2J␈␡\u202eback\u2066\u200f\xff\ud83d"


class OnTerminal(io.StringIO):
    """What a terminal gets."""

    def isatty(self):
        return True


class Failing(io.StringIO):
    """A stream that takes nothing, such as a full disk or a pipe without a reader."""

    def __init__(self, number):
        super().__init__()
        self.number = number

    def write(self, text):
        raise OSError(self.number, os.strerror(self.number))


def said(monkeypatch, stream, speak):
    """What a terminal, or another stream, has got of it."""
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", stream)
    with standard_streams() as console:
        speak(console)
    return stream.getvalue()


def table(title):
    made = Table(box=None)
    made.add_column(cell(title))
    made.add_row(cell(HOSTILE))
    return made


WAYS = {
    "a sentence": lambda console: console.say(HOSTILE),
    "a table": lambda console: console.print(table("x")),
    "the header of a table": lambda console: Terminal(width=400).print(table(HOSTILE)),
    "lines": lambda console: print_lines([HOSTILE]),
    "answers": lambda console: print_answers([HOSTILE]),
    "a library on standard output": lambda console: print(HOSTILE),
    "a library on standard error": lambda console: print(HOSTILE, file=sys.stderr),
    "a table of answers": lambda console: CsvTable([HOSTILE]).print_rows([{HOSTILE: HOSTILE}]),
}


@pytest.mark.parametrize("way", WAYS)
def test_what_steers_a_terminal_is_shown_on_it(monkeypatch, way):
    monkeypatch.setenv("COLUMNS", "400")
    out = said(monkeypatch, OnTerminal(), WAYS[way])
    assert SHOWN in out
    assert not {*HOSTILE} & {*out.replace("\x1b[0m", "").replace("\x1b[1m", "")} - {*SHOWN}


def test_nothing_is_interpreted_and_a_cell_has_one_line_with_an_end(monkeypatch):
    made = Table(":smile:", "[red]head[/red]", box=None)
    made.add_row(cell("a :smile:\nb\tc"), cell("x" * 300))
    monkeypatch.setenv("COLUMNS", "400")
    lines = said(monkeypatch, io.StringIO(), lambda console: console.print(made)).splitlines()
    assert [line.split() for line in lines] == [
        [":smile:", "[red]head[/red]"],
        ["a", ":smile:␊b␉c", f"{'x' * 99}…{'x' * 100}"],
    ]
    assert len(said(monkeypatch, io.StringIO(), lambda console: console.say("x\n" * 10**6))) == 2001


def test_answers_in_a_pipe_keep_their_characters(monkeypatch):
    text = HOSTILE[:-2]
    assert said(monkeypatch, io.StringIO(), lambda console: print_answers([text])) == f"{text}\n"
    out = said(monkeypatch, io.StringIO(), lambda console: CsvTable(["a"]).print_rows([{"a": text}]))
    assert list(csv.reader(io.StringIO(out, newline=""))) == [["a"], [text]]


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_json_comes_back_equal_in_every_encoding_and_steers_nothing(monkeypatch, encoding):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    with standard_streams():
        print_json({"Ünïcode ☃": HOSTILE})
        print_lines(["☃ \ud800"])
    first, second = stream.buffer.getvalue().decode(encoding).splitlines()
    assert json.loads(first) == {"Ünïcode ☃": HOSTILE}
    assert not {*HOSTILE} & {*first} - {*SHOWN}
    assert second == (r"☃ \ud800" if encoding == "utf-8" else r"\u2603 \ud800")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EPIPE, errno.EIO])
def test_standard_error_that_fails_stops_nothing_and_standard_output_is_named(monkeypatch, number):
    monkeypatch.setattr(sys, "stderr", Failing(number))
    monkeypatch.setattr(sys, "stdout", Failing(number))
    with standard_streams() as console:
        console.say("lost")
        print("lost", file=sys.stderr)
        for speak in (lambda: print_json(1), lambda: Terminal().say("lost")):
            with pytest.raises(OSError, match=os.strerror(number)) as caught:
                speak()
            assert caught.value.filename == "standard output"
    assert isinstance(sys.stdout, Failing)


def test_streams_that_are_closed(monkeypatch):
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    with standard_streams() as console:
        console.say("lost")
        with pytest.raises(OSError, match="closed: 'standard output'"):
            print_lines(["lost"])
        with pytest.raises(OSError, match="closed: 'standard input'"):
            sys.stdin.readline()


@pytest.mark.parametrize("columns", ["0", "1", "7"])
def test_a_terminal_without_width_still_has_a_table(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    assert "loss" in said(monkeypatch, OnTerminal(), lambda console: console.print(Table("loss")))
