"""Rules about the network: how gradients and activations change with depth and in time, units that are shut, starts."""

import math

from thalweg.diagnosis.finding import Finding, Repair, Severity
from thalweg.diagnosis.symptoms.evidence import Evidence
from thalweg.diagnosis.symptoms.limits import limit
from thalweg.diagnosis.symptoms.repairs import OF_THE_OPTIMIZER, action
from thalweg.errors import counted
from thalweg.tasks.spec import PRETRAINED

DEEP = 4  # sites of activations from which on depth means something


def vanishing_gradient(evidence: Evidence) -> Finding | None:
    """A gradient that is orders of magnitude smaller at the first activation than at the last one."""
    fall, slope = evidence.depth("start", "flow_range"), evidence.depth("start", "flow_slope")
    most, steep = limit("flow"), limit("flow slope")
    if fall is None or slope is None or -fall < most or slope < steep / 4.0:
        return None
    family, options = evidence.fact("family"), dict(evidence.fact("options") or {})
    repair = Repair("Give the gradient a way around the layers: --skip prenorm --init default.",
                    {"skip": "prenorm", "init": "default"}, "initialize")  # fmt: skip
    if family == "mlp" and options.get("activation") in {"sigmoid", "tanh"}:
        repair = Repair(
            "Give the gradient a way around the layers, and better units: --skip prenorm --activation gelu.",
            {"skip": "prenorm", "activation": "gelu", "init": "default"}, "initialize",
        )  # fmt: skip
    return Finding(
        "vanishing-gradient",
        Severity.ERROR,
        f"At the start the gradient is {math.exp(-fall):.1g} times as large at the last activation as at the first.",
        repair,
        {"nats": -fall, "nats_a_site": slope},
        {"nats": most, "nats_a_site": steep / 4.0},
        strength=-fall / most,
    )


def exploding_gradient(evidence: Evidence) -> Finding | None:
    """A gradient that is orders of magnitude larger at the first activation than at the last, or jumps."""
    rise, slope = evidence.depth("start", "flow_range"), evidence.depth("start", "flow_slope")
    most = limit("flow")
    if rise is not None and slope is not None and rise > most and slope < 0.0:
        return Finding(
            "exploding-gradient",
            Severity.ERROR,
            f"At the start the gradient is {math.exp(rise):.1g} times as large at the first activation as at the last.",
            Repair("Clip it, and let layers keep the size of what passes: --clip 1 --skip prenorm --init default.",
                   {"clip": 1.0, "skip": "prenorm", "init": "default"}, "initialize"),
            {"nats": rise},
            {"nats": most},
            strength=rise / most,
        )  # fmt: skip
    peak, jump = evidence.trend("grad_norm_peak"), limit("gradient explosion")
    norm, first = evidence.trend("grad_norm") or 1.0, evidence.trend("grad_norm_start") or 0.0
    is_far = peak is not None and peak > jump and peak * norm > limit("gradient jump") * first
    if peak is not None and is_far and not evidence.fact("is_proved"):
        usual = float(f"{2.0 * norm:.1e}")
        return Finding(
            "exploding-gradient",
            Severity.WARNING,
            f"The largest gradient was {peak:.0f} times the usual norm {norm:.3g}.",
            Repair(f"Clip to about twice the usual norm: --clip {usual:g}.", {"clip": usual}),
            {"peak": peak},
            {"peak": jump},
            strength=peak / jump,
        )
    return None


def vanishing_in_time(evidence: Evidence) -> Finding | None:
    """A recurrent state that depends on nothing but the last few inputs."""
    layers, most = evidence.found("memory", "layers") or [], limit("memory slope")
    slopes = {layer["name"]: layer["slope"] for layer in layers if layer.get("slope") is not None}
    if not slopes or -min(slopes.values()) < most:
        return None
    name, slope = min(slopes.items(), key=lambda one: one[1])
    return Finding(
        "vanishing-in-time",
        Severity.WARNING,
        f"What the state of {name} keeps of an input falls by {1.0 - math.exp(slope):.0%} with each time step.",
        Repair("Start with open forget gates (their bias at 1) and orthogonal recurrent weights: --init orthogonal.",
               {"init": "orthogonal"}, "initialize"),
        {"nats_a_step": -slope},
        {"nats_a_step": most},
        where=[one for one, value in slopes.items() if -value > most],
        strength=-slope / most,
    )  # fmt: skip


