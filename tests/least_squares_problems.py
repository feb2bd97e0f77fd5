"""The 35 problems of More, Garbow and Hillstrom, "Testing unconstrained optimization software" (1981), as residuals.

Every one is a sum of squares with a published start and published optima (where none was published, with those that
SciPy finds). Those of any size come a second time, most with 100 unknowns. The benchmark of nonlinear problems takes
them from here.
"""

import dataclasses
from collections.abc import Callable, Sequence

import torch
from cases import Residuals
from torch import Tensor

from thalweg.heads.squared import Squared
from thalweg.objective import Objective

SOLVED_RELATIVE, SOLVED_ABSOLUTE = 1e-6, 1e-12


@dataclasses.dataclass(frozen=True)
class LeastSquares:
    """A sum of squares: its number in the paper (0: a second size), residuals `[n] -> [m]`, start, local minima."""

    name: str
    number: int
    residuals: Callable[[Tensor], Tensor]
    start: Tensor
    optima: Sequence[float]

    def objective(self, dtype: torch.dtype = torch.float64, scale: Tensor | None = None) -> Objective:
        """Return half the mean square as an objective; with a scale, of unknowns that are that much smaller."""
        scale = torch.ones_like(self.start) if scale is None else scale
        count = len(self.residuals(self.start))
        model = Residuals(lambda x: self.residuals(scale.to(x) * x), (self.start / scale).to(dtype))
        return Objective(model, Squared(), torch.arange(count), torch.zeros(count, 1, dtype=dtype))

    def sum_of_squares(self, x: Tensor) -> float:
        return float(self.residuals(x.double()).square().sum())

    def solved(self, total: float) -> bool:
        """Whether a sum of squares is that of a published minimum."""
        return any(abs(total - best) <= SOLVED_RELATIVE * best + SOLVED_ABSOLUTE for best in self.optima) or (
            total <= min(self.optima)
        )


def numbers(text: str) -> Tensor:
    return torch.tensor([float(word) for word in text.split()], dtype=torch.float64)


def steps(num: int, first: int = 1) -> Tensor:
    return torch.arange(first, first + num, dtype=torch.float64)


def rosenbrock(x: Tensor) -> Tensor:
    return torch.cat([10.0 * (x[1::2] - x[::2] ** 2), 1.0 - x[::2]])


def freudenstein_roth(x: Tensor) -> Tensor:
    a, b = x
    return torch.stack([-13.0 + a + ((5.0 - b) * b - 2.0) * b, -29.0 + a + ((b + 1.0) * b - 14.0) * b])


def powell_badly_scaled(x: Tensor) -> Tensor:
    return torch.stack([1e4 * x[0] * x[1] - 1.0, (-x[0]).exp() + (-x[1]).exp() - 1.0001])


def brown_badly_scaled(x: Tensor) -> Tensor:
    return torch.stack([x[0] - 1e6, x[1] - 2e-6, x[0] * x[1] - 2.0])


def beale(x: Tensor) -> Tensor:
    return numbers("1.5 2.25 2.625").to(x) - x[0] * (1.0 - x[1] ** steps(3).to(x))


def jennrich_sampson(x: Tensor) -> Tensor:
    i = steps(10).to(x)
    return 2.0 + 2.0 * i - ((i * x[0]).exp() + (i * x[1]).exp())


def helical_valley(x: Tensor) -> Tensor:
    a, b, c = x
    turns = torch.atan(b / a) / (2.0 * torch.pi) + torch.where(a < 0.0, 0.5, 0.0)
    return torch.stack([10.0 * (c - 10.0 * turns), 10.0 * ((a * a + b * b).sqrt() - 1.0), c])


def bard(x: Tensor) -> Tensor:
    y = numbers(".14 .18 .22 .25 .29 .32 .35 .39 .37 .58 .73 .96 1.34 2.10 4.39").to(x)
    u = steps(15).to(x)
    v = 16.0 - u
    return y - (x[0] + u / (v * x[1] + torch.minimum(u, v) * x[2]))


def gaussian(x: Tensor) -> Tensor:
    half = numbers(".0009 .0044 .0175 .0540 .1295 .2420 .3521 .3989").to(x)
    t = (8.0 - steps(15).to(x)) / 2.0
    return x[0] * (-x[1] * (t - x[2]) ** 2 / 2.0).exp() - torch.cat([half, half[:-1].flip(0)])


def meyer(x: Tensor) -> Tensor:
    y = numbers("34780 28610 23650 19630 16370 13720 11540 9744 8261 7030 6005 5147 4427 3820 3307 2872").to(x)
    return x[0] * (x[1] / (45.0 + 5.0 * steps(16).to(x) + x[2])).exp() - y


