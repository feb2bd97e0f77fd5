"""Curvature of an objective at one point: what Hessian, Gauss-Newton and Fisher matrices share."""

import abc
import contextlib
import enum
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar, final

import torch
from torch import Tensor, nn
from typing_extensions import override

from thalweg import distributed, vectors
from thalweg.curvature.culprit import CurvatureError, culprit, refusing
from thalweg.curvature.differentiable import Replacing, twice_differentiable
from thalweg.curvature.operators import AbstractOperator, check_positions, require_real
from thalweg.objective import Objective
from thalweg.vectors import Vector, flatten_rows, split_rows

Choice = str | nn.Module | Iterable[Tensor] | None
Argument = TypeVar("Argument")
Result = TypeVar("Result")

# Numbers in one batched double backward: more than fits a processor's cache only costs memory.
_BATCHED_NUMBERS = 2**22
_MAX_COLUMNS = 64


@final
class Batching(enum.Enum):
    """Whether several columns may go through the graph together."""

    UNTRIED = enum.auto()
    RIGHT = enum.auto()  # a batched product agreed with a single one
    IMPOSSIBLE = enum.auto()  # it failed or differed: columns go one by one


@final
class Point:
    """An objective, the parameters that a matrix is about, and where they were when it was made."""

    def __init__(self, objective: Objective, choice: Choice, *, check: bool) -> None:
        self.objective = objective
        self.parameters = objective.choose(choice)
        require_real(self.parameters)
        self.check = check
        self.ready = False
        self.count = torch.ones(())
        self.columns_at_once = 1
        self.batching = Batching.UNTRIED
        self.penalties = objective.penalties(self.parameters)
        self.frozen: list[Tensor | None] = []  # numbers whose gradient PyTorch leaves out: padding
        self._versions = [tensor._version for tensor in objective.parameters]

    @property
    def moved(self) -> bool:
        """Whether a parameter was changed in place since the matrix was made."""
        return [tensor._version for tensor in self.objective.parameters] != self._versions

    def require_unmoved(self) -> None:
        """Refuse to go on with a graph whose parameters have changed."""
        if self.moved:
            raise RuntimeError(
                "The parameters have changed since this curvature matrix was made, and it belongs to the point where "
                "they were; make a new one here."
            )

    def where(self, order: int = 2) -> str:
        """Say which module has no right derivative of this order, as the end of a clause; nothing if none is found."""
        objective = self.objective
        found = culprit(
            objective.model,
            objective.head,
            lambda: objective.unchanged(lambda: objective.sum_and_count(objective.batches[0])),
            order,
        )
        return "" if found is None else f", probably in '{found[0]}' ({found[1]})"

    def twice(self, function: Callable[[Argument], Result]) -> Callable[[Argument], Result]:
        """Return a function that runs where second derivatives exist; what is missing is refused with its module."""

        def run(argument: Argument) -> Result:
            with torch.enable_grad(), twice_differentiable(), refusing(self.where):
                return function(argument)

        return run

    def settle(self, count: Tensor, replacing: Replacing) -> None:
        """Take what the first evaluation told: this rank's count, and how large the graph is."""
        numbers = replacing.num_activations + sum(tensor.numel() for tensor in self.parameters)
        # The ranks' batches differ, but they must cut columns into the same pieces.
        size = torch.tensor(float(numbers), dtype=torch.float64, device=count.device)
        self.count, size = distributed.sum_over_ranks([count.detach().double(), size])
        self.count = self.objective.head.divisor(self.count.to(count.dtype))
        self.frozen = [replacing.rows_of(tensor) for tensor in self.parameters]
        at_once = _BATCHED_NUMBERS * distributed.world_size() / max(float(size), 1.0)
        self.columns_at_once = max(1, min(_MAX_COLUMNS, int(at_once)))


