"""Rules about steps: their length, their noise, their schedule, and what is done to the gradient before them."""

import math
from typing import Any, Final

from thalweg import names
from thalweg.diagnosis.finding import Finding, Repair, Severity
from thalweg.diagnosis.symptoms.evidence import Evidence
from thalweg.diagnosis.symptoms.limits import limit
from thalweg.diagnosis.symptoms.repairs import options_of, usual, with_rate

# Optimizers whose steps do not depend on the length of the gradient.
# Methods that take the loss at two points for one function, which two batches are not.
ONE_FUNCTION: Final = {"lbfgs", *names.METHODS} - {"gradient", *names.MINI_BATCH_METHODS}
SCALE_FREE: Final = {"adam", "adamw", "nadam", "radam", "adamax", "rmsprop", "adagrad", "soap", "shampoo", "muon",
                     "polar-muon", "normuon", "auto", "lion", "sophia", "adafactor"}  # fmt: skip

_SCALES: Final = ("noise_scale", "noise_scale_low", "noise_scale_high")
FEWEST: Final = 20  # steps on parts of the data that show a slope


def learning_rate_too_high(evidence: Evidence) -> Finding | None:
    """Steps from the start that are many times as long as the longest that lowers the loss, or a loss that rose."""
    longest, best = evidence.probe("rate", "critical_factor_start"), evidence.probe("rate", "best_factor_start")
    progress, drift = evidence.trend("drop"), evidence.probe("weights", "moved")
    if evidence.fact("is_proved"):
        return None
    if longest is not None and best is not None and min(longest, best) < limit("rate margin"):
        margin, rise = min(longest, best), evidence.trend("level_rise", 0.0) or 0.0
        # Where clipping has kept the weights near, the loss went up on the way all the same.
        reasons = [
            (
                "moved",
                drift,
                limit("moved"),
                limit("rate margin"),
                "the weights have moved {:.3g} times their own length",
            ),
            ("rise", rise, limit("level rise"), limit("rate far above"), "the loss rose by {:.3g} times the first one"),
        ]
        for name, value, most, short, words in reasons:
            if value is not None and value > most and margin < short:
                return Finding(
                    "learning-rate-too-high",
                    Severity.WARNING if evidence.has_learned else Severity.ERROR,
                    (
                        f"From the start, a step {margin:.2g} times as long as the full ones lowers the loss most, or "
                        "is the longest that does"
                        if margin > 0.0
                        else "From the start, no step lowers the loss that is 0.001 times as long as the full ones or "
                        "longer"
                    )
                    + f", and {words.format(value)}.",
                    _rate(evidence, max(longest / 8.0 if longest <= limit("rate margin") else best / 2.0, 1e-5)),
                    {"margin": margin, name: value},
                    {"margin": short, name: most},
                    strength=value / most,
                )
    end, start = evidence.trend("loss_end"), evidence.trend("loss_start")
    risen = limit("risen")
    is_long = (evidence.trend("num_steps") or 0) >= FEWEST or evidence.fact("full_batch")
    if is_long and end is not None and start is not None and progress is not None and end > start * (1 + risen) > 0:
        return Finding(
            "learning-rate-too-high",
            Severity.ERROR,
            f"The training loss went from {start:.4g} up to {end:.4g}.",
            _rate(evidence, 0.03),
            {"end_over_start": end / start},
            {"end_over_start": 1.0 + risen},
            strength=end / (start * (1.0 + risen)),
        )
    return None


def _rate(evidence: Evidence, factor: float) -> Repair:
    if (repair := _one_function(evidence)) is not None:
        return repair
    rate, optimizer = evidence.fact("lr"), evidence.fact("optimizer")
    if rate is None or (optimizer == "sgd" and (evidence.fact("momentum") or 0.0) > limit("momentum")):
        return usual("Rate and momentum have to be lower.")
    if evidence.fact("options") and optimizer in SCALE_FREE:  # a recipe, whose model has a usual rate
        return Repair("The rate has to be lower: without --lr it is the model's usual one.", {"lr": None})
    return with_rate(evidence, rate * min(factor, 0.3), "The rate has to be lower.")


def _one_function(evidence: Evidence) -> Repair | None:
    """Return what mends a method on batches that is made for one function; None for others."""
    name = evidence.fact("optimizer")
    if evidence.fact("full_batch") or name not in ONE_FUNCTION:
        return None
    return options_of(
        f"{name} compares losses and gradients of two steps, so both have to be of the same data: --batch-size full.",
        batch_size=0,
        accumulate=None,
    )