def gulf(x: Tensor) -> Tensor:
    t = steps(99).to(x) / 100.0
    y = 25.0 + (-50.0 * t.log()) ** (2.0 / 3.0)
    return (-((y - x[1]).abs() ** x[2]) / x[0]).exp() - t


def box(x: Tensor) -> Tensor:
    t = 0.1 * steps(10).to(x)
    return (-t * x[0]).exp() - (-t * x[1]).exp() - x[2] * ((-t).exp() - (-10.0 * t).exp())


def powell_singular(x: Tensor) -> Tensor:
    a, b, c, d = x.view(-1, 4).T
    return torch.cat([a + 10.0 * b, 5**0.5 * (c - d), (b - 2.0 * c) ** 2, 10**0.5 * (a - d) ** 2])


def wood(x: Tensor) -> Tensor:
    a, b, c, d = x
    parts = [10.0 * (b - a * a), 1.0 - a, 90**0.5 * (d - c * c), 1.0 - c, 10**0.5 * (b + d - 2.0), (b - d) / 10**0.5]
    return torch.stack(parts)


def kowalik_osborne(x: Tensor) -> Tensor:
    y = numbers(".1957 .1947 .1735 .1600 .0844 .0627 .0456 .0342 .0323 .0235 .0246").to(x)
    u = numbers("4 2 1 .5 .25 .167 .125 .1 .0833 .0714 .0625").to(x)
    return y - x[0] * (u * u + u * x[1]) / (u * u + u * x[2] + x[3])


def brown_dennis(x: Tensor) -> Tensor:
    t = steps(20).to(x) / 5.0
    return (x[0] + t * x[1] - t.exp()) ** 2 + (x[2] + x[3] * t.sin() - t.cos()) ** 2


def osborne_1(x: Tensor) -> Tensor:
    y = numbers(
        ".844 .908 .932 .936 .925 .908 .881 .850 .818 .784 .751 .718 .685 .658 .628 .603 .580 .558 .538 .522 .506 .490"
        " .478 .467 .457 .448 .438 .431 .424 .420 .414 .411 .406"
    ).to(x)
    t = 10.0 * steps(33, 0).to(x)
    return y - (x[0] + x[1] * (-t * x[3]).exp() + x[2] * (-t * x[4]).exp())


def biggs(x: Tensor) -> Tensor:
    t = 0.1 * steps(13).to(x)
    y = (-t).exp() - 5.0 * (-10.0 * t).exp() + 3.0 * (-4.0 * t).exp()
    return x[2] * (-t * x[0]).exp() - x[3] * (-t * x[1]).exp() + x[5] * (-t * x[4]).exp() - y


def osborne_2(x: Tensor) -> Tensor:
    y = numbers(
        "1.366 1.191 1.112 1.013 .991 .885 .831 .847 .786 .725 .746 .679 .608 .655 .616 .606 .602 .626 .651 .724 .649"
        " .649 .694 .644 .624 .661 .612 .558 .533 .495 .500 .423 .395 .375 .372 .391 .396 .405 .428 .429 .523 .562 .607"
        " .653 .672 .708 .633 .668 .645 .632 .591 .559 .597 .625 .739 .710 .729 .720 .636 .581 .428 .292 .162 .098 .054"
    ).to(x)
    t = 0.1 * steps(65, 0).to(x)
    bumps = [x[i + 1] * (-((t - x[i + 8]) ** 2) * x[i + 5]).exp() for i in range(3)]
    return y - (x[0] * (-t * x[4]).exp() + bumps[0] + bumps[1] + bumps[2])


def watson(x: Tensor) -> Tensor:
    powers = (steps(29).to(x) / 29.0).unsqueeze(1) ** steps(len(x), 0).to(x)
    slope = powers[:, :-1] @ (steps(len(x) - 1).to(x) * x[1:])
    return torch.cat([slope - (powers @ x) ** 2 - 1.0, x[:1], x[1:2] - x[:1] ** 2 - 1.0])


def penalty_1(x: Tensor) -> Tensor:
    return torch.cat([1e-5**0.5 * (x - 1.0), (x @ x - 0.25).view(1)])


def penalty_2(x: Tensor) -> Tensor:
    n = len(x)
    i, e = steps(n - 1, 2).to(x), (x / 10.0).exp()
    pairs = e[1:] + e[:-1] - ((i / 10.0).exp() + ((i - 1.0) / 10.0).exp())
    last = (n + 1.0 - steps(n).to(x)) @ (x * x) - 1.0
    return torch.cat([x[:1] - 0.2, 1e-5**0.5 * pairs, 1e-5**0.5 * (e[1:] - 2.718281828459045**-0.1), last.view(1)])


