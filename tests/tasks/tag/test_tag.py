"""Tagging: vocabulary and spelling, the cut, metrics against sklearn, answers, messages, a small training."""

import json
import random
from collections import Counter

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score
from tests.folders import put_files

from thalweg import train
from thalweg.data.arrays.ragged import Ragged
from thalweg.data.files.sources import open_source
from thalweg.errors import InputError
from thalweg.models.presets import ModelOptions, sparse_linear, tokens_lstm, tokens_transformer
from thalweg.objective import Objective
from thalweg.optim.descent import Descent
from thalweg.optim.lbfgs import LBFGS
from thalweg.optim.line_search import Armijo
from thalweg.tasks.base import HeadOptions, Settings
from thalweg.tasks.questions import AnswerOptions
from thalweg.tasks.reading.spelling import spelling_classes, spellings
from thalweg.tasks.reading.words import WordReader
from thalweg.tasks.tag.spans import SpanScore
from thalweg.tasks.tag.task import Tag

COLUMNS = {"tokens": "tokens", "tags": "tags"}


def settings(**changes):
    values = {"columns": COLUMNS, "valid_share": 0.2, "normalize": (), "tokenizer": "word", "vocabulary_size": 1000}
    values |= {"bigrams": 0, "max_length": 50, "lags": 0, "scaling": "none", "layout": "padded"}
    return Settings(**(values | changes))


def rows_file(path, rows):
    path.write_text("".join(json.dumps({"tokens": words, "tags": tags}) + "\n" for words, tags in rows))
    return open_source(path)


def made_up(num, seed=0):
    """Sentences "Name Surname visited Townville": names are people after a verb of saying, towns end in -ville."""
    rng = random.Random(seed)
    rows = []
    for _ in range(num):
        name = "".join(rng.choices("aeioulmnr", k=5)).capitalize()
        town = "".join(rng.choices("aeioulmnr", k=3)).capitalize() + "ville"
        verb = rng.choice(["visited", "left", "likes"])
        rows.append((["Then", name, "Smith", verb, town, "."], ["O", "B-person", "I-person", "O", "B-place", "O"]))
    return rows


def networks(task, build=tokens_lstm, **options):
    torch.manual_seed(0)
    sizes = {"width": 16, "hidden": 16, "layers": 1, "heads": 2, "dropout": 0.0}
    model = build(task.shape(), ModelOptions(**(sizes | options)))
    return model, task.head(model, HeadOptions())


def test_batch_pads_words_and_tags_alike(tmp_path):
    rows = [(["a", "b", "c"], ["X", "Y", "X"]), (["a", "b"], ["X", "Y"]), (["b"], ["Y"]), (["a"], ["X"])] * 3
    task, prepared = Tag.prepare(
        rows_file(tmp_path / "a.jsonl", rows), rows_file(tmp_path / "b.jsonl", rows), settings()
    )
    batch = task.batch(prepared.valid, np.array([1, 0, 2]))
    a, b, c = (task.reader.encode([word])[0] for word in "abc")
    assert batch.inputs["tokens"].tolist() == [[a, b, 0], [a, b, c], [b, 0, 0]]
    assert batch.inputs["mask"].tolist() == [[True, True, False], [True] * 3, [True, False, False]]
    assert batch.targets[:, 0].tolist() == [0, 0, 1]
    assert batch.mask is batch.inputs["mask"]
    assert task.tags == ("X", "Y")
    total, count = networks(task)[1].loss(torch.zeros(3, 3, 2), batch.targets, batch.mask)
    assert count.item() == 6
    assert total.item() == pytest.approx(6 * np.log(2), rel=1e-5)


def test_conll_file_and_text_columns_are_read_the_same(tmp_path):
    (tmp_path / "a.conll").write_text("the DET\ndog NOUN\n\na DET\ncat NOUN\n\n" * 5)
    (tmp_path / "b.tsv").write_text("tokens\ttags\n" + "the dog\tDET NOUN\na cat\tDET NOUN\n" * 5)
    first, second = (
        Tag.prepare(open_source(tmp_path / name), None, settings(valid_share=0.5)) for name in ("a.conll", "b.tsv")
    )
    assert first[0].tags == second[0].tags == ("DET", "NOUN")
    assert np.array_equal(first[1].train.columns["tokens"].values, second[1].train.columns["tokens"].values)


