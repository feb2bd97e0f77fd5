"""Kronecker factors of the Gauss-Newton matrix, layer by layer, and their damped inverse."""

import dataclasses
import enum
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor
from torch.autograd.graph import get_gradient_edge

from thalweg import distributed, noise, vectors
from thalweg.batch import Batch
from thalweg.curvature.layers import AbstractUse, DenseUse, TableUse, layer_uses
from thalweg.curvature.operators import require_real
from thalweg.errors import require
from thalweg.objective import Objective
from thalweg.vectors import Vector

MAX_SIDE = 2048  # a full factor of more rows takes seconds to decompose
MOST_SAMPLES = 10_000  # random passes an estimate


class Sharing(enum.Enum):
    """What a layer's factors make of the positions of an example, such as the tokens of a text.

    Args:
        EXPAND: each position is an example of its own: right where each has a loss of its own, as in a language model.
        REDUCE: an example's inputs are averaged and its slopes added up: right where one loss follows from the
            positions' mean or sum, as in a classifier of texts.

    Source: Eschenhagen and others, "Kronecker-Factored Approximate Curvature for Modern Neural Network Architectures"
    (2023).
    """

    EXPAND = enum.auto()
    REDUCE = enum.auto()


@final
@dataclasses.dataclass(frozen=True, eq=False)
class Block:
    r"""The Gauss-Newton matrix of one layer's parameters as a Kronecker product, $L \otimes R$.

    The parameters, a weight and perhaps a bias as its last column, form a matrix X; the product with them is $L X R$.

    Args:
        members: positions of the parameters.
        left: L, `[m, m]`, or its diagonal `[m]`.
        right: R, `[n, n]`, or its diagonal `[n]`.
    """

    members: tuple[int, ...]
    left: Tensor
    right: Tensor

    @staticmethod
    def unpacked(packed: dict[str, Any]) -> "Block":
        """Return what `packed` was made of."""
        return Block(tuple(packed["members"]), packed["left"], packed["right"])

    def packed(self) -> dict[str, Any]:
        """Return it as tensors and plain values, such as a saved file can hold."""
        return {"members": list(self.members), "left": self.left, "right": self.right}

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the matrix of parameters."""
        return len(self.left), len(self.right)

    @property
    def diagonal(self) -> Tensor:
        """The diagonal of the product, as the matrix of parameters."""
        sides = [side.diagonal() if side.dim() == 2 else side for side in (self.left, self.right)]
        return torch.outer(*sides)


def matrix_of(shape: tuple[int, int], tensors: Vector) -> Tensor:
    """Return a block's parameters, or what has their shapes, as its matrix; the inverse of `parts_of`."""
    rows, columns = shape
    if columns == 1:
        return torch.cat([tensor.reshape(-1) for tensor in tensors]).reshape(rows, 1)
    first = tensors[0].reshape(rows, -1)
    return first if len(tensors) == 1 else torch.cat([first, tensors[1].reshape(rows, 1)], 1)


def parts_of(matrix: Tensor, like: Vector) -> list[Tensor]:
    """Return a block's matrix as tensors of the shapes of its parameters."""
    if len(like) == 1:
        return [matrix.reshape(like[0].shape)]
    if matrix.shape[1] == 1:
        return [p.reshape(t.shape) for p, t in zip(matrix.split([t.numel() for t in like]), like, strict=True)]
    return [matrix[:, :-1].reshape(like[0].shape), matrix[:, -1].reshape(like[1].shape)]