def learning_rate_too_low(evidence: Evidence) -> Finding | None:
    """Updates that hardly move the weights while the loss still falls, or a loss that hardly fell at all."""
    ratio, moved = evidence.trend("update_ratio_typical"), evidence.probe("weights", "moved")
    gain, margin = evidence.trend("gain_certainty"), evidence.probe("rate", "best_factor_start")
    if ratio is None or moved is None or margin is None or evidence.fact("is_proved"):
        return None
    if max(evidence.table("dead").values(), default=0.0) > 0.9:  # no rate wakes them
        return None
    is_cut = (evidence.trend("clipped", 0.0) or 0.0) > 0.9 and evidence.fact("optimizer") not in SCALE_FREE
    if (evidence.trend("lr_tail", 0.0) or 0.0) > limit("lr tail") or is_cut:
        return None
    small, least, short = limit("update ratio"), limit("moved little"), limit("rate far below")
    if ratio < small and moved < least and margin > short:
        rate = evidence.fact("lr")
        factor = min(small * 8.0 / max(ratio, 1e-12), margin)
        repair = usual("The rate has to be higher.")
        if rate is not None:
            repair = with_rate(evidence, rate * factor, "The rate has to be higher.")
        return Finding(
            "learning-rate-too-low",
            Severity.ERROR
            if moved < least / 4.0 or (evidence.trend("drop") or 0.0) < limit("frozen drop")
            else Severity.WARNING,
            f"An update changes the weights by {ratio:.1e} of their length, all together by {moved:.1%}, and at the "
            f"start a step {margin:.0f} times as long lowered the loss most.",
            repair,
            {"update_ratio": ratio, "moved": moved, "margin": margin, "gain_certainty": gain or 0.0},
            {"update_ratio": small, "moved": least, "margin": short},
            strength=small / max(ratio, 1e-12),
        )
    return None


def oscillation(evidence: Evidence) -> Finding | None:
    """Full-batch steps of which many go up, or gradients that point back at each other."""
    ups, aligned = evidence.trend("ups_late"), evidence.trend("alignment_late")
    if evidence.fact("full_batch"):
        most = limit("ups")
        rough = (evidence.trend("roughness") or 1.0) * (evidence.trend("loss_end") or 1.0)
        is_over = rough < limit("settled") * abs(evidence.trend("loss_start") or 0.0)  # what goes up is next to nothing
        if ups is not None and ups > most and (evidence.trend("num_steps") or 0) >= 20 and not is_over:
            return _oscillation(evidence, f"{ups:.0%} of the late steps raised the loss on all data", ups, most)
        return None
    least = limit("alignment")
    if aligned is not None and aligned < least and (evidence.trend("alignments") or 0) >= 6:
        text = f"The gradients of neighboring steps have a cosine of {aligned:.2f} in the second half"
        return _oscillation(evidence, text, -aligned, -least)
    return None


def _oscillation(evidence: Evidence, text: str, value: float, threshold: float) -> Finding:
    rate = evidence.fact("lr")
    repair = usual("Shorter steps.")
    if (whole := _one_function(evidence)) is not None:
        repair = whole
    elif rate is not None:
        repair = with_rate(evidence, rate / 4.0, "The rate has to be lower.")
    return Finding(
        "oscillation", Severity.WARNING, f"{text}.", repair, {"value": value}, {"value": threshold},
        strength=value / threshold,
    )  # fmt: skip


def edge_of_stability(evidence: Evidence) -> Finding | None:
    """Plain gradient descent on all data whose rate times the sharpness is about 2 or above."""
    product = evidence.probe("spectrum", "lr_times_sharpness")
    if product is None or not evidence.fact("full_batch") or evidence.fact("optimizer") != "sgd":
        return None
    least = limit("edge")
    if product < least or evidence.fact("momentum"):
        return None
    rate = evidence.fact("lr")
    return Finding(
        "edge-of-stability",
        Severity.NOTE,
        f"The largest eigenvalue of the Hessian times the learning rate is {product:.2f}; above 2 gradient descent "
        "diverges on a quadratic.",
        with_rate(evidence, rate * 1.5 / product, "A lower rate falls at every step."),
        {"lr_times_sharpness": product},
        {"lr_times_sharpness": least},
        strength=product / least,
    )


