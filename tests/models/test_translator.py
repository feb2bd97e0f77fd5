"""The LSTM translator: its attention by the formula, padding, steps against the whole."""

import torch

from thalweg.models.skips import Residual
from thalweg.models.translator import Translator

TOKENS = torch.tensor([[4, 5, 6, 7, 8], [9, 10, 0, 0, 0], [11, 12, 13, 14, 0]])
MASK = TOKENS != 0
TARGETS = torch.tensor([[2, 5, 6, 7], [2, 9, 4, 0], [2, 4, 4, 3]])


def make_model(**options):
    torch.manual_seed(0)
    return Translator(20, 15, 6, hidden=5, **options).double().eval()


def test_hidden_states_are_their_formula():
    model = make_model()
    hidden = model(tokens=TOKENS, decoder_tokens=TARGETS, mask=MASK)
    assert hidden.shape == (3, 4, 6)
    for b, length in enumerate(MASK.sum(1).tolist()):
        memory = model.encoder(model.source_vectors(TOKENS[b : b + 1, :length]))
        final = torch.cat([memory[0, -1, :5], memory[0, 0, 5:]])
        h, c = torch.tanh(model.bridge(final)).view(2, 1, 1, 5)
        states, _ = model.decoder.forward_cells[0](model.vectors(TARGETS[b : b + 1]), (h, c))
        weights = torch.softmax(states[0] @ model.key.weight @ memory[0].T, -1)
        expected = torch.tanh(model.combine(torch.cat([weights @ memory[0], states[0]], -1)))
        torch.testing.assert_close(hidden[b], expected)


def test_steps_equal_the_whole_and_can_be_reordered():
    model = make_model(layers=2, skip=Residual)
    whole = model(TOKENS, TARGETS, MASK)
    state = model.start(TOKENS, MASK)
    order = torch.tensor([2, 0, 1])
    for t in range(4):
        hidden, state = model.advance(TARGETS[:, t], state)
        torch.testing.assert_close(hidden, whole[:, t])
        if t == 1:
            turned = tuple(part.index_select(0, order) for part in state)
            torch.testing.assert_close(model.advance(TARGETS[order, 2], turned)[0], whole[order, 2])


def test_padding_of_the_source_has_no_influence():
    model = make_model(layers=2)
    whole = model(TOKENS, TARGETS, MASK)
    torch.testing.assert_close(model(TOKENS.masked_fill(~MASK, 17), TARGETS, MASK), whole)
    alone = [model(TOKENS[i : i + 1, :n], TARGETS[i : i + 1]) for i, n in enumerate(MASK.sum(1).tolist())]
    torch.testing.assert_close(whole, torch.cat(alone))


def test_a_later_token_does_not_change_earlier_states():
    model = make_model()
    changed = TARGETS.clone()
    changed[:, 2:] = 14
    assert torch.equal(model(TOKENS, changed, MASK)[:, :2], model(TOKENS, TARGETS, MASK)[:, :2])


def test_an_empty_source_gives_finite_states():
    model = make_model()
    hidden = model(TOKENS, TARGETS, torch.zeros_like(MASK))
    hidden.square().sum().backward()
    assert hidden.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_attention_says_where_the_states_look():
    model = make_model()
    looks = model.attention(TOKENS, TARGETS, MASK)
    assert looks.shape == (3, 4, 5)
    torch.testing.assert_close(looks.sum(-1), torch.ones(3, 4, dtype=torch.float64))
    assert not looks.masked_select(~MASK[:, None, :].expand_as(looks)).any()
    _, memory, mask, h, c = model.start(TOKENS, MASK)
    states, _ = model.decoder.run(model.vectors(TARGETS), (h, c))
    hidden = torch.tanh(model.combine(torch.cat([looks @ memory, states], -1)))
    torch.testing.assert_close(model._write(TARGETS, (model.key(memory), memory, mask, h, c))[0], hidden)
