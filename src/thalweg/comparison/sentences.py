"""What a comparison of two entrants comes to, in a sentence that can be quoted: never without its uncertainty."""

import math

from thalweg.comparison.statistics import Difference, TimeRatio
from thalweg.errors import counted


def difference_sentence(
    a: str,
    b: str,
    found: Difference,
    quantity: str = "validation loss",
    data: str = "",
    *,
    unit: str = "",
    p_value: float | None = None,
    num_comparisons: int = 1,
) -> str:
    """Return what is known about the difference of two entrants, whichever way it goes.

    A difference is claimed only where the 95 % interval excludes 0 and the p-value lies under 5 %.

    Args:
        a: name of the first entrant.
        b: name of the second.
        found: their difference in the quantity, of a minus b.
        quantity: what was measured.
        data: name of the data set; "" leaves it out.
        unit: of the quantity, such as "s".
        p_value: corrected for the number of comparisons, which then decides beside the interval.
        num_comparisons: that number.

    Example:
        >>> from thalweg.comparison.statistics import paired
        >>> difference_sentence("soap", "adamw", paired([1.0, 1.2, 1.1], [1.5, 1.6, 1.7]), data="reviews.csv")
        "On reviews.csv soap's validation loss is lower than adamw's by 0.50 (95 % interval 0.25 to 0.75; 3 seeds)."
        >>> difference_sentence("soap", "adamw", paired([1.0, 1.2, 1.1], [1.1, 1.0, 1.2]))
        'No difference beyond noise between soap and adamw in validation loss (95 % interval of the difference -0.43 to
        0.43; 3 seeds).'
    """
    seeds = counted(found.num_pairs, "seed")
    if found.method == "equal":
        return f"{_on(data)}{a} and {b} have the same {quantity} in each of {seeds}."
    side, size = ("lower", -found.difference) if found.difference < 0.0 else ("higher", found.difference)
    if found.method == "one":
        return f"{_on(data)}{_one_seed(a, b, found, quantity, side, size, unit)}"
    if found.method == "signs" and not _is_bounded(found):
        return f"{_on(data)}{_signs(a, b, found, quantity, seeds)}"
    correction = _correction(p_value, num_comparisons)
    if found.is_clear(p_value):
        low, high = sorted((abs(found.low), abs(found.high)))
        interval = _interval(low, high, 0.0, unit)
        by = f" by {_middle(size, low, high, unit)}" if math.isfinite(size) else ""
        return (
            f"{_on(data)}{a}'s {quantity} is {side} than {b}'s{by} (95 % interval {interval}; {seeds}"
            f"{_diverged(a, b, found)}{correction})."
        )
    interval = _interval(found.low, found.high, 0.0, unit)
    correction = _alone(found.is_clear(), correction)
    return (
        f"No difference beyond noise between {a} and {b} in {quantity}{_on(data, ' on ')} (95 % interval of the "
        f"difference {interval}; {seeds}{_diverged(a, b, found)}{correction})."
    )


