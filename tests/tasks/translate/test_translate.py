"""Translation: pairs, padding and masks, metrics, the split by source, answers, messages, a copying task learned."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from tests.folders import put_files
from torch.nn import functional as F

from thalweg.batch import Batch
from thalweg.data.arrays.ragged import Spill
from thalweg.data.files.base import AbstractSource, Chunk
from thalweg.data.files.sources import open_source
from thalweg.data.text.tokenizer import Tokenizer
from thalweg.errors import InputError
from thalweg.models.presets import ModelOptions, translate_lstm, translate_transformer
from thalweg.objective import Objective
from thalweg.tasks.base import HeadOptions, Settings
from thalweg.tasks.questions import AnswerOptions
from thalweg.tasks.translate.report import evenly_spaced, references_of, texts_of
from thalweg.tasks.translate.scores import QUICK, score
from thalweg.tasks.translate.task import Translate
from thalweg.tasks.written import Scoring
from thalweg.training.steps.evaluate import evaluate
from thalweg.training.steps.feed import Feed


class Pairs(AbstractSource):
    """Pairs of texts in memory."""

    kind = "sample"
    columns = ("english", "german")

    def __init__(self, rows, name="pairs.tsv"):
        self.rows = list(rows)
        self.name = name

    def chunks(self, size=7):
        for start in range(0, len(self.rows), size):
            part = self.rows[start : start + size]
            values = tuple(list(column) for column in zip(*part, strict=True))
            yield Chunk(self.columns, range(start + 2, start + 2 + len(part)), values)


def settings(tokenizer="char", *, max_length=20, share=0.2, vocabulary_size=400, normalize=(), **more):
    columns = {"source": "english", "target": "german"}
    return Settings(
        columns, share, normalize, tokenizer, vocabulary_size, 0, max_length, 0, "none", "translate", **more
    )


def networks(task, build=translate_transformer, seed=0, tie=False, label_smoothing=0.0, **options):
    torch.manual_seed(seed)
    model = build(task.shape(), ModelOptions(**({"width": 16, "hidden": 16, "layers": 1, "heads": 2} | options)))
    return model, task.head(model, HeadOptions(tie=tie, label_smoothing=label_smoothing))


def words(num=60):
    """Made-up pairs: the target is the source in capitals."""
    names = ["ab", "cad", "bee", "deaf", "fed", "ace"]
    texts = [f"{names[n % 6]} {names[n // 6 % 6]}{names[n * 5 % 6][: n % 3]}" for n in range(num)]
    return [(text, text.upper()) for text in texts]


def everything(task, examples):
    return task.batch(examples, np.arange(len(examples)))


ODD = [
    ("Grüße, 世界! 🦊👩‍👩‍👧", "tab\there  and   spaces "),
    ("שלום עולם‏", "é vs é"),
    ("a", "\x00 nul, \u2028 separator"),
    ("line\nbreak", "<eos> <bos> <pad>"),
] * 3


@pytest.mark.parametrize("tokenizer", ["byte", "char", "bpe"])
def test_odd_texts_come_back_from_batches(tokenizer):
    rows = [(f"{a}{n}", f"{n}{b}") for n, (a, b) in enumerate(ODD)]
    task, prepared = Translate.prepare(Pairs(rows), None, settings(tokenizer, max_length=99))
    found = set()
    for examples in (prepared.train, prepared.valid):
        batch = everything(task, examples)
        for row in range(len(examples)):
            source = batch.inputs["tokens"][row][batch.inputs["mask"][row]].tolist()
            target = batch.targets[row][batch.mask[row]].tolist()
            assert source[-1] == target[-1] == 3
            seen = batch.inputs["decoder_tokens"][row][batch.mask[row]].tolist()
            assert seen == [2, *target[:-1]]
            found.add((task.tokenizer.decode(source[:-1]), task.tokenizer.decode(target[:-1])))
    assert found == set(rows)
    valid = np.arange(len(prepared.valid))
    kept = list(zip(texts_of(prepared.valid, "source", valid), texts_of(prepared.valid, "target", valid), strict=True))
    assert set(kept) < set(rows)
    assert not set(prepared.train.columns) & {"source_text", "target_text"}


def test_padding_is_zero_and_masked():
    task, prepared = Translate.prepare(Pairs(words()), None, settings())
    batch = everything(task, prepared.train)
    tokens, mask, seen = (batch.inputs[name] for name in ("tokens", "mask", "decoder_tokens"))
    assert tokens.shape == mask.shape
    assert seen.shape == batch.targets.shape == batch.mask.shape
    assert torch.equal(tokens != 0, mask)
    assert torch.equal(batch.targets != 0, batch.mask)
    lengths = mask.sum(1).tolist()
    assert lengths == prepared.train.columns["source"].lengths.tolist()
    assert all(mask[row, :length].all() for row, length in enumerate(lengths))
    assert (seen[:, 0] == 2).all()


@pytest.mark.parametrize("build", [translate_transformer, translate_lstm])
def test_loss_does_not_depend_on_what_is_in_the_batch(build):
    task, prepared = Translate.prepare(Pairs(words()), None, settings())
    model, head = networks(task, build)
    model.double().eval()
    head.double()
    rows = np.arange(len(prepared.valid))
    together = evaluate(task, model, head, prepared.valid, batch_size=64)
    total, count = 0.0, 0
    for row in rows:
        batch = task.batch(prepared.valid, rows[row : row + 1])
        with torch.no_grad():
            logits = head(model(**batch.inputs))
        total += float(F.cross_entropy(logits[0], batch.targets[0], reduction="sum"))
        count += batch.targets.shape[1]
    assert together.loss == pytest.approx(total / count, rel=1e-9)
    assert together.metrics["perplexity"] == pytest.approx(math.exp(total / count), rel=1e-5)


def test_meter_against_the_definition():
    torch.manual_seed(0)
    logits = torch.randn(3, 4, 6, dtype=torch.float64)
    targets = torch.randint(0, 6, (3, 4))
    mask = torch.tensor([[True] * 4, [True, True, False, False], [True, False, False, False]])
    meter = Translate(settings().normalizer(), Tokenizer.from_vocabulary([]), 8).meter()
    meter.update(logits[:2], Batch({}, targets[:2], mask[:2]))
    meter.update(logits[2:], Batch({}, targets[2:], mask[2:]))
    losses = -torch.log_softmax(logits, -1).gather(-1, targets.unsqueeze(-1)).squeeze(-1)[mask]
    right = (logits.argmax(-1) == targets)[mask].double()
    assert meter.compute() == pytest.approx(
        {"token_accuracy": float(right.mean()), "perplexity": math.exp(float(losses.mean()))}, rel=1e-5
    )


@pytest.mark.parametrize(
    ("build", "tie"), [(translate_transformer, True), (translate_lstm, True), (translate_lstm, False)]
)
def test_loss_of_a_batch_is_finite_and_has_gradients(build, tie):
    task, prepared = Translate.prepare(Pairs(words()), None, settings("bpe"))
    model, head = networks(task, build, tie=tie, label_smoothing=0.1)
    objective = Objective(model, head, task.batch(prepared.train, np.array([5, 0, 11])))
    assert math.isfinite(float(objective()))
    assert all(parameter.grad is not None for parameter in objective.parameters)
    assert tie == (head.output.weight is model.embedding.weight)


def test_the_same_source_is_never_on_both_sides():
    rows = [(f"source {n % 40}", f"target {n}") for n in range(200)]
    _, prepared = Translate.prepare(Pairs(rows), None, settings(max_length=40))
    valid = set(texts_of(prepared.valid, "source", np.arange(len(prepared.valid))))
    assert len(prepared.train) + len(prepared.valid) == 200
    assert len(prepared.valid) == 5 * len(valid)
    assert 0 < len(valid) < 40


def test_training_batches_hold_texts_of_like_length():
    rows = [("a" * (1 + n % 50) + str(n), "b" * (1 + n % 50)) for n in range(2000)]
    task, prepared = Translate.prepare(Pairs(rows), None, settings(max_length=80))
    feed = Feed(prepared.train, task.batch, batch_size=16)
    shares = [float(feed(step)[0].mask.float().mean()) for step in range(20)]
    assert np.mean(shares) > 0.9


def test_long_texts_are_cut_counted_and_have_no_end():
    rows = [("abcdefghij", "xy"), ("ab", "x" * 30), ("c", "y"), ("d", "z" * 9)] * 5
    task, prepared = Translate.prepare(
        Pairs([(f"{n}{a}", b) for n, (a, b) in enumerate(rows)]), None, settings(max_length=10, share=0.1, long="cut")
    )
    batch = everything(task, prepared.train)
    assert batch.inputs["tokens"].shape[1] == batch.targets.shape[1] == 10
    cut_targets = (batch.targets == ord("x") - ord("x") + task.tokenizer.id_of("x")).all(1)
    assert cut_targets.any()
    with_end = (batch.targets == 3).any(1)
    assert torch.equal(with_end, ~cut_targets)
    long = sum(len(f"{n}{a}") > 9 for n, (a, _) in enumerate(rows)) + sum(len(b) > 9 for _, b in rows)
    counted = int(prepared.notes[0].split()[0])
    assert "longer than 9 tokens and were truncated (--max-length)" in prepared.notes[0]
    assert 0 < counted <= long
    model, head = networks(task)
    answers = task.predict(model, head, ["abcdefghijkl", "ab"], AnswerOptions(beam=1))
    assert answers[0]["note"] == "truncated to 10 tokens"
    assert "note" not in answers[1]


def scripts(num=40):
    """Made-up pairs in two scripts: digits and letters."""
    return [(" ".join(f"{n * 7 + k}" for k in range(3)), "abcdefghij"[n % 10] + " " + "klm"[n % 3]) for n in range(num)]


@pytest.mark.parametrize("tokenizer", ["char", "word"])
def test_source_and_target_may_have_vocabularies_of_their_own(tmp_path, tokenizer):
    chosen = settings(tokenizer, vocabularies="separate")
    task, prepared = Translate.prepare(Pairs(scripts()), None, chosen)
    source, target = task.source_vocabulary, task.tokenizer
    assert (source.id_of("7"), target.id_of("7")) == (source.id_of("7"), None)
    assert source.id_of("7") is not None
    assert source.id_of("a") is None
    shape = task.shape()
    assert (shape.vocabulary_size, shape.target_vocabulary_size) == (source.vocabulary_size, target.vocabulary_size)
    assert f"vocabularies of {source.vocabulary_size} and {target.vocabulary_size}" in task.describe(prepared)
    batch = everything(task, prepared.train)
    assert int(batch.inputs["tokens"].max()) < source.vocabulary_size
    assert int(batch.targets.max()) < target.vocabulary_size
    put_files(tmp_path, task.files())
    loaded = Translate.load(tmp_path, chosen)
    model, head = networks(task, tie=True)
    assert head.output.weight is model.embedding.weight
    assert model.embedding.num_embeddings == target.vocabulary_size
    assert model.source_embedding.num_embeddings == source.vocabulary_size
    first, second = (one.predict(model, head, ["1 2 3", "77 8 9"], AnswerOptions(beam=2)) for one in (task, loaded))
    assert first == second
    (tmp_path / "source_tokenizer.json").unlink()
    with pytest.raises(InputError, match=r"source_tokenizer.json"):
        Translate.load(tmp_path, chosen)


@pytest.mark.parametrize("vocabularies", ["joint", "separate"])
def test_training_batches_are_cut_otherwise_in_each_step(vocabularies):
    chosen = settings("bpe", share=0.1, max_length=30, bpe_dropout=0.5, vocabularies=vocabularies)
    task, prepared = Translate.prepare(Pairs([(f"{a} {n}", b) for n, (a, b) in enumerate(words(20) * 9)]), None, chosen)
    rows = np.arange(len(prepared.train))

    def sides(batch):
        for tokenizer, name in ((task.source_vocabulary, "tokens"), (task.tokenizer, "targets")):
            ids = batch.targets if name == "targets" else batch.inputs[name]
            yield [tokenizer.decode([token for token in row if token > 3]) for row in ids.tolist()]

    usual = task.batch(prepared.train, rows)
    assert torch.equal(task.training_batch(prepared.train, rows).targets, usual.targets)
    one, two, again = (task.drawn_batch(prepared.train, rows, rows, number) for number in (1, 2, 1))
    assert [*sides(one)] == [*sides(two)] == [*sides(usual)]
    assert torch.equal(one.targets, again.targets)
    assert not torch.equal(one.targets, two.targets)
    assert int(one.mask.sum()) > int(usual.mask.sum())
    assert one.inputs["decoder_tokens"][:, 0].tolist() == [2] * len(rows)
    assert Translate.prepare(Pairs(words()), None, settings("bpe"))[0].drawn_batch is None


def test_both_vocabularies_grow_from_those_of_a_run():
    chosen = settings("word", vocabularies="separate")
    old, _ = Translate.prepare(Pairs(scripts(20)), None, chosen)
    more = settings("word", vocabularies="separate", start=old)
    new, _ = Translate.prepare(Pairs([(f"{a} new", f"{b} neu") for a, b in scripts(40)]), None, more)
    for before, after in ((old.tokenizer, new.tokenizer), (old.source_tokenizer, new.source_tokenizer)):
        assert after.entries[: len(before.entries)] == before.entries
        assert after.vocabulary_size > before.vocabulary_size
    (target, source) = new.growth(old)
    assert (target.new, source.new) == (new.tokenizer.vocabulary_size, new.source_tokenizer.vocabulary_size)
    assert (target.what, source.what) == ("word", "source word")


def test_incomplete_pairs_are_left_out_and_told():
    rows = [*words(30), ("", "X"), ("x", "  "), (None, "Y"), ("z", None)]
    _, prepared = Translate.prepare(Pairs(rows), None, settings())
    assert len(prepared.train) + len(prepared.valid) == 30
    assert prepared.notes[0] == (
        "pairs.tsv: 4 pairs without a source or a target were left out (line 32, 33, 34, ...)."
    )


def test_large_data_go_to_files(tmp_path):
    kept = Translate.prepare(Pairs(words()), None, settings())[1]
    spilled = Translate.prepare(Pairs(words()), None, settings(spill=Spill(tmp_path, 50)))[1]
    for name in ("source", "target", "source_text", "target_text"):
        assert isinstance(spilled.valid.columns[name].values, np.memmap)
        assert np.array_equal(spilled.valid.columns[name].values, kept.valid.columns[name].values)


@pytest.mark.parametrize(
    ("tokenizer", "build"),
    [("byte", translate_lstm), ("char", translate_lstm), ("bpe", translate_transformer), ("word", translate_lstm)],
)
def test_saved_and_loaded_task_answers_alike(tmp_path, tokenizer, build):
    chosen = settings(tokenizer, normalize=("nfc", "lower", "spaces"))
    task, prepared = Translate.prepare(Pairs(words()), None, chosen)
    put_files(tmp_path, task.files())
    loaded = Translate.load(tmp_path, chosen)
    model, head = networks(task, build)
    texts = ["AB cad", "🦊 unknown", "", "  ", "x" * 100]
    first, second = (one.predict(model, head, texts, AnswerOptions(beam=3)) for one in (task, loaded))
    assert first == second
    assert [answer["source"] for answer in first] == texts
    assert first[2] == {"source": "", "text": "", "score": None, "log_probability": None, "candidates": []}
    for answer in first[:2]:
        values = [candidate["score"] for candidate in answer["candidates"]]
        assert values == sorted(values, reverse=True)
        assert answer["text"] == answer["candidates"][0]["text"]
        assert len({candidate["text"] for candidate in answer["candidates"]}) == len(values) <= 3
    assert json.loads(json.dumps(first, allow_nan=False)) == first
    alone = task.predict(model, head, texts[:1], AnswerOptions(beam=3))
    assert alone[0]["text"] == first[0]["text"]
    assert loaded.shape() == task.shape()
    one, two = (evaluate(each, model, head, prepared.valid, generated=5).metrics for each in (task, loaded))
    assert one == two


def test_the_length_penalty_is_the_power_of_the_length_in_the_score():
    task, _ = Translate.prepare(Pairs(words()), None, settings())
    model, head = networks(task, seed=1)
    plain, mean = (
        task.predict(model, head, ["ab cad"], AnswerOptions(beam=4, top=4, length_penalty=power))[0]["candidates"]
        for power in (0.0, 1.0)
    )
    both = [
        (a["score"], b["score"], len(task.tokenizer.encode(a["text"])) + 1)
        for a in plain
        for b in mean
        if a["text"] == b["text"]
    ]
    assert both
    for total, average, length in both:
        assert total == pytest.approx(average * min(length, task.max_length), rel=1e-4)


@pytest.mark.parametrize("asked", [{}, {"beam": 1}, {"beam": 3, "length_penalty": 0.2}], ids=str)
def test_the_metrics_are_of_what_predict_answers(asked):
    task, prepared = Translate.prepare(Pairs(words()), None, settings())
    model, head = networks(task, seed=1)
    rows = np.arange(len(prepared.valid))
    sources, wanted = (texts_of(prepared.valid, side, rows) for side in ("source", "target"))
    answers = [answer["text"] for answer in task.predict(model, head, sources, AnswerOptions(**asked))]
    found = task.with_scoring(Scoring(**asked)).generated_metrics(model, head, prepared.valid, len(rows))
    assert found.metrics == score(answers, [wanted]).values
    assert found.num_examples == len(rows)
    beam = asked.get("beam", 4)
    how = f"beam {beam}, length penalty {asked.get('length_penalty', 1):g}" if beam > 1 else "beam 1, greedy"
    assert found.notes[0] == f"BLEU, chrF, chrF++, TER and exact match are of {len(rows)} translations, {how}."
    some = task.generated_metrics(model, head, prepared.valid, 3, quick=True)
    assert some.metrics.keys() == {"bleu", "chrf", "exact_match"}
    assert some.num_examples == 3
    greedy = task.translations(model, head, prepared.valid, evenly_spaced(len(rows), 3))
    assert some.metrics == score(greedy, [[wanted[i] for i in evenly_spaced(len(rows), 3)]], metrics=QUICK).values


def test_further_references_are_of_the_rows_that_are_used():
    task, _ = Translate.prepare(Pairs(words()), None, settings())
    rows = [("a", "eins"), ("", "zwei"), ("c", "drei")]
    columns = {"source": "english", "target": "german"}
    scored = task.with_scoring(Scoring(references={"one.txt": ["un", "deux", "trois"], "two.txt": ["I", "II", "III"]}))
    examples, _ = scored.examples(Pairs(rows), columns)
    found = references_of(examples, np.arange(2))
    assert found == [["eins", "drei"], ["un", "trois"], ["I", "III"]]
    short = task.with_scoring(Scoring(references={"one.txt": ["un"]}))
    with pytest.raises(InputError, match=r"one.txt: expected one line for each row .*got 1 line for 3 rows"):
        short.examples(Pairs(rows), columns)


def test_spread_indices_are_distinct_and_inside():
    for size in range(1, 40):
        for limit in range(1, 40):
            found = evenly_spaced(size, limit).tolist()
            assert len(set(found)) == len(found) == min(size, limit)
            assert min(found) == 0
            assert max(found) < size


@pytest.mark.parametrize("num", [8, 60])
def test_report_sections_are_plain_data(num):
    task, prepared = Translate.prepare(Pairs(words(num)), None, settings(share=0.4))
    model, head = networks(task)
    found = task.sections(model, head, prepared, seed=0)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    kinds = [section["kind"] for section in found]
    assert kinds == ["examples", "examples", "table", "bars"]  # no bars of exact matches: there are none
    assert "(beam 4, length penalty 1)" in found[0]["text"]
    assert "BLEU|nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:" in found[2]["text"]
    rows = np.arange(len(prepared.valid))
    pairs = set(zip(texts_of(prepared.valid, "source", rows), texts_of(prepared.valid, "target", rows), strict=True))
    assert {(row[0], row[1]) for row in found[0]["rows"] + found[1]["rows"]} <= pairs
    worst = [float(row[-1]) for row in found[1]["rows"]]
    assert worst == sorted(worst)
    assert sum(row[1] for row in found[2]["rows"]) == sum(found[3]["values"]) == len(prepared.valid)
    assert f"{len(prepared.train):,} pairs of texts" in task.describe(prepared)


def test_the_worst_translations_are_of_different_sources():
    task, prepared = Translate.prepare(Pairs(words(6)), Pairs(words(6) * 5), settings())
    worst = task.sections(*networks(task), prepared, seed=0)[1]
    assert worst["title"] == "Worst translations"
    sources = [row[0] for row in worst["rows"]]
    assert len(sources) == len(set(sources)) == len({source for source, _ in words(6)})


def test_explanations_cover_the_metrics():
    task, prepared = Translate.prepare(
        Pairs([(f"a{n} b", f"one two three four {n}") for n in range(30)]), None, settings(max_length=30)
    )
    model, head = networks(task)
    metrics = evaluate(task, model, head, prepared.valid, generated=3).metrics
    assert metrics.keys() | {"loss"} == task.explanations.keys()
    assert not evaluate(task, model, head, prepared.valid).metrics.keys() & {"bleu", "chrf", "exact_match"}
    picky = dataclasses.replace(task, select="bleu")
    assert (picky.selects_by, picky.num_judged, task.num_judged) == (("bleu", "higher"), 200, 0)
    assert task.selects_by == ("loss", "lower")


def test_files_of_pairs_are_read(tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_text("english\tgerman\n" + "".join(f"{a}\t{b}\n" for a, b in words(40)), encoding="utf-8")
    task, prepared = Translate.prepare(open_source(path), None, settings())
    other = tmp_path / "held-out.jsonl"
    other.write_text("".join(json.dumps({"english": a, "german": b}) + "\n" for a, b in words(9)), encoding="utf-8")
    held_out, notes = task.examples(open_source(other), {"source": "english", "target": "german"})
    assert len(prepared.train) + len(prepared.valid) == 40
    assert len(held_out) == 9
    assert notes == []
    both = Translate.prepare(open_source(path), open_source(other), settings())[1]
    assert (len(both.train), len(both.valid)) == (40, 9)


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([("", "a"), ("b", "")], {}, "pairs.tsv: expected pairs of texts, got none in which neither is empty"),
        ([("a", "b")] * 9, {}, "at least two different texts"),
        (words(), {"max_length": 1}, "--max-length must be at least 2"),
    ],
)
def test_data_that_cannot_be_used_are_refused(rows, options, message):
    with pytest.raises(InputError, match=message):
        Translate.prepare(Pairs(rows), None, settings(**options))


def test_bad_requests_are_refused(tmp_path):
    task, _ = Translate.prepare(Pairs(words()), None, settings())
    model, head = networks(task)
    with pytest.raises(InputError, match="Input 1: expected a text to translate, got a number"):
        task.predict(model, head, [3], AnswerOptions())
    with pytest.raises(InputError, match="--beam must be a whole number from 1 to 1,000; got 0"):
        task.predict(model, head, ["a"], AnswerOptions(beam=0))
    with pytest.raises(InputError, match="has no column 'french'"):
        task.examples(Pairs(words()), {"source": "english", "target": "french"})
    with pytest.raises(InputError, match=r"tokenizer.json is missing"):
        Translate.load(tmp_path, settings())


@pytest.mark.slow
@pytest.mark.parametrize("build", [translate_transformer, translate_lstm])
def test_training_learns_to_copy_to_the_letter(build):
    generator = np.random.default_rng(0)
    texts = ["".join(generator.choice(list("abcd"), size=generator.integers(2, 6))) for _ in range(600)]
    task, prepared = Translate.prepare(Pairs([(text, text) for text in texts]), None, settings(max_length=8))
    model, head = networks(task, build, width=32, hidden=64, dropout=0.0, tie=True)
    optimizer = torch.optim.AdamW({*model.parameters(), *head.parameters()}, lr=1e-2)
    feed = Feed(prepared.train, task.batch, batch_size=64, seed=0)
    before = evaluate(task, model, head, prepared.valid)
    num_steps = 350
    for step in range(num_steps):
        optimizer.param_groups[0]["lr"] = 1e-2 * min((step + 1) / 30, 1 - step / num_steps)
        optimizer.step(Objective(model, head, feed(step)))
    after = evaluate(task, model, head, prepared.valid, generated=1000)
    assert after.loss < 0.05 * before.loss
    assert after.metrics["exact_match"] > 0.95  # rounding, which processors do otherwise, decides about the last ones
    assert task.predict(model, head, ["abca"], AnswerOptions())[0]["text"] == "abca"


def test_subwords_that_meet_seldom_stay_in_parts():
    rows = [(f"common {n}", "zeldzaam" if n < 10 else "gewoonlijk") for n in range(200)]
    task, _ = Translate.prepare(Pairs(rows), None, settings("bpe", share=0.01, vocabulary_size=4000))
    assert len(task.tokenizer.encode("gewoonlijk")) == 1
    assert len(task.tokenizer.encode("zeldzaam")) == len("zeldzaam")