def variably_dimensioned(x: Tensor) -> Tensor:
    total = (steps(len(x)).to(x) @ (x - 1.0)).view(1)
    return torch.cat([x - 1.0, total, total**2])


def trigonometric(x: Tensor) -> Tensor:
    return len(x) - x.cos().sum() + steps(len(x)).to(x) * (1.0 - x.cos()) - x.sin()


def brown_almost_linear(x: Tensor) -> Tensor:
    return torch.cat([x[:-1] + x.sum() - (len(x) + 1.0), (x.prod() - 1.0).view(1)])


def _neighbors(x: Tensor) -> tuple[Tensor, Tensor]:
    zero = torch.zeros_like(x[:1])
    return torch.cat([zero, x[:-1]]), torch.cat([x[1:], zero])


def discrete_boundary(x: Tensor) -> Tensor:
    h = 1.0 / (len(x) + 1)
    before, after = _neighbors(x)
    return 2.0 * x - before - after + h * h * (x + h * steps(len(x)).to(x) + 1.0) ** 3 / 2.0


def discrete_integral(x: Tensor) -> Tensor:
    h = 1.0 / (len(x) + 1)
    t = h * steps(len(x)).to(x)
    cube = (x + t + 1.0) ** 3
    lower = torch.tril(torch.ones(len(x), len(x), dtype=x.dtype))
    return x + 0.5 * h * ((1.0 - t) * (lower @ (t * cube)) + t * ((1.0 - lower) @ ((1.0 - t) * cube)))


def broyden_tridiagonal(x: Tensor) -> Tensor:
    before, after = _neighbors(x)
    return (3.0 - 2.0 * x) * x - before - 2.0 * after + 1.0


def broyden_banded(x: Tensor) -> Tensor:
    ones = torch.ones(len(x), len(x), dtype=x.dtype)
    band = torch.triu(torch.tril(ones, 1), -5) - torch.eye(len(x), dtype=x.dtype)
    return x * (2.0 + 5.0 * x * x) + 1.0 - band @ (x * (1.0 + x))


def linear_full_rank(x: Tensor) -> Tensor:
    rest = -2.0 / (2 * len(x)) * x.sum() - 1.0
    return torch.cat([x + rest, rest.expand(len(x))])


def linear_rank_1(x: Tensor) -> Tensor:
    return steps(2 * len(x)).to(x) * (steps(len(x)).to(x) @ x) - 1.0


def linear_rank_1_with_zeros(x: Tensor) -> Tensor:
    inner = steps(2 * len(x) - 2).to(x) * (steps(len(x) - 2, 2).to(x) @ x[1:-1]) - 1.0
    one = torch.ones_like(x[:1])
    return torch.cat([-one, inner, -one])


def chebyquad(x: Tensor) -> Tensor:
    y = 2.0 * x - 1.0
    before, now, sums = torch.ones_like(y), y, []
    for i in range(1, len(x) + 1):
        sums.append(now.mean() + (1.0 / (i * i - 1.0) if i % 2 == 0 else 0.0))
        before, now = now, 2.0 * y * now - before
    return torch.stack(sums)