@final
class _Sums:
    """What the uses of one layer add up to before anything is divided."""

    def __init__(self, use: AbstractUse, like: Tensor, max_side: int) -> None:
        self.members, self.transposed = use.members, use.transposed
        full = use.outputs <= max_side
        self.outputs = like.new_zeros((use.outputs, use.outputs) if full else (use.outputs,))
        dense = isinstance(use, DenseUse) and use.rows is not None and use.inputs <= max_side
        self.inputs = like.new_zeros((use.inputs, use.inputs) if dense else (use.inputs,))
        self.num_rows = like.new_zeros(())

    def add(self, use: AbstractUse, slopes: Sequence[Tensor], sharing: Sharing, num_examples: int) -> None:
        rows = None
        if isinstance(use, DenseUse):
            real = _real(slopes)
            slopes = [use.output_rows(slope) for slope in slopes]
            rows = use.input_rows()
            by_example = slopes[0].dim() > 2 and len(slopes[0]) == num_examples
            # With a 1 for each input the sum over positions is the whole gradient.
            if by_example and (rows is None or sharing is Sharing.REDUCE):
                slopes = [slope.flatten(1, -2).sum(1) for slope in slopes]
                if rows is not None:
                    weights = real.to(rows.dtype)
                    weights = weights / weights.flatten(1).sum(1).clamp(min=1.0).reshape(-1, *(1,) * (real.dim() - 1))
                    rows = (rows * weights.unsqueeze(-1)).flatten(1, -2).sum(1)
                real = real.flatten(1).any(1)
            real = real.reshape(-1)
            self.num_rows += real.sum()
            if rows is None:
                self.inputs += real.sum()
            else:
                rows = rows.reshape(-1, rows.shape[-1]).to(self.inputs)
                _add_products(self.inputs, rows * real.unsqueeze(1).to(rows))
        elif isinstance(use, TableUse):
            real = _real(slopes).reshape(-1)
            used = real if use.places is None else real.index_select(0, use.places)
            factors = used.to(self.inputs) if use.factors is None else used * use.factors.to(self.inputs).square()
            self.inputs.index_add_(0, use.ids, factors)
            self.num_rows += real.sum() if use.places is not None else (factors != 0.0).sum()
        for slope in slopes:
            _add_products(self.outputs, slope.reshape(-1, slope.shape[-1]).to(self.outputs))


def _real(slopes: Sequence[Tensor]) -> Tensor:
    """Return which rows the loss depends on: padding has slopes of exactly zero, and must not count."""
    found = (slopes[0] != 0.0).any(-1)
    for slope in slopes[1:]:
        found = found | (slope != 0.0).any(-1)
    return found


def _add_products(factor: Tensor, rows: Tensor) -> None:
    if factor.dim() == 2:
        factor.addmm_(rows.T, rows)
    else:
        factor += rows.square().sum(0)


def kronecker_factors(
    objective: Objective,
    parameters: Sequence[Tensor],
    *,
    num_samples: int | None = None,
    seed: int = 0,
    sharing: Sharing = Sharing.EXPAND,
    max_side: int = MAX_SIDE,
) -> list[Block]:
    r"""Return the blocks of K-FAC's approximation of the Gauss-Newton matrix, without the penalty.

    With the input $a_r$ of a layer in row r (a 1 appended where there is a bias), the columns $s_k$ of the root of the
    head's curvature and the slopes $\delta_{rk} = J_r^\top s_k$ at the layer's output,

    $$L = \frac1n \sum_{r, k} \delta_{rk} \delta_{rk}^\top, \qquad R = \frac{1}{|r|} \sum_r a_r a_r^\top$$

    with the objective's count n, over all rows on which the loss depends (padding has slopes of zero). So it is the
    curvature of any head, whatever its family.

    - **Linear layers**, whoever calls them (attention's projections, tied output layers): as above.
    - **Tables** (embeddings, bags): inputs are unit vectors, and R (here on the left) the tokens' frequencies.
    - **Normalizations**: the full matrix of scale and shift together; likewise of a bias alone.
    - A parameter of **two layers** (an embedding tied to the output layer) gets the one product that has the same
      partial traces as the sum of theirs.
    - **All else** (recurrent layers, `nn.MultiheadAttention`, masks): a diagonal, from the squares of the whole
      $J^\top S \varepsilon$.

    Args:
        objective: the function.
        parameters: those whose blocks are wanted.
        num_samples: of random signs $\varepsilon$ in place of the columns, at least 1; None: each column by itself, one
            backward pass an output, with a random sign for each target. That leaves no noise in layers that see one row
            for each example.
        seed: of the signs.
        sharing: what positions are.
        max_side: a factor of more rows is a diagonal.

    Returns:
        Blocks of float32 or float64 tensors; each parameter in one of them.

    Example:
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> objective = Objective(model, torch.nn.MSELoss(), torch.tensor([[3.0, 4.0]]), torch.zeros(1, 1))
        >>> (block,) = kronecker_factors(objective, objective.parameters)
        >>> torch.kron(block.left, block.right).round()  # 2 x x^T, exact for one example
        tensor([[18., 24.],
                [24., 32.]])

    Source: Martens and Grosse, "Optimizing Neural Networks with Kronecker-factored Approximate Curvature" (2015).
    """
    require_real(list(parameters))
    like = _like(parameters)
    sums: dict[tuple[tuple[int, ...], bool], _Sums] = {}
    whole = WholeSlopes(parameters, like.dtype)
    count = like.new_zeros(())
    for seen, slopes, others in passes(objective, parameters, num_samples, seed):
        count += seen.count
        for use, found in zip(seen.uses, slopes, strict=True):
            key = use.members, use.transposed
            sums.setdefault(key, _Sums(use, like, max_side)).add(use, found, sharing, len(seen.prediction))
        whole.add(others)
    within = {i for members, _ in sums for i in members}
    rest = [i for i in range(len(parameters)) if i not in within]
    found = [*sums.values()]
    raw = [tensor for each in found for tensor in (each.outputs, each.inputs, each.num_rows)]
    raw = distributed.sum_over_ranks([*raw, count])
    divisor = objective.head.divisor(raw[-1]) * (num_samples or 1)
    pairs: dict[int, list[tuple[tuple[int, ...], Tensor, Tensor]]] = {}
    for i, each in enumerate(found):
        outputs, inputs, num_rows = raw[3 * i : 3 * i + 3]
        left, right = outputs / divisor, inputs / num_rows.clamp(min=1.0)
        pair = (each.members, right, left) if each.transposed else (each.members, left, right)
        pairs.setdefault(each.members[0], []).append(pair)
    blocks = [block for several in pairs.values() for block in _merged(several)]
    one = like.new_ones(1)
    return blocks + [Block((i,), whole.squares(i).reshape(-1) / divisor, one) for i in rest]


