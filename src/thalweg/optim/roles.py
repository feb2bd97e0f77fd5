"""What each parameter of a model is, from the types of the modules that own it."""

import dataclasses
from collections.abc import Iterator
from typing import Any, final

from torch import nn

from thalweg.errors import InputError
from thalweg.models.transformer import LearnedPositions
from thalweg.optim.layout import Layout

# Tables of vectors, one for each id or position.
TABLES = (nn.Embedding, nn.EmbeddingBag, LearnedPositions)
VOCABULARY = 4096  # a matrix with a longer axis, and more than 8 times the other, is an output layer that nobody named
GATES = {nn.LSTM: 4, nn.LSTMCell: 4, nn.GRU: 3, nn.GRUCell: 3, nn.RNN: 1, nn.RNNCell: 1}


@final
@dataclasses.dataclass(frozen=True)
class Roles:
    """The trainable parameters of a model and its head, each in one list.

    Args:
        matrices: weights with at least two dimensions inside the model.
        output: weights with at least two dimensions of the head.
        embeddings: tables of vectors, one for each id or position; with tied weights the output layer's too.
        norms: scales and shifts of normalization layers.
        biases: everything else with fewer than two dimensions.
        pieces: of the weights that hold several matrices one below the other, how many, by `id`: the gates of a
            recurrent layer, the packed projections of `nn.MultiheadAttention`, the groups of a convolution.
        transposed: the weights that are `[inputs, outputs]`, by `id`: those of Hugging Face's `Conv1D`.
    """

    matrices: list[nn.Parameter]
    output: list[nn.Parameter]
    embeddings: list[nn.Parameter]
    norms: list[nn.Parameter]
    biases: list[nn.Parameter]
    pieces: dict[int, int] = dataclasses.field(default_factory=dict)
    transposed: frozenset[int] = frozenset()

    @property
    def vectors(self) -> list[nn.Parameter]:
        """Norms and biases."""
        return [*self.norms, *self.biases]

    def all(self) -> list[nn.Parameter]:
        """Return every parameter once."""
        return [*self.matrices, *self.output, *self.embeddings, *self.norms, *self.biases]


def roles_of(model: nn.Module, head: nn.Module | None = None) -> Roles:
    """Return the trainable parameters sorted by role.

    A parameter with several owners is an embedding if one of them is. An output layer inside the model is known where
    the model names it, as those of Hugging Face do (`get_output_embeddings`); else it is a matrix like the others.

    Args:
        model: the network up to its hidden states, or all of it.
        head: the output layer; None: inside the model, or there is none.

    Example:
        >>> roles = roles_of(nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 4), nn.LayerNorm(4)), nn.Linear(4, 2))
        >>> [tuple(p.shape) for p in roles.matrices + roles.output]
        [(4, 4), (2, 4)]
        >>> [tuple(p.shape) for p in roles.embeddings + roles.norms + roles.biases]
        [(10, 4), (4,), (4,), (4,), (2,)]
    """
    parts = [model] if head is None else [model, head]
    modules = [module for part in parts for module in part.modules()]
    tables = _owned(modules, TABLES)
    norms = {id(p) for module in modules if "Norm" in type(module).__name__ for p in module.parameters(recurse=False)}
    outputs = {id(p) for part in parts[1:] for p in part.parameters()} | _named_output(model)
    layouts = [(id(p), pieces, turned) for module in modules for p, pieces, turned in _layouts(module)]
    roles = Roles(
        [], [], [], [], [],
        {key: pieces for key, pieces, _ in layouts if pieces > 1},
        frozenset(key for key, _, turned in layouts if turned),
    )  # fmt: skip
    seen: set[int] = set()
    for parameter in (parameter for part in parts for parameter in part.parameters()):
        key = id(parameter)
        if key in seen or not parameter.requires_grad:
            continue
        seen.add(key)
        if key in tables:
            roles.embeddings.append(parameter)
        elif key in norms:
            roles.norms.append(parameter)
        elif parameter.dim() < 2:
            roles.biases.append(parameter)
        else:
            (roles.output if key in outputs else roles.matrices).append(parameter)
    return roles


