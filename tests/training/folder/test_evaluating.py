"""A translator on a file: sacreBLEU's figures of what `predict` answers, several references, refusals; `--select`."""

import json
import re

import numpy as np
import pytest
from sacrebleu.metrics import BLEU, CHRF, TER

from thalweg import load, train
from thalweg.cli.main import run
from thalweg.errors import InputError
from thalweg.training.recipe.recipe import Options, read_options
from thalweg.training.session.reading import on_top

ENGLISH = ["one", "two", "red", "big", "cat", "dog", "and", "the"]
FRENCH = ["un", "deux", "rouge", "grand", "chat", "chien", "et", "le"]
METRICS = {"bleu": BLEU, "chrf": CHRF, "chrf_plus_plus": lambda: CHRF(word_order=2), "ter": TER}
SMALL = {
    "model": "lstm", "width": 16, "steps": 24, "evaluate_every": 8, "tokenizer": "word", "lr": 0.03,
    "optimizer": "adamw",
}  # fmt: skip


def rows(size, seed):
    draw = np.random.default_rng(seed)
    sources = [" ".join(draw.choice(ENGLISH, draw.integers(3, 8))) for _ in range(size)]
    return [(text, " ".join(FRENCH[ENGLISH.index(word)] for word in text.split())) for text in sources]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    for name, size in (("train", 120), ("test", 20)):
        lines = [f"{a}\t{b}\n" for a, b in rows(size, len(name))]
        (folder / f"{name}.tsv").write_text("source\ttarget\n" + "".join(lines))
    train(folder / "train.tsv", task="translate", out=folder, name="by-loss", **SMALL)
    train(folder / "train.tsv", task="translate", out=folder, name="by-bleu", select="bleu", **SMALL)
    (folder / "labels.csv").write_text("text,label\n" + "fine,good\nbad,poor\ngreat,good\nawful,poor\n" * 10)
    train(folder / "labels.csv", out=folder, name="labels")
    return folder


def test_two_files_are_read_line_by_line_and_columns_without_names_in_their_order(pairs, capsys):
    for name, size in (("train", 120), ("test", 20)):
        for place, side in enumerate(("en", "fr")):
            (pairs / f"{name}.{side}").write_text("".join(f"{pair[place]}\n" for pair in rows(size, len(name))))
    for place, name in enumerate(("hypo.txt", "reference.txt")):
        (pairs / name).write_text("".join(f"{pair[place]}\n" for pair in rows(20, 4)))
    (pairs / "bare.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in rows(20, 4)))
    (pairs / "other.tsv").write_text("left\tright\n" + "".join(f"{a}\t{b}\n" for a, b in rows(20, 4)))
    one = train([pairs / "train.en", pairs / "train.fr"], task="translate", out=pairs, name="files", **SMALL)
    wanted = one.evaluate([pairs / "test.en", pairs / "test.fr"])
    assert wanted.num_rows == 20
    assert one.evaluate(f"{pairs / 'test.en'} | {pairs / 'test.fr'}").metrics == wanted.metrics
    unnamed = "has no names of columns, so {!r} is read as the source, 'en' in training and {!r} is read as the target"
    for files, names in (
        (["test.en", "test.fr"], None),
        (["test.fr", "test.en"], None),  # which is which is in their names
        (["bare.tsv"], ("column1", "column2")),
        (["hypo.txt", "reference.txt"], ("source", "target")),
    ):
        assert run_command("evaluate", one.folder, *(pairs / file for file in files), "--json") == 0
        found = json.loads(capsys.readouterr().out)
        assert found["metrics"]["bleu"] == wanted.metrics["bleu"], files
        said = " ".join(found["notes"])
        assert ("has no names" in said) == (names is not None)
        assert names is None or unnamed.format(*names) in said
    with pytest.raises(InputError, match=r"has no column 'en', which the run was trained on; it has 'left', 'right'"):
        one.evaluate(pairs / "other.tsv")
    with pytest.raises(InputError, match="Expected names of files, got a list of texts"):
        one.evaluate(["the cat", "le chat"])


@pytest.mark.parametrize("asked", [{}, {"beam": 1}, {"beam": 2, "length_penalty": 0.0}], ids=str)
def test_figures_are_those_of_sacrebleu_on_what_predict_answers(pairs, asked, capsys):
    one, test = load(pairs / "by-loss"), rows(20, 4)
    (pairs / "second.txt").write_text("".join(f"{target} !\n" for _, target in test))
    answers = [answer["text"] for answer in one.predict([source for source, _ in test], **asked)]
    references = [[target for _, target in test], [f"{target} !" for _, target in test]]
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in asked.items()]
    for more, wanted in (([], references[:1]), (["--references", str(pairs / "second.txt")], references)):
        assert run_command("evaluate", pairs / "by-loss", pairs / "test.tsv", "--json", *flags, *more) == 0
        found = json.loads(capsys.readouterr().out)
        for name, make in METRICS.items():
            metric = make()
            assert found["metrics"][name] == metric.corpus_score(answers, wanted).score
            assert found["signatures"][name].endswith(str(metric.get_signature()))
        beam = asked.get("beam", 4)
        assert f"20 translations, beam {beam}, " in found["measured"][0]
    same = one.evaluate(pairs / "test.tsv", references=[pairs / "second.txt"], **asked)
    assert {name: same.metrics[name] for name in METRICS} == {name: found["metrics"][name] for name in METRICS}


