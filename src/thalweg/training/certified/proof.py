"""What a summary says about how far the training loss is from the best possible one: certified, or not certified."""

from typing import Any

from thalweg.certificates.certificate.interval import Certificate
from thalweg.certificates.checker.statements import down
from thalweg.errors import counted


def proof_summary(certificate: Certificate, tolerance: float, steps: int) -> dict[str, Any]:
    """Return what is proved as plain values: `reached` says whether the gap is within the tolerance that was asked for.

    Args:
        certificate: of the penalized training loss of the final weights.
        tolerance: the largest relative gap that was to be reached; 0: none was asked for.
        steps: steps that were taken.
    """
    reached = certificate.relative_gap <= tolerance
    return {
        "reached": reached,
        "tolerance": tolerance,
        "loss": certificate.loss,
        "bound": certificate.bound,
        "relative_gap": certificate.relative_gap,
        "scope": certificate.scope,
        "proof": certificate.proof.value,
        "short": "the training loss is certified" if reached else f"not certified: {_gap_after(certificate, steps)}",
        "sentence": _certified(certificate) if reached else _not_certified(certificate, tolerance, steps),
    }


def _gap_after(certificate: Certificate, steps: int) -> str:
    gap = certificate.relative_gap
    return f"gap {f'{gap:.2f}' if gap >= 0.01 else f'{gap:.1e}'} after {counted(steps, 'step')}"


def _certified(certificate: Certificate) -> str:
    return (
        f"Certified: no training can lower the penalized training loss on these features below "
        f"{down(certificate.bound, 7)}, and this model has {certificate.loss:.7g} (relative gap "
        f"{certificate.relative_gap:.1e}); that says nothing about accuracy or new data. {certificate.scope}"
    )


def _not_certified(certificate: Certificate, tolerance: float, steps: int) -> str:
    asked = f"the tolerance is {tolerance:g}" if tolerance else "no tolerance was asked for"
    return (
        f"Not certified: {_gap_after(certificate, steps)} ({asked}). The penalized training loss is "
        f"{certificate.loss:.7g}, and all that is proved is that no training brings it below "
        f"{down(certificate.bound, 7)}. More --epochs or a larger --l2 close the gap, and a larger --width where it is "
        "below the number of labels; --certify with a larger tolerance ends sooner."
    )
