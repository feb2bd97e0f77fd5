"""Transformers: padding, causality, steps against the whole, and a layer against PyTorch's own."""

import math

import pytest
import torch
from torch import nn

from thalweg.models import activations, pool
from thalweg.models.skips import Highway, NoSkip, PreNorm, Residual, ReZero
from thalweg.models.transformer import Decoder, Encoder, EncoderDecoder, LearnedPositions, SinusoidalPositions

TOKENS = torch.tensor([[4, 5, 6, 7, 8], [9, 10, 0, 0, 0], [11, 12, 13, 14, 0]])
MASK = TOKENS != 0
LENGTHS = MASK.sum(1).tolist()
TARGETS = torch.tensor([[2, 5, 6, 7], [2, 9, 4, 0], [2, 4, 4, 3]])
SMALL = {"hidden": 12, "layers": 2, "heads": 2, "max_length": 16}
SKIPS = pytest.mark.parametrize("skip", [NoSkip, Residual, PreNorm, Highway, ReZero])


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def awake(model):
    """Return the model in double precision, without dropout, with ReZero's factors away from zero."""
    for module in model.modules():
        if isinstance(module, ReZero):
            nn.init.constant_(module.alpha, 0.7)
    return model.double().eval()


@pytest.mark.parametrize(
    ("skip", "positions", "pooling"),
    [
        (NoSkip, SinusoidalPositions, pool.mean),
        (Residual, LearnedPositions, pool.maximum),
        (PreNorm, SinusoidalPositions, pool.last),
        (Highway, LearnedPositions, pool.mean),
        (ReZero, SinusoidalPositions, pool.maximum),
    ],
)
def test_encoder_gives_a_text_the_same_state_alone_and_padded(skip, positions, pooling):
    model = awake(Encoder(20, 8, **SMALL, skip=skip, positions=positions, pooling=pooling))
    alone = torch.cat([model(TOKENS[i : i + 1, :length]) for i, length in enumerate(LENGTHS)])
    torch.testing.assert_close(model(TOKENS, MASK), alone)
    torch.testing.assert_close(model(TOKENS.masked_fill(~MASK, 17), MASK), alone)


def test_encoder_takes_a_text_without_tokens():
    model = Encoder(20, 8, **SMALL, pooling=pool.mean)
    hidden = model(torch.zeros(2, 3, dtype=torch.long), torch.tensor([[False] * 3, [True] * 3]))
    assert torch.count_nonzero(hidden[0]) == 0
    hidden.square().sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_encoder_sees_the_order_of_tokens():
    model = awake(Encoder(20, 8, **SMALL, pooling=pool.mean))
    assert not torch.allclose(model(TOKENS[:1]), model(TOKENS[:1].flip(1)))


@pytest.mark.parametrize(
    ("skip", "positions"),
    [
        (NoSkip, LearnedPositions),
        (PreNorm, SinusoidalPositions),
        (Highway, LearnedPositions),
        (ReZero, LearnedPositions),
    ],
)
def test_decoder_steps_equal_the_whole(skip, positions):
    model = awake(Decoder(20, 8, **SMALL, skip=skip, positions=positions))
    state = model.start(3)
    steps = []
    for column in TOKENS.T:
        hidden, state = model.advance(column, state)
        steps.append(hidden)
    torch.testing.assert_close(torch.stack(steps, 1), model(TOKENS))
    assert all(part.shape[0] == 3 for part in state)


def test_decoder_does_not_look_ahead():
    model = awake(Decoder(20, 8, **SMALL))
    changed = TOKENS.clone()
    changed[:, 3] = 19
    before, after = model(TOKENS), model(changed)
    torch.testing.assert_close(before[:, :3], after[:, :3], rtol=0.0, atol=1e-14)
    assert not torch.allclose(before[:, 3], after[:, 3])


@SKIPS
def test_translation_steps_equal_the_whole_and_can_be_reordered(skip):
    model = awake(EncoderDecoder(20, 15, 8, **SMALL, skip=skip))
    whole = model(tokens=TOKENS, decoder_tokens=TARGETS, mask=MASK)
    state = model.start(TOKENS, MASK)
    order = torch.tensor([2, 0, 1])
    for t in range(4):
        hidden, state = model.advance(TARGETS[:, t], state)
        torch.testing.assert_close(hidden, whole[:, t])
        if t == 1:
            turned = tuple(part.index_select(0, order) for part in state)
            hidden_turned, _ = model.advance(TARGETS[order, 2], turned)
            torch.testing.assert_close(hidden_turned, whole[order, 2])


