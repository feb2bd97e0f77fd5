"""LSTM and GRU layers as single nodes of an ONNX graph, where the exporter would write out every step of one length."""

import functools
from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn

# Where ONNX's gates stand among PyTorch's: input, output, forget, cell of i, f, g, o; update, reset, new of r, z, n.
_GATES: Final = {nn.LSTM: (0, 3, 1, 2), nn.GRU: (1, 0, 2)}


def as_nodes(network: nn.Module) -> None:
    """Make every LSTM and GRU layer of a network, of which each has one direction, a node; in place.

    From then on the network can be traced, and computes nothing.
    """
    for cell in network.modules():
        gates = _GATES.get(type(cell))  # type: ignore[arg-type]
        if gates is not None:
            assert isinstance(cell, nn.RNNBase)
            assert cell.num_layers == 1
            assert cell.batch_first
            for name, tensor in _weights(cell, gates).items():
                cell.register_buffer(name, tensor)
            cell.forward = functools.partial(_node, cell)  # type: ignore[method-assign]


def _weights(cell: nn.RNNBase, gates: Sequence[int]) -> dict[str, Tensor]:
    def arranged(tensor: Any) -> Tensor:
        return torch.cat([tensor.detach().chunk(len(gates))[gate] for gate in gates]).unsqueeze(0)

    biases = torch.cat([arranged(cell.bias_ih_l0), arranged(cell.bias_hh_l0)], 1)
    return {"node_w": arranged(cell.weight_ih_l0), "node_r": arranged(cell.weight_hh_l0), "node_b": biases}


def _node(cell: Any, inputs: Tensor, before: Any = None) -> tuple[Tensor, Any]:
    """Return outputs `[batch, time, hidden]` and the state after them, as PyTorch's layer does."""
    batch, time, _ = inputs.shape
    hidden, is_lstm = cell.hidden_size, isinstance(cell, nn.LSTM)
    states: tuple[Tensor | None, ...] = (None,) * (1 + is_lstm)
    if before is not None:
        states = before if is_lstm else (before,)
    after = [(1, batch, hidden)] * (1 + is_lstm)
    attributes: dict[str, Any] = {"hidden_size": hidden} | ({} if is_lstm else {"linear_before_reset": 1})
    outputs, *ends = torch.onnx.ops.symbolic_multi_out(
        "LSTM" if is_lstm else "GRU",
        [inputs.transpose(0, 1), cell.node_w, cell.node_r, cell.node_b, None, *states],
        attributes,
        dtypes=[inputs.dtype] * (1 + len(after)),
        shapes=[(time, 1, batch, hidden), *after],
    )
    return outputs.squeeze(1).transpose(0, 1), tuple(ends) if is_lstm else ends[0]