class AbstractCurvature(AbstractOperator):
    """A symmetric matrix that an objective has at a point.

    The graph is made at the first product and kept for the next ones, so the matrix belongs to the point where the
    parameters were: once they change it refuses to multiply. It multiplies in the type of the parameters.
    """

    def __init__(self, objective: Objective, parameters: Choice = None, *, check: bool = True) -> None:
        self._point = Point(objective, parameters, check=check)

    @property
    @override
    def like(self) -> list[Tensor]:
        return self._point.parameters

    @property
    def objective(self) -> Objective:
        """The function whose curvature this is; counts the products."""
        return self._point.objective

    @property
    @override
    def columns_at_once(self) -> int:
        self._prepare()
        return self._point.columns_at_once

    @override
    def product(self, vector: Vector) -> list[Tensor]:
        every = range(len(self.like))
        return self.multiply(vector, every, every, many=False)

    @override
    def products(self, stacks: Vector) -> list[Tensor]:
        every = range(len(self.like))
        return self.multiply(stacks, every, every, many=True)

    def block(self, choice: Choice) -> AbstractOperator:
        """Return the block of some of the parameters; it shares the graph and costs less than the whole.

        Args:
            choice: a pattern for names such as `layers.0.*`, a module, or tensors, as `Objective.choose` takes them.
        """
        ids = {id(tensor) for tensor in self.objective.choose(choice)}
        return self.restricted([i for i, tensor in enumerate(self.like) if id(tensor) in ids])

    @override
    def restricted(self, positions: Sequence[int]) -> AbstractOperator:
        return Block(self, positions)

    def multiply(self, vector: Vector, sources: Sequence[int], wanted: Sequence[int], *, many: bool) -> list[Tensor]:
        """Return the rows `wanted` of the matrix times a vector that is zero outside the tensors `sources`.

        Args:
            vector: one tensor for each of `sources`; with `many` stacks of `k` such tensors, `[k, *shape]`.
            sources: positions in `like`.
            wanted: positions in `like`.
            many: whether there are several vectors.

        Raises:
            InputError: the loss is not a function of the parameters (dropout).
            CurvatureError: the model has no second derivative here, or the product would be wrong.
            RuntimeError: the parameters have changed since the matrix was made.
        """
        self._point.require_unmoved()
        self._prepare()
        return self._many(vector, sources, wanted) if many else self._divided(vector, sources, wanted, many=False)

    @abc.abstractmethod
    def _build(self) -> Tensor:
        """Make what products go through, and return this rank's count."""

    @abc.abstractmethod
    def _undivided(
        self, vector: Vector, sources: Sequence[int], wanted: Sequence[int], many: bool
    ) -> Sequence[Tensor | None]:
        """Return this rank's sums over micro-batches, without penalty; None stands for zeros."""

    @abc.abstractmethod
    def _check(self) -> None:
        """Raise CurvatureError if products are wrong."""

    def _prepare(self) -> None:
        point = self._point
        if point.ready:
            return
        replacing = Replacing()
        with torch.enable_grad(), twice_differentiable(replacing):
            if point.check:
                point.objective.require_determinism()
            with refusing(point.where):
                count = self._build()
        if point.moved:
            raise CurvatureError(
                "The model changes its own parameters whenever it is evaluated, as nn.Embedding(max_norm=...) does, so "
                "the loss is not a function of them. Build it without that, or keep the rows short by a penalty."
            )
        point.settle(count, replacing)
        point.ready = True
        if point.check:
            try:
                self._check()
            except BaseException:
                point.ready = False
                raise

    def _divided(self, vector: Vector, sources: Sequence[int], wanted: Sequence[int], *, many: bool) -> list[Tensor]:
        point, objective = self._point, self.objective
        objective.num_products += len(vector[0]) if many else 1
        scaled = torch._foreach_div([tensor.detach() for tensor in vector], point.count)
        # Where a batched product fails single ones may still work; then there is nothing to refuse.
        refuse = contextlib.nullcontext() if many else refusing(point.where)
        with torch.enable_grad(), twice_differentiable(), refuse:
            parts = self._undivided(scaled, sources, wanted, many)
        shapes = [(len(vector[0]), *point.parameters[i].shape) if many else point.parameters[i].shape for i in wanted]
        result = [
            point.parameters[i].new_zeros(shape) if part is None else part.detach()
            for i, part, shape in zip(wanted, parts, shapes, strict=True)
        ]
        result = list(distributed.sum_over_ranks(result))
        if objective.l2:
            places = {j: place for place, j in enumerate(sources)}
            for row, i in enumerate(wanted):
                if point.penalties[i] and i in places:
                    result[row] = result[row] + point.penalties[i] * vector[places[i]].detach()
        return result

    def _many(self, stacks: Vector, sources: Sequence[int], wanted: Sequence[int]) -> list[Tensor]:
        point, chunk = self._point, self.columns_at_once
        if len(stacks[0]) > chunk > 1:
            pieces = zip(*(stack.split(chunk) for stack in stacks), strict=True)
            parts = [self._many(piece, sources, wanted) for piece in pieces]
            return [torch.cat(part) for part in zip(*parts, strict=True)]
        if chunk > 1 and len(stacks[0]) > 1 and point.batching is not Batching.IMPOSSIBLE:
            result = self._batched(stacks, sources, wanted)
            if result is not None:
                return result
        rows = [self._divided(list(vector), sources, wanted, many=False) for vector in zip(*stacks, strict=True)]
        return [torch.stack(parts) for parts in zip(*rows, strict=True)]

    def _batched(self, stacks: Vector, sources: Sequence[int], wanted: Sequence[int]) -> list[Tensor] | None:
        """Return the products by one batched pass, or None where this model cannot; the first time it is compared."""
        point = self._point
        try:
            with warnings.catch_warnings():
                # Functions without a batching rule are looped over inside, with a warning; that is still right.
                warnings.simplefilter("ignore")
                result = self._divided(stacks, sources, wanted, many=True)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:
            if point.batching is Batching.RIGHT:
                raise
            point.batching = Batching.IMPOSSIBLE
            return None
        if point.batching is Batching.UNTRIED and not point.check:
            point.batching = Batching.RIGHT
        if point.batching is Batching.UNTRIED:
            single = vectors.flatten(self._divided([stack[-1] for stack in stacks], sources, wanted, many=False))
            together = vectors.flatten([part[-1] for part in result])
            tolerance = torch.finfo(single.dtype).eps ** 0.5 * single.norm()
            point.batching = Batching.RIGHT if (together - single).norm() <= tolerance else Batching.IMPOSSIBLE
        return result if point.batching is Batching.RIGHT else None

    @override
    def _dense(self) -> Tensor:
        return _symmetric_blocks(self, range(len(self.like)))