def time_sentence(
    a: str,
    b: str,
    found: TimeRatio,
    data: str = "",
    limit: str = "the budget",
    *,
    quantity: str = "time",
    p_value: float | None = None,
    num_comparisons: int = 1,
) -> str:
    """Return what is known about which of two entrants reaches the target sooner.

    Args:
        a: name of the first entrant.
        b: name of the second.
        found: how many times as long the first takes.
        data: name of the data set; "" leaves it out.
        limit: how long the runs lasted, such as "60 s".
        quantity: "time", or what is counted until the target is reached: "steps", "evaluations".
        p_value: corrected for the number of comparisons, which then decides beside the interval.
        num_comparisons: that number.

    Example:
        >>> from thalweg.comparison.statistics import time_ratio
        >>> found = time_ratio([20.0, 22.0, 24.0], [10.0, 12.0, 11.0], horizon=60.0)
        >>> time_sentence("adamw", "soap", found, "reviews.csv", "60 s")
        'On reviews.csv soap reaches the target 2.00 times as fast as adamw (95 % interval 1.61 to 2.48; 3 seeds).'
        >>> found = time_ratio([40.0, None, 44.0], [10.0, 12.0, 11.0], horizon=60.0)
        >>> time_sentence("adamw", "soap", found, "reviews.csv", "60 s")
        'On reviews.csv soap reaches the target at least 4.3 times as fast as adamw, which reaches it within 60 s in 2
        of 3 seeds only (95 % interval from 3.1 up).'
    """
    seeds, (first, second) = counted(found.num_pairs, "seed"), found.num_reached
    if not first and not second:
        whose = "the one seed" if found.num_pairs == 1 else f"any of {seeds}"
        return f"{_on(data)}neither {a} nor {b} reaches the target within {limit} in {whose}; no {quantity} to compare."
    reached = f"{a} reaches the target within {limit} in {first} of {seeds}, {b} in {second}"
    if found.ratio is None:
        return f"{_on(data)}{reached}: too few to compare their {_plural(quantity)}."
    if found.num_pairs == 1:
        return f"{_on(data)}{_one_seed_times(a, b, found, quantity, limit)}"
    if found.low == found.high == 1.0:
        return f"{_on(data)}{a} and {b} need the same {quantity} to the target in each of {seeds}."
    if found.low <= 0.0 and found.high == math.inf:
        return (
            f"{_on(data)}{reached}; their {_plural(quantity)} have no spread over the seeds, or too few seeds, to give "
            "the ratio an interval."
        )
    slower, faster, ratio, low, high = a, b, found.ratio, found.low, found.high
    if ratio < 1.0:
        slower, faster, ratio = b, a, 1.0 / ratio
        low, high = (1.0 / high if high else math.inf), (1.0 / low if low else math.inf)
    correction = _correction(p_value, num_comparisons)
    if not found.is_clear(p_value):
        note = f"; {reached}" if found.bound else f"; {seeds}"
        correction = _alone(found.is_clear(), correction)
        return (
            f"No difference beyond noise between {a} and {b} in the {quantity} to the target{_on(data, ' on ')} (95 % "
            f"interval of the ratio {slower} / {faster} {_interval(low, high, 1.0)}{note}{correction})."
        )
    interval = _interval(low, high, 1.0)
    middle = _middle(ratio, low, high)
    if not found.bound:
        return (
            f"{_on(data)}{_faster(slower, faster, middle, quantity)} (95 % interval {interval}; {seeds}{correction})."
        )
    count = first if slower == a else second
    only = f"reaches it within {limit} in {count} of {seeds} only" if count else f"does not within {limit} in any seed"
    return (
        f"{_on(data)}{_faster(slower, faster, f'at least {middle}', quantity)}, which {only} (95 % interval "
        f"{interval}{'' if count else f'; {seeds}'}{correction})."
    )


def _faster(slower: str, faster: str, times: str, quantity: str) -> str:
    """Return that one needs less than the other to the target."""
    if quantity == "time":
        return f"{faster} reaches the target {times} times as fast as {slower}"
    return f"{faster} reaches the target with {times} times fewer {quantity} than {slower}"


def _one_seed(a: str, b: str, found: Difference, quantity: str, side: str, size: float, unit: str) -> str:
    """Return what a single seed says, and that it says nothing about noise."""
    end = "; one seed says nothing about noise, so there is no interval."
    diverged = [name for name, count in zip((a, b), found.num_diverged, strict=True) if count]
    if diverged:
        verb = "diverged" if len(diverged) == 1 else "both diverged"
        return f"{' and '.join(diverged)} {verb} in the one seed that was run{end}"
    if not size:
        return f"{a} and {b} have the same {quantity} in the one seed that was run{end}"
    amount = f"{size:.3g}{f' {unit}' if unit else ''}"
    return f"{a}'s {quantity} is {side} than {b}'s by {amount} in the one seed that was run{end}"