def test_cut_is_deterministic_disjoint_and_keeps_every_tag_in_training(tmp_path):
    rows = [*made_up(200), (["odd"], ["B-rare"])]
    source = rows_file(tmp_path / "a.jsonl", rows)
    (task, first), (_, second) = (Tag.prepare(source, None, settings()) for _ in range(2))
    assert first.valid.raw == second.valid.raw
    assert np.array_equal(first.train.columns["tokens"].values, second.train.columns["tokens"].values)
    assert len(first.train) + len(first.valid) == 201
    assert 20 < len(first.valid) < 60
    assert "B-rare" in task.tags
    assert all("odd" not in text for text in first.valid.raw)


def test_spellings_from_fine_to_coarse():
    assert spellings("McDonald's") == ["<unk:XxXx>"]
    assert spellings("walking") == ["<unk:x:ing>", "<unk:x:ng>", "<unk:x:g>", "<unk:x>"]
    assert spellings("1,000") == ["<unk:0,0>"]
    assert spellings("") == ["<unk:>"]


def test_spelling_classes_count_words_and_keep_the_common_ones():
    words = ["making", "taking", "raking", "Lima", "Roma"]
    assert spelling_classes(words, min_count=3) == ["<unk:x:ing>", "<unk:x:ng>", "<unk:x:g>", "<unk:x>"]
    assert spelling_classes(words, min_count=2, limit=1) == ["<unk:x:ing>"]
    assert spelling_classes([]) == []


def test_reader_gives_rare_and_unseen_words_the_id_of_their_spelling():
    counts = Counter({"the": 50, "dog": 20, "making": 1, "taking": 1, "raking": 1})
    reader = WordReader.fit(counts, settings())
    the, making, baking, unknown = (reader.encode([word])[0] for word in ("the", "making", "baking", "Baking"))
    assert the == reader.tokenizer.id_of("the") == 4
    assert making == baking == reader.tokenizer.id_of("<unk:x:ing>")
    assert unknown == 1


def test_reader_normalizes_words_and_bounds_the_vocabulary():
    counts = Counter({f"word{chr(97 + i)}": 30 - i for i in range(20)} | {"Word": 5})
    reader = WordReader.fit(counts, settings(normalize=("lower",), vocabulary_size=10))
    assert reader.tokenizer.vocabulary_size == 10
    assert reader.encode(["WORDA"]) == reader.encode(["worda"]) == [4]


def test_texts_are_split_at_spaces_and_at_punctuation_of_unknown_parts():
    reader = WordReader.fit(Counter({"U.S.": 9, "the": 9, "x": 9, "y": 9, "z": 1}), settings())
    assert reader.split("the U.S. (1,000.5), don't!") == ["the", "U.S.", "(", "1,000.5", ")", ",", "don't", "!"]
    assert reader.split("self.x ☃") == ["self", ".", "x", "☃"]
    assert reader.split("  ") == []


def test_apostrophes_split_where_both_sides_are_words_of_the_training_data():
    words = ["do", "n't", "'s", "John", "L'", "n'", "est", "Europe", "o'clock"]
    reader = WordReader.fit(Counter(dict.fromkeys(words, 9) | {"z": 1}), settings())
    assert reader.split("John's don't L'Europe n'est o'clock") == [
        "John", "'s", "do", "n't", "L'", "Europe", "n'", "est", "o'clock"
    ]  # fmt: skip
    assert reader.split("Mary's aujourd'hui 'tis") == ["Mary", "'s", "aujourd'hui", "'", "tis"]


def test_long_sentences_are_read_in_pieces_and_counted(tmp_path):
    words, tags = [f"w{i}" for i in range(7)], ["X", "Y"] * 3 + ["X"]
    source = rows_file(tmp_path / "a.jsonl", [(words, tags), (["a"], ["Y"])] * 2)
    task, prepared = Tag.prepare(source, source, settings(max_length=3))
    tokens = prepared.train.columns["tokens"]
    assert isinstance(tokens, Ragged)
    assert tokens.lengths.tolist() == [3, 3, 1, 1, 3, 3, 1, 1]
    assert "2 sentences of more than 3 words" in prepared.notes[0]
    (answer,) = task.predict(*networks(task), [words], AnswerOptions())
    assert len(answer["tags"]) == 7


