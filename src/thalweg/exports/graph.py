"""What an export is made of: a network with named inputs and outputs, and examples of what it must answer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
from torch import Tensor, nn

BATCH, LENGTH = "batch", "length"


@final
@dataclass(frozen=True)
class Port:
    """An input or an output.

    Args:
        name: what it is called.
        kind: "int64", "bool", "float32" or "float64".
        shape: numbers, and the names of dimensions that may have any size.
        meaning: what it holds, as a sentence.
    """

    name: str
    kind: str
    shape: tuple[str | int, ...]
    meaning: str

    @property
    def text(self) -> str:
        """It in one line.

        Example:
            >>> Port("tokens", "int64", ("batch", "length"), "Ids of words.").text
            'tokens: int64 [batch, length]. Ids of words.'
        """
        return f"{self.name}: {self.kind} [{', '.join(map(str, self.shape))}]. {self.meaning}"


@final
@dataclass(frozen=True)
class Example:
    """Inputs, and what the run itself answers to them.

    Args:
        feeds: arrays by the names of the inputs.
        answer: of the only output.
        counts: True where an answer counts (not at padding), in the first dimensions of `answer`; None: everywhere.
    """

    feeds: Mapping[str, np.ndarray]
    answer: np.ndarray
    counts: np.ndarray | None = None


@final
@dataclass(frozen=True)
class Graph:
    """A network as it is exported.

    Args:
        network: called with its inputs in their order, gives the output.
        inputs: what it reads.
        output: what it gives.
        examples: at least one, of the largest sizes first: the network is traced on it.
        about: what else is known, as plain data for `model.json`.
        reading: how text or numbers become inputs, as sentences.
        files: contents of other files that reading needs, by name.
        most: largest sizes of dimensions, by name.
    """

    network: nn.Module
    inputs: tuple[Port, ...]
    output: Port
    examples: tuple[Example, ...]
    about: Mapping[str, Any]
    reading: tuple[str, ...]
    files: Mapping[str, bytes] = field(default_factory=dict)
    most: Mapping[str, int] = field(default_factory=dict)

    @property
    def largest(self) -> dict[str, int]:
        """The largest sizes of the dimensions that there are."""
        return {size: self.most[size] for port in self.inputs for size in port.shape if size in self.most}  # type: ignore[index]


@final
class OneText(nn.Module):
    """A model under a head, for one text of each example: `answer(head(model(tokens, second)))`.

    Args:
        model: the model.
        head: the output layer.
        second: the name of the model's second input; "" for a model without one.
        answer: from what the head says to the answer.
    """

    def __init__(self, model: nn.Module, head: nn.Module, second: str, answer: nn.Module) -> None:
        super().__init__()
        self.model, self.head, self.answer = model, head, answer
        self.second = second

    def forward(self, tokens: Tensor, second: Tensor | None = None) -> Tensor:
        """Return the answers, the batch first."""
        more = {} if second is None else {self.second: second}
        return self.answer(self.head(self.model(tokens=tokens, **more)))


@final
class TwoTexts(nn.Module):
    """The same for models that read two texts of each example."""

    def __init__(self, model: nn.Module, head: nn.Module, second: str, answer: nn.Module) -> None:
        super().__init__()
        self.model, self.head, self.answer = model, head, answer
        self.second = second

    def forward(self, tokens: Tensor, second: Tensor, other_tokens: Tensor, other_second: Tensor) -> Tensor:
        """Return the answers, the batch first."""
        inputs = {"tokens": tokens, self.second: second}
        others = {"other_tokens": other_tokens, f"other_{self.second}": other_second}
        return self.answer(self.head(self.model(**inputs, **others)))


@final
class Translating(nn.Module):
    """The same for a source text with its mask, and what has been written of the target."""

    def __init__(self, model: nn.Module, head: nn.Module, answer: nn.Module) -> None:
        super().__init__()
        self.model, self.head, self.answer = model, head, answer

    def forward(self, tokens: Tensor, mask: Tensor, decoder_tokens: Tensor) -> Tensor:
        """Return the answers, the batch first."""
        return self.answer(self.head(self.model(tokens=tokens, mask=mask, decoder_tokens=decoder_tokens)))


@final
class PaddedBag(nn.Module):
    """A bag of features that reads rectangles: every text has as many features, those of weight 0 among them.

    Args:
        table: vectors of features, `[features, width]`.
        bias: added to the sum, `[width]`; None for none.
        body: network on the sum; None for none.
    """

    def __init__(self, table: Tensor, bias: Tensor | None, body: nn.Module | None) -> None:
        super().__init__()
        self.table = nn.Parameter(table.detach().clone(), requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone(), requires_grad=False)
        self.body = body
        self.width = table.shape[1]

    def forward(self, tokens: Tensor, weights: Tensor) -> Tensor:
        """Return hidden states `[batch, width]` for features `[batch, length]` with weights `[batch, length]`."""
        hidden = (weights.unsqueeze(1) @ nn.functional.embedding(tokens, self.table)).squeeze(1)
        hidden = hidden if self.bias is None else hidden + self.bias
        return hidden if self.body is None else self.body(hidden)


@final
class Probabilities(nn.Module):
    """From logits to probabilities: of classes that exclude one another, or each by itself."""

    def __init__(self, *, several: bool) -> None:
        super().__init__()
        self.several = several

    def forward(self, logits: Tensor) -> Tensor:
        """Return probabilities of the shape of the logits."""
        return logits.sigmoid() if self.several else logits.softmax(-1)


@final
class InUnits(nn.Module):
    """From scaled numbers to numbers in their own unit, between the ends of a span.

    Args:
        scale: what one scaled number is worth.
        shift: the number that 0 stands for.
        span: smallest and largest number.
    """

    def __init__(self, scale: float, shift: float, span: tuple[float, float]) -> None:
        super().__init__()
        self.scale, self.shift, self.span = scale, shift, span

    def forward(self, scaled: Tensor) -> Tensor:
        """Return float64 `[batch]` for scaled numbers `[batch, 1]`."""
        return (scaled.squeeze(-1).double() * self.scale + self.shift).clamp(*self.span)
