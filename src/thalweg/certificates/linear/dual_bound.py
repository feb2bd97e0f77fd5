"""The bound of a linear problem from a dual point, by the checker's own formulas on the products that are at hand."""

from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor

from thalweg.certificates.checker import linear, rules
from thalweg.certificates.exact import float_residual
from thalweg.certificates.linear.matrices import Features
from thalweg.errors import InputError

ATTEMPTS: Final = 40


def bound_of(evidence: dict[str, Any], features: Features, best: Callable[[Tensor, float], float]) -> Any:
    """Put the scale of a dual point into its evidence, and return what the checker says that it proves.

    `best` maps the gradient X' R / count, and what its length may be off by, to the scale to take. Where rounding makes
    that one not feasible, a little less is taken. It raises an InputError where nothing is proved.
    """
    plain = float_residual(evidence)
    if (numbers := features.shape[1] * plain.shape[1]) > linear.MOST_NUMBERS:
        raise InputError(f"{numbers:,} weights are more than the {linear.MOST_NUMBERS:,} that can be verified.")
    residual, count = torch.from_numpy(plain).to(features.device), float(evidence["count"])
    gradient = features.adjoint(residual)
    lengths = float((features.row_norms() * torch.linalg.vector_norm(residual, dim=1)).sum())
    reach = lengths * (1.0 + rules.gamma(sum(features.shape) + 40)) + rules.TINY
    del residual, plain  # as large as the predictions
    evidence["scale"] = best(gradient / count, reach / count * rules.gamma(features.most_terms + 32))
    array, lowered, said = gradient.cpu().numpy(), max(1e-13, rules.gamma(features.shape[1])), ""
    for _ in range(ATTEMPTS):
        try:
            linear.penalized(evidence, rules, array, reach, features.most_terms)  # refuses in less time than the bound
            value, error = linear.bound(evidence, rules, array, reach, features.most_terms)
        except rules.Refused as refused:
            said = str(refused)
            evidence["scale"] *= 1.0 - lowered
            lowered = min(4.0 * lowered, 1.0)
        else:
            return rules.Proved(None, 0.0, value, error)
    raise InputError(f"Rounding leaves no proof of a bound: {said}")