def test_metrics_equal_sklearn(tmp_path):
    rng = random.Random(1)
    rows = [
        (words, rng.choices(["A", "B", "C", "D"], [4, 3, 2, 1], k=len(words)))
        for words in (rng.choices("abcdefg", k=rng.randrange(1, 9)) for _ in range(60))
    ]
    source = rows_file(tmp_path / "a.jsonl", rows)
    task, prepared = Tag.prepare(source, source, settings())
    meter = task.meter()
    guesses, truth = [], []
    for start in range(0, 60, 7):
        batch = task.batch(prepared.valid, np.arange(start, min(start + 7, 60)))
        logits = torch.randn(*batch.targets.shape, 4) + 2 * torch.nn.functional.one_hot(batch.targets, 4)
        logits[..., 3] -= 9  # a tag that is never predicted
        meter.update(logits, batch)
        guesses += logits.argmax(-1)[batch.mask].tolist()
        truth += batch.targets[batch.mask].tolist()
    metrics = meter.compute()
    assert metrics["accuracy"] == pytest.approx(accuracy_score(truth, guesses), abs=1e-6)
    assert metrics["macro_f1"] == pytest.approx(f1_score(truth, guesses, average="macro", zero_division=0), abs=1e-6)
    assert metrics.keys() == task.explanations.keys() == {"accuracy", "macro_f1"}
    assert task.selects_by == ("accuracy", "higher")


def test_bio_tags_are_measured_by_spans(tmp_path):
    source = rows_file(tmp_path / "a.jsonl", made_up(30))
    task, prepared = Tag.prepare(source, source, settings())
    assert task.selects_by == ("span_f1", "higher")
    meter = task.meter()
    batch = task.batch(prepared.valid, np.arange(30))
    guess = batch.targets.clone()
    guess[:15, 2] = task.tags.index("O")  # the second word of a person is missed
    meter.update(torch.nn.functional.one_hot(guess, len(task.tags)).float(), batch)
    metrics = meter.compute()
    assert metrics["accuracy"] == pytest.approx(1 - 15 / 180)
    assert metrics["span_f1"] == pytest.approx(45 / 60)
    assert (metrics["span_f1 person"], metrics["span_f1 place"]) == (pytest.approx(0.5), 1.0)
    assert metrics.keys() == task.explanations.keys()


def test_save_and_load_answer_the_same(tmp_path):
    source = rows_file(tmp_path / "a.jsonl", made_up(50))
    task, _ = Tag.prepare(source, None, settings(normalize=("nfc",)))
    model, head = networks(task)
    put_files(tmp_path, task.files())
    again = Tag.load(tmp_path, settings(normalize=("nfc",)))
    inputs = ["Then Mara Smith visited Anaville.", ["Nola", "left", "Rumville"], [], ""]
    answers = task.predict(model, head, inputs, AnswerOptions())
    assert again.predict(model, head, inputs, AnswerOptions()) == answers
    assert answers[2] == {"tokens": [], "tags": [], "probabilities": [], "spans": []}
    assert (again.shape(), again.tags) == (task.shape(), task.tags)


@pytest.mark.parametrize(
    ("content", "message"), [(None, "labels.json is missing"), ("[]", "labels.json is damaged"), ("{}", "is damaged")]
)
def test_load_names_the_damaged_file(tmp_path, content, message):
    if content is not None:
        (tmp_path / "labels.json").write_text(content)
    with pytest.raises(InputError, match=message):
        Tag.load(tmp_path, settings())


def test_unseen_tag_in_a_validation_file_is_named_with_file_and_line(tmp_path):
    train = rows_file(tmp_path / "train.jsonl", [(["a", "b"], ["X", "Y"])] * 5)
    valid = rows_file(tmp_path / "valid.jsonl", [(["a"], ["X"]), (["a", "b"], ["X", "Z"])])
    with pytest.raises(
        InputError, match=r"valid.jsonl, line 2: tag 'Z' in this sentence is not among the tags .*\(X, Y\)"
    ):
        Tag.prepare(train, valid, settings())
    task, _ = Tag.prepare(train, train, settings())
    with pytest.raises(InputError, match=r"valid.jsonl, line 2: tag 'Z'"):
        task.examples(valid, COLUMNS)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(["a", "b"], ["X"])], "a.jsonl, line 1: expected a tag for each word, got 2 words and 1 tags"),
        ([(["a"], ["X"]), ("a", 3)], "a.jsonl, line 2: expected a list of texts in column 'tags', got '3'"),
        ([(["a"], ["X"]), ([["a"]], ["X"])], "a.jsonl, line 2: expected a list of texts in column 'tokens'"),
        ([(["a"], ["X"]), (["b"], ["X"])], "expected at least two different tags in column 'tags', got only one"),
        ([([], []), ([], [])], "expected sentences of words with tags, got none"),
        ([(["a"], ["X"])] * 9, "at least two different texts"),
    ],
)
def test_unusable_data_are_refused(tmp_path, rows, message):
    source = rows_file(tmp_path / "a.jsonl", rows)
    with pytest.raises(InputError, match=message):
        Tag.prepare(source, None, settings())


