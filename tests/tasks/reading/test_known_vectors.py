"""Word vectors beside a bag: which words of the file are taken in, and what a run makes of them."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest

import thalweg
from thalweg.cli import main
from thalweg.data.text.normalize import Normalizer
from thalweg.data.text.tokenizer import Tokenizer
from thalweg.errors import InputError
from thalweg.tasks.reading.known_vectors import known_vectors

GOOD, BAD = ("fine", "great", "lovely", "superb"), ("poor", "awful", "dull", "dire")
THINGS = ("film", "book", "song", "play", "meal")


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    """Vectors that say which words mean the same; the training texts have but half of the words."""
    random = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("vectors") / "vectors.txt"
    lines = [f"{word.title()} {' '.join(map(str, random.normal(size=5)))}" for word in THINGS]
    for words, side in ((GOOD, 3.0), (BAD, -3.0)):
        lines += [f"{word} {side} {' '.join(map(str, random.normal(size=4)))}" for word in words]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def rows(words=2, num=60):
    random = np.random.default_rng(1)
    return [
        {"text": f"A {random.choice((GOOD, BAD)[i % 2][:words])} {random.choice(THINGS)}!", "label": "+-"[i % 2]}
        for i in range(num)
    ]


@pytest.fixture(scope="module")
def run(vectors, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    return thalweg.train(rows(), task="classify", model="linear", word_vectors=vectors, out=out, name="run")


def test_the_vocabulary_takes_in_words_of_the_file_as_texts_have_them(vectors):
    tokenizer = Tokenizer.train(["a fine film"], "word")
    grown, table = known_vectors(vectors, "length", Normalizer(("lower",)), tokenizer, 12)
    assert grown.entries == ["a", "fine", "film", "book", "song", "play", "meal", "great"]  # as there is room
    np.testing.assert_allclose(np.linalg.norm(table, axis=1), [0.0] * 5 + [1.0] * 7, atol=1e-6)
    kept, table = known_vectors(vectors, "none", Normalizer(()), tokenizer, 7)
    assert kept is tokenizer
    assert table[5, 0] == 3.0
    assert not table[6].any()  # the file has "Film"


def test_words_that_no_training_text_has_are_understood(run, vectors, tmp_path):
    assert run.status.name == "PROVED"
    unseen = [f"{word} {thing}" for words in (GOOD, BAD) for word in words[2:] for thing in THINGS]
    found = [answer["label"] for answer in run.predict(unseen)]
    assert found == ["+"] * 10 + ["-"] * 10
    plain = thalweg.train(rows(), task="classify", model="linear", out=tmp_path, name="plain")
    guessed = [answer["label"] for answer in plain.predict(unseen)]
    assert guessed != found
    assert {guessed[i] == guessed[i + 10] for i in range(10)} == {True}  # it sees the thing alone
    assert run.evaluate(rows(words=4)).metrics["accuracy"] == 1.0


def test_a_run_needs_the_file_no_more_and_says_what_it_reads(run, vectors, tmp_path):
    vectors = Path(vectors)
    again = thalweg.load(run.folder)
    before = again.predict(["superb meal", "xqzzy"])
    assert before == run.predict(["superb meal", "xqzzy"])
    reader = again.task.reader
    assert reader.is_closed
    assert "the direction of the mean of each text's word vectors" in reader.describes()
    assert "the direction of the mean of word vectors" in reader.about()["features"]
    vectors.rename(vectors.with_suffix(".away"))
    (linear,) = [level for level in thalweg.certify(run).levels if level.name == "linear"]
    vectors.with_suffix(".away").rename(vectors)
    assert 0.0 <= linear.gap <= 1e-3
    assert "the direction of the mean of word vectors" in linear.scope
    other = thalweg.train(
        rows(num=40), start_from=str(run.folder), out=tmp_path, name="other", steps=2, optimizer="adamw", l2=0.0
    )
    assert other.task.reader.tokenizer.entries == reader.tokenizer.entries
    np.testing.assert_array_equal(other.task.reader.features.word_vectors, reader.features.word_vectors)


def code(*words):
    with pytest.raises(SystemExit) as ended:
        main.run([str(word) for word in words])
    return ended.value.code


WRONG = [
    (("--tokenizer", "char", "--model", "mlp"), "give --tokenizer word"),
    (("--model", "bag", "--word-vectors", "nowhere.txt"), "nowhere.txt: cannot be read"),
    (("--model", "linear", "--word-vectors", "other.txt"), "no vector of a word of the training texts"),
    (("--model", "linear", "--word-vectors", "zeros.txt"), "has nothing but zeros"),
    (
        ("--model", "linear", "--word-vectors", "narrow.txt", "--normalize-vectors", "top"),
        "are of width 3; give another",
    ),
    (("--model", "lstm", "--word-vectors", "narrow.txt", "--normalize-vectors", "top"), "are of width 3; give another"),
]


@pytest.mark.parametrize(("options", "said"), WRONG)
def test_what_does_not_fit_is_refused_in_a_sentence(options, said, vectors, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other.txt").write_text("xqzzy 1 2\n", encoding="utf-8")
    (tmp_path / "zeros.txt").write_text("film 0 0\nbook 0 0\n", encoding="utf-8")
    (tmp_path / "narrow.txt").write_text("film 1 2 3\nbook 3 1 2\n", encoding="utf-8")
    lines = [f"{row['text']},{row['label']}" for row in rows()]
    (tmp_path / "data.csv").write_text("\n".join(["text,label", *lines]) + "\n", encoding="utf-8")
    given = () if "--word-vectors" in options else ("--word-vectors", vectors)
    assert code("train", "data.csv", *given, *options) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "runs").exists()


def test_an_interrupted_run_does_not_go_on_with_other_vectors(vectors, tmp_path):
    own = tmp_path / "vectors.txt"
    own.write_text(Path(vectors).read_text(encoding="utf-8"), encoding="utf-8")
    options = {"task": "classify", "model": "linear", "word_vectors": str(own), "out": tmp_path, "name": "run"}
    options |= {"optimizer": "adamw", "steps": 9}

    def interrupt(entry):
        if entry["event"] == "step" and entry["step"] == 3:
            os.kill(os.getpid(), signal.SIGINT)

    stopped = thalweg.train(rows(), watch=interrupt, **options)
    assert not stopped.finished
    text = own.read_text(encoding="utf-8")
    own.write_text(text.replace("fine 3.0", "fine 2.0"), encoding="utf-8")
    with pytest.raises(InputError, match=r"vectors.txt has changed since .*run was started"):
        thalweg.train(rows(), **options)
    own.write_text(text, encoding="utf-8")
    assert thalweg.train(rows(), **options).finished


def test_models_that_read_otherwise_are_refused_and_pairs_of_bags_are_not(vectors, tmp_path):
    pairs = [
        {"first": row["text"], "second": rows()[i - 3]["text"], "number": float(i % 5)} for i, row in enumerate(rows())
    ]
    options = {"task": "score", "word_vectors": vectors, "out": tmp_path}
    with pytest.raises(InputError, match="not for pairs of texts with --model linear"):
        thalweg.train(pairs, model="linear", name="linear", **options)
    words = [{"tokens": row["text"].split(), "tags": ["X", "Y", "X"]} for row in rows()]
    with pytest.raises(InputError, match="needs a model with a word embedding"):
        thalweg.train(words, model="linear", name="tags", **options | {"task": "tag"})
    run = thalweg.train(pairs, model="bag", name="bag", steps=2, optimizer="adamw", **options)
    assert len(run.predict([("superb meal", "dire play")])) == 1
