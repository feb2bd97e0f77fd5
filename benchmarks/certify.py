"""What a certificate costs, and how soon training reaches a proved gap, next to scikit-learn, LIBLINEAR and L-BFGS.

    OMP_NUM_THREADS=1 python benchmarks/certify.py                     # several minutes
    OMP_NUM_THREADS=1 python benchmarks/certify.py --only gap head     # parts: gap head sparse factored
    OMP_NUM_THREADS=1 python benchmarks/certify.py --quick             # see that it works; the figures mean nothing

Data: 20,000 documents of 65 words out of 30,000 with Zipf's frequencies, TF-IDF, labels from topic words with noise, 2
and 4 classes. Times are CPU seconds of one thread, from the matrix to the weights, the median of some repeats. A peer's
tolerance is the loosest decade whose solution has the gap; every gap is that of `thalweg.certify`, in float64.
"""

import argparse
import functools
import importlib.util
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from table import Row, write_json

from thalweg.batch import Batch
from thalweg.certificates.factored import newton as factored_newton
from thalweg.certificates.factored.bags import factored_problem, factors_of
from thalweg.certificates.factored.problem import Factored
from thalweg.certificates.linear.head import Head
from thalweg.certificates.linear.matrices import Features
from thalweg.certificates.linear.polish import polish
from thalweg.certificates.linear.regularizers import L1, L2
from thalweg.certificates.losses import SoftmaxLoss
from thalweg.certificates.number_losses import LogisticLoss
from thalweg.heads.softmax import Softmax
from thalweg.models.bag import Bag
from thalweg.objective import Objective

TOLERANCE = 1e-6


