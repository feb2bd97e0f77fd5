"""Data that are read in blocks: the curve of one process on two, the same bits when resumed, and what is refused."""

import json
import random
from pathlib import Path

import pytest
import torch
from ranks import together

import thalweg
from thalweg.errors import InputError
from thalweg.training.folder import checkpoint
from thalweg.training.recipe.recipe import Options
from thalweg.training.session import sizing
from thalweg.training.session.loop import train
from thalweg.training.session.prepare import Request, prepare

WORDS = ["river", "stone", "light", "water", "field", "cloud", "house", "table", "music", "paper"]
SMALL = {
    "streaming": "yes", "optimizer": "adamw", "precision": "float64", "lr": 0.01, "schedule": "constant",
    "dropout": 0.0, "width": 4, "hidden": 4, "steps": 4, "batch_size": 40,
}  # fmt: skip
CASES = {
    "classify": {**SMALL, "source": "reviews.jsonl", "task": "classify", "model": "linear", "accumulate": 2},
    "score": {**SMALL, "source": "pairs.tsv", "task": "score"},
    "language": {
        **SMALL,
        "source": "text.txt",
        "task": "language",
        "max_length": 8,
        "vocabulary_size": 300,
        "carry": 1,
    },
    "translate": {**SMALL, "source": "pairs.csv", "task": "translate", "model": "lstm"},
    "tag": {**SMALL, "source": "words.jsonl", "task": "tag", "model": "lstm"},
}


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Files of several hundred rows each, in a folder where runs go as well."""
    monkeypatch.chdir(tmp_path)
    write_data(tmp_path)
    return tmp_path


def write_data(folder, num=600):
    generator = random.Random(0)
    texts = [generator.choices(WORDS, k=generator.randint(2, 9)) for _ in range(num)]
    rows = [{"text": f"{' '.join(text)} {'good' if number % 2 else 'bad'}", "label": f"{number % 2}"}
            for number, text in enumerate(texts)]  # fmt: skip
    lines = {
        "reviews.jsonl": map(json.dumps, rows),
        "pairs.tsv": (f"{' '.join(text)}\t{' '.join(text[1:])} so\t{len(text)}.5" for text in texts),
        "pairs.csv": ["source,target", *(f"{' '.join(text)},{' '.join(reversed(text))}" for text in texts)],
        "text.txt": map(" ".join, texts),
        "words.jsonl": (json.dumps({"tokens": text, "tags": [f"B-{word[0]}" for word in text]}) for text in texts),
    }
    for name, content in lines.items():
        (folder / name).write_text("\n".join(content) + "\n")


def session_of(options, out="runs", **request):
    return prepare(Request(Options({"name": "run", **options}), Path(out), **request), lambda sentence: None)


def curve(options, out="runs", **request):
    with session_of(options, out, **request) as session:
        return [entry["loss"] for entry in train(session) if entry["event"] in ("step", "evaluation")]


def curves(folder, out):
    torch.set_num_threads(1)
    return {
        name: curve({**options, "source": f"{folder}/{options['source']}", "name": name}, f"{folder}/{out}")
        for name, options in CASES.items()
        if name in ("classify", "language")
    }


@pytest.mark.parametrize("name", ["score", "tag", "translate"])
def test_other_tasks_learn_from_blocks(data, name):
    losses = curve({**CASES[name], "steps": 8})
    assert losses[-1] < losses[0]


@pytest.mark.slow
def test_two_processes_have_the_curve_of_one(data):
    alone = curves(str(data), "one")
    first, second = together(curves, str(data), "two", folder=data)
    assert first == second
    assert first.keys() == alone.keys()
    for name, losses in alone.items():
        assert first[name] == pytest.approx(losses, rel=1e-5), name
        assert len(losses) > 3, name


def test_resumed_in_the_middle_of_an_epoch_ends_with_the_same_bits(data):
    options = {**CASES["classify"], "steps": 6, "batch_size": 20}
    curve(options, "whole")
    with session_of({**options, "steps": 3}, "cut") as session:
        list(train(session))
    assert session.feed.steps_per_epoch > 6
    curve({"steps": 6}, "cut", resume=session.run.folder)
    one, other = (checkpoint.load_tensors(data / out / "run" / "model.safetensors") for out in ("whole", "cut"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_large_data_are_read_in_blocks_and_the_recipe_says_so(data, monkeypatch):
    monkeypatch.setattr(sizing, "MOST_IN_MEMORY", 1000)
    run = thalweg.train("reviews.jsonl", steps=3, width=4)
    assert run.recipe.data.streaming == "yes"
    assert run.result["num_train"] > 500
    with pytest.raises(InputError, match="a certificate is about all training examples at once"):
        thalweg.certify(run)
    assert thalweg.diagnose(run) is not None
    monkeypatch.setattr(sizing, "MOST_IN_MEMORY", 10**9)
    assert thalweg.train("reviews.jsonl", steps=3, width=4).recipe.data.streaming == "no"


def test_validation_rows_are_none_of_those_trained_on(data):
    with session_of(CASES["score"]) as session:
        held_out, stream = session.prepared.valid, session.prepared.stream
        seen = 0
        for step in range(session.feed.steps_per_epoch):
            seen += sum(batch.num_examples for batch in session.feed(step))
    assert seen + len(held_out) == 600
    assert len(stream) == seen


def test_rows_that_cannot_be_used_are_named_or_left_out(data):
    path = data / "reviews.jsonl"
    lines = path.read_text().splitlines()
    for number in (77, 333):
        lines[number] = json.dumps({"text": None, "label": "1"})
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match=r"reviews\.jsonl, line (78|334): expected a text in column 'text'.*skip-bad"):
        curve(CASES["classify"])
    with session_of({**CASES["classify"], "skip_bad_rows": True}) as session:
        seen = sum(batch.num_examples for step in range(session.feed.steps_per_epoch) for batch in session.feed(step))
    assert seen + len(session.prepared.valid) == 598


@pytest.mark.parametrize(
    ("num", "said"), [(129, "128 processes at most; got 129"), (127, "of 127 processes needs one")]
)
def test_more_processes_than_blocks_are_refused(data, monkeypatch, num, said):
    monkeypatch.setattr("thalweg.distributed.world_size", lambda: num)
    monkeypatch.setattr("thalweg.distributed.gather", lambda value: [value])
    with pytest.raises(InputError, match=said):
        session_of(CASES["classify"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"source": "sunspots", "task": "forecast"}, "A forecast learns from the order of all rows"),
        ({"source": "words.conll", "task": "tag"}, "is conll, of which csv, tsv, jsonl, fasttext, text alone"),
        ({"source": "reviews.jsonl", "optimizer": "linear-newton"}, "takes all data at once"),
        ({"source": "reviews.jsonl", "batch_size": 0, "optimizer": "adamw"}, "takes all data in each step"),
        ({"source": "tiny.jsonl"}, r"tiny\.jsonl is too small for blocks \(1 block of rows, 0 for training"),
    ],
)
def test_what_cannot_be_read_in_blocks_is_refused(data, options, said):
    (data / "words.conll").write_text("river\tB\nstone\tO\n\n" * 20)
    (data / "tiny.jsonl").write_text("".join(f'{{"text": "so {n}", "label": "{n % 2}"}}\n' for n in range(20)))
    with pytest.raises(InputError, match=said):
        session_of({"streaming": "yes", **options})