def _one_seed_times(a: str, b: str, found: TimeRatio, quantity: str, limit: str) -> str:
    """Return which is faster in a single seed, and that it says nothing about noise."""
    ratio = found.ratio or 0.0
    end = "in the one seed that was run; one seed says nothing about noise, so there is no interval."
    slower, faster, size = (a, b, ratio) if ratio >= 1.0 else (b, a, 1.0 / ratio if ratio else math.inf)
    if found.bound:
        late, soon = (a, b) if found.bound == "at least" else (b, a)
        return f"{soon} reaches the target and {late} does not within {limit} {end}"
    if size == 1.0 or not math.isfinite(size):
        return f"{a} and {b} need {'the same ' if size == 1.0 else ''}{quantity} to the target {end}"
    return f"{_faster(slower, faster, f'{size:.3g}', quantity)} {end}"


def _signs(a: str, b: str, found: Difference, quantity: str, seeds: str) -> str:
    """Return how often which was lower, where nothing bounds the difference."""
    p_value = "" if found.p_value is None else f", sign test p = {found.p_value:.2g}"
    if any(found.num_diverged):
        why = f"with diverged runs ({_diverged(a, b, found).removeprefix('; ')}) {seeds} give no interval"
    else:
        why = f"it differs by the same amount in every seed, and {seeds} without spread give no interval"
    equal = found.num_pairs - found.num_lower - found.num_higher
    both = f" and equal in {equal}" if equal else ""
    return (
        f"{a}'s {quantity} is lower than {b}'s in {found.num_lower} of {seeds}, higher in {found.num_higher}{both}; "
        f"{why}{p_value}."
    )


def _is_bounded(found: Difference) -> bool:
    return math.isfinite(found.low) or math.isfinite(found.high)


def _diverged(a: str, b: str, found: Difference) -> str:
    """Return which runs diverged, with a semicolon before it."""
    first, second = found.num_diverged
    words = [f"{name} diverged in {count}" for name, count in ((a, first), (b, second)) if count]
    return f"; {' and '.join(words)}" if words else ""


def _correction(p_value: float | None, num_comparisons: int) -> str:
    if p_value is None or num_comparisons < 2:
        return ""
    return f"; p = {p_value:.2g} after Holm's correction for {num_comparisons} comparisons"


def _alone(is_clear: bool, correction: str) -> str:
    """Return a correction by which a difference that would be clear alone is none."""
    return f"; alone that would be a difference, but {correction.removeprefix('; ')}" if is_clear else correction


def _on(data: str, before: str = "On ") -> str:
    return f"{before}{data}{' ' if before == 'On ' else ''}" if data else ""


def _plural(quantity: str) -> str:
    return "times" if quantity == "time" else quantity


def _decimals(low: float, high: float, nothing: float) -> int:
    """Return how many decimals show the width of an interval, and on which side of "no difference" its ends lie."""
    ends = [end for end in (low, high) if math.isfinite(end)]
    size = max(high - low if len(ends) == 2 else max(map(abs, ends), default=1.0), 1e-300)
    decimals = max(0, 1 - math.floor(math.log10(size)))
    while decimals < 300 and any(end != nothing and float(f"{end:.{decimals}f}") == nothing for end in ends):
        decimals += 1
    return decimals


def _number(value: float, decimals: int) -> str:
    """Return a number with decimals, or with an exponent where they would be too many to read."""
    shown = f"{value:.{decimals}f}" if decimals <= 6 else f"{value:.1e}"
    return shown.removeprefix("-") if float(shown) == 0.0 else shown


def _interval(low: float, high: float, nothing: float, unit: str = "") -> str:
    """Return an interval in words; an end that nothing bounds is left out."""
    decimals, after = _decimals(low, high, nothing), f" {unit}" if unit else ""
    if not math.isfinite(high):
        return f"from {_number(low, decimals)}{after} up"
    if not math.isfinite(low) or (nothing == 1.0 and low <= 0.0):
        return f"up to {_number(high, decimals)}{after}"
    return f"{_number(low, decimals)} to {_number(high, decimals)}{after}"


def _middle(value: float, low: float, high: float, unit: str = "") -> str:
    """Return a value with the decimals of its interval."""
    return f"{_number(value, _decimals(low, high, 0.0))}{f' {unit}' if unit else ''}"