def documents(num: int, words: int, length: int, classes: int) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Return TF-IDF rows and labels."""
    rng = np.random.default_rng(0)
    frequency = 1.0 / np.arange(1, words + 1)
    topics = rng.normal(size=(words, classes)) * (rng.random((words, 1)) < 0.2)
    columns = rng.choice(words, size=num * length, p=frequency / frequency.sum())
    x = sparse.csr_matrix((np.ones(num * length), (np.repeat(np.arange(num), length), columns)), shape=(num, words))
    x.sum_duplicates()
    documents_with = np.bincount(x.indices, minlength=words)
    x = sparse.csr_matrix(x @ sparse.diags(np.log((1 + num) / (1 + documents_with)) + 1))
    x = sparse.csr_matrix(sparse.diags(1 / np.sqrt(np.asarray(x.multiply(x).sum(1)).ravel())) @ x)
    labels = (x @ topics).argmax(1)
    noisy = rng.random(num) < 0.1
    labels[noisy] = rng.integers(0, classes, noisy.sum())
    return x, labels


def cpu(work: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """Return the median CPU time of some calls, and what the last one returned."""
    times, result = [], None
    for _ in range(repeats):
        start = time.process_time()
        result = work()
        times.append(time.process_time() - start)
    return statistics.median(times), result


def head_of(x: sparse.csr_matrix, labels: np.ndarray, classes: int, c: float) -> Head:
    """Return the head problem that scikit-learn calls C = c, without intercept."""
    if classes == 2:
        loss: Any = LogisticLoss(torch.from_numpy((labels == 1).astype(float))[:, None])
    else:
        loss = SoftmaxLoss.of_labels(torch.from_numpy(labels), classes)
    return Head(Features(x), loss, L2(1.0 / (c * len(labels))), intercept=False)


def gap_rows(data: dict[int, Any], repeats: int) -> Iterator[Row]:
    """Evaluating the gap against one full gradient, and the error of the identity."""
    for classes, (x, labels) in data.items():
        head = head_of(x, labels, classes, 1.0)
        weight = polish(head, tolerance=1e-3).point.weight

        def gradient(head: Head = head, weight: torch.Tensor = weight) -> torch.Tensor:
            residual = head.loss.value_and_residual(head.features.times(weight))[1]
            return 1.0 * weight - head.features.adjoint(residual)

        ratios = []
        for _ in range(5 * repeats):
            one, _ = cpu(gradient, 1)
            whole, _ = cpu(lambda head=head, weight=weight: head.relative_gap(head.at(weight)), 1)
            ratios.append(whole / one)
        ratio = statistics.median(ratios)
        yield Row("gap", f"gap from scratch, {classes} classes", ratio, "of one full gradient", "1.3", ratio <= 1.3)
        point = head.at(weight)
        dual = head.loss.dual_point(point.z, balanced=False)
        square = float(point.gradient.square().sum()) / (2 * head.regularizer.strength)  # type: ignore[attr-defined]
        error = abs(point.total - (head.loss.dual_value(dual) - square) - head.gap(point)) / abs(point.total)
        yield Row("gap", f"identity, {classes} classes", error * 1e12, "1e-12 of the loss", "1", error <= 1e-12)


def peers(classes: int) -> dict[str, Callable[[float, float], Any]]:
    """Return name -> (C, tolerance) -> an estimator."""

    def scikit_learn(solver: str) -> Callable[[float, float], Any]:
        return lambda c, tol: LogisticRegression(
            C=c, solver=solver, tol=tol, fit_intercept=False, max_iter=5000, random_state=0
        )

    def dual(c: float, tol: float) -> Any:
        return LogisticRegression(
            C=c, solver="liblinear", dual=True, tol=tol, fit_intercept=False, max_iter=100_000, random_state=0
        )

    found = {name: scikit_learn(name) for name in ("lbfgs", "newton-cg", "sag", "saga")}
    if classes == 2:
        found |= {"liblinear": scikit_learn("liblinear"), "liblinear dual": dual}
    return found


def head_rows(data: dict[int, Any], repeats: int) -> Iterator[Row]:
    """CPU seconds to a proved gap."""
    for classes, (x, labels) in data.items():
        for c in (1.0, 100.0):
            ours, polished = cpu(
                lambda x=x, labels=labels, classes=classes, c=c: polish(
                    head_of(x, labels, classes, c), tolerance=TOLERANCE
                ),
                repeats,
            )
            judge = head_of(x, labels, classes, c)
            assert judge.relative_gap(judge.at(polished.point.weight)) <= TOLERANCE
            times = {name: best_time(make, c, x, labels, judge, repeats) for name, make in peers(classes).items()}
            fastest = min(times, key=lambda name: times[name])
            what = f"to 1e-6, {classes} classes, C={c:g}"
            details = {"ours": ours, "products": polished.products, "gradients": polished.gradients, **times}
            ratio = ours / times[fastest]
            yield Row("head", what, ratio, f"of {fastest} ({times[fastest]:.2f} s)", "1", ratio <= 1.0, details)


def best_time(
    make: Callable[[float, float], Any], c: float, x: sparse.csr_matrix, labels: np.ndarray, judge: Head, repeats: int
) -> float:
    """Return the CPU seconds of a peer at the loosest decade of its tolerance that gives the gap."""
    for decade in range(1, 11):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            seconds, model = cpu(lambda decade=decade: make(c, 10.0**-decade).fit(x, labels), 1)
            weight = torch.from_numpy(np.ascontiguousarray(model.coef_.T))
            if judge.relative_gap(judge.at(weight)) <= TOLERANCE:
                return min(seconds, cpu(lambda decade=decade: make(c, 10.0**-decade).fit(x, labels), repeats)[0])
    return float("inf")


def factored_rows(data: dict[int, Any], repeats: int) -> Iterator[Row]:
    """The factored model: training to a certified gap, next to L-BFGS on the same objective, and the certificate."""
    x, labels = data[4]
    for l2 in (1e-4, 1e-5):

        def ours(l2: float = l2) -> Any:
            problem = Factored(Features(x), SoftmaxLoss.of_labels(torch.from_numpy(labels), 4), l2, intercept=True)
            return problem, factored_newton.solve(problem, 10, tolerance=TOLERANCE)

        seconds, (problem, (point, _)) = cpu(ours, repeats)
        plain, gap = plain_training(x, labels, l2, problem)
        name = f"training to 1e-6, l2={l2:g}"
        details = {"ours": seconds, "lbfgs": plain, "gap of lbfgs": gap, "gap": problem.relative_gap(point)}
        ratio = seconds / plain
        yield Row("factored", name, ratio, f"of L-BFGS ({plain:.1f} s)", "0.333", ratio <= 1 / 3, details)
        proving, _ = cpu(lambda problem=problem, point=point: problem.certificate(
            problem.at(point.embedding, point.weight, point.bias), evidence=False), 5)  # fmt: skip
        yield Row("factored", f"certificate, l2={l2:g}", proving, "s", "0.15", proving <= 0.15)


def plain_training(x: sparse.csr_matrix, labels: np.ndarray, l2: float, problem: Factored) -> tuple[float, float]:
    """Return CPU seconds of L-BFGS through autograd and its gap; it stops at the gap or after two minutes."""
    torch.manual_seed(0)
    model, head = Bag(x.shape[1], 10).double(), Softmax(10, 4).double()
    inputs = {"tokens": torch.from_numpy(x.indices.astype(np.int64)), "offsets": torch.from_numpy(
        x.indptr[:-1].astype(np.int64)), "weights": torch.from_numpy(x.data)}  # fmt: skip
    objective = Objective(model, head, Batch(inputs, torch.from_numpy(labels)), l2=l2)
    optimizer = torch.optim.LBFGS(
        objective.parameters, max_iter=20, history_size=20, line_search_fn="strong_wolfe", tolerance_grad=0,
        tolerance_change=0,
    )  # fmt: skip
    seconds, gap = 0.0, 1.0
    assert abs(factored_problem(objective).at(*factors_of(objective)).total - objective.value().item()) < 1e-9
    while gap > TOLERANCE and seconds < 120.0:
        start = time.process_time()
        optimizer.step(objective)
        seconds += time.process_time() - start
        gap = problem.relative_gap(problem.at(*factors_of(objective)))
    return seconds, gap


def sparse_rows(data: dict[int, Any], repeats: int) -> Iterator[Row]:
    """An L1 penalty, binary, next to celer where it is installed, at the smallest gap down to 1e-6 that both reach."""
    x, labels = data[2]
    largest = float(np.abs(x.T @ (2.0 * labels - 1.0)).max()) / (2 * len(labels))
    loss = LogisticLoss(torch.from_numpy((labels == 1).astype(float))[:, None])
    for share in (0.1, 0.02):
        strength = L1(share * largest)

        judge, reached = Head(Features(x), loss, strength, intercept=False), list[tuple[float, float]]()
        if importlib.util.find_spec("celer") is not None:
            reached = celer_times(x, labels, judge, strength, repeats)
        target = max([TOLERANCE, *(min(gap for gap, _ in reached) for _ in reached[:1])])

        def ours(strength: L1 = strength, target: float = target) -> Any:
            return polish(Head(Features(x), loss, strength, intercept=False), tolerance=target)

        seconds, polished = cpu(ours, repeats)
        assert judge.relative_gap(polished.point) <= target
        details = {"ours": seconds, "used": int((polished.point.weight != 0.0).sum()), "celer": reached}
        what = f"L1 to {target:.0e}, {share:g} of the largest"
        if not reached:
            yield Row("sparse", what, seconds, "s", details=details)
            continue
        peer = min(each for gap, each in reached if gap <= target)
        yield Row("sparse", what, seconds / peer, f"of celer ({peer:.2f} s)", "1", seconds <= peer, details)


def celer_times(
    x: sparse.csr_matrix, labels: np.ndarray, judge: Head, strength: L1, repeats: int
) -> list[tuple[float, float]]:
    """Return the proved gap and the CPU seconds of celer at each decade of its tolerance, until the gap is reached."""
    from celer import LogisticRegression as Celer

    columns, reached = x.tocsc(), list[tuple[float, float]]()
    for decade in range(1, 9):
        model = Celer(C=1.0 / (strength.strength * len(labels)), tol=10.0**-decade, penalty="l1", max_iter=200)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            each, _ = cpu(functools.partial(model.fit, columns, labels), repeats)
        weight = torch.from_numpy(np.ascontiguousarray(model.coef_.T))
        reached.append((judge.relative_gap(judge.at(weight)), each))
        if reached[-1][0] <= TOLERANCE:
            break
    return reached


PARTS = {"gap": gap_rows, "head": head_rows, "sparse": sparse_rows, "factored": factored_rows}


def main() -> None:
    """Run the parts that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "certify.json")
    options = parser.parse_args()
    size = (500, 1000, 20) if options.quick else (20_000, 30_000, 65)
    data = {classes: documents(*size, classes) for classes in (2, 4)}
    rows = []
    for name in options.only:
        for row in PARTS[name](data, 1 if options.quick else options.repeats):
            print(row.line(), flush=True)
            rows.append(row)
    write_json(options.out, rows, quick=options.quick)


if __name__ == "__main__":
    main()