def test_missing_column_is_named(tmp_path):
    source = rows_file(tmp_path / "a.jsonl", made_up(5))
    with pytest.raises(InputError, match="has no column 'pos'; its columns are tokens, tags"):
        Tag.prepare(source, None, settings(columns={"tokens": "tokens", "tags": "pos"}))


@pytest.mark.parametrize("value", [3, None, [1, 2], {"a": 1}])
def test_predict_refuses_what_is_no_sentence(tmp_path, value):
    source = rows_file(tmp_path / "a.jsonl", made_up(20))
    task, _ = Tag.prepare(source, None, settings())
    with pytest.raises(InputError, match=r"Input 2: expected a (text or a )?list of words"):
        task.predict(*networks(task), ["fine", value], AnswerOptions())


@pytest.mark.parametrize("build", [tokens_lstm, tokens_transformer])
def test_training_finds_spans_of_words_it_has_never_seen(tmp_path, build):
    task, prepared = Tag.prepare(rows_file(tmp_path / "a.jsonl", made_up(300)), None, settings())
    model, head = networks(task, build, dropout=0.1)
    optimizer = torch.optim.Adam([*model.parameters(), *head.parameters()], lr=0.02)
    losses = []
    for step in range(40):
        batch = task.batch(prepared.train, np.arange(step * 32, step * 32 + 32) % len(prepared.train))
        total, count = head.loss(head(model(**batch.inputs)), batch.targets, batch.mask)
        optimizer.zero_grad()
        (total / count).backward()
        optimizer.step()
        losses.append((total / count).item())
    assert losses[-1] < 0.2 * losses[0]
    meter = task.meter()
    model.eval()
    with torch.no_grad():
        batch = task.batch(prepared.valid, np.arange(len(prepared.valid)))
        meter.update(head(model(**batch.inputs)), batch)
    assert meter.compute()["span_f1"] > 0.9

    model.train()
    (answer,) = task.predict(model, head, ["Then Ulrar Smith left Moaville."], AnswerOptions())
    assert model.training
    assert all(0.0 < probability <= 1.0 for probability in answer.pop("probabilities"))
    assert answer == {
        "tokens": ["Then", "Ulrar", "Smith", "left", "Moaville", "."],
        "tags": ["O", "B-person", "I-person", "O", "B-place", "O"],
        "spans": [
            {"start": 1, "end": 3, "type": "person", "text": "Ulrar Smith"},
            {"start": 4, "end": 5, "type": "place", "text": "Moaville"},
        ],
    }


def linear(path, rows, **changes):
    """A linear tagger with a CRF, trained by L-BFGS on rows that are also its validation part."""
    source = rows_file(path, rows)
    task, prepared = Tag.prepare(source, source, settings(layout="features", **changes))
    model = sparse_linear(task.shape(), ModelOptions())
    head = task.head(model, HeadOptions(chain=True))
    batches = [task.batch(prepared.train, part) for part in (np.arange(0, 40), np.arange(40, len(prepared.train)))]
    objective = Objective(model, head, batches, l2=1e-4)
    optimizer = Descent(objective.parameters, LBFGS(memory=10), Armijo())
    for _ in range(30):
        optimizer.step(objective)
    return task, prepared, model, head


def test_a_linear_tagger_finds_spans_of_words_it_has_never_seen_and_is_read_back(tmp_path):
    task, prepared, model, head = linear(tmp_path / "a.jsonl", made_up(200))
    assert task.constrained
    assert not prepared.notes
    inputs = ["Then Ulrar Smith left Moaville.", [], ["Ulrar"]]
    answers = task.predict(model, head, inputs, AnswerOptions())
    assert answers[0]["tags"] == ["O", "B-person", "I-person", "O", "B-place", "O"]
    assert all(0.5 < probability <= 1.0 for probability in answers[0]["probabilities"])
    assert answers[1] == {"tokens": [], "tags": [], "probabilities": [], "spans": []}
    put_files(tmp_path, task.files())
    again = Tag.load(tmp_path, settings(layout="features"))
    assert again.constrained
    assert again.predict(model, head, inputs, AnswerOptions()) == answers
    both, one = (model(**task.batch(prepared.valid, places).inputs) for places in (np.arange(2), np.array([0])))
    torch.testing.assert_close(both[0, :6], one[0])


def test_tags_that_break_their_scheme_lift_the_constraint_and_it_is_said(tmp_path):
    rows = [*made_up(60), (["Then", "Smith"], ["O", "I-person"])]
    task, prepared, _, head = linear(tmp_path / "a.jsonl", rows)
    assert not task.constrained
    assert "2 sentences have tags that the scheme" in prepared.notes[0]
    assert not bool(head.forbidden.any())


