"""Which search for neurons suits a problem."""

from thalweg.certificates.two_layer.cell_oracle import CellOracle, can_be_listed
from thalweg.certificates.two_layer.fan_oracle import FanOracle
from thalweg.certificates.two_layer.neurons import AbstractOracle, Bias, anchors, coordinates
from thalweg.certificates.two_layer.problem import TwoLayerProblem
from thalweg.certificates.two_layer.relaxed_oracle import MAX_ANCHORS, RelaxedOracle
from thalweg.certificates.two_layer.semidefinite import MAX_ORDER
from thalweg.errors import InputError

MAX_FANS = 8_000_000
MAX_NUMBERS = 100_000  # with more the relaxation takes longer than seconds


def oracle_of(problem: TwoLayerProblem) -> AbstractOracle:
    """Return the sharpest oracle for a problem, or raise an InputError if it is too large for any."""
    num, width = problem.features.shape[0], problem.loss.num_outputs
    bias, free = problem.hidden_bias, problem.hidden_bias is Bias.FREE
    rank = coordinates(problem.features, bias)[0].shape[1]
    fans = len(anchors(problem.features)) if free else 1
    if rank <= 2 and fans * num * width <= MAX_FANS:
        return FanOracle(problem.features, bias, problem.leak)
    if width == 1 and rank <= 5 and can_be_listed(problem.features, bias):
        return CellOracle(problem.features, bias, problem.leak)
    if free and fans > MAX_ANCHORS and num + rank + width >= MAX_ORDER:
        raise InputError(
            f"{num:,} examples are too many for a bound on hidden units with a free bias; put the biases under the "
            "penalty as well, or certify a sample."
        )
    if num * rank > MAX_NUMBERS:
        raise InputError(
            f"{num:,} examples of {problem.features.shape[1]:,} features are too many for a bound on hidden units; "
            "certify a sample, or give the network fewer inputs."
        )
    return RelaxedOracle(problem.features, bias, problem.leak)
