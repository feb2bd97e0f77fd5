"""The loss around a point, along lines and on planes through it, and on the line between two sets of weights."""

import contextlib
import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, final

import torch
from torch import Tensor, nn

from thalweg import noise, vectors
from thalweg.curvature.hessian import Hessian
from thalweg.curvature.lanczos import extreme_eigenvalues
from thalweg.errors import InputError, require
from thalweg.objective import Objective

CHOICES: Final = ("random", "gradient", "largest", "smallest", "path", "path-2")
EXTREMES: Final = ("largest", "smallest")
PATHS: Final = ("path", "path-2")
MAX_HALVINGS: Final = 20  # of the length of a step, until the loss does not rise too far
# For both ends of the spectrum: products with the Hessian, and the bounds on the eigenvalues, relative to the largest.
PRODUCTS, TOLERANCE = 25, 0.05


@final
@dataclasses.dataclass(frozen=True)
class Place:
    """A set of weights beside a line or a plane.

    Args:
        name: of the weights.
        at: where they are nearest to it, in steps along each direction.
        away: their Euclidean distance from it.
        loss: at the weights themselves; None where it is not finite.
    """

    name: str
    at: tuple[float, ...]
    away: float
    loss: float | None


@final
@dataclasses.dataclass(frozen=True)
class Landscape:
    """The loss on a line or a plane through the weights.

    Args:
        directions: name of each direction, one or two.
        places: of each direction, where the loss was taken, in steps along it; 0 is the weights as they are.
        lengths: Euclidean length of one step of each direction.
        losses: `losses[j][i]` is the loss at place `i` of the first and `j` of the second direction (a line has one
            row); None where it is not finite.
        loss: at the weights as they are; None where it is not finite.
        path: other weights, seen from this line or plane.
    """

    directions: tuple[str, ...]
    places: tuple[tuple[float, ...], ...]
    lengths: tuple[float, ...]
    losses: tuple[tuple[float | None, ...], ...]
    loss: float | None
    path: tuple[Place, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return dataclasses.asdict(self)


@final
@dataclasses.dataclass(frozen=True)
class Between:
    r"""The loss on the straight line between two sets of weights.

    Args:
        places: $t$, from 0 (the first) to 1 (the second).
        losses: $f((1 - t) \theta_0 + t \theta_1)$; None where it is not finite.
        barrier: the most by which the loss lies above the straight line between the losses of both ends, >= 0;
            infinite where a loss on the way is not finite.
        instability: the largest loss on the way less the mean of both ends, which Frankle et al. use.
        distance: $\lVert \theta_1 - \theta_0 \rVert$.
    """

    places: tuple[float, ...]
    losses: tuple[float | None, ...]
    barrier: float
    instability: float
    distance: float

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values; an infinite barrier is None."""
        plain = dataclasses.asdict(self)
        return {name: None if value in (math.inf, -math.inf) else value for name, value in plain.items()}


def landscape(
    objective: Objective,
    directions: Sequence[str | Sequence[Tensor]] = ("random", "random"),
    *,
    span: float = 1.0,
    points: int = 21,
    path: Mapping[str, Sequence[Tensor]] | None = None,
    ends: Mapping[str, Sequence[Tensor]] | None = None,
    seed: int = 0,
) -> Landscape:
    r"""Return the loss $f(\theta + a\,u + b\,v)$ on a line or a plane through the present weights.

    Directions are

    - `"random"`: normal numbers, each filter (row of a matrix) scaled to the norm of the weights' own; vectors such as
      biases stay. A step of length 1 changes each filter by its own norm.
    - `"gradient"`, and `"largest"` and `"smallest"`: eigenvectors of the Hessian. A step is the norm of the weights, or
      the largest of its halves, quarters ... at which the loss rises by no more than 1 and no more than itself.
    - `"path"` and `"path-2"`: the first and second principal component of the path, seen from the present weights. A
      step reaches the farthest of its weights.
    - tensors, one for each of `objective.parameters`, taken as they are.

    The model is in evaluation mode meanwhile; weights, buffers, gradients, modes and the random state are as before
    when it returns.

    Args:
        objective: the loss.
        directions: one or two.
        span: how many steps to go to both sides, > 0.
        points: losses along each direction, odd, >= 3.
        path: other weights by name, as lists like `objective.parameters`, in the order in which training passed them.
        ends: the eigenvectors, from `eigenvectors`, where they are known; None: they are computed.
        seed: of the random directions.

    Raises:
        ValueError: for an unknown direction, more than two, or a number out of its range.
        InputError: for a path that leads nowhere, or a direction that vanishes.
        CurvatureError: if the loss has no Hessian, for the directions that need one.

    Example:
        >>> model, x, y = nn.Linear(1, 1, bias=False), torch.tensor([[1.0]]), torch.tensor([[0.0]])
        >>> _ = nn.init.ones_(model.weight)
        >>> found = landscape(Objective(model, nn.MSELoss(), x, y), [[torch.tensor([[1.0]])]], points=5)
        >>> found.places[0], found.losses[0]
        ((-1.0, -0.5, 0.0, 0.5, 1.0), (0.0, 0.25, 1.0, 2.25, 4.0))

    Source: Li, Xu, Taylor, Studer, Goldstein (2018), Visualizing the Loss Landscape of Neural Nets: filter-normalized
    directions, and the path on its principal components.

    A plane is two of very many dimensions: that it looks convex says little about the others.
    """
    require(1 <= len(directions) <= 2, "landscape(directions=...) takes one direction or two", len(directions))
    require(math.isfinite(span) and span > 0.0, "landscape(span=...) must be above zero", span)
    require(points >= 3 and points % 2 == 1, "landscape(points=...) must be odd and at least 3", points)
    for name in directions:
        require(not isinstance(name, str) or name in CHOICES, f"landscape(directions=...) knows {CHOICES}", name)
    weights = objective.parameters
    require(bool(weights), "landscape(objective) needs a trainable parameter", 0)
    names = tuple(name if isinstance(name, str) else "given" for name in directions)
    half = points // 2
    places = tuple(span * (i - half) / half for i in range(points))
    with _left_alone(objective), torch.no_grad():
        center = vectors.clone(weights)
        moves = _moves(objective, directions, center, path or {}, ends, span, seed)
        rows = places if len(moves) == 2 else (0.0,)
        losses = tuple(tuple(_loss_at(objective, center, moves, (a, b)[: len(moves)]) for a in places) for b in rows)
        loss = _loss_at(objective, center, (), ())
        seen = tuple(_seen(objective, name, other, center, moves) for name, other in (path or {}).items())
    lengths = tuple(float(vectors.norm(move)) for move in moves)
    return Landscape(names, (places,) * len(moves), lengths, losses, loss, seen)


def between(objective: Objective, other: Objective, *, points: int = 25) -> Between:
    r"""Return the loss on the straight line between two networks of one form, and its barrier.

    $\max_t f((1 - t)\theta_0 + t\,\theta_1) - (1 - t) f(\theta_0) - t f(\theta_1)$. Tensors that are not trained, such
    as running statistics, move along.

    Args:
        objective: the loss, of the first network.
        other: an objective of the second network; its batches are not used.
        points: losses on the line, both ends included, >= 3.

    Raises:
        ValueError: for too few points.
        InputError: if the networks differ in more than the values of their numbers.

    Example:
        >>> x, y = torch.tensor([[1.0]]), torch.tensor([[0.0]])
        >>> first, second = (Objective(nn.Linear(1, 1, bias=False), nn.MSELoss(), x, y) for _ in range(2))
        >>> _ = nn.init.constant_(first.model.weight, -1.0), nn.init.constant_(second.model.weight, 1.0)
        >>> found = between(first, second, points=3)
        >>> found.losses, found.barrier
        ((1.0, 0.0, 1.0), 0.0)

    Source: Frankle, Dziugaite, Roy, Carbin (2020), Linear Mode Connectivity and the Lottery Ticket Hypothesis; the
    barrier above the straight line: Entezari, Sedghi, Saukh, Neyshabur (2022), The Role of Permutation Invariance in
    Linear Mode Connectivity of Neural Networks.

    Networks that differ only in the order of their units usually have a barrier between them all the same.
    """
    require(points >= 3, "between(points=...) must be at least 3", points)
    mine, theirs = _named(objective), _named(other)
    _require_same_form(mine, theirs)
    first, second = vectors.clone(list(mine.values())), vectors.clone(list(theirs.values()))
    places = tuple(i / (points - 1) for i in range(points))
    losses = []
    with _left_alone(objective), torch.no_grad():
        for place in places:
            for tensor, begin, end in zip(mine.values(), first, second, strict=True):
                if tensor.is_floating_point():
                    tensor.copy_(torch.lerp(begin, end, place))
            losses.append(_finite(objective))
    moved = [(end - begin).double() for begin, end in zip(first, second, strict=True) if begin.is_floating_point()]
    low, high = losses[0], losses[-1]
    barrier = instability = math.inf
    if low is not None and high is not None and None not in losses:
        known = [(t, loss) for t, loss in zip(places, losses, strict=True) if loss is not None]
        barrier = max(0.0, *(loss - (low + t * (high - low)) for t, loss in known))
        instability = max(loss for _, loss in known) - 0.5 * (low + high)
    return Between(places, tuple(losses), barrier, instability, float(vectors.norm(moved)))


def eigenvectors(objective: Objective) -> dict[str, list[Tensor]]:
    """Return the directions of the largest and the smallest curvature, close enough for a picture.

    Args:
        objective: the loss; it is in evaluation mode meanwhile.

    Returns:
        `largest` and `smallest`, each with one tensor for each of `objective.parameters`, together of length 1.

    Raises:
        CurvatureError: if the loss has no Hessian.
    """
    with _left_alone(objective), torch.enable_grad():
        spectrum = extreme_eigenvalues(
            Hessian(objective), num_largest=1, num_smallest=1, tolerance=TOLERANCE, max_products=PRODUCTS
        )
    both = (spectrum.largest_vectors[:, 0], spectrum.smallest_vectors[:, 0])
    return {name: vectors.split(flat, objective.parameters) for name, flat in zip(EXTREMES, both, strict=True)}


def filter_normalized(direction: Sequence[Tensor], weights: Sequence[Tensor]) -> list[Tensor]:
    """Return a direction whose filters (rows of matrices) have the norms of the weights' own; vectors become zero.

    Example:
        >>> filter_normalized([torch.tensor([[3.0, 4.0]]), torch.ones(1)], [torch.tensor([[0.0, 10.0]]), torch.ones(1)])
        [tensor([[6., 8.]]), tensor([0.])]
    """

    def scaled(move: Tensor, weight: Tensor) -> Tensor:
        if weight.dim() < 2:
            return torch.zeros_like(weight)
        own, wanted = (tensor.flatten(1).norm(dim=1) for tensor in (move, weight))
        factor = torch.where(own > 0.0, wanted / own, torch.zeros_like(own))
        return move * factor.reshape(-1, *(1,) * (move.dim() - 1))

    return [scaled(move, weight) for move, weight in zip(direction, weights, strict=True)]


@contextlib.contextmanager
def _left_alone(objective: Objective) -> Iterator[None]:
    """Go into evaluation mode, and put tensors, modes and the random state back in the end."""
    every = [tensor for part in objective.every_tensor() for tensor in part]
    held = vectors.clone(every)
    networks = (objective.model, objective.head)
    modes = [(module, module.training) for network in networks for module in network.modules()]
    with noise.borrowed(noise.accelerators(every)):
        try:
            for network in networks:
                network.eval()
            yield
        finally:
            for module, mode in modes:
                module.training = mode
            with torch.no_grad():
                vectors.copy_(every, held)


def _finite(objective: Objective) -> float | None:
    value = float(objective.value())
    return value if math.isfinite(value) else None


def _loss_at(
    objective: Objective, center: Sequence[Tensor], moves: Sequence[Sequence[Tensor]], steps: Sequence[float]
) -> float | None:
    weights = objective.parameters
    vectors.copy_(weights, center)
    for move, step in zip(moves, steps, strict=True):
        if step:
            vectors.add_(weights, move, step)
    return _finite(objective)


def _moves(
    objective: Objective,
    directions: Sequence[str | Sequence[Tensor]],
    center: Sequence[Tensor],
    path: Mapping[str, Sequence[Tensor]],
    ends: Mapping[str, Sequence[Tensor]] | None,
    span: float,
    seed: int,
) -> list[list[Tensor]]:
    """Return what one step along each direction adds to the weights."""
    if ends is None:
        named = {name for name in directions if isinstance(name, str)}
        ends = eigenvectors(objective) if named & set(EXTREMES) else {}
    moves = []
    for place, name in enumerate(directions):
        if not isinstance(name, str):
            move = list(name)
        elif name == "random":
            generator = torch.Generator().manual_seed(seed + place)
            drawn = [
                torch.randn(weight.shape, generator=generator, dtype=torch.float64).to(weight.device, weight.dtype)
                for weight in center
            ]
            move = filter_normalized(drawn, center)
        elif name in PATHS:
            move = _component(path, center, PATHS.index(name))
        else:
            found = ends[name] if name in EXTREMES else objective.value_and_gradient()[1]
            move = _as_far_as_it_shows(objective, center, [tensor.detach() for tensor in found], span)
        if not float(vectors.norm(move)) > 0.0:
            raise InputError(f"The direction {name!r} is zero at these weights; take another one.")
        moves.append(move)
    return moves


def _as_far_as_it_shows(
    objective: Objective, center: Sequence[Tensor], move: list[Tensor], span: float
) -> list[Tensor]:
    """Return a direction at the length at which the loss rises, but not out of sight."""
    norm, size = float(vectors.norm(move)), float(vectors.norm(center)) or 1.0
    loss = _loss_at(objective, center, (), ())
    if not norm > 0.0 or loss is None:
        return move
    highest, step = loss + max(min(1.0, abs(loss)), 1e-12), move
    for halvings in range(MAX_HALVINGS + 1):
        step = [tensor * (size / norm / 2.0**halvings) for tensor in move]
        ends = [_loss_at(objective, center, (step,), (side,)) for side in (-span, span)]
        if all(end is not None and end <= highest for end in ends):
            break
    return step


def _component(path: Mapping[str, Sequence[Tensor]], center: Sequence[Tensor], number: int) -> list[Tensor]:
    """Return a principal component of the path as seen from the center; one step reaches the farthest weights."""
    away = [[(a - b).double() for a, b in zip(other, center, strict=True)] for other in path.values()]
    gram = torch.tensor([[float(vectors.dot(left, right)) for right in away] for left in away], dtype=torch.float64)
    if not away or not torch.isfinite(gram).all() or not float(gram.diagonal().max()) > 0.0:
        raise InputError("The direction 'path' needs other weights than the present ones, and finite; give a path.")
    values, combinations = torch.linalg.eigh(gram)
    place = len(away) - 1 - number
    if place < 0 or not float(values[place]) > 1e-12 * float(values[-1]):
        raise InputError(
            f"The path lies on a line, so it has no component {number + 1}; take 'random' as the second direction."
        )
    mixed = [
        torch.stack([c * tensor for c, tensor in zip(combinations[:, place], tensors, strict=True)]).sum(0)
        for tensors in zip(*away, strict=True)
    ]
    length = vectors.norm(mixed)
    farthest = max(abs(float(vectors.dot(one, mixed) / length)) for one in away)
    scale = farthest / float(length)
    return [(tensor * scale).to(weight.dtype) for tensor, weight in zip(mixed, center, strict=True)]


def _seen(
    objective: Objective,
    name: str,
    other: Sequence[Tensor],
    center: Sequence[Tensor],
    moves: Sequence[Sequence[Tensor]],
) -> Place:
    """Return where other weights lie beside the line or plane, by least squares in float64."""
    away = [(a - b).double() for a, b in zip(other, center, strict=True)]
    steps = [[tensor.double() for tensor in move] for move in moves]
    gram = torch.tensor([[float(vectors.dot(left, right)) for right in steps] for left in steps], dtype=torch.float64)
    along = torch.tensor([float(vectors.dot(step, away)) for step in steps], dtype=torch.float64)
    at = torch.linalg.lstsq(gram, along.unsqueeze(1)).solution.squeeze(1).tolist()
    for step, coordinate in zip(steps, at, strict=True):
        vectors.add_(away, step, -coordinate)
    return Place(name, tuple(at), float(vectors.norm(away)), _loss_at(objective, other, (), ()))


def _named(objective: Objective) -> dict[str, Tensor]:
    """Return all tensors of model and head by name, tied ones once."""
    networks: dict[str, nn.Module] = {"model": objective.model, "head": objective.head}
    found: dict[str, Tensor] = {}
    seen: set[int] = set()
    for part, network in networks.items():
        for name, tensor in (*network.named_parameters(), *network.named_buffers()):
            if id(tensor) not in seen:
                seen.add(id(tensor))
                found[f"{part}.{name}"] = tensor
    return found


def _require_same_form(mine: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> None:
    if odd := sorted(mine.keys() ^ theirs.keys()):
        raise InputError(
            f"There is no line between networks of different form: only one of them has '{odd[0]}'. Compare runs of "
            "the same model, width and layers."
        )
    for name, tensor in mine.items():
        if tensor.shape != theirs[name].shape:
            raise InputError(
                f"There is no line between networks of different size: '{name}' has shape {list(tensor.shape)} in one "
                f"and {list(theirs[name].shape)} in the other. Compare runs of the same model and data."
            )
        is_counter = not tensor.dim()  # such as the number of batches that running statistics are of; it stays
        if not (tensor.is_floating_point() or is_counter or torch.equal(tensor, theirs[name])):
            raise InputError(
                f"There is no line between these networks: '{name}' holds whole numbers that differ. Compare runs of "
                "the same model and data."
            )