def require_samples(name: str, num_samples: int | None) -> None:
    """Refuse a number of random passes that is none, or with which a step would not end."""
    fits = num_samples is None or 1 <= num_samples <= MOST_SAMPLES
    require(fits, f"{name}(num_samples=...) must lie between 1 and {MOST_SAMPLES:,}", num_samples)


def averaged(had: list[dict[str, Any]], found: list[Block], fraction: float) -> list[dict[str, Any]]:
    """Return packed blocks moved by a fraction towards other ones; new blocks are taken as they are.

    Of blocks that have parameters in common, as where a batch did not use a layer, the one with factors stays.
    """
    known = {tuple(block["members"]): block for block in had}
    for block in found:
        old = known.get(block.members)
        if old is not None and old["left"].shape == block.left.shape and old["right"].shape == block.right.shape:
            old["left"], old["right"] = old["left"].lerp(block.left, fraction), old["right"].lerp(block.right, fraction)
            continue
        rivals = [members for members in known if set(members) & set(block.members)]
        if all(len(known[members]["right"]) <= len(block.right) for members in rivals):
            for members in rivals:
                del known[members]
            known[block.members] = block.packed()
    return list(known.values())


def _like(parameters: Sequence[Tensor]) -> Tensor:
    return parameters[0].new_empty(0, dtype=vectors.flat_type(parameters))


def _merged(pairs: list[tuple[tuple[int, ...], Tensor, Tensor]]) -> Iterator[Block]:
    """Make one block of the pairs that begin with one parameter; a bias that only some of them have is left out."""
    if len(pairs) == 1:
        yield Block(*pairs[0])
        return
    shape = min(len(left) for _, left, _ in pairs), min(len(right) for _, _, right in pairs)
    biases = [(members[1], left) for members, left, _ in pairs if len(members) == 2]
    cut = [(left, _cut(right, shape[1])) for _, left, right in pairs]
    left = _added([left * _trace(right) for left, right in cut])
    right = _added([right * _trace(left) for left, right in cut])
    total = _trace(left)
    yield Block(pairs[0][0][:1], left, right / total.clamp(min=torch.finfo(total.dtype).tiny))
    for position, side in biases:
        yield Block((position,), side, side.new_ones(1))


def _cut(side: Tensor, size: int) -> Tensor:
    return side[:size, :size] if side.dim() == 2 else side[:size]


def _trace(side: Tensor) -> Tensor:
    return side.diagonal().sum() if side.dim() == 2 else side.sum()


def _added(sides: list[Tensor]) -> Tensor:
    """Return the sum of factors, a diagonal where one of them is."""
    if all(side.dim() == 2 for side in sides):
        return torch.stack(sides).sum(0)
    return torch.stack([side.diagonal() if side.dim() == 2 else side for side in sides]).sum(0)


Slopes = list[list[Tensor]]


