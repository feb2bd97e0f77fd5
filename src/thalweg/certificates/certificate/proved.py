"""A certificate made of its evidence: the checker says what the evidence proves, and what it is about."""

import math
from typing import Any

from thalweg.certificates.certificate.interval import Certificate, Proof, rounding_slack
from thalweg.certificates.checker import check
from thalweg.errors import InputError


def proved_certificate(
    evidence: dict[str, Any],
    *,
    loss: float,
    seconds: float,
    found: Any = None,
    reached: float | None = None,
    keep: bool = True,
) -> Certificate:
    """Return the certificate of evidence for a point of a loss.

    The bound is what the checker's own rule proves, less four times the rounding error that it accounts for, so that
    a machine that adds up in another order accepts it as well. Scope, unit, quantity and kind of proof are derived from
    the evidence.

    Args:
        evidence: by the names of the rule `evidence["rule"]`.
        loss: of the point.
        seconds: what it took.
        found: what the rule said of it, where it is known already; None: it is asked.
        reached: a lower loss that was reached.
        keep: whether the certificate holds the evidence.

    Raises:
        InputError: where the evidence proves nothing (an overflow, say).
    """
    try:
        found = check.prove(evidence) if found is None else found
    except check.Refused as error:
        raise InputError(f"Rounding leaves no proof: {error}") from None
    about = check.statement(evidence)
    bound = check.claim(found)
    lowest = loss if reached is None else min(loss, reached)
    if not math.isfinite(bound):
        raise InputError("The numbers are too large for a bound in float64; scale the features or the targets.")
    if bound > lowest + rounding_slack(lowest, found.size):
        raise ValueError(
            f"The rule {evidence['rule']!r} proves the bound {bound:.17g}, above a loss that was reached, "
            f"{lowest:.17g}: one of them is wrong."
        )
    bound = min(bound, lowest)
    return Certificate(
        name=evidence["rule"],
        quantity=about["quantity"],
        unit=about["unit"],
        loss=loss,
        bound=bound,
        scope=about["scope"],
        whole=about["whole"],
        proof=Proof(about["proof"]),
        assumptions=about["assumptions"],
        reached=None if reached is None else lowest,
        seconds=seconds,
        evidence=evidence if keep else {},
        products=found.products,
    )