def loss_spikes(evidence: Evidence) -> Finding | None:
    """Several jumps of the loss far above its running median, or one from which it took long to come back."""
    spikes, height = evidence.trend("spikes", 0.0) or 0.0, evidence.trend("spike_height", 0.0) or 0.0
    rise, far = evidence.trend("level_rise", 0.0) or 0.0, limit("level rise")
    least, high = limit("spikes"), limit("spike height")
    are_many = spikes >= least and height >= high
    if not are_many and rise < far:
        return None
    steps = list(evidence.trends.get("spike_steps") or [])
    first = f", first at step {steps[0]:,}" if steps else ""
    options: dict[str, Any] = {"clip": float(f"{max(evidence.trend('grad_norm') or 1.0, 1e-3):.1e}")}
    options |= {"clip_running": 2.0, "clip_update": _entry_limit(evidence)}
    return Finding(
        "loss-spikes",
        Severity.WARNING if rise < far else Severity.ERROR,
        f"The loss jumped {spikes:.0f} times, by up to {height:,.1f} times its level or the first loss, whichever is "
        f"larger{first}."
        if are_many
        else f"The level of the loss came back up by {rise:.1f} times the first loss{first}.",
        _one_function(evidence)
        or Repair("Clip gradient and update to what is usual (--clip, --clip-running, --clip-update), and look at the "
               "batches of these steps.", options),
        {"spikes": spikes, "height": height, "rise": rise},
        {"spikes": least, "height": high, "rise": far},
        where=[f"step {step:,}" for step in steps[:5]],
        strength=max(1.0, height / high if are_many else 0.0, rise / far),
    )  # fmt: skip


def late_updates_explode(evidence: Evidence) -> Finding | None:
    """Updates of the last fifth that are many times as long as those of the middle."""
    growth, most = evidence.trend("update_growth"), limit("update growth")
    if growth is None or growth < most or (evidence.trend("num_steps") or 0) < 40:
        return None
    return Finding(
        "late-updates-explode",
        Severity.ERROR,
        f"Updates of the last fifth of the training are {growth:.0f} times as long as those of the middle.",
        options_of(
            "Let the rate fall to the end (--schedule cosine) and limit single entries of the update (--clip-update).",
            schedule="cosine", schedule_options=None, clip_update=_entry_limit(evidence),
        ),
        {"growth": growth},
        {"growth": most},
        strength=growth / most,
    )  # fmt: skip


def _entry_limit(evidence: Evidence) -> float:
    rate = evidence.fact("lr") or 1e-3
    return float(f"{3.0 * rate:.1e}")


def momentum_too_high(evidence: Evidence) -> Finding | None:
    """Momentum that averages over more than fifty steps, and a loss that swings or does not get down."""
    momentum, most = evidence.fact("momentum"), limit("momentum")
    swing, drop = evidence.trend("swing", 0.0) or 0.0, evidence.trend("drop")
    if momentum is None or momentum < most or drop is None:
        return None
    ratio = evidence.trend("loss_end", 0.0) or 0.0
    best = max(evidence.trend("loss_best", 0.0) or 0.0, 1e-12)
    wide = limit("swing")
    if swing < wide and ratio / best < 1.2 and drop > 0.3:
        return None
    own = (evidence.fact("options") or {}).get("optimizer_options") or {}
    has_momentum = evidence.fact("optimizer") == "sgd" or "momentum" in own
    options = {**own, **({"momentum": 0.9} if has_momentum else {"betas": (0.9, 0.99)})}
    steps = 1.0 / max(1.0 - momentum, 1e-6)
    changes: dict[str, Any] = {"optimizer_options": options}
    words = "Set the momentum to 0.9 (of Adam and its kin the first of --optimizer-options.betas)."
    rate, longest = evidence.fact("lr"), evidence.probe("rate", "critical_factor_start")
    if evidence.fact("optimizer") == "sgd" and rate and longest is not None:
        # Fewer steps add up now; each may be longer, as far as the loss allows where ten of them do.
        longer = min(min(steps, evidence.trend("num_steps") or 1.0) / 10.0, longest / 32.0)
        if longer > 1.0:
            changes["lr"] = float(f"{rate * longer:.1e}")
            words += f" Set --lr {changes['lr']:g}, since fewer steps add up then."
    return Finding(
        "momentum-too-high",
        Severity.ERROR if drop < 0.3 else Severity.WARNING,
        f"Momentum {momentum:g} averages over {steps:.0f} steps, and the loss swings by {swing:.0%} of its level.",
        Repair(words, changes),
        {"momentum": momentum, "swing": swing},
        {"momentum": most, "swing": wide},
        strength=(1.0 - most) / max(1.0 - momentum, 1e-6),
    )  # fmt: skip


