"""The von Mises-Fisher likelihood of a word's vector, plain and regularized."""

from typing import Unpack, final

import torch
from torch import Tensor

from thalweg.heads.bessel import log_partition
from thalweg.heads.continuous import ContinuousOptions
from thalweg.heads.directional import AbstractDirectional, length_of
from thalweg.heads.targets import Targets


@final
class VonMisesFisher(AbstractDirectional):
    r"""Negative log-likelihood of the target's direction, relative to the uniform distribution on the sphere.

    With the prediction $e$, $\kappa = \lVert e \rVert$, the angle $\theta$ between $e$ and $u_y$, and $L_m$ the
    normalized log-partition of `thalweg.heads.bessel`, the loss of a target is

    $$\ell = L_m(\kappa) + \lambda_1\, s(\kappa) - \lambda_2\, s(\kappa) \cos\theta, \qquad
    s(\kappa) = \kappa \;\text{ or }\; \log(1 + \kappa).$$

    ==========================  =========  =========  =============
    form                        `reg1`     `reg2`     `logarithmic`
    ==========================  =========  =========  =============
    plain                       0          1
    reg1                        0.02       1
    reg2                        0          0.1
    reg1 + reg2                 0.02       0.1
    the authors' code           0.2        1          True
    ==========================  =========  =========  =============

    It is 0 for a prediction of zero length (the uniform distribution) and negative for a better one. The plain one
    lets the length grow without end where words are predicted well; the others hold it back.

    Args:
        width: width of the hidden states; None: there is no layer, the hidden states are the prediction.
        targets: the words' vectors, frozen as a rule: nothing in this loss keeps learned ones apart.
        reg1: $\lambda_1 \ge 0$, against long predictions.
        reg2: $\lambda_2 > 0$, factor of the reward for the right direction.
        logarithmic: $s(\kappa) = \log(1 + \kappa)$.
        **options: see `AbstractContinuous`; scores are $c\, e \cdot u_w + \beta \log p_w$. Label smoothing $a$
            multiplies the reward by $1 - a$, the mean over smoothed targets if the vectors' mean is zero.

    Shapes: prediction `[..., m]`; targets int `[...]`; mask and weights `[...]` or only its first dimensions.

    Raises:
        ValueError: an argument out of range, shapes that don't fit, ids out of range.

    The plain loss and reg1 are convex in the prediction; of the others `curvature_product` gives the semidefinite part.

    Example:
        >>> head = VonMisesFisher(None, Targets(torch.eye(16)))
        >>> total, count = head.loss(torch.zeros(2, 16), torch.tensor([0, 1]))
        >>> round(total.item(), 4) + 0.0, count.item()
        (0.0, 2.0)
        >>> head.decode(9 * torch.eye(16)[3:4], 1)[0]
        tensor([[3]])

    Source: Kumar, Tsvetkov (2019), Von Mises-Fisher Loss for Training Sequence to Sequence Models with Continuous
    Outputs (its equation 5 has the wrong sign for the approximated normalizer; none is approximated here).

    Not for pretrained vectors whose directions crowd together, unless the model may lose rare words.
    """

    takes_smoothing = True

    def __init__(
        self,
        width: int | None,
        targets: Targets,
        *,
        reg1: float = 0.0,
        reg2: float = 1.0,
        logarithmic: bool = False,
        **options: Unpack[ContinuousOptions],
    ) -> None:
        super().__init__(width, targets, **options)
        if not (reg1 >= 0.0 and reg2 > 0.0):
            raise ValueError(
                f"VonMisesFisher needs reg1 >= 0 and reg2 > 0; got {reg1!r} and {reg2!r}. The plain form is 0 and 1."
            )
        self.reg1 = reg1
        self.reg2 = reg2
        self.logarithmic = logarithmic

    def potential(self, square: Tensor, dot: Tensor) -> Tensor:
        """Return the loss of each row from $q$ and $t$."""
        loss = log_partition(square, self.targets.width)
        reward = self.reg2 * (1.0 - self.label_smoothing) * dot
        if not self.logarithmic and not self.reg1:
            return loss - reward
        kappa = length_of(square)
        if not self.logarithmic:
            return loss - reward + self.reg1 * kappa
        size = torch.log1p(kappa)
        return loss - reward * size / kappa + self.reg1 * size
