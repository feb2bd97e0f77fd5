"""How long the weights are, how far they have moved, and what their penalty is."""

from typing import Any

import torch

from thalweg.diagnosis.probes.untouched import probe
from thalweg.diagnosis.subject import Subject


@probe()
def weights(subject: Subject) -> dict[str, Any]:
    r"""Return norms of all weights and, where the start is known, $\lVert w - w_0 \rVert / \lVert w_0 \rVert$.

    Returns:
        `norm`, `largest` (entry), `penalty` ($\frac{\lambda}{2} \lVert w \rVert^2$ of the penalized ones) and
        `penalty_share` of the training loss; `norm_start`, `norm_ratio`, `moved` where the start is known and
        not zero; `moved_by`: the same by layer.
    """
    objective = subject.objective()
    now = objective.named_parameters()
    with torch.no_grad():
        square = sum(float(tensor.double().square().sum()) for _, tensor in now)
        penalty = 0.5 * subject.facts.l2 * sum(float(t.double().square().sum()) for t in objective.penalized)
        found: dict[str, Any] = {
            "norm": square**0.5,
            "largest": max((float(tensor.abs().max()) for _, tensor in now if tensor.numel()), default=0.0),
            "penalty": penalty,
        }
        if penalty > 0.0:
            found["penalty_share"] = penalty / max(float(objective.value()), penalty)
        initial = subject.initial_objective()
        if initial is None:
            return found
        start = dict(initial.named_parameters())
        pairs = [(name, tensor, start[name]) for name, tensor in now if name in start]
        before = sum(float(first.double().square().sum()) for _, _, first in pairs)
        change = sum(float((tensor - first).double().square().sum()) for _, tensor, first in pairs)
        matrices = [(tensor, first) for _, tensor, first in pairs if tensor.dim() >= 2]
        kept = sum(float(tensor.double().square().sum()) for tensor, _ in matrices)
        whole = sum(float(first.double().square().sum()) for _, first in matrices)
        moved_by = {
            name: float((tensor - first).norm() / first.norm()) for name, tensor, first in pairs if float(first.norm())
        }
    found |= {"norm_start": before**0.5, "moved_by": moved_by}
    if whole > 0.0:
        found["norm_ratio"] = (kept / whole) ** 0.5
    if before > 0.0:
        found["moved"] = (change / before) ** 0.5
    return found
