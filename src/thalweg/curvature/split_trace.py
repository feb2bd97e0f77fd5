"""The trace of a Hessian in two parts: that of Gauss-Newton, exactly where a network allows it, and an estimate."""

import torch
from torch import Tensor

from thalweg import distributed
from thalweg.batch import Batch
from thalweg.curvature.diagonal import LinearCall, linear_calls
from thalweg.curvature.differentiable import twice_differentiable
from thalweg.curvature.estimate import Estimate, xtrace
from thalweg.curvature.gauss_newton import GaussNewton
from thalweg.curvature.hessian import Hessian
from thalweg.objective import Objective

MAX_OUTPUTS = 64  # a backward pass for each, up to the inputs of the layers only
_FIRST = 4  # products by which the two ways are compared


def hessian_trace(
    hessian: Hessian, *, relative_error: float = 0.02, max_products: int = 300, seed: int = 0
) -> Estimate:
    r"""Return the trace of a Hessian by the cheapest way that its network allows.

    For a network of linear layers and functions between them,
    $\operatorname{tr} H = \operatorname{tr} G + \operatorname{tr}(H - G)$, where the trace of the Gauss-Newton matrix G
    is exact without any product, and the rest is the mean of $v^\top (H - G) v$ over random signs. What carries the
    trace of a trained network, and nearly all of the noise of its estimate, is G. For other networks, and where the
    rest turns out to be noisier than a few dozen products would smooth, it is `xtrace` of H.

    Args:
        hessian: H, of an objective.
        relative_error: standard error, relative to the estimate, at which to end; positive.
        max_products: the most products with H, at least 4.
        seed: of the random vectors.

    Returns:
        The estimate; products with H and with G count alike.

    Raises:
        ValueError: for numbers out of their range.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1))
        >>> objective = Objective(model, torch.nn.MSELoss(), torch.randn(50, 2), torch.randn(50, 1))
        >>> estimate = hessian_trace(Hessian(objective))
        >>> estimate.standard_error <= 0.02 * abs(estimate.value)
        True
    """
    if not relative_error > 0.0 or max_products < _FIRST:
        raise ValueError(
            f"hessian_trace(relative_error=..., max_products=...) must be positive and at least {_FIRST}; "
            f"got {relative_error!r}, {max_products!r}."
        )
    exact = gauss_newton_trace(hessian.objective, hessian.like)
    if exact is None:
        return xtrace(hessian, max_products, relative_error=relative_error, seed=seed)
    # The Hessian has checked that the network is differentiated rightly, once and twice.
    rest = hessian - GaussNewton(hessian.objective, hessian.like, check=False)
    generator = torch.Generator().manual_seed(seed)
    forms: list[float] = []
    while True:
        signs = torch.randint(0, 2, (hessian.size,), generator=generator, dtype=torch.int8)
        vector = (2 * signs - 1).to(dtype=hessian.dtype, device=hessian.device)
        forms.append(float((vector * (rest @ vector)).double().sum()))
        if len(forms) < _FIRST:
            continue
        parts = torch.tensor(forms, dtype=torch.float64)
        value, spread = exact + float(parts.mean()), float(parts.std())
        # The spread of a few parts says little of itself; widened like this its square is right on average.
        spread *= ((len(forms) - 1) / (len(forms) - 3)) ** 0.5
        allowed = relative_error * abs(value)
        if spread <= allowed * len(forms) ** 0.5 or 2 * len(forms) >= max_products:
            return Estimate(value, spread / len(forms) ** 0.5, 2 * len(forms))
        if len(forms) == _FIRST and spread**2 > 16.0 * allowed**2:
            return xtrace(hessian, max_products, relative_error=relative_error, seed=seed)


