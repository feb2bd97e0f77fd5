"""Activations: which there are, when to take which, and how much each shrinks its input."""

import math
from collections.abc import Callable

import torch
from torch import nn

from thalweg.errors import require

ActivationFactory = Callable[[], nn.Module]


def sigmoid() -> nn.Module:
    r"""Return the logistic sigmoid, $1/(1 + e^{-x})$.

    Outputs lie in (0, 1) and the slope is at most 1/4, so deep stacks of it train slowly; take it for gates, for small
    networks, or where a hidden unit is to be read as a probability.
    """
    return nn.Sigmoid()


def tanh() -> nn.Module:
    r"""Return the hyperbolic tangent.

    Zero-centered and smooth, bounded by 1: the choice for small regression networks and for second-order methods on
    shallow ones. Saturates in deep networks.
    """
    return nn.Tanh()


def relu() -> nn.Module:
    r"""Return the rectifier, $\max(0, x)$ (Nair and Hinton, 2010).

    Fast and does not saturate on the right. Its second derivative is zero almost everywhere and units can die, so take
    a smooth one where curvature matters.
    """
    return nn.ReLU()


def leaky_relu(slope: float = 0.01) -> nn.Module:
    r"""Return the leaky rectifier: $x$ for $x > 0$, `slope` times $x$ otherwise (Maas, Hannun and Ng, 2013).

    As the rectifier, but no unit can die.

    Args:
        slope: slope on the left, a finite number; 0 is the rectifier.

    Raises:
        ValueError: if `slope` is not finite.
    """
    require(math.isfinite(slope), "leaky_relu(slope=...) must be finite", slope)
    return nn.LeakyReLU(slope)


def gelu() -> nn.Module:
    r"""Return $x \Phi(x)$ with the normal distribution function $\Phi$ (Hendrycks and Gimpel, 2016).

    Smooth, not monotone; the usual choice in transformers.
    """
    return nn.GELU()


def silu() -> nn.Module:
    r"""Return $x / (1 + e^{-x})$, also called swish (Elfwing, Uchibe and Doya, 2018; Ramachandran, Zoph and Le, 2017).

    Smooth and cheaper than GELU, with much the same behavior.
    """
    return nn.SiLU()


def gain(activation: ActivationFactory) -> float:
    r"""Return the factor on the weights that undoes what an activation does to the size of its input.

    For sigmoid, tanh, ReLU and leaky ReLU it is `torch.nn.init.calculate_gain`. For every other one it is
    $1/\sqrt{\operatorname{E} f(z)^2}$ with $z \sim N(0, 1)$, summed over a fine grid: with weights of standard
    deviation gain / sqrt(fan_in), a second moment of 1 before an activation is 1 again before the next.

    Args:
        activation: makes the activation, such as `torch.nn.ReLU`.

    Returns:
        The gain, positive.

    Raises:
        ValueError: if the activation is zero (or not finite) on all of the grid, so that no gain exists.

    Example:
        >>> round(gain(relu), 4), round(gain(gelu), 4)
        (1.4142, 1.5335)

    Source: He, Zhang, Ren and Sun (2015), Delving Deep into Rectifiers.
    """
    module = activation().eval()
    match module:
        case nn.Sigmoid():
            return nn.init.calculate_gain("sigmoid")
        case nn.Tanh():
            return nn.init.calculate_gain("tanh")
        case nn.ReLU():
            return nn.init.calculate_gain("relu")
        case nn.LeakyReLU():
            return nn.init.calculate_gain("leaky_relu", module.negative_slope)
    grid = torch.linspace(-12.0, 12.0, 24001, dtype=torch.float64)
    density = torch.softmax(-grid.square() / 2, 0)
    with torch.no_grad():
        moment = float((density * module.to(torch.float64)(grid).square()).sum())
    if not 0.0 < moment < math.inf:
        raise ValueError(
            f"gain(activation) needs an activation with finite values that are not all zero; got {module}."
        )
    return moment**-0.5
