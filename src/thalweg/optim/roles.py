"""What each parameter is, by the type of the module that owns it: matrix, embedding, output layer, or vector."""

import dataclasses
from typing import final

from torch import nn

EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)


@final
@dataclasses.dataclass(frozen=True)
class Roles:
    """The trainable parameters of a model and its head, each in one list.

    Args:
        matrices: weights with at least two dimensions inside the model.
        output: weights with at least two dimensions of the head.
        embeddings: tables of vectors, one for each id; with tied weights the output layer's too.
        vectors: biases, scales, everything with fewer than two dimensions.
    """

    matrices: list[nn.Parameter]
    output: list[nn.Parameter]
    embeddings: list[nn.Parameter]
    vectors: list[nn.Parameter]

    def all(self) -> list[nn.Parameter]:
        """Return every parameter once."""
        return [*self.matrices, *self.output, *self.embeddings, *self.vectors]


def roles_of(model: nn.Module, head: nn.Module) -> Roles:
    """Return the trainable parameters sorted by role.

    A parameter with several owners is an embedding if one of them is. Where the output layer is inside the model (and
    the head has no parameters) it is a matrix like the others: nothing tells it apart.

    Args:
        model: the network up to its hidden states.
        head: the output layer.

    Example:
        >>> roles = roles_of(nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 4)), nn.Linear(4, 2))
        >>> [tuple(p.shape) for p in roles.matrices + roles.output]
        [(4, 4), (2, 4)]
        >>> [tuple(p.shape) for p in roles.embeddings + roles.vectors]
        [(10, 4), (4,), (2,)]
    """
    tables = {
        id(parameter)
        for part in (model, head)
        for module in part.modules()
        if isinstance(module, EMBEDDINGS)
        for parameter in module.parameters(recurse=False)
    }
    roles = Roles([], [], [], [])
    seen: set[int] = set()
    for part, matrices in ((model, roles.matrices), (head, roles.output)):
        for parameter in part.parameters():
            if id(parameter) in seen or not parameter.requires_grad:
                continue
            seen.add(id(parameter))
            if id(parameter) in tables:
                roles.embeddings.append(parameter)
            else:
                (matrices if parameter.dim() >= 2 else roles.vectors).append(parameter)
    return roles