def schedule_ended_early(evidence: Evidence) -> Finding | None:
    """A rate below a hundredth of its peak for much of the run, after a loss that was still falling."""
    tail, gain = evidence.trend("lr_tail"), evidence.trend("gain_before_tail")
    certainty = evidence.trend("gain_before_tail_certainty", 0.0) or 0.0
    long, much = limit("lr tail"), limit("gain before tail")
    moved, little = evidence.probe("weights", "moved"), limit("moved before the tail")
    is_falling = gain is not None and gain > much and certainty > 2.0
    is_short = moved is not None and (moved < little or tail > limit("lr tail alone")) if tail is not None else False
    if tail is None or gain is None or tail < long or not (is_falling or is_short):
        return None
    return Finding(
        "schedule-ended-early",
        Severity.ERROR if tail > 0.6 else Severity.WARNING,
        f"In the last {tail:.0%} of the steps the rate was below a hundredth of its peak, while "
        + (
            f"the loss had been falling by {gain:.1%} a tenth of the run."
            if is_falling
            else f"the weights had moved {moved:.1%} only."
        ),
        options_of("Let the rate fall over all steps: --schedule cosine.", schedule="cosine", schedule_options=None),
        {"tail": tail, "gain": gain},
        {"tail": long, "gain": much},
        strength=tail / long,
    )


def plateau_at_saddle(evidence: Evidence) -> Finding | None:
    """A loss that fell little and no longer falls, with negative curvature that is proved and not negligible."""
    drop, relative = evidence.trend("drop"), evidence.probe("spectrum", "relative_negative")
    gain = evidence.trend("gain_at_end", 1.0) or 0.0
    most, flat, least = limit("saddle drop"), limit("saddle gain"), limit("saddle curvature")
    if drop is None or relative is None or not evidence.found("spectrum", "certified_negative"):
        return None
    if (evidence.probe("predictions", "top_label_share") or 0.0) > limit("imbalanced"):
        return None  # a guess is nearly right there, and little can be gained
    if drop > most or abs(gain) > flat or relative < least:
        return None
    if (evidence.trend("num_steps") or 0) < FEWEST and not evidence.fact("full_batch"):
        return None  # the batches of so few steps hide what they gained
    return Finding(
        "plateau-at-saddle",
        Severity.ERROR,
        f"The loss fell by {drop:.1%} in all and {'fell' if gain >= 0.0 else 'rose'} by {abs(gain):.2%} a tenth of the "
        f"run at the end, and the curvature is negative in a direction ({relative:.0%} of the largest one).",
        usual("Leave the plateau with larger or adaptive steps, or from another start (--init, --seed)."),
        {"drop": drop, "gain": abs(gain), "negative": relative},
        {"drop": most, "gain": flat, "negative": least},
        strength=relative / least,
    )


def clipping_always(evidence: Evidence) -> Finding | None:
    """A limit that cuts nearly every gradient to a small part, under an optimizer whose steps it sets."""
    clipped, norm, clip = evidence.trend("clipped"), evidence.trend("grad_norm"), evidence.fact("clip")
    share, part = limit("clipped"), limit("clip part")
    measured = evidence.probe("gradients", "norm")
    if clip and norm is not None and norm <= clip * 1.01 and measured is not None:
        norm = measured  # a loop's own clipping is seen by what it leaves
    if not clip or clipped is None or norm is None or clipped < share or clip > part * norm:
        return None
    if evidence.fact("optimizer") in SCALE_FREE:  # a common factor of all gradients changes nothing there
        return None
    start = evidence.trend("grad_norm_start", norm) or norm
    usual = float(f"{2.0 * max(norm, start):.1e}")
    return Finding(
        "clipping-always",
        Severity.ERROR if clip < part * norm / 10.0 else Severity.WARNING,
        f"{clipped:.0%} of the gradients were cut, to {clip / norm:.2g} times their usual norm {norm:.3g}.",
        Repair(f"Clip only what is unusual: --clip {usual:g}.", {"clip": usual}),
        {"clipped": clipped, "part": clip / norm},
        {"clipped": share, "part": part},
        strength=part * norm / clip,
    )


