"""A file that was damaged anywhere gives a session or a sentence, in every task, and nothing is half-written."""

import random

import pytest

from thalweg.errors import InputError
from thalweg.training.recipe.recipe import Options
from thalweg.training.session.prepare import Request, prepare

WORDS = ["river", "stone", "light", "water", "field", "cloud", "house", "table", "music", "paper"]
NUM_FILES = 15
PIECES = [
    b"\0",
    b'"',
    b"\t",
    b",",
    b"\n",
    b"\r\n",
    b"\xff",
    b"{",
    b"}",
    b"[",
    b"nan",
    b"1e999",
    b" ",
    b"",
    "é".encode(),
]


def lines_of(task, g):
    """Rows of a sound file, and the ending of its name."""
    texts = [" ".join(g.choices(WORDS, k=4)) for _ in range(60)]
    if task == "classify":
        return ["text,label", *(f"{text},{g.choice(['good', 'bad'])}" for text in texts)], ".csv"
    if task == "tag":
        return [line for text in texts for line in [*(f"{word}\tB-X" for word in text.split()), "out\tO", ""]], ".conll"
    if task == "score":
        return [f'{{"text": "{text}", "score": {g.random():.3f}}}' for text in texts], ".jsonl"
    if task == "forecast":
        return ["year,level,rain", *(f"{1900 + k},{k % 7},{g.random():.3f}" for k in range(60))], ".csv"
    if task == "language":
        return texts, ".txt"
    return ["source\ttarget", *(f"{text}\t{text.upper()}" for text in texts)], ".tsv"


def damaged(content, g):
    """Put, repeat or take away some bytes at some places."""
    for _ in range(g.choice([1, 1, 2, 5])):
        place, length = g.randrange(len(content) + 1), g.choice([0, 1, 3, 30])
        kind = g.choice(["insert", "repeat", "cut", "end"])
        if kind == "insert":
            content = content[:place] + g.choice(PIECES) + content[place + length :]
        elif kind == "repeat":
            content = content[:place] + content[place : place + length] * 3 + content[place:]
        elif kind == "cut":
            content = content[:place] + content[place + length :]
        else:
            content = content[: max(1, place)]
    return content


@pytest.mark.parametrize("task", ["classify", "tag", "score", "forecast", "language", "translate"])
def test_a_damaged_file_gives_a_session_or_a_sentence(tmp_path, task):
    outcomes = []
    for seed in range(NUM_FILES):
        g = random.Random(seed)
        rows, ending = lines_of(task, g)
        path = tmp_path / f"file{seed}{ending}"
        path.write_bytes(damaged("\n".join(rows).encode(), g))
        small = {"width": 4, "hidden": 4, "heads": 2, "layers": 1, "steps": 1, "lags": 3, "max_length": 16}
        given = Options(small, source=path, task=task)
        try:
            session = prepare(Request(given, tmp_path / "runs"), lambda sentence: None)
        except InputError:
            assert not (tmp_path / "runs" / path.stem).exists(), "nothing may be left half-written"
            outcomes.append("refused")
        else:
            assert len(session.prepared.train) > 0
            outcomes.append("read")
    assert "read" in outcomes
    assert "refused" in outcomes or task == "language", "text is text, whatever is in it"
