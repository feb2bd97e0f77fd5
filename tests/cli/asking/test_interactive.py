"""On a terminal: a sign before each line, answers at once, and texts as they are written."""

import io

import pytest

from thalweg import train
from thalweg.cli.main import run as command_line


class Terminal(io.StringIO):
    """A text stream that says it is a terminal."""

    def isatty(self):
        return True


class Typed(io.RawIOBase):
    """Bytes that come line by line, as a terminal gives them."""

    def __init__(self, lines):
        self.lines = [line.encode() for line in lines]

    def readable(self):
        return True

    def isatty(self):
        return True

    def readinto(self, buffer):
        line = self.lines.pop(0) if self.lines else b""
        buffer[: len(line)] = line
        return len(line)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    (folder / "book.txt").write_text("the río runs to the sea\n" * 80)
    rows = "".join(f"{'fine' if k % 2 else 'awful'} {k},{'good' if k % 2 else 'bad'}\n" for k in range(60))
    (folder / "data.csv").write_text("text,label\n" + rows)
    options = {"out": folder / "runs", "fast": True}
    language = train(folder / "book.txt", task="language", name="l", width=4, max_length=8, tie=False, **options)
    return {"language": language.folder, "classify": train(folder / "data.csv", name="c", **options).folder}


@pytest.fixture
def ask(runs, monkeypatch, tmp_path):
    """Call `thalweg predict` on a terminal, and return the code and both outputs."""
    monkeypatch.chdir(tmp_path)

    def call(kind, *arguments, typed=None):
        out, err = Terminal(), Terminal()
        monkeypatch.setattr("sys.stdout", out)
        monkeypatch.setattr("sys.stderr", err)
        if typed is not None:
            monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BufferedReader(Typed(typed))))
        with pytest.raises(SystemExit) as ended:
            command_line(["predict", str(runs[kind]), *map(str, arguments)])
        return ended.value.code, out, err.getvalue()

    return call


def test_each_line_is_answered_at_once_until_an_empty_one(ask):
    code, out, err = ask("classify", typed=["fine 3\n", "awful 4\n", "\n", "never read\n"])
    assert code == 0
    assert len(out.getvalue().splitlines()) == 2
    assert err.count("> ") == 3
    assert "an empty line or Ctrl-D ends" in err
    code, out, err = ask("classify", typed=["fine 3\n"])  # Ctrl-D
    assert (code, len(out.getvalue().splitlines()), err.count("> ")) == (0, 1, 2)
    assert ask("classify", typed=["\n"])[0] == 0


def test_a_text_appears_as_it_is_written_and_steers_no_terminal(ask, monkeypatch):
    written = []
    monkeypatch.setattr(Terminal, "write", lambda self, text: written.append(text) or io.StringIO.write(self, text))
    code, out, _ = ask("language", "the río", "--length", 30, "--temperature", 1, "--seed", 5)
    assert code == 0
    assert out.getvalue().startswith("the río")
    assert len([text for text in written if text]) > 10
    assert not any("\x1b" in text for text in written)
    code, typed, err = ask("language", "--length", 30, "--temperature", 1, "--seed", 5, typed=["the río\n"])
    assert (code, typed.getvalue()) == (0, out.getvalue())
    assert err.count("> ") == 2


def test_what_is_streamed_is_what_is_printed_elsewhere(ask, runs, capfd):
    _, out, _ = ask("language", "the", "--length", 20, "--temperature", 0, "--stop", "\n")
    streamed = out.getvalue()
    _, two, _ = ask("language", "the", "the", "--length", 20, "--temperature", 0, "--stop", "\n")
    assert two.getvalue() == 2 * streamed
