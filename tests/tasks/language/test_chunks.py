"""Texts in chunks with what stands before them: each token once, contexts as they stand in the text, exact losses."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from thalweg.data.arrays.equal import Prefixes
from thalweg.data.files.sources import open_source
from thalweg.errors import InputError
from thalweg.heads.softmax import Softmax
from thalweg.models.recurrent import Recurrent
from thalweg.tasks.base import Settings
from thalweg.tasks.language.chunks import BEFORE, SEEN, TOKENS, Cut, batch_of, num_before, num_targets, targets
from thalweg.tasks.language.task import Language
from thalweg.tasks.written import Scoring
from thalweg.training.folder.opening import settings_of
from thalweg.training.recipe.complete import complete, without_effect
from thalweg.training.recipe.recipe import Options
from thalweg.training.steps.evaluate import evaluate

LINES = "\n".join(f"line {n}: the {['red', 'blue', 'old'][n % 3]} fox sees {n * 7 % 11} hens" for n in range(60))
CUTS = [Cut(4), Cut(4, 4, BEFORE), Cut(3, 9, BEFORE), Cut(1, 5, SEEN), Cut(3, 5, SEEN), Cut(8, 0, SEEN)]


def prepared(folder, **more):
    """A task on a short text, with chunks of eight characters."""
    path = folder / "text.txt"
    path.write_text(LINES)
    settings = Settings({"text": "text"}, 0.05, (), "char", 400, 0, 8, 0, "none", "causal", **more)
    return Language.prepare(open_source(path), None, settings)


@pytest.mark.parametrize("cut", CUTS, ids=str)
@pytest.mark.parametrize("size", [0, 1, 2, 4, 5, 9, 30])
def test_every_token_is_a_target_once_after_what_stands_before_it(cut, size):
    text = np.arange(size)
    for parts in ([text], np.array_split(text, 4), [text[:0], text[:1], text[1:]]):
        examples = cut.examples(list(parts))
        assert np.array_equal(targets(examples), text[1:])
        assert num_targets(examples) == max(0, size - 1)
        for number, (row, before) in enumerate(zip(examples.ragged(TOKENS), num_before(examples), strict=True)):
            first = number * cut.step
            assert before == min(first, cut.context)
            assert row.tolist() == list(range(first - before, min(first + cut.step, size - 1) + 1))


def test_a_batch_has_whole_chunks_before_and_says_which_are_missing():
    examples = Cut(3, 6, BEFORE).examples([np.arange(20, 34)])
    batch = batch_of(examples, np.array([4, 1, 3]), 3)
    assert batch.inputs["tokens"].tolist() == [[32, 33, 0], [23, 24, 25], [29, 30, 31]]
    assert batch.targets.tolist() == [[33, 0, 0], [24, 25, 26], [30, 31, 32]]
    assert batch.mask is not None
    assert batch.mask.tolist() == [[True, False, False], [True] * 3, [True] * 3]
    assert batch.inputs["before"].tolist() == [
        [[26, 27, 28], [29, 30, 31]],
        [[0, 0, 0], [20, 21, 22]],
        [[23, 24, 25], [26, 27, 28]],
    ]
    assert batch.inputs["is_before"].tolist() == [[True, True], [False, True], [True, True]]
    assert set(batch_of(examples, np.array([0]), 3).inputs) == {"tokens"}


@pytest.mark.parametrize("carry", [1, 2])
@pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU])
def test_a_chunk_begins_with_the_state_after_those_before_it(cell, carry):
    """The same hidden states as one pass over both; and a gradient through the chunk alone."""
    torch.manual_seed(0)
    model = Recurrent(12, 5, hidden=5, cell=cell, layers=2).double()
    text = torch.randint(1, 12, (30,))
    examples = Cut(4, 4 * carry, BEFORE).examples([text.numpy()])
    batch = batch_of(examples, np.arange(len(examples)), 4)
    hidden = model(**batch.inputs)
    for number in range(len(examples)):
        first = 4 * number
        begin = max(0, first - 4 * carry)
        size = min(4, len(text) - 1 - first)
        whole = model(text[None, begin : first + size])
        assert torch.allclose(hidden[number, :size], whole[0, -size:], atol=1e-12)
    found = torch.autograd.grad(hidden[5].square().sum(), list(model.parameters()))
    with torch.no_grad():
        state = model.stack.run(model.vectors(text[None, 20 - 4 * carry : 20]), model.start(1))[1]
    again = model.stack.run(model.vectors(text[None, 20:24]), state)[0].square().sum()
    for one, other in zip(found, torch.autograd.grad(again, list(model.parameters())), strict=True):
        assert torch.allclose(one, other, atol=1e-12)


@pytest.mark.parametrize(("carry", "stride"), [(0, 0), (1, 0), (0, 3), (1, 5), (2, 24)])
def test_perplexity_is_that_of_a_plain_loop(tmp_path, carry, stride):
    """Each token, predicted in a pass of its own from as many tokens before it as its chunk or window holds."""
    length, longest = 8, 8 * (1 + carry)
    task, data = prepared(tmp_path, carry=carry, stride=stride)
    torch.manual_seed(1)
    size = task.tokenizer.vocabulary_size
    model, head = Recurrent(size, 6, hidden=6).double(), Softmax(6, size).double()
    found = evaluate(task, model, head, data.valid, batch_size=7)
    text = np.concatenate([[task.tokenizer.begin], targets(data.valid)])
    nats = 0.0
    with torch.no_grad():
        for place in range(1, len(text)):
            if stride:
                end = min(-(-place // stride) * stride, len(text) - 1)  # of the window that the token is a target of
                begin = max(0, (-(-place // stride) - 1) * stride - (longest - stride))
                assert end - begin <= longest
            else:
                begin = max(0, (place - 1) // length - carry) * length
            assert place - begin >= min(place, longest - (stride or length) + 1)
            hidden = model(torch.from_numpy(text[None, begin:place]).long())[:, -1]
            nats -= float(torch.log_softmax(head(hidden), -1)[0, text[place]])
    nats /= len(text) - 1
    assert math.isclose(found.loss, nats, rel_tol=1e-9)
    assert math.isclose(found.metrics["perplexity"], math.exp(nats), rel_tol=1e-9)
    bits = nats / math.log(2) / task.bytes_per_token
    assert math.isclose(found.metrics["bits_per_byte"], bits, rel_tol=1e-9)


def test_token_counts_and_the_view_are_of_targets_alone(tmp_path):
    plain, data = prepared(tmp_path)
    carried, same = prepared(tmp_path, carry=2)
    seen, alone = carried.view(same.train), plain.view(data.train)
    assert isinstance(seen, Prefixes)
    assert isinstance(alone, Prefixes)
    assert torch.equal(plain.token_counts(data.train), carried.token_counts(same.train))
    assert np.array_equal(alone.symbols, seen.symbols)
    texts = [
        tuple(row[: before + 1]) for row, before in zip(same.train.ragged(TOKENS), num_before(same.train), strict=True)
    ]
    pairs = {(text, int(number)) for text, number in zip(texts, seen.first, strict=True)}
    assert (
        len(pairs) == len(set(texts)) == len(set(seen.first.tolist()))
    )  # equal numbers where all that is seen is equal


@pytest.mark.parametrize(("carry", "label"), [(0, "tokens seen"), (2, "tokens of the chunk")])
def test_the_report_says_what_a_place_is(tmp_path, carry, label):
    task, data = prepared(tmp_path, carry=carry)
    torch.manual_seed(1)
    size = task.tokenizer.vocabulary_size
    sections = task.sections(Recurrent(size, 6, hidden=6), Softmax(6, size), data, 0)
    curve = sections[-1]
    assert (curve["title"], curve["x_label"], curve["x"]) == ("Loss by place in a chunk", label, list(range(1, 9)))


def test_windows_that_are_too_far_apart_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"--stride must lie between 1 and 8 \(--max-length 8\).*got 9"):
        prepared(tmp_path, stride=9)
    task, _ = prepared(tmp_path, carry=1)
    asked = task.with_scoring(Scoring(stride=17))
    with pytest.raises(
        InputError, match=r"between 1 and 16 \(--max-length 8 of so many tokens, and of the chunks before"
    ):
        asked.examples(open_source(tmp_path / "text.txt"), {"text": "text"})
    assert task.with_scoring(Scoring()) is task
    with pytest.raises(InputError, match="--beam is for translations"):
        task.with_scoring(Scoring(beam=3, stride=4))


@pytest.mark.parametrize(
    "options",
    [{"optimizer": "newton-cg"}, {"optimizer": "lbfgs"}, {"optimizer": "sgd", "line_search": "armijo"}],
    ids=str,
)
def test_a_carried_state_is_for_one_gradient_a_step(options):
    given = Options(task="language", source="manual", **options)
    assert complete(given).data.carry == 0
    with pytest.raises(InputError, match="--carry is for optimizers that make one step from one gradient"):
        complete(given.with_(carry=1))
    assert complete(Options(task="language", source="manual", carry=2)).data.carry == 2


def test_other_models_and_tasks_carry_nothing():
    options = Options(task="language", source="manual", model="transformer", carry=1, stride=4)
    assert without_effect(options) == ["--carry has no effect on --model transformer."]
    assert settings_of(complete(options), {}).carry == 0
    assert without_effect(Options(task="translate", source="pairs", stride=4)) == [
        "--stride has no effect on --task translate."
    ]
