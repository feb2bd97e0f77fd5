"""Language models: chunks, metrics against their definitions, odd text, answers, messages, a small training."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from tests.folders import put_files

from thalweg.batch import Batch
from thalweg.data.arrays.ragged import Spill
from thalweg.data.builtin.catalog import SAMPLES
from thalweg.data.files.base import AbstractSource, Chunk
from thalweg.data.files.sources import open_source
from thalweg.data.text.tokenizer import Tokenizer
from thalweg.data.text.words import split_words
from thalweg.errors import InputError
from thalweg.heads.softmax import Softmax
from thalweg.models.presets import ModelOptions, causal_lstm, causal_transformer
from thalweg.objective import Objective
from thalweg.tasks.base import HeadOptions, Settings
from thalweg.tasks.language.chunks import num_targets
from thalweg.tasks.language.task import Language, text_lines
from thalweg.tasks.questions import AnswerOptions
from thalweg.tasks.reading.text_column import TextColumn
from thalweg.training.steps.evaluate import evaluate

ODD = [
    "Grüße, 世界! 🦊👩‍👩‍👧",
    "tab\there  and   spaces ",
    "",
    "שלום עולם‏ עם RTL",
    "\x00 nul, \u2028 separator",
    "é vs é",
]


class Lines(AbstractSource):
    """A text in memory."""

    kind = "text"
    columns = ("text",)

    def __init__(self, lines, name="book.txt"):
        self.lines = list(lines)
        self.name = name

    def chunks(self, size=7):
        for start in range(0, len(self.lines), size):
            part = self.lines[start : start + size]
            yield Chunk(self.columns, range(start + 1, start + 1 + len(part)), (part,))


def settings(tokenizer="char", *, max_length=16, share=0.1, vocabulary_size=400, normalize=(), **more):
    return Settings(
        {"text": "text"}, share, normalize, tokenizer, vocabulary_size, 0, max_length, 0, "none", "causal", **more
    )


def networks(task, build=causal_lstm, seed=0, tie=False, **options):
    torch.manual_seed(seed)
    model = build(task.shape(), ModelOptions(**({"width": 16, "hidden": 16, "layers": 1, "heads": 2} | options)))
    return model, task.head(model, HeadOptions(tie=tie))


def empty(**sizes):
    return Language(settings().normalizer(), Tokenizer.from_vocabulary([]), 16, **sizes)


def story(num_lines=60):
    return [f"line {n}: the {['red', 'blue', 'old'][n % 3]} fox sees {n * 7 % 11} hens" for n in range(num_lines)]


def everything(task, examples):
    return task.batch(examples, np.arange(len(examples)))


def targets_of(task, examples):
    batch = everything(task, examples)
    return batch.targets[batch.mask].tolist()


@pytest.mark.parametrize("tokenizer", ["byte", "char", "bpe", "word"])
def test_every_token_of_odd_text_is_a_target_once_and_in_order(tokenizer):
    text = "\n".join(ODD * 20) + "\n"
    task, prepared = Language.prepare(Lines(ODD * 20), None, settings(tokenizer, max_length=13, share=0.2))
    train, valid = (targets_of(task, examples) for examples in (prepared.train, prepared.valid))
    size = round(0.2 * len(text))
    assert task.text(train) == text[:-size]
    if tokenizer != "word":  # the text is cut within a word, which is unknown then
        assert task.text(valid) == text[-size:]
    assert num_targets(prepared.valid) == len(valid)
    batch = everything(task, prepared.valid)
    # What is seen before a target: the token before it, and <bos> before the first of all.
    assert batch.inputs["tokens"][batch.mask].tolist() == [2, *valid[:-1]]
    assert batch.inputs["tokens"].shape == batch.targets.shape == batch.mask.shape
    assert batch.targets.shape[1] == 13
    assert not batch.targets[~batch.mask].any()


def test_words_see_line_ends_and_unknown_words():
    task, prepared = Language.prepare(
        Lines(["one two", "", "two one one"] * 9 + ["three one"] * 3), None, settings("word", max_length=4, share=0.2)
    )
    train, valid = (targets_of(task, examples) for examples in (prepared.train, prepared.valid))
    assert task.text(train[:8]) == "one two\n\ntwo one one\n"
    assert valid.count(1) == task.text(valid).count("<unk>") == 3
    assert task.text(valid).endswith("<unk> one\n<unk> one\n<unk> one\n")
    assert "3 of" in prepared.notes[-1]
    assert "not in the vocabulary" in prepared.notes[-1]
    # 8 bits for each of the five letters of "three", on top of the model's own loss.
    assert task.unknown_per_token == pytest.approx(15 / len(valid))


def test_a_given_vocabulary_has_ends_for_lines_and_charges_what_it_lacks(tmp_path):
    (tmp_path / "words.txt").write_text("one 9\ntwo 3\n", encoding="utf-8")
    chosen = settings("file", max_length=4, share=0.2, vocabulary=str(tmp_path / "words.txt"))
    task, prepared = Language.prepare(Lines(["one two", "", "two one one"] * 9 + ["three one"] * 3), None, chosen)
    (tmp_path / "words.txt").unlink()
    assert task.tokenizer.entries == ["one", "two"]
    train, valid = (targets_of(task, examples) for examples in (prepared.train, prepared.valid))
    assert task.text(train[:8]) == "one two\n\ntwo one one\n"
    assert task.text(valid).endswith("<unk> one\n<unk> one\n<unk> one\n")
    assert task.unknown_per_token == pytest.approx(15 / len(valid))
    put_files(tmp_path, task.files())
    loaded = Language.load(tmp_path, chosen)
    assert loaded.tokenizer.entries == task.tokenizer.entries
    assert loaded.prompt("two one") == task.prompt("two one") == [5, 4]


@pytest.mark.parametrize(("words", "said"), [("one\ntwo\n", ""), ("one\n", ""), ("two\n", "60%"), ("x\n", "100%")])
def test_a_vocabulary_that_lacks_most_of_the_text_is_told_at_the_end(tmp_path, words, said):
    (tmp_path / "words.txt").write_text(words, encoding="utf-8")
    chosen = settings("file", max_length=60, share=0.2, vocabulary=str(tmp_path / "words.txt"))
    task, prepared = Language.prepare(Lines(["one two", "", "two one one"] * 30), None, chosen)
    told, files = task.settle(*networks(task), prepared)
    assert (len(told), files) == (1 if said else 0, {})
    assert "<unk>" not in task.example(prepared.valid)
    assert (task.example(prepared.valid) == "") == (words == "x\n")
    for sentence in told:
        assert sentence.startswith(f"{said} of the tokens of the validation texts are not in the vocabulary")
        assert sentence.endswith("; give one of these texts' words, or leave --vocabulary out and have one learned.")


def test_rows_with_line_ends_inside_are_lines():
    rows = ["a\nbb", "", "ccc"]
    texts = TextColumn(Lines(rows), "text", settings().normalizer())
    assert [line for part in text_lines(texts) for line in part] == ["a\n", "bb\n", "\n", "ccc\n"]
    whole = "a\nbb\n\nccc\n"
    for begin in range(len(whole) + 1):
        for end in range(begin, len(whole) + 1):
            assert "".join(line for part in text_lines(texts, begin, end) for line in part) == whole[begin:end]


@pytest.mark.parametrize("chunk_size", [1, 2, 1000])
def test_chunks_do_not_depend_on_how_the_file_is_read(chunk_size):
    source = Lines(story())
    read = source.chunks
    expected = Language.prepare(source, None, settings("bpe"))[1]
    source.chunks = lambda size=0: read(chunk_size)
    found = Language.prepare(source, None, settings("bpe"))[1]
    for name in ("train", "valid"):
        a, b = (getattr(prepared, name).columns["tokens"] for prepared in (expected, found))
        assert np.array_equal(a.values, b.values)
        assert np.array_equal(a.offsets, b.offsets)


def test_large_texts_go_to_files(tmp_path):
    in_memory = Language.prepare(Lines(story()), None, settings())[1]
    spilled = Language.prepare(Lines(story()), None, settings(spill=Spill(tmp_path, 100)))[1]
    assert isinstance(spilled.train.columns["tokens"].values, np.memmap)
    assert any(tmp_path.iterdir())
    assert np.array_equal(spilled.train.columns["tokens"].values, in_memory.train.columns["tokens"].values)


def test_a_text_without_line_ends_is_split_inside_its_line(tmp_path):
    path = tmp_path / "long.txt"
    path.write_text("abcdefghij" * 50)
    task, prepared = Language.prepare(open_source(path), None, settings(max_length=8, share=0.1))
    assert task.text(targets_of(task, prepared.train)) == ("abcdefghij" * 50)[:451]
    assert task.text(targets_of(task, prepared.valid)) == ("abcdefghij" * 50)[451:] + "\n"


def test_vocabulary_comes_from_the_training_part_alone():
    task, _ = Language.prepare(Lines(["aab"] * 90 + ["zzz"] * 10), None, settings("char"))
    assert task.tokenizer.id_of("a") is not None
    assert task.tokenizer.id_of("z") is None


@pytest.mark.parametrize("tokenizer", ["byte", "char", "bpe", "word"])
def test_metrics_are_those_of_their_definitions(tokenizer):
    task, prepared = Language.prepare(Lines(story(80)), None, settings(tokenizer, max_length=11, share=0.15))
    model, head = networks(task)
    model.double()
    head.double()
    evaluation = evaluate(task, model, head, prepared.valid, batch_size=3)
    model.eval()
    # Written out chunk by chunk, with the text itself as the measure of bytes.
    nats, num_tokens = 0.0, 0
    for index in range(len(prepared.valid)):
        ids = prepared.valid.columns["tokens"][index].astype(np.int64)
        with torch.no_grad():
            logits = head(model(torch.from_numpy(ids[:-1])[None]))
        log_p = torch.log_softmax(logits[0], -1)
        nats -= float(log_p[torch.arange(len(ids) - 1), torch.from_numpy(ids[1:])].sum())
        num_tokens += len(ids) - 1
    text = "\n".join(story(80)) + "\n"
    held_out = text[len(text) - round(0.15 * len(text)) :]
    known = set(split_words(text[: len(text) - len(held_out)]))
    lost = sum(len(word) for word in split_words(held_out) if word not in known) if tokenizer == "word" else 0
    assert (lost > 0) == (tokenizer == "word")
    mean = nats / num_tokens
    assert evaluation.loss == pytest.approx(mean, rel=1e-9)
    assert evaluation.metrics["perplexity"] == pytest.approx(math.exp(mean), rel=1e-5)
    bits = (nats / math.log(2) + 8 * lost) / len(held_out)
    assert evaluation.metrics["bits_per_byte"] == pytest.approx(bits, rel=1e-5)


def test_meter_charges_unknown_bytes_and_leaves_padding_out():
    logits = torch.zeros(2, 3, 4)
    batch = Batch({}, torch.tensor([[1, 2, 0], [3, 0, 0]]), torch.tensor([[True, True, False], [True, False, False]]))
    meter = empty(bytes_per_token=2.0, unknown_per_token=0.5).meter()
    meter.update(logits, batch)
    meter.update(logits, batch)
    # Four equally likely tokens are 2 bits; 2 bits and 4 for the unknown, over 2 bytes.
    assert meter.compute() == pytest.approx({"perplexity": 4.0, "bits_per_byte": 3.0})


def test_meter_of_a_hopeless_model_is_infinite_not_an_error():
    meter = empty().meter()
    meter.update(torch.tensor([[[0.0, 5000.0]]]), Batch({}, torch.tensor([[0]])))
    assert meter.compute()["perplexity"] == math.inf


def test_uniform_model_costs_eight_bits_per_byte():
    task, prepared = Language.prepare(Lines(story()), None, settings("byte"))
    model, head = networks(task)
    with torch.no_grad():
        head.output.weight.zero_()
        head.output.bias.zero_()
        head.output.bias[:4] = -1e9  # the special ids are no bytes
    metrics = evaluate(task, model, head, prepared.valid).metrics
    assert metrics["bits_per_byte"] == pytest.approx(8.0, abs=1e-5)
    assert metrics["perplexity"] == pytest.approx(256.0, abs=1e-2)


@pytest.mark.parametrize(
    ("build", "tie"), [(causal_lstm, True), (causal_transformer, True), (causal_transformer, False)]
)
def test_loss_of_a_batch_is_finite_and_has_gradients(build, tie):
    task, prepared = Language.prepare(Lines(story()), None, settings("bpe"))
    model, head = networks(task, build, tie=tie)
    objective = Objective(model, head, task.batch(prepared.train, np.array([3, 0, len(prepared.train) - 1])))
    assert math.isfinite(float(objective()))
    assert all(parameter.grad is not None for parameter in objective.parameters)
    if tie:
        assert head.output.weight is model.embedding.weight


def test_tying_unlike_sizes_is_refused_with_the_way_out():
    task, _ = Language.prepare(Lines(story()), None, settings())
    model, _ = networks(task, hidden=24)
    with pytest.raises(InputError, match=r"got 24 and 16\. Give --hidden 16, or --no-tie"):
        task.head(model, HeadOptions(tie=True))
    identity = torch.nn.Identity()
    identity.width = 16
    with pytest.raises(InputError, match="Identity has none"):
        task.head(identity, HeadOptions(tie=True))


@pytest.mark.parametrize("tokenizer", ["byte", "char", "bpe", "word"])
def test_saved_and_loaded_task_answers_alike(tmp_path, tokenizer):
    chosen = settings(tokenizer, normalize=("nfc", "lower"))
    task, _ = Language.prepare(Lines(story()), None, chosen)
    task.bytes_per_token, task.unknown_per_token = 1.5, 0.25
    put_files(tmp_path, task.files())
    loaded = Language.load(tmp_path, chosen)
    model, head = networks(task)
    options = AnswerOptions(length=30, temperature=1.0, seed=3)
    prompts = ["", "The RED fox", "line 1\n", "a\n\n  b", "🦊"]
    first, second = (one.predict(model, head, prompts, options) for one in (task, loaded))
    assert first == second
    assert [answer["prompt"] for answer in first] == prompts
    assert all({*task.answer_keys} <= set(answer) <= {*task.answer_keys, "note"} for answer in first)
    sizes = [(one.bytes_per_token, one.unknown_per_token) for one in (task, loaded)]
    assert sizes == [(1.5, 0.25)] * 2
    held_out, _ = loaded.examples(Lines(story()[50:]), {"text": "text"})
    assert evaluate(loaded, model, head, held_out).metrics["bits_per_byte"] > 0
    assert loaded.shape() == task.shape()


def test_answers_depend_on_seed_and_temperature_and_prompt_alone():
    task, _ = Language.prepare(Lines(story()), None, settings())
    model, head = networks(task)
    model.train()

    def ask(prompts, **options):
        return [answer["text"] for answer in task.predict(model, head, prompts, AnswerOptions(length=20, **options))]

    assert ask(["fox", "a hen"], temperature=1.0) == ask(["fox", "a hen"], temperature=1.0)
    assert ask(["fox", "a hen"], temperature=1.0)[1:] == ask(["a hen"], temperature=1.0, places=(1,))
    assert len(set(ask(["fox", "fox", "fox"], temperature=1.0))) == 3
    assert ask(["fox"], temperature=1.0, seed=1) != ask(["fox"], temperature=1.0, seed=2)
    assert ask(["fox"], temperature=0.0, seed=1) == ask(["fox"], temperature=0.0, seed=2)
    assert model.training  # as it was before


def test_answer_is_the_continuation_without_the_prompt():
    task, _ = Language.prepare(Lines(["abcabcabc"] * 50), None, settings("char", vocabulary_size=300))
    size = task.tokenizer.vocabulary_size
    ids = [task.tokenizer.id_of(letter) for letter in "abc"]
    follows = torch.zeros(size, size)
    follows[ids, ids[1:] + ids[:1]] = 9.0

    class Chain(torch.nn.Module):
        """After a comes b, then c, then a."""

        width = size

        def __init__(self):
            super().__init__()
            self.follows = torch.nn.Parameter(follows)

        def start(self, batch_size):
            return (torch.zeros(batch_size, 1),)

        def advance(self, tokens, state):
            return self.follows[tokens], state

    options = AnswerOptions(length=5, temperature=0.0)
    answers = task.predict(Chain(), Softmax(None, size), ["ca", "b"], options)
    assert [(answer["prompt"], answer["text"]) for answer in answers] == [("ca", "bcabc"), ("b", "cabca")]


def test_a_character_cut_in_the_middle_is_left_out():
    task, _ = Language.prepare(Lines(["🦊"] * 60), None, settings("byte"))
    fox = list(task.tokenizer.encode("🦊"))
    assert task.continuation(fox, fox + fox[:2]) == "🦊"
    assert task.continuation(fox[:2], fox[2:]) in ("🦊", "")


def test_subwords_that_meet_seldom_stay_in_parts():
    lines = ["gewoonlijk"] * 100 + ["zeldzaam"] * 20 + ["gewoonlijk"] * 20
    task, _ = Language.prepare(Lines(lines), None, settings("bpe", vocabulary_size=4000))
    assert len(task.tokenizer.encode("gewoonlijk")) == 1
    assert len(task.tokenizer.encode("zeldzaam")) == len("zeldzaam")


@pytest.mark.parametrize(
    ("lines", "options", "message"),
    [
        (["ab"], {}, r"book.txt: expected a training part of at least 16 tokens \(--max-length\), got 3; that takes"),
        (["abcdefgh"] * 3, {"share": 0.01}, "leaves no token to validate on; give a larger fraction"),
    ],
)
def test_short_texts_are_refused_with_the_length_they_need(lines, options, message):
    with pytest.raises(InputError, match=message):
        Language.prepare(Lines(lines), None, settings(**options))


def test_message_about_a_short_text_names_a_length_that_is_enough():
    with pytest.raises(InputError, match=r"a text of about (\d+) characters") as caught:
        Language.prepare(Lines(["abcdefgh"]), None, settings(max_length=30))
    needed = int(str(caught.value).split("about ")[1].split()[0])
    Language.prepare(Lines(["a" * needed]), None, settings(max_length=30))


def test_bad_requests_are_refused(tmp_path):
    task, _ = Language.prepare(Lines(story()), None, settings())
    model, head = networks(task)
    with pytest.raises(InputError, match="Input 2: expected a prompt"):
        task.predict(model, head, ["a", 7], AnswerOptions())
    with pytest.raises(InputError, match="--temperature must be 0"):
        task.predict(model, head, ["a"], AnswerOptions(temperature=-1.0))
    with pytest.raises(InputError, match="has no column 'body'"):
        task.examples(Lines(story()), {"text": "body"})
    with pytest.raises(InputError, match=r"language.json is missing"):
        Language.load(tmp_path, settings())
    put_files(tmp_path, task.files())
    (tmp_path / "language.json").write_text('{"bytes_per_token": "x"}')
    with pytest.raises(InputError, match=r"language.json is damaged"):
        Language.load(tmp_path, settings())


def test_validation_file_is_used_as_it_is(tmp_path):
    path = tmp_path / "held-out.txt"
    path.write_text("the old fox\nsees a hen\n", encoding="utf-8")
    task, prepared = Language.prepare(Lines(story()), open_source(path), settings())
    assert task.text(targets_of(task, prepared.valid)) == "the old fox\nsees a hen\n"
    assert task.text(targets_of(task, prepared.train)) == "\n".join(story()) + "\n"
    assert task.bytes_per_token == 1.0


@pytest.mark.parametrize("tokenizer", ["bpe", "word"])
def test_report_sections_are_plain_data(tokenizer):
    task, prepared = Language.prepare(Lines(story() + ODD), None, settings(tokenizer, share=0.3))
    model, head = networks(task)
    found = task.sections(model, head, prepared, seed=0)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert [section["kind"] for section in found] == ["texts", "table", "examples", "series"]
    written, table, lines, by_place = found
    assert len(written["texts"]) == 9
    assert {text["label"].split(",")[0] for text in written["texts"]} == {
        "temperature 0",
        "temperature 0.7",
        "temperature 1",
    }
    shares = [float(row[-1].rstrip("%")) for row in table["rows"]]
    assert shares == sorted(shares, reverse=True)
    most = [float(row[1]) for row in lines["rows"] if row[0] == "most"]
    assert most == sorted(most, reverse=True)
    assert all(row[2] in [*story(), *ODD] or tokenizer == "word" for row in lines["rows"][1:-1] if "fox" in row[2][:-8])
    assert by_place["x"] == list(range(1, 17))
    evaluation = evaluate(task, model, head, prepared.valid)
    batch = everything(task, prepared.valid)
    counts = batch.mask.sum(0).double()
    mean = float((torch.tensor(by_place["lines"]["loss"]) * counts).sum() / counts.sum())
    assert mean == pytest.approx(evaluation.loss, rel=1e-4)
    assert "tokens of text with a vocabulary of" in task.describe(prepared)


def test_surprising_lines_are_shown_once(tmp_path):
    lines = ["the old fox sees a hen", "a hen sees the old fox", "what a day for the fox"] * 40
    task, prepared = Language.prepare(Lines(lines), None, settings("word", max_length=40, share=0.3))
    (section,) = (one for one in task.sections(*networks(task), prepared, seed=0) if "surprising" in one["title"])
    shown = [row[2] for row in section["rows"]]
    assert len(shown) == len(set(shown)) >= 3
    assert set(lines) <= {*shown}


def test_explanations_cover_the_metrics():
    task, prepared = Language.prepare(Lines(story()), None, settings())
    model, head = networks(task)
    metrics = evaluate(task, model, head, prepared.valid).metrics
    assert metrics.keys() | {"loss"} == task.explanations.keys()
    assert task.selects_by == ("loss", "lower")


@pytest.mark.parametrize("build", [causal_lstm, causal_transformer])
def test_training_learns_a_text_that_repeats_itself(build):
    task, prepared = Language.prepare(
        Lines(["the quick brown fox jumps over the lazy dog"] * 60), None, settings("char", max_length=32)
    )
    model, head = networks(task, build, width=32, hidden=32, dropout=0.0, tie=True)
    optimizer = torch.optim.AdamW({*model.parameters(), *head.parameters()}, lr=1e-2)
    before = evaluate(task, model, head, prepared.valid)
    rows = np.arange(len(prepared.train))
    for step in range(100):
        optimizer.step(Objective(model, head, task.batch(prepared.train, rows[step % 4 :: 4])))
    after = evaluate(task, model, head, prepared.valid)
    assert after.loss < 0.1 * before.loss
    assert after.metrics["bits_per_byte"] < 0.6
    answer = task.predict(model, head, ["the quick"], AnswerOptions(length=20, temperature=0.0))[0]
    assert answer["text"] == " brown fox jumps ove"


def test_a_vocabulary_that_stays_small_says_why():
    source = SAMPLES["manual"]
    small = dataclasses.replace(settings("bpe"), columns={"text": source.columns[0]}, vocabulary_size=4000)
    notes = {}
    for least in (0, 5):
        task, prepared = Language.prepare(source, None, dataclasses.replace(small, min_frequency=least))
        notes[least] = task.tokenizer.vocabulary_size, prepared.notes[0]
    assert notes[0][0] < notes[5][0]
    assert "pairs that meet fewer than 50 times are not joined (--min-frequency)" in notes[0][1]
    assert f"{notes[5][0]:,} subwords of at most 4,000: pairs that meet fewer than 5 times" in notes[5][1]