def gauss_newton_trace(objective: Objective, parameters: list[Tensor]) -> float | None:
    r"""Return the exact trace of the Gauss-Newton matrix, if the network passes each example through each layer once.

    With the columns $s_k$ of the root of the head's curvature and $\delta_{l} = J_l^\top s_k$ at the output of linear
    layer l, which has the input x,

    $$\operatorname{tr} G = \frac{1}{\sum_b n_b} \sum_{t, k, l} \lVert \delta_{tkl} \rVert^2
      \left( \lVert x_{tl} \rVert^2 + 1 \right) + \text{penalty}:$$

    one backward pass an output, and none of them makes a gradient of the weights.

    Args:
        objective: the function.
        parameters: rows and columns of the matrix.

    Returns:
        The trace; None where a parameter belongs to anything else than a linear layer that is called once with one row
        for each example, an example has to do with another one, or there are more than 64 outputs.

    Source: Goodfellow (2015), Efficient Per-Example Gradient Computations.
    """
    total = torch.zeros((), dtype=torch.float64, device=parameters[0].device)
    count, fits = torch.zeros_like(total), torch.ones_like(total)
    for batch in objective.batches:
        parts = _of_batch(objective, batch, parameters)
        if parts is None:
            fits.zero_()
            break
        total, count = total + parts[0], count + parts[1]
    total, count, fits = distributed.sum_over_ranks([total, count, fits])
    if round(float(fits)) < distributed.world_size():
        return None
    penalties = zip(parameters, objective.penalties(parameters), strict=True)
    return float(total / objective.head.divisor(count)) + sum(penalty * tensor.numel() for tensor, penalty in penalties)


def _of_batch(objective: Objective, batch: Batch, parameters: list[Tensor]) -> tuple[Tensor, Tensor] | None:
    """Return the undivided trace and the count of one micro-batch."""
    wanted = {id(tensor) for tensor in parameters}
    with torch.enable_grad(), twice_differentiable(), linear_calls(objective, wanted) as calls:
        prediction = objective.unchanged(lambda: objective.prediction(batch))
    owned = [id(tensor) for call in calls for tensor in (call.layer.weight, call.layer.bias) if tensor is not None]
    alone = len(owned) == len(set(owned)) and wanted <= set(owned)
    shapes = prediction.dim() == 2 and all(c.input.dim() == 2 and len(c.input) == len(prediction) for c in calls)
    if not (alone and shapes and prediction.shape[1] <= MAX_OUTPUTS and prediction.requires_grad):
        return None
    if not _apart(prediction, calls, parameters):
        return None
    fixed = prediction.detach()
    count = objective.head.loss(fixed, batch.targets, batch.mask, batch.weights)[1].double()
    outputs = [call.output for call in calls]
    sizes = []
    for call in calls:
        size = call.input.double().square().sum(1) if id(call.layer.weight) in wanted else 0.0
        sizes.append(size + (call.layer.bias is not None and id(call.layer.bias) in wanted))
    total = torch.zeros_like(count)
    for k in range(prediction.shape[1]):
        unit = torch.zeros_like(fixed)
        unit[:, k] = 1.0
        root = objective.head.curvature_root(fixed, batch.targets, batch.mask, unit, batch.weights)
        deltas = torch.autograd.grad(prediction, outputs, root.to(fixed), retain_graph=True, allow_unused=True)
        for delta, size in zip(deltas, sizes, strict=True):
            if delta is not None:
                total = total + (delta.double().square().sum(1) * size).sum()
    return total, count


def _apart(prediction: Tensor, calls: list[LinearCall], parameters: list[Tensor]) -> bool:
    """Whether no example has to do with another, and the layers' calls make up the parameters' whole gradients."""
    generator = torch.Generator().manual_seed(0)
    some = torch.arange(len(prediction)) % 2 == 0
    noise = torch.randn(prediction.shape, generator=generator, dtype=torch.float64) * some.unsqueeze(1)
    outputs = [call.output for call in calls]
    found = torch.autograd.grad(
        prediction, [*outputs, *parameters], noise.to(prediction), retain_graph=True, materialize_grads=True
    )
    gradients = dict(zip(map(id, parameters), found[len(calls) :], strict=True))
    wrong = torch.zeros((), dtype=torch.float64, device=prediction.device)
    for call, delta in zip(calls, found, strict=False):
        wrong += delta[~some.to(delta.device)].abs().amax() if len(delta) > 1 else 0.0
        for tensor, own in ((call.layer.weight, delta.T @ call.input.to(delta)), (call.layer.bias, delta.sum(0))):
            if tensor is not None and id(tensor) in gradients:
                gradient = gradients[id(tensor)]
                gap = (gradient - own).norm() - torch.finfo(own.dtype).eps ** 0.5 * gradient.norm()
                wrong += gap.clamp(min=0.0)
    return bool(wrong == 0.0)