def _quadruples(n: int) -> Tensor:
    return numbers("3 -1 0 1").repeat(n // 4)


def _full(value: float, n: int) -> Tensor:
    return torch.full((n,), value, dtype=torch.float64)


def _grid(n: int) -> Tensor:
    t = steps(n) / (n + 1)
    return t * (t - 1.0)


def _rank_1(n: int) -> float:
    return 2.0 * n * (2.0 * n - 1.0) / (2.0 * (4.0 * n + 1.0))


def _rank_1_with_zeros(n: int) -> float:
    m = 2.0 * n
    return (m * m + 3.0 * m - 6.0) / (2.0 * (2.0 * m - 3.0))


ONE_SIZE = (
    LeastSquares("Rosenbrock", 1, rosenbrock, numbers("-1.2 1"), (0.0,)),
    LeastSquares("Freudenstein-Roth", 2, freudenstein_roth, numbers("0.5 -2"), (0.0, 48.98425367924)),
    LeastSquares("Powell badly scaled", 3, powell_badly_scaled, numbers("0 1"), (0.0,)),
    LeastSquares("Brown badly scaled", 4, brown_badly_scaled, numbers("1 1"), (0.0,)),
    LeastSquares("Beale", 5, beale, numbers("1 1"), (0.0,)),
    LeastSquares("Jennrich-Sampson", 6, jennrich_sampson, numbers("0.3 0.4"), (124.3621823556,)),
    LeastSquares("helical valley", 7, helical_valley, numbers("-1 0 0"), (0.0,)),
    LeastSquares("Bard", 8, bard, numbers("1 1 1"), (8.214877306579e-3, 17.42869333)),
    LeastSquares("Gaussian", 9, gaussian, numbers("0.4 1 0"), (1.127932769619e-8,)),
    LeastSquares("Meyer", 10, meyer, numbers("0.02 4000 250"), (87.94585517018,)),
    LeastSquares("Gulf", 11, gulf, numbers("5 2.5 0.15"), (0.0,)),
    LeastSquares("Box", 12, box, numbers("0 10 20"), (0.0,)),
    LeastSquares("Powell singular", 13, powell_singular, numbers("3 -1 0 1"), (0.0,)),
    LeastSquares("Wood", 14, wood, numbers("-3 -1 -3 -1"), (0.0,)),
    LeastSquares("Kowalik-Osborne", 15, kowalik_osborne, numbers("0.25 0.39 0.415 0.39"), (3.075056038492e-4,)),
    LeastSquares("Brown-Dennis", 16, brown_dennis, numbers("25 5 -5 -1"), (85822.20162635,)),
    LeastSquares("Osborne 1", 17, osborne_1, numbers("0.5 1.5 -1 0.01 0.02"), (5.464894697483e-5,)),
    LeastSquares("Biggs EXP6", 18, biggs, numbers("1 2 1 1 1 1"), (0.0, 5.655649925e-3)),
    LeastSquares("Osborne 2", 19, osborne_2, numbers("1.3 .65 .65 .7 .6 3 5 7 2 4.5 5.5"), (4.013773629355e-2,)),
)


_RANK_1_WITH_ZEROS = {n: (_rank_1_with_zeros(n),) for n in (10, 100)}
_TRIGONOMETRIC = {10: (0.0, 2.795056121e-5), 100: (0.0, 3.660378657644e-7)}
Make = Callable[[int], Tensor]
ANY_SIZE: tuple[tuple[int, str, Callable[[Tensor], Tensor], Make, dict[int, Sequence[float]]], ...] = (
    (20, "Watson", watson, lambda n: _full(0.0, n), {6: (2.287670053552e-3,), 9: (1.399760138e-6,)}),
    (21, "extended Rosenbrock", rosenbrock, lambda n: numbers("-1.2 1").repeat(n // 2), {10: (0.0,), 100: (0.0,)}),
    (22, "extended Powell singular", powell_singular, _quadruples, {12: (0.0,), 100: (0.0,)}),
    (23, "penalty I", penalty_1, steps, {10: (7.087651467e-5,), 100: (9.02490976804e-4,)}),
    (24, "penalty II", penalty_2, lambda n: _full(0.5, n), {10: (2.936605374e-4,), 100: (97096.08395469,)}),
    (25, "variably dimensioned", variably_dimensioned, lambda n: 1.0 - steps(n) / n, {10: (0.0,), 100: (0.0,)}),
    (26, "trigonometric", trigonometric, lambda n: _full(1.0 / n, n), _TRIGONOMETRIC),
    (27, "Brown almost linear", brown_almost_linear, lambda n: _full(0.5, n), {10: (0.0, 1.0), 100: (0.0, 1.0)}),
    (28, "discrete boundary value", discrete_boundary, _grid, {10: (0.0,), 100: (0.0,)}),
    (29, "discrete integral equation", discrete_integral, _grid, {10: (0.0,), 100: (0.0,)}),
    (30, "Broyden tridiagonal", broyden_tridiagonal, lambda n: _full(-1.0, n), {10: (0.0,), 100: (0.0,)}),
    (31, "Broyden banded", broyden_banded, lambda n: _full(-1.0, n), {10: (0.0,), 100: (0.0,)}),
    (32, "linear, full rank", linear_full_rank, lambda n: _full(1.0, n), {10: (10.0,), 100: (100.0,)}),
    (33, "linear, rank 1", linear_rank_1, lambda n: _full(1.0, n), {10: (_rank_1(10),), 100: (_rank_1(100),)}),
    (34, "linear, rank 1 with zeros", linear_rank_1_with_zeros, lambda n: _full(1.0, n), _RANK_1_WITH_ZEROS),
    (35, "Chebyquad", chebyquad, lambda n: steps(n) / (n + 1), {8: (3.516873725677e-3,), 9: (0.0,)}),
)  # fmt: skip

PROBLEMS = {
    problem.name: problem
    for problem in (
        *ONE_SIZE,
        *(
            LeastSquares(f"{name}, n = {n}", number if n < 100 and place == 0 else 0, residuals, start(n), optima)
            for number, name, residuals, start, sizes in ANY_SIZE
            for place, (n, optima) in enumerate(sizes.items())
        ),
    )
}