def test_spans_are_preferred_where_validation_says_so(tmp_path):
    task, prepared, model, head = linear(tmp_path / "a.jsonl", made_up(60))
    outside = task.tags.index("O")
    assert not task.tune(model, head, prepared.valid)  # all right already
    assert head.notes() == []
    with torch.no_grad():
        model.weight *= 0.1
        model.weight[0, outside] += 3.0  # every word has feature 0
    before = SpanScore(task.tags)
    batch = task.batch(prepared.valid, np.arange(60))
    with torch.no_grad():
        before.update(head.best_ids(head(model(**batch.inputs)), batch.mask), batch.targets, batch.mask)
        assert task.tune(model, head, prepared.valid)
        after = SpanScore(task.tags)
        after.update(head.best_ids(head(model(**batch.inputs)), batch.mask), batch.targets, batch.mask)
    assert (before.compute()["span_f1"], after.compute()["span_f1"]) == (0.0, 1.0)
    assert "the score of being outside is lowered by" in head.notes()[0]
    assert head.preference.tolist() == [-1.5 if tag == "O" else 0.0 for tag in task.tags]


def test_texts_are_cut_as_the_comments_of_the_training_file_show(tmp_path):
    sentence = "# text = I don't.\n" + "".join(
        f"{i}\t{word}\t_\t{tag}\t_\t_\t_\t_\t_\t_\n"
        for i, (word, tag) in enumerate([("I", "PRON"), ("do", "AUX"), ("n't", "PART"), (".", "PUNCT")], 1)
    )
    path = tmp_path / "a.conllu"
    path.write_text("\n".join([sentence] * 12) + "\n")
    columns = {"tokens": "tokens", "tags": "upos"}
    task, _ = Tag.prepare(open_source(path), open_source(path), settings(columns=columns))
    (answer,) = task.predict(*networks(task), ["I won't."], AnswerOptions())
    assert answer["tokens"] == ["I", "wo", "n't", "."]
    put_files(tmp_path, task.files())
    splitter = Tag.load(tmp_path, settings()).splitter
    assert splitter is not None
    assert splitter.split("I can't.") == ["I", "ca", "n't", "."]


def test_sections_show_the_sentences_with_the_most_errors(tmp_path):
    source = rows_file(tmp_path / "a.jsonl", made_up(40))
    task, prepared = Tag.prepare(source, None, settings())
    table, span_bars, confusion, tag_bars, worst = task.sections(*networks(task), prepared, seed=0)
    assert [row[0] for row in table["rows"]] == ["person", "place"]
    assert all(len(row) == len(table["columns"]) for row in table["rows"])
    assert set(span_bars["names"]) == {"person", "place"}
    assert sum(map(sum, confusion["counts"])) == 6 * len(prepared.valid)
    assert set(tag_bars["names"]) == set(task.tags)
    errors = [int(row[0]) for row in worst["rows"]]
    assert errors == sorted(errors, reverse=True)
    assert worst["rows"][0][1].startswith("Then ")
    assert worst["rows"][0][2].count("should be") == errors[0]
    json.dumps([table, span_bars, confusion, tag_bars, worst], allow_nan=False)
    num_words = 6 * len(prepared.train)
    assert task.describe(prepared) == f"{len(prepared.train)} sentences ({num_words} words) with 2 types of spans"


@pytest.mark.parametrize("head", ["crf", "softmax"])
def test_words_without_a_tag_are_read_but_not_counted(head, tmp_path):
    rest = "\t_" * 6
    words = f"1\tAnna{{0}}\t_\t_{rest}\n2\truns\t_\tVERB{rest}\n3\tfast{{0}}\t_\tADV{rest}\n\n"
    path = tmp_path / "a.conllu"
    path.write_text("".join(words.format(i) for i in range(60)) + f"1\tno\t_\t_{rest}\n\n")
    run = train(path, head=head, steps=2, out=tmp_path / "runs")
    assert run.task.tags == ("ADV", "VERB")
    found = run.evaluate(path)
    assert sum(row["support"] for row in found.details["tags"]) == 120
    told = " ".join(found.notes)
    assert "words without a tag (_) in column 'upos' count neither in the loss nor in the scores (60 rows" in told
    assert "no word has a tag in column 'upos', so the sentence is left out (1 row, line 241)" in told
    assert len(run.predict(["Anna1 runs fast2"])[0]["tags"]) == 3