def test_translation_is_independent_of_source_padding_and_does_not_look_ahead():
    model = awake(EncoderDecoder(20, 15, 8, **SMALL))
    whole = model(tokens=TOKENS, decoder_tokens=TARGETS, mask=MASK)
    alone = [model(TOKENS[i : i + 1, :n], TARGETS[i : i + 1]) for i, n in enumerate(LENGTHS)]
    torch.testing.assert_close(whole, torch.cat(alone))
    changed = TARGETS.clone()
    changed[:, 2:] = 14
    torch.testing.assert_close(model(TOKENS, changed, MASK)[:, :2], whole[:, :2])


def test_translation_reads_its_source():
    model = awake(EncoderDecoder(20, 15, 8, **SMALL))
    assert not torch.allclose(model(TOKENS, TARGETS, MASK), model(TOKENS.flip(0), TARGETS, MASK.flip(0)))


def test_sinusoidal_positions_are_their_formula():
    table = SinusoidalPositions(6, 9)(2, 7)
    assert table.shape == (5, 6)
    for t in range(2, 7):
        for i in range(3):
            angle = t / 10000 ** (2 * i / 6)
            assert table[t - 2, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-6)
            assert table[t - 2, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-6)
    assert SinusoidalPositions(5, 4)(0, 4).shape == (4, 5)


@pytest.mark.parametrize(
    "use",
    [
        lambda tokens: Encoder(20, 8, **SMALL)(tokens),
        lambda tokens: Decoder(20, 8, **SMALL)(tokens),
        lambda tokens: EncoderDecoder(20, 15, 8, **SMALL)(tokens, TARGETS),
        lambda tokens: EncoderDecoder(20, 15, 8, **SMALL)(TOKENS, tokens[:3]),
    ],
)
def test_longer_sequences_than_the_limit_are_refused(use):
    with pytest.raises(ValueError, match="at most max_length=16 tokens; got 17"):
        use(torch.full((3, 17), 4))


def test_generating_beyond_the_limit_is_refused():
    model = Decoder(20, 8, hidden=8, layers=1, heads=1, max_length=2)
    state = model.start(1)
    for _ in range(2):
        _, state = model.advance(torch.tensor([4]), state)
    with pytest.raises(ValueError, match="at most max_length=2 tokens; got 3"):
        model.advance(torch.tensor([4]), state)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layers": 0}, "at least 1; got 0, 12"),
        ({"hidden": 0}, "at least 1; got 2, 0"),
        ({"heads": 3}, "divide width; got 8, 3"),
        ({"dropout": 1.0}, r"must lie in \[0, 1\); got 1\.0"),
        ({"max_length": 0}, "at least 1; got 0"),
    ],
)
def test_transformer_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        Encoder(20, 8, **{**SMALL, **arguments})


def test_only_prenorm_ends_in_a_normalization():
    assert isinstance(Decoder(20, 8, **SMALL).stack.norm, nn.LayerNorm)
    assert isinstance(Decoder(20, 8, **SMALL, skip=Residual).stack.norm, nn.Identity)


def test_activation_is_the_one_given():
    model = Decoder(20, 8, **SMALL, activation=activations.silu)
    assert [type(block.activation) for block in model.stack.blocks] == [nn.SiLU, nn.SiLU]


def test_attention_says_where_all_layers_and_heads_look():
    model = awake(EncoderDecoder(20, 15, 8, **SMALL))
    looks = model.attention(TOKENS, TARGETS, MASK)
    torch.testing.assert_close(looks.sum(-1), torch.ones(3, 4, dtype=torch.float64))
    assert not looks.masked_select(~MASK[:, None, :].expand_as(looks)).any()
    # By hand, with what each cross-attention is given and gives.
    seen, shares = [], []
    crosses = [block.cross for block in model.decoder.blocks]
    hooks = [cross.register_forward_hook(lambda *each: seen.append(each)) for cross in crosses]
    model(TOKENS, TARGETS, MASK)
    for cross, (x, memory, mask), output in seen:
        values = cross.value(memory).view(3, 5, 2, 4)
        result = torch.zeros(3, 4, 2, 4, dtype=torch.float64)
        for head in range(2):
            queries, keys = (part.unflatten(-1, (2, 4))[..., head, :] for part in (cross.query(x), cross.key(memory)))
            scores = (queries @ keys.mT / 2.0).masked_fill(~mask[:, None, :], -torch.inf)
            shares.append(scores.softmax(-1))
            result[..., head, :] = shares[-1] @ values[..., head, :]
        torch.testing.assert_close(cross.output(result.flatten(2)), output)
    torch.testing.assert_close(looks, torch.stack(shares).mean(0))
    for hook in hooks:
        hook.remove()
    assert not any(cross._forward_pre_hooks for cross in crosses)
