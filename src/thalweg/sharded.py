"""Parameters divided among processes by PyTorch's FSDP2: each process holds some rows of every tensor.

All rows of a layer are on a process only while the layer computes. On one process nothing is divided, and everything
here returns what it is given.
"""

import contextlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, TypeVar, cast, final

import torch
from torch import Tensor, nn

from thalweg import distributed

Result = TypeVar("Result")
_NETWORK: Final = "_divided_network"  # where a model remembers what it is divided with
_TABLE: Final = "_is_table"
_kinds: Final[list[type]] = []  # of divided tensors: none until something is divided, so that others pay nothing


@final
class _Network(nn.Module):
    """Model and head as one module, so that what they share is gathered once, before either computes."""

    def __init__(self, model: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.model, self.head = model, head

    def forward(self, evaluate: Callable[[], Any]) -> Any:
        """Return what is computed with the parameters."""
        return evaluate()


def divide(model: nn.Module, head: nn.Module) -> None:
    """Divide the parameters of two networks, and the tables of theirs that are not trained, in place.

    The members of a `nn.ModuleList` are gathered one by one as they compute, all other parameters together. On several
    processes the gradients of these parameters are sums over all of them after each backward pass.
    """
    if not distributed.is_active():
        return
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, fully_shard
    from torch.distributed.tensor import DTensor

    _kinds[:] = [DTensor]
    network, tables = _Network(model, head), []
    for module in list(network.modules()):
        for name, buffer in list(module.named_buffers(recurse=False)):
            kept = name not in module._non_persistent_buffers_set
            if kept and buffer.dim() == 2 and buffer.is_floating_point():
                delattr(module, name)
                module.register_parameter(name, nn.Parameter(buffer, requires_grad=False))
                tables.append((module, name))
    # Nothing here changes an output in place, of which FSDP2 warns at each LSTM.
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor")
    device = next(network.parameters()).device.type
    mesh = init_device_mesh(device, (distributed.world_size(),))
    single = {parameter for parameter in network.parameters() if not parameter.dim()}  # which every process has
    layers = [part for module in network.modules() if isinstance(module, nn.ModuleList) for part in module]
    layers = [layer for layer in dict.fromkeys(layers) if any(True for _ in layer.parameters())]
    for part in (*reversed(layers), network):  # what is inside of another comes first
        one = cast(FSDPModule, fully_shard(part, mesh=mesh, ignored_params=single))
        one.set_gradient_divide_factor(1.0)
        one.set_force_sum_reduction_for_comms(True)  # gloo cannot multiply on the way
    for module, name in tables:
        setattr(getattr(module, name), _TABLE, True)
    vars(model)[_NETWORK] = network


def is_divided(tensor: object) -> bool:
    """Whether this is a tensor of which each process has some rows."""
    return isinstance(tensor, tuple(_kinds))


def any_divided(tensors: Iterable[object]) -> bool:
    """Whether each process has some rows only of one of these tensors; at once where nothing has been divided."""
    return bool(_kinds) and any(map(is_divided, tensors))


def own(tensor: Tensor) -> Tensor:
    """Return the rows that this process has, in the same memory."""
    return cast(Any, tensor).to_local() if is_divided(tensor) else tensor


def joined(tensor: Tensor) -> Tensor:
    """Return all rows; all processes must ask for them."""
    return cast(Any, tensor).full_tensor() if is_divided(tensor) else tensor


def added(numbers: Tensor, of: Sequence[Tensor]) -> Tensor:
    """Return a number for each tensor, `[n]`, those of divided ones added up over all processes by one message."""
    if not any_divided(of):
        return numbers
    divided = [is_divided(tensor) for tensor in of]
    total = distributed.sum_over_ranks([numbers])[0]
    return total if all(divided) else torch.where(torch.tensor(divided, device=total.device), total, numbers)


def is_table(parameter: Tensor) -> bool:
    """Whether this has become a parameter only to be divided: a table that is not trained."""
    return getattr(parameter, _TABLE, False)


def share_of(num_rows: int, like: Tensor) -> tuple[int, int]:
    """Return which of so many rows this process has where they are divided as those of a tensor: from, and up to."""
    mesh = cast(Any, like).device_mesh
    each = -(-num_rows // mesh.size())
    first = min(mesh.get_local_rank() * each, num_rows)
    return first, min(first + each, num_rows)


def of_rows(rows: Tensor, shape: torch.Size, like: Tensor) -> Tensor:
    """Return a tensor of this shape, divided as another is, of which these are the rows of this process."""
    from torch.distributed.tensor import DTensor

    one = cast(Any, like)
    stride = torch.empty(shape, device="meta").stride()
    placed = rows.contiguous().to(one.to_local().device)
    return DTensor.from_local(placed, one.device_mesh, one.placements, run_check=False, shape=shape, stride=stride)


def divided_as(tensor: Tensor, like: Tensor) -> Tensor:
    """Return a tensor, of which every process has all rows, divided as another is."""
    first, end = share_of(len(tensor), like)
    return of_rows(tensor[first:end], tensor.shape, like)


def put(tensor: Tensor, rows: Tensor) -> None:
    """Write all rows, which every process has, into a tensor that may be divided."""
    with torch.no_grad():
        if is_divided(tensor):
            first, end = share_of(len(tensor), tensor)
            own(tensor).copy_(rows[first:end])
        else:
            tensor.copy_(rows)


def computing(model: nn.Module, evaluate: Callable[[], Result]) -> Result:
    """Return what `evaluate()` returns; it may compute with the model and the head that it is divided with."""
    network = vars(model).get(_NETWORK)
    return evaluate() if network is None else cast(Result, network(evaluate))


@contextlib.contextmanager
def whole(model: nn.Module) -> Iterator[None]:
    """Return a block in which every process has all parameters of a model and its head, and no message is needed."""
    network = vars(model).get(_NETWORK)
    if network is None:
        yield
        return
    from torch.distributed.fsdp import FSDPModule

    parts = [module for module in network.modules() if isinstance(module, FSDPModule)]
    network(lambda: None)  # the first call of all decides what belongs together
    for part in parts:
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    try:
        yield
    finally:
        for part in parts:
            part.set_reshard_after_forward(part is not network, recurse=False)
            part.reshard()