def run_command(*arguments):
    with pytest.raises(SystemExit) as end:
        run([str(one) for one in arguments])
    return end.value.code


@pytest.mark.parametrize(
    ("folder", "flags", "message"),
    [
        ("by-loss", ["--references", "{}/train.tsv"], r"expected one line for each row of .*test.tsv; got 121 lines"),
        ("by-loss", ["--references", "{}/none.txt"], r"--references .*none.txt cannot be read \(No such file"),
        ("by-loss", ["--references", "{}/odd.txt"], r"--references .*odd.txt cannot be read \(no UTF-8 text\)"),
        ("by-loss", ["--beam", "0"], "--beam must be a whole number from 1 to 1,000; got 0"),
        ("by-loss", ["--length-penalty", "-1"], "--length-penalty must be a number from 0 to 10; got -1"),
        ("by-loss", ["--bleu-tokenizer", "13b"], "There is no tokenizer of BLEU '13b'; .* Did you mean '13a'"),
        (
            "labels",
            ["--references", "{}/test.tsv"],
            "--references is for translations; an evaluation of task 'classify'",
        ),
        ("labels", ["--beam", "2"], "--beam is for translations; an evaluation of task 'classify' has none"),
    ],
)
def test_what_cannot_be_measured_is_refused(pairs, folder, flags, message, capsys):
    (pairs / "odd.txt").write_bytes(b"\xff\xfe\xff")
    file = pairs / ("labels.csv" if folder == "labels" else "test.tsv")
    assert run_command("evaluate", pairs / folder, file, *(one.format(pairs) for one in flags)) == 2
    assert re.search(message, " ".join(capsys.readouterr().err.split()))


def test_weights_are_picked_by_translations_where_that_is_asked(pairs):
    by_loss, by_bleu = load(pairs / "by-loss"), load(pairs / "by-bleu")
    assert by_loss.task.selects_by == ("loss", "lower")
    assert by_bleu.task.selects_by == ("bleu", "higher")
    evaluations = [entry for entry in by_bleu.history if entry["event"] == "evaluation"]
    assert len(evaluations) == 3
    values = [entry["metrics"]["bleu"] for entry in evaluations]
    assert max(values) > 0.0
    assert by_bleu.result["best_step"] == evaluations[int(np.argmax(values))]["step"]
    assert not any("bleu" in entry.get("metrics", {}) for entry in by_loss.history)
    kept = read_options(pairs / "by-bleu" / "recipe.toml")
    assert on_top(kept, Options({"l2": 0.1, "model": "transformer"}))["select"] == "bleu"  # no penalty is chosen by it
    report = (pairs / "by-bleu" / "report.html").read_text()
    assert "The weights are picked by BLEU of greedy translations (beam 1) of 11 validation texts." in report
    assert report.count("BLEU|nrefs:1") == 2  # below the figures, and below those by length


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bleu_tokenizer": "ja-mecab"}, "--bleu-tokenizer ja-mecab needs packages that are not installed"),
        ({"select": "chrf", "task": "classify"}, "--select chrf is for --task translate"),
        ({"bleu_tokenizer": "14a"}, "There is no tokenizer of BLEU '14a'"),
    ],
)
def test_a_training_that_could_not_be_measured_does_not_begin(pairs, options, message, monkeypatch):
    monkeypatch.setattr("sacrebleu.tokenizers.tokenizer_ja_mecab.MeCab", None)
    file = pairs / ("labels.csv" if options.get("task") == "classify" else "train.tsv")
    with pytest.raises(InputError, match=message):
        train(file, out=pairs, name="never", **{"task": "translate"} | options)
    assert not (pairs / "never").exists()