def saturated_activations(evidence: Evidence) -> Finding | None:
    """A layer of tanh or sigmoid, or gates of a recurrent one, most of whose outputs lie in the flat parts.

    What was not so at the start of a training that has learned is what it learned: gates that are open or shut.
    """
    most, gates = limit("saturated"), limit("gate saturated")
    found = {**evidence.numbers("activations", "saturated"), **evidence.table("saturated")}
    shut = evidence.numbers("activations", "gate_saturated")
    if evidence.has_learned:
        start = {
            **evidence.numbers("start", "saturated"),
            **evidence.numbers("start", "gate_saturated"),
            **evidence.table("saturated_start"),
        }
        found, shut = ({name: one[name] for name in one if start.get(name, 0.0) > most} for one in (found, shut))
    worst = max(found.items(), key=lambda one: one[1], default=("", 0.0))
    gate = max(shut.items(), key=lambda one: one[1], default=("", 0.0))
    if worst[1] <= most and gate[1] <= gates:
        return None
    is_gate = worst[1] / most < gate[1] / gates
    name, share = gate if is_gate else worst
    threshold = gates if is_gate else most
    return Finding(
        "saturated-activations",
        Severity.ERROR if share > 0.8 else Severity.WARNING,
        f"{share:.0%} of the {'values of one gate' if is_gate else 'outputs'} of {name} lie where its activation is "
        "flat.",
        Repair("Start with smaller weights (--init default), or take an activation that does not saturate "
               "(--activation gelu).", {"init": "default", "activation": "gelu"}, "initialize"),
        {"saturated": share},
        {"saturated": threshold},
        where=[key for key, value in {**found, **shut}.items() if value > min(most, gates)][:8],
        strength=share / threshold,
    )  # fmt: skip


def dead_units(evidence: Evidence) -> Finding | None:
    """A layer of ReLUs of which most are zero on all examples."""
    most = limit("dead")
    found = evidence.numbers("activations", "dead") or evidence.table("dead")
    name, share = max(found.items(), key=lambda one: one[1], default=("", 0.0))
    if share <= most:
        return None
    return Finding(
        "dead-units",
        Severity.ERROR if share > 0.9 else Severity.WARNING,
        f"{share:.0%} of the units of {name} are zero on all examples.",
        Repair("Start anew with biases at zero (--init default), a lower rate, or units that cannot die: "
               "--activation gelu.", {"activation": "gelu", "init": "default"}, "initialize"),
        {"dead": share},
        {"dead": most},
        where=[key for key, value in found.items() if value > most][:8],
        strength=share / most,
    )  # fmt: skip


def _drawn(evidence: Evidence, name: str) -> dict[str, float]:
    """Return a figure of the starting weights by layer, without layers that start at zero and have left it.

    Those of a linear model do, and output layers may: their gradients differ from unit to unit all the same. A
    pretrained model's are not drawn.
    """
    if str(evidence.fact("model")).startswith(PRETRAINED):
        return {}
    now = evidence.found("activations", "weights") or {}
    zero = evidence.numbers("start", "zero")
    return {
        layer: value
        for layer, value in evidence.numbers("start", name).items()
        if zero.get(layer, 0.0) < 1.0 or (layer in now and now[layer].get("symmetric", 0.0) > 0.99)
    }


