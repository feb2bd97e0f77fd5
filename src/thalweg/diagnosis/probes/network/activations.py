"""What flows through the networks at the present weights: forward through each operation, and back to it."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from thalweg.diagnosis.probes.network.recurrence import gate_saturated, gates, slope_of
from thalweg.diagnosis.probes.parts import affordable
from thalweg.diagnosis.probes.untouched import probe
from thalweg.diagnosis.subject import Networks, Subject
from thalweg.objective import Objective
from thalweg.training.steps.sites import Sites

_EXAMPLES: Final = 128
_BATCHES: Final = 4
_PLACES: Final = 3  # sites from which on depth means something
_EQUAL: Final = 1e-6  # rows of a weight that differ by less, relative to their size, are duplicates


@probe()
def activations(subject: Subject) -> dict[str, Any]:
    """Measure every operation's output and the gradient that returns to it, the gates of recurrent layers, and weights.

    `sites` are in forward order, figures are means over batches. A unit counts as dead where it is at most 0 at every
    position of every batch; `dead` is the smallest share of any batch, which is no less than that. `dead` and
    `saturated` are also there by site, `gate_saturated` by layer, the largest of its gates' shares; figures by depth
    are those of `by_depth`.
    """
    batches = affordable(subject.train[:_BATCHES], _EXAMPLES)
    sites = sites_of(subject.objective(batches))
    shut = gates(subject, batches[-1])
    return {
        "sites": sites,
        **by_depth(sites),
        "dead": by_site(sites, "dead"),
        "saturated": by_site(sites, "saturated"),
        "gates": shut,
        "gate_saturated": gate_saturated(shut),
        "weights": {name: weight_figures(tensor) for name, tensor in matrices((subject.model, subject.head))},
    }


def sites_of(objective: Objective) -> list[dict[str, Any]]:
    """Return the sites of forward and backward passes on an objective's batches, averaged over these."""
    sites = Sites((("", objective.model), ("head", objective.head)))
    found: dict[tuple[str, str], defaultdict[str, list[float]]] = {}
    for batch in objective.batches:
        sites.attach()
        try:
            total, count = objective.sum_and_count(batch)
            if total.requires_grad:
                (total / objective.head.divisor(count)).backward()
        finally:
            measured = sites.detach()
        for parameter in objective.parameters:
            parameter.grad = None
        for site in measured:
            figures = found.setdefault((site["name"], site["kind"]), defaultdict(list))
            for key, value in site.items():
                if isinstance(value, int | float):
                    figures[key].append(value)
    least, most = {"dead", "entropy_min"}, {"max_logit"}
    return [
        {"name": name, "kind": kind}
        | {
            key: min(values) if key in least else max(values) if key in most else sum(values) / len(values)
            for key, values in figures.items()
        }
        for (name, kind), figures in found.items()
    ]


def by_depth(sites: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return how `std` and `flow` change with depth, under the names that a history's measurements have.

    `*_slope` is that of the logarithm over the places of the sites in nats a site, by least squares, and `*_range` the
    logarithm of the first over the last value. `*_trend` is the median slope of all pairs of linear and recurrent
    sites (Theil, 1950), which single sites do not decide.
    """
    found: dict[str, float] = {}
    for key in ("std", "flow"):
        points = _logarithms([site.get(key) for site in sites])
        if len(points) >= _PLACES:
            places = [(place, value) for place, (_, value) in enumerate(points)]
            found[f"{key}_range"] = points[0][1] - points[-1][1]
            found[f"{key}_slope"] = slope_of(places)
        deep = _logarithms([site.get(key) for site in sites if site["kind"] in ("linear", "recurrent")])
        if len(deep) >= 2:
            found[f"{key}_trend"] = _median_slope(deep)
    return found


def _logarithms(values: Sequence[float | None]) -> list[tuple[int, float]]:
    return [(i, math.log(value)) for i, value in enumerate(values) if value and value > 0.0 and math.isfinite(value)]


def _median_slope(points: Sequence[tuple[int, float]]) -> float:
    slopes = sorted((b[1] - a[1]) / (b[0] - a[0]) for i, a in enumerate(points) for b in points[i + 1 :])
    middle = len(slopes) // 2
    return slopes[middle] if len(slopes) % 2 else 0.5 * (slopes[middle - 1] + slopes[middle])


def by_site(sites: Sequence[Mapping[str, Any]], key: str) -> dict[str, float]:
    """Return one figure of the sites that have it, by name and kind."""
    return {f"{site['name']} ({site['kind']})": site[key] for site in sites if key in site}


def matrices(networks: Networks) -> list[tuple[str, Tensor]]:
    """Return the weights of at least two dimensions with their names, tied ones once."""
    seen: dict[int, tuple[str, Tensor]] = {}
    for prefix, network in zip(("", "head."), networks, strict=True):
        for name, tensor in network.named_parameters():
            if tensor.dim() >= 2:
                seen.setdefault(id(tensor), (f"{prefix}{name}", tensor.detach()))
    return list(seen.values())


def weight_figures(weight: Tensor) -> dict[str, float]:
    r"""Return the scale of a weight and the shares of its rows that are zero, and that repeat another row.

    The scale is the root mean square times the square root of the inputs of a unit, so that 1 keeps the size of a
    signal; of a table of vectors, whose rows are read one at a time, the root mean square times that of a row's size.
    """
    rows = weight.reshape(len(weight), -1).float()
    norms = rows.norm(dim=1)
    order = torch.argsort(rows @ torch.randn(rows.shape[1], generator=torch.Generator().manual_seed(0)).to(rows))
    near = (rows[order][1:] - rows[order][:-1]).norm(dim=1) <= _EQUAL * norms[order][1:]
    repeated = torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
    repeated[order[1:][near]] = True
    repeated[order[:-1][near]] = True
    return {
        "scale": float(rows.square().mean().sqrt()) * math.sqrt(rows.shape[1]),
        "fan_in": float(rows.shape[1]),
        "numbers": float(rows.numel()),
        "zero": float((norms == 0.0).float().mean()),
        "symmetric": float(repeated.float().mean()) if len(rows) > 1 else 0.0,
    }