@final
class Block(AbstractOperator):
    """Rows and columns of some parameters of a curvature matrix, by graphs that leave the other parameters out."""

    def __init__(self, whole: AbstractCurvature, positions: Sequence[int]) -> None:
        check_positions(positions, len(whole.like))
        self._whole, self._positions = whole, sorted(positions)

    @property
    @override
    def like(self) -> list[Tensor]:
        return [self._whole.like[i] for i in self._positions]

    @property
    @override
    def columns_at_once(self) -> int:
        return self._whole.columns_at_once

    @override
    def product(self, vector: Vector) -> list[Tensor]:
        return self._whole.multiply(vector, self._positions, self._positions, many=False)

    @override
    def products(self, stacks: Vector) -> list[Tensor]:
        return self._whole.multiply(stacks, self._positions, self._positions, many=True)

    @override
    def restricted(self, positions: Sequence[int]) -> AbstractOperator:
        check_positions(positions, len(self._positions))
        return Block(self._whole, [self._positions[i] for i in positions])

    @override
    def _dense(self) -> Tensor:
        return _symmetric_blocks(self._whole, self._positions)


def vector_jacobian(
    pairs: Iterable[tuple[Tensor | None, Tensor]], inputs: Sequence[Tensor], *, many: bool, keep: bool = True
) -> Sequence[Tensor | None]:
    """Return the derivatives by the inputs of all inner products `<output, vector>` together; None stands for zeros.

    With `many` there is a stack of vectors for each output; `keep` says whether the graph is needed again.
    """
    known = [(output, vector) for output, vector in pairs if output is not None]
    if not known:
        return [None] * len(inputs)
    outputs, cotangents = zip(*known, strict=True)
    return torch.autograd.grad(
        outputs, list(inputs), cotangents, retain_graph=keep, allow_unused=True, is_grads_batched=many
    )


def added(left: Sequence[Tensor | None], right: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Return the sums, tensor by tensor; None stands for zeros."""
    return [b if a is None else a if b is None else a + b for a, b in zip(left, right, strict=True)]


def _symmetric_blocks(whole: AbstractCurvature, positions: Sequence[int]) -> Tensor:
    """Return the dense block; of each pair of tensors only one side is computed, the one that needs less of the graph.

    A row of an early layer's block needs the columns of that layer and the later ones only, and a row of the last
    layer's block never goes back through the network. With three tensors, rows computed at once (=) and mirrored (.):

        tensor 0   ======== ==== ==
        tensor 1   ........ ==== ==
        tensor 2   ........ .... ==
    """
    like = [whole.like[i] for i in positions]
    sizes = [tensor.numel() for tensor in like]
    dense = like[0].new_empty(sum(sizes), sum(sizes), dtype=vectors.flat_type(like))
    chunk = whole.columns_at_once
    if sum(sizes) <= chunk:  # small: one pass through the whole graph costs less than one for each tensor
        unit = torch.eye(sum(sizes), dtype=dense.dtype, device=dense.device)
        rows = flatten_rows(whole.multiply(split_rows(unit, like), positions, positions, many=True))
        return 0.5 * (rows + rows.T)
    start = 0
    for i, size in enumerate(sizes):
        for first in range(0, size, chunk):
            last = min(first + chunk, size)
            unit = like[0].new_zeros(last - first, size)
            unit[:, first:last].fill_diagonal_(1.0)
            rows = whole.multiply(split_rows(unit, like[i : i + 1]), positions[i : i + 1], positions[i:], many=True)
            dense[start + first : start + last, start:] = flatten_rows(rows)
        block = dense[start : start + size, start : start + size]
        block.copy_(0.5 * (block + block.T))
        dense[start + size :, start : start + size] = dense[start : start + size, start + size :].T
        start += size
    return dense