def initialization_too_small(evidence: Evidence) -> Finding | None:
    """Layers whose weights start at a small part of one over the root of their inputs."""
    scales, least = _drawn(evidence, "scale"), limit("scale small")
    small = [name for name, value in scales.items() if 0.0 <= value < least]
    if not small or len(small) < max(1, len(scales) // 3):
        return None
    worst = min(small, key=lambda name: scales[name])
    plain = evidence.fact("optimizer") == "sgd"  # whose steps are as small as the gradient
    more = {"optimizer": "adamw", **dict.fromkeys(OF_THE_OPTIMIZER)} if plain else {}
    return Finding(
        "initialization-too-small",
        Severity.ERROR if len(small) > len(scales) / 2 and scales[worst] < least / 10.0 else Severity.WARNING,
        f"The weights of {len(small)} of {len(scales)} layers start at less than {least:g} of 1/sqrt(inputs); "
        f"{worst} at {scales[worst]:.1e}.",
        Repair(
            "Start with PyTorch's own scale, --init default" + (", and take --optimizer adamw." if plain else "."),
            {"init": "default", **more},
            "initialize",
        ),
        {"scale": scales[worst]},
        {"scale": least},
        where=small[:8],
        strength=least / max(scales[worst], 1e-12),
    )


def initialization_too_large(evidence: Evidence) -> Finding | None:
    """Layers whose weights start at many times one over the root of their inputs, or a first loss far above a guess."""
    scales, most = _drawn(evidence, "scale"), limit("scale large")
    large = [name for name, value in scales.items() if value > most]
    loss, chance, times = evidence.probe("start", "loss"), evidence.chance, limit("first loss")
    is_high = loss is not None and chance is not None and loss > times * max(chance, 0.3)
    if not (large and len(large) >= max(1, len(scales) // 3)) and not (is_high and large):
        return None
    worst = max(large, key=lambda name: scales[name])
    first = f" The first loss is {loss:.3g}, that of a guess {chance:.3g}." if is_high else ""
    return Finding(
        "initialization-too-large",
        Severity.ERROR if is_high else Severity.WARNING,
        f"The weights of {len(large)} of {len(scales)} layers start at more than {most:g} times 1/sqrt(inputs); "
        f"{worst} at {scales[worst]:.1f}.{first}",
        Repair("Start with PyTorch's own scale: --init default.", {"init": "default"}, "initialize"),
        {"scale": scales[worst]},
        {"scale": most},
        where=large[:8],
        strength=scales[worst] / most,
    )


def symmetric_initialization(evidence: Evidence) -> Finding | None:
    """Layers most of whose units start as copies of each other."""
    found, most = _drawn(evidence, "symmetric"), limit("symmetric")
    same = [name for name, share in found.items() if share > most]
    if not same:
        return None
    return Finding(
        "symmetric-initialization",
        Severity.ERROR,
        f"{found[same[0]]:.0%} of the units of {same[0]} start with the weights of another unit.",
        action("initialize", "Draw the weights at random, so that units differ."),
        {"symmetric": max(found.values())},
        {"symmetric": most},
        where=same[:8],
        strength=max(found.values()) / most,
    )


def untrained_parameters(evidence: Evidence) -> Finding | None:
    """Layers that have a gradient and never change, or that the loss does not reach, or that are frozen at random."""
    layers = len(evidence.table("grad_norm_by_layer"))
    still = list(evidence.trends.get("without_update") or ())
    frozen = list(evidence.found("gradients", "frozen") or evidence.trends.get("frozen") or ())
    unreached = [
        name
        for name in evidence.trends.get("without_gradient") or ()
        if name in set(evidence.found("gradients", "without_gradient_layers") or [name])
    ]
    outside = list(evidence.trends.get("not_in_optimizer") or ())
    share, most = evidence.probe("gradients", "frozen_share", 0.0) or 0.0, limit("untrained")
    named = outside or still
    if named and (len(still) >= most * max(layers, 1) or outside):
        return Finding(
            "untrained-parameters",
            Severity.ERROR,
            (
                f"{counted(len(outside), 'parameter')} that the optimizer does not have: "
                if outside
                else f"{counted(len(still), 'layer')} with a gradient that never changed: "
            )
            + f"{', '.join(named[:3])}{' ...' if len(named) > 3 else ''}.",
            action("give-to-optimizer", "Give all parameters to the optimizer: optimizer(model.parameters())."),
            {"layers": float(len(named))},
            {"layers": most * layers},
            where=named[:8],
            strength=len(named) / max(most * layers, 1.0),
        )
    drop = evidence.trend("drop")
    gain = evidence.probe("predictions", "accuracy_over_majority", 1.0) or 0.0
    is_stuck = drop is not None and (drop < limit("frozen drop") or gain < limit("no better than a guess"))
    is_stuck = is_stuck or bool(evidence.fact("is_fresh"))  # a random start, which nobody wants to keep
    if frozen and share > limit("frozen share") and is_stuck:
        return Finding(
            "untrained-parameters",
            Severity.ERROR if share > 0.9 else Severity.WARNING,
            f"{share:.0%} of all weights are frozen at their start"
            + (f", and the loss fell by {drop:.0%}." if drop is not None else "."),
            action("unfreeze", "Let them learn: requires_grad_(True) on them, before the optimizer is made."),
            {"share": share},
            {"share": limit("frozen share")},
            where=frozen[:8],
            strength=share / limit("frozen share"),
        )
    # Units that are shut let no gradient pass, which is then what is told.
    is_dead = max(evidence.table("dead").values(), default=0.0) > limit("dead")
    is_dead = is_dead or min(evidence.table("entropy_start").values(), default=1.0) < limit("entropy")
    if unreached and layers and len(unreached) >= most * layers and not is_dead:
        is_whole = len(unreached) == layers
        return Finding(
            "untrained-parameters",
            Severity.ERROR if len(unreached) > limit("unreached") * layers else Severity.WARNING,
            f"No gradient ever reached {len(unreached)} of {counted(layers, 'layer')}: {', '.join(unreached[:3])}"
            f"{' ...' if len(unreached) > 3 else ''}.",
            action("unfreeze", "Call loss.backward() before the optimizer's step, on a loss that depends on the model.")
            if is_whole
            else action("unfreeze", "Connect them to the loss (no detach, no no_grad), or leave them out."),
            {"layers": float(len(unreached))},
            {"layers": most * layers},
            where=unreached[:8],
            strength=len(unreached) / max(most * layers, 1.0),
        )
    return None