def passes(
    objective: Objective, parameters: Sequence[Tensor], num_samples: int | None, seed: int
) -> Iterator[tuple["Pass", Slopes, dict[int, list[Tensor]]]]:
    """Yield each micro-batch's forward pass, and the slopes at its layers and of all other parameters, one a probe."""
    generator = torch.Generator().manual_seed(seed)
    for number, batch in enumerate(objective.batches):
        seen = Pass(objective, batch, parameters)
        if not number:  # each pass over all of them costs what a gradient does
            objective.num_gradients += num_samples or seen.prediction.shape[-1]
        yield seen, *seen.slopes(_probes(objective, batch, seen.prediction, num_samples, generator))


@final
class WholeSlopes:
    """For parameters that no layer was seen with: `J^T u` of all batches and processes, one for each probe.

    Summed before it is squared, it does not depend on how the rows are cut into batches.
    """

    def __init__(self, parameters: Sequence[Tensor], dtype: torch.dtype) -> None:
        self._parameters, self._dtype = parameters, dtype
        self._totals: dict[int, list[Tensor]] = {}

    def add(self, others: Mapping[int, list[Tensor]]) -> None:
        """Add what one batch has."""
        for i, found in others.items():
            if found and i not in self._totals:
                self._totals[i] = [torch.zeros_like(self._parameters[i], dtype=self._dtype) for _ in found]
            for total, slope in zip(self._totals.get(i, ()), found, strict=True):
                total += slope.to(self._dtype)

    def squares(self, i: int) -> Tensor:
        """Return the sum over probes of the squares, in the shape of parameter i."""
        totals = self._totals.get(i, [])
        if distributed.is_active():  # a batch of one of the processes may not use it
            num = int(distributed.most([float(len(totals))])[0])
            zeros = torch.zeros_like(self._parameters[i], dtype=self._dtype)
            totals = distributed.sum_over_ranks([*totals, *[zeros] * (num - len(totals))])
        whole = torch.zeros_like(self._parameters[i], dtype=self._dtype)
        for total in totals:
            whole += total.square()
        return whole


@final
class Pass:
    """One forward pass: the prediction, and the layers that it went through."""

    def __init__(self, objective: Objective, batch: Batch, parameters: Sequence[Tensor]) -> None:
        self.parameters = parameters
        positions = {id(tensor): i for i, tensor in enumerate(parameters)}
        with torch.enable_grad(), layer_uses(positions) as self.uses:
            self._output = objective.unchanged(lambda: objective.prediction(batch))
        self.prediction = self._output.detach()
        self.count = objective.head.loss(self.prediction, batch.targets, batch.mask, batch.weights)[1]

    def slopes(self, probes: Iterator[Tensor]) -> tuple[Slopes, dict[int, list[Tensor]]]:
        """Return `J^T u` for each probe: at the layers' outputs, and of the parameters that no layer was seen with."""
        within = {i for use in self.uses for i in use.members}
        rest = [i for i in range(len(self.parameters)) if i not in within]
        wanted = [*(use.edge for use in self.uses), *(get_gradient_edge(self.parameters[i]) for i in rest)]
        at: Slopes = [[] for _ in self.uses]
        others: dict[int, list[Tensor]] = {i: [] for i in rest}
        if not (wanted and self._output.requires_grad):
            self.uses = []
            return [], others
        for probe in probes:
            parts = torch.autograd.grad(self._output, wanted, probe, retain_graph=True, allow_unused=True)
            for found, part in zip([*at, *others.values()], parts, strict=True):
                if part is not None:
                    found.append(part.to_dense() if part.is_sparse else part)
        kept = [(use, found) for use, found in zip(self.uses, at, strict=True) if found]
        self.uses = [use for use, _ in kept]
        return [found for _, found in kept], others


def _probes(
    objective: Objective, batch: Batch, prediction: Tensor, num_samples: int | None, generator: torch.Generator
) -> Iterator[Tensor]:
    """Yield vectors in output space, `S e`, whose outer products add up to the head's curvature, or do on average."""
    for k in range(prediction.shape[-1] if num_samples is None else num_samples):
        if num_samples is None:
            vector = torch.zeros_like(prediction)
            vector[..., k] = noise.signs(prediction[..., k], generator, batch.keys)
        else:
            vector = noise.signs(prediction, generator, batch.keys)
        root = objective.head.curvature_root(prediction, batch.targets, batch.mask, vector, batch.weights)
        yield root.to(prediction.dtype)