def clipping_never(evidence: Evidence) -> Finding | None:
    """A limit above every gradient, although some are many times the usual norm."""
    clipped, peak, clip = evidence.trend("clipped"), evidence.trend("grad_norm_peak"), evidence.fact("clip")
    norm, jump, spikes = evidence.trend("grad_norm"), limit("gradient jump"), evidence.trend("spikes", 0.0) or 0.0
    if not clip or clipped is None or clipped > 0.0 or peak is None or norm is None:
        return None
    if spikes < limit("spikes") or clip < 1.5 * peak * norm:
        return None
    usual = float(f"{2.0 * norm:.1e}")
    return Finding(
        "clipping-never",
        Severity.WARNING,
        f"No gradient reached the limit {clip:g}, although the largest was {peak:.0f} times the usual norm {norm:.3g} "
        f"and the loss jumped {spikes:.0f} times.",
        Repair(f"Clip to about twice the usual norm: --clip {usual:g}.", {"clip": usual}),
        {"peak": peak, "spikes": spikes},
        {"peak": jump, "spikes": limit("spikes")},
        strength=max(peak / jump, 1.0),
    )


def batch_too_small(evidence: Evidence) -> Finding | None:
    """A batch far below the noise scale, at a rate that has not come down, and a loss that noise holds up."""
    size, scale = evidence.fact("batch_size"), evidence.probe("gradients", "noise_scale")
    rate_end, drop = evidence.trend("lr_end"), evidence.trend("drop")
    is_hidden = scale is None and evidence.probe("gradients", "noise_trace") is not None  # below its noise
    if (
        size is None
        or (scale is None and not is_hidden)
        or rate_end is None
        or drop is None
        or evidence.fact("full_batch")
    ):
        return None
    part, high = limit("batch part"), limit("rate at the end")
    most = limit("small batch") if scale is None else min(limit("small batch"), part * scale)
    if size > most or rate_end < high:
        return None
    larger = int(min(max(32, size * 8), 64))
    options: dict[str, Any] = {"batch_size": larger, "accumulate": None, "schedule": "cosine", "schedule_options": None}
    if epochs := (evidence.fact("options") or {}).get("epochs"):  # as many steps as before
        options["epochs"] = float(f"{epochs * larger / size:.3g}")
    return Finding(
        "batch-too-small",
        Severity.WARNING,
        f"Batches of {size}{_noise_words(evidence)}, and the rate stays at {rate_end:.0%} of its peak to the end.",
        Repair(f"As many steps on batches of {larger}, at a rate that falls to zero: --batch-size {larger} --schedule "
               "cosine, and --epochs so many times as before.", options),
        {"batch_size": float(size), "lr_end": rate_end} | ({} if scale is None else {"noise_scale": scale}),
        {"batch_size": most, "lr_end": high},
        strength=most / size,
    )  # fmt: skip


def _noise_words(evidence: Evidence) -> str:
    """Return at which batch size gradient and noise are equal, as precisely as that is known."""
    scale, low, high = (evidence.probe("gradients", name) for name in _SCALES)
    if scale is None:
        hidden = evidence.probe("gradients", "noise_trace") is not None
        return ", where the noise hides the gradient of all examples that were looked at" if hidden else ""
    about = f", where gradient and noise are equal at about {_rounded(scale)}"
    if low is None:
        return about
    return f"{about} ({_rounded(low)} or more)" if high is None else f"{about} ({_rounded(low)} to {_rounded(high)})"


def _rounded(number: float) -> str:
    """Return a number with two digits that count."""
    return f"{float(f'{number:.1e}'):,.3g}" if number < 10.0 else f"{float(f'{number:.1e}'):,.0f}"


def batch_too_large(evidence: Evidence) -> Finding | None:
    """Few steps, each on far more examples than its noise asks for, and a loss that was still falling."""
    size, scale = evidence.fact("batch_size"), evidence.probe("gradients", "noise_scale")
    steps, gain = evidence.trend("num_steps"), evidence.trend("drop")
    examples = evidence.fact("num_train")
    if size is None or steps is None or gain is None or evidence.fact("is_proved"):
        return None
    if evidence.fact("full_batch") and evidence.fact("optimizer") in ONE_FUNCTION:
        return None
    few, large = limit("few steps"), limit("large batch")
    if steps > few or size < large or not examples or (scale is not None and size < scale):
        return None
    smaller = max(16, min(64, int(2 ** round(math.log2(max(scale or 32.0, 16.0))))))
    return Finding(
        "batch-too-large",
        Severity.ERROR if steps < few / 4 else Severity.WARNING,
        f"Only {steps:.0f} steps, of {size:,} examples each{_noise_words(evidence)}.",
        Repair(
            f"The same examples in more steps: --batch-size {smaller}.", {"batch_size": smaller, "accumulate": None}
        ),
        {"batch_size": float(size), "noise_scale": scale or 0.0, "steps": steps},
        {"batch_size": large, "steps": few},
        strength=few / max(steps, 1.0),
    )