def parameter_groups(
    model: nn.Module | Roles,
    head: nn.Module | None = None,
    *,
    weight_decay: float = 0.01,
    companion_lr: float | None = None,
    takes_output: bool = False,
) -> list[dict[str, Any]]:
    """Return groups of a model's parameters for `SOAP`, `Shampoo`, `PolarMuon` and `NorMuon`, by their roles.

    Matrices inside the model are stepped as such, gates and packed projections apart; embeddings, the output layer,
    norms and biases by AdamW, and so are matrices as long as a vocabulary and narrow, or of a single row or column.
    Weight decay applies to matrices and the output layer only.

    Args:
        model: the network, or its roles from `roles_of`.
        head: the output layer, if it is no part of the model.
        weight_decay: of the weights that decay, not negative.
        companion_lr: rate of what is no matrix; None: that of the optimizer.
        takes_output: whether an output layer with at most 1,024 outputs is stepped as a matrix, too, which suits SOAP
            and Shampoo. Where the model has no matrices inside, it is in any case.

    Raises:
        InputError: there is nothing to train.

    Example:
        >>> from thalweg.optim import SOAP
        >>> model = nn.Sequential(nn.Embedding(10, 4), nn.LSTM(4, 6))
        >>> groups = parameter_groups(model, nn.Linear(6, 2))
        >>> [(group["matrix"], group["pieces"], len(group["params"])) for group in groups]
        [(True, 4, 2), (False, 1, 1), (False, 1, 4)]
        >>> optimizer = SOAP(groups, lr=3e-3)
    """
    roles = model if isinstance(model, Roles) else roles_of(model, head)
    if not roles.all():
        raise InputError("There is nothing to train: neither model nor head has a parameter with requires_grad.")
    whole: dict[tuple[int, bool], list[nn.Parameter]] = {}
    rest = []
    for parameter in roles.matrices:
        pieces, turned = roles.pieces.get(id(parameter), 1), id(parameter) in roles.transposed
        sizes = sorted(Layout(parameter.shape, pieces, turned).matrix)
        is_table = sizes[1] > VOCABULARY and sizes[1] > 8 * sizes[0]
        (whole.setdefault((pieces, turned), []) if sizes[0] >= 2 and not is_table else rest).append(parameter)
    for parameter in roles.output:
        as_matrix = (takes_output and max(parameter.shape) <= 1024) or not roles.matrices
        (whole.setdefault((1, False), []) if as_matrix and min(parameter.shape) >= 2 else rest).append(parameter)
    groups: list[dict[str, Any]] = [
        {"params": found, "matrix": True, "pieces": pieces, "transposed": turned, "weight_decay": weight_decay}
        for (pieces, turned), found in sorted(whole.items(), key=lambda item: item[0])
    ]
    for found, decay in ((rest, weight_decay), ([*roles.embeddings, *roles.vectors], 0.0)):
        other: dict[str, Any] = {"params": found, "matrix": False, "pieces": 1, "weight_decay": decay}
        groups.append(other if companion_lr is None else other | {"lr": companion_lr})
    return [group for group in groups if group["params"]]


def _owned(modules: list[nn.Module], kinds: tuple[type[nn.Module], ...]) -> set[int]:
    return {id(p) for module in modules if isinstance(module, kinds) for p in module.parameters(recurse=False)}


def _named_output(model: nn.Module) -> set[int]:
    """The parameters of the output layer that a Hugging Face model names."""
    name = getattr(model, "get_output_embeddings", None)
    layer = name() if callable(name) else None
    return {id(parameter) for parameter in layer.parameters()} if isinstance(layer, nn.Module) else set()


def _layouts(module: nn.Module) -> Iterator[tuple[nn.Parameter, int, bool]]:
    """The weights of a layer that are not one matrix `[outputs, inputs]`, with their pieces and whether transposed."""
    if isinstance(module, nn.RNNBase | nn.RNNCellBase):
        for name, parameter in module.named_parameters(recurse=False):
            if name.startswith(("weight_ih", "weight_hh")):
                yield parameter, GATES.get(type(module), 1), False
    elif isinstance(module, nn.MultiheadAttention):
        packed = module.in_proj_weight
        if isinstance(packed, nn.Parameter):
            yield packed, 3, False
    elif isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        for parameter in (p for p in module.parameters(recurse=False) if p.dim() > 2):
            yield parameter, module.groups, False
    elif type(module).__module__ == "transformers.pytorch_utils" and type(module).__name__ == "Conv1D":
        for parameter in (p for p in module.parameters(recurse=False) if p.dim() > 1):
            yield parameter, 1, True
