"""Recurrent networks against PyTorch's packed sequences, and step by step against all at once."""

import pytest
import torch
from torch import nn

from thalweg.models import pool
from thalweg.models.recurrent import Recurrent, RecurrentStack, RecurrentWindow
from thalweg.models.skips import Highway, NoSkip, PreNorm, Residual, ReZero

LENGTHS = [5, 2, 4]
TOKENS = torch.tensor([[4, 5, 6, 7, 8], [9, 10, 0, 0, 0], [11, 12, 13, 14, 0]])
MASK = TOKENS != 0
CELLS = pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU])


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@CELLS
@pytest.mark.parametrize("bidirectional", [False, True])
def test_stack_is_pytorchs_packed_network(cell, bidirectional):
    stack = RecurrentStack(4, 6, cell=cell, layers=3, bidirectional=bidirectional).double()
    reference = cell(4, 6, num_layers=3, batch_first=True, bidirectional=bidirectional).double()
    with torch.no_grad():
        for suffix, cells in {"": stack.forward_cells, "_reverse": stack.backward_cells}.items():
            for i, layer in enumerate(cells):
                for name, parameter in layer.named_parameters():
                    parameter.normal_(std=0.5)
                    reference.get_parameter(f"{name[:-1]}{i}{suffix}").copy_(parameter)
    x = torch.randn(3, 5, 4, dtype=torch.float64)
    packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor(LENGTHS), batch_first=True, enforce_sorted=False)
    expected, _ = nn.utils.rnn.pad_packed_sequence(reference(packed)[0], batch_first=True)
    torch.testing.assert_close(stack(x, MASK), expected)
    torch.testing.assert_close(stack(x), reference(x)[0])


@CELLS
@pytest.mark.parametrize(
    ("skip", "pooling"), [(NoSkip, pool.both_ends), (Residual, pool.mean), (PreNorm, pool.last), (NoSkip, pool.maximum)]
)
def test_a_text_alone_gets_the_hidden_state_it_has_in_a_padded_batch(cell, skip, pooling):
    model = Recurrent(20, 4, cell=cell, hidden=6, layers=2, bidirectional=True, pooling=pooling, skip=skip).double()
    alone = [model(TOKENS[i : i + 1, :length]) for i, length in enumerate(LENGTHS)]
    torch.testing.assert_close(model(TOKENS, MASK), torch.cat(alone))
    garbage = TOKENS.masked_fill(~MASK, 17)
    torch.testing.assert_close(model(garbage, MASK), torch.cat(alone))


@CELLS
@pytest.mark.parametrize("skip", [NoSkip, Highway, ReZero, PreNorm])
def test_steps_equal_the_whole(cell, skip):
    model = Recurrent(20, 4, cell=cell, hidden=6, layers=3, skip=skip).double().eval()
    state = model.start(3)
    steps = []
    for column in TOKENS.T:
        hidden, state = model.advance(column, state)
        steps.append(hidden)
    torch.testing.assert_close(torch.stack(steps, 1), model(TOKENS))
    assert all(part.shape[0] == 3 for part in state)


def test_a_later_token_does_not_change_earlier_states():
    model = Recurrent(20, 4, hidden=6, layers=2).double()
    changed = TOKENS.clone()
    changed[:, 3] = 19
    before, after = model(TOKENS), model(changed)
    assert torch.equal(before[:, :3], after[:, :3])
    assert not torch.equal(before[:, 3], after[:, 3])


def test_a_network_in_both_directions_cannot_generate():
    with pytest.raises(ValueError, match="bidirectional=False"):
        Recurrent(20, 4, hidden=6, bidirectional=True).start(2)


def test_forget_gates_start_at_one_and_all_other_biases_at_zero():
    lstm = Recurrent(20, 4, hidden=3).stack.forward_cells[0]
    expected = torch.tensor([0.0] * 3 + [1.0] * 3 + [0.0] * 6)
    assert torch.equal(lstm.bias_ih_l0, expected)
    assert torch.count_nonzero(lstm.bias_hh_l0) == 0
    gru = Recurrent(20, 4, hidden=3, cell=nn.GRU).stack.forward_cells[0]
    assert torch.count_nonzero(gru.bias_ih_l0) == 0


def test_window_gives_the_last_state():
    model = RecurrentWindow(2, hidden=5, layers=2).double()
    features = torch.randn(4, 7, 2, dtype=torch.float64)
    hidden = model(features)
    assert hidden.shape == (4, 5)
    torch.testing.assert_close(hidden, model.stack(features)[:, -1])
    later = features.clone()
    later[:, -1] += 1
    assert not torch.equal(model(later), hidden)


def test_dropout_acts_in_training_only():
    model = Recurrent(20, 4, hidden=6, layers=2, dropout=0.5)
    assert not torch.equal(model(TOKENS), model(TOKENS))
    model.eval()
    assert torch.equal(model(TOKENS), model(TOKENS))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hidden": 0}, "at least 1; got 4, 0, 1"),
        ({"hidden": 3, "layers": 0}, "at least 1; got 4, 3, 0"),
        ({"hidden": 3, "dropout": -0.1}, r"must lie in \[0, 1\); got -0\.1"),
    ],
)
def test_recurrent_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        Recurrent(20, 4, **arguments)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_an_lstm_reads_where_the_processor_has_no_bfloat16(bidirectional):
    x = torch.randn(2, 4, 3)
    stack = RecurrentStack(3, 4, bidirectional=bidirectional)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = stack(x.bfloat16())
    outputs.float().sum().backward()
    assert torch.allclose(outputs.float(), stack(x.bfloat16().float()), atol=0.03)
    if not bidirectional:
        with torch.autocast("cpu", torch.bfloat16):
            states, _ = stack.run(x, stack.start(x.bfloat16(), 2))
        assert torch.allclose(states.float(), stack(x), atol=0.03)
