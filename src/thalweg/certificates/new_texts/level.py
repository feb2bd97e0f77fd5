"""The error on new data as a level of a certificate: a range that holds with a stated probability."""

import time
from typing import Final

from thalweg.certificates.certificate.interval import Certificate, Proof
from thalweg.certificates.checker import held_out

NAME: Final = "held_out"
CHANCE: Final = 0.05


def held_out_level(
    wrong: int,
    examples: int,
    *,
    compared: int = 1,
    data: str = "examples",
    baseline: int | None = None,
    model: str = "",
) -> Certificate:
    r"""Return the level about new data: between which limits the error of a model on them lies.

    They are the Clopper-Pearson limits at $\alpha / t$ with $\alpha = 0.05$, which hold at once for all $t$
    evaluations on the same examples among which the model is the best, and therefore for the best.

    Args:
        wrong: examples that the model got wrong, of those that it was not trained on.
        examples: how many there were.
        compared: $t$, how many evaluations on the same examples the model was chosen by; 1: by none.
        data: what the examples are: "validation examples".
        model: which model it was, where not the one that the other levels are about.
        baseline: how many of them always giving the most frequent answer gets wrong; None: unknown.

    Example:
        >>> level = held_out_level(30, 362)
        >>> f"{level.bound:.4f} {level.loss:.4f} {level.proof.value}"
        '0.0566 0.0829 probabilistic'
    """
    start = time.perf_counter()
    evidence = {
        "rule": NAME,
        "wrong": wrong,
        "examples": examples,
        "chance": CHANCE,
        "compared": compared,
        "data": data,
        "baseline": -1 if baseline is None else baseline,
        **({"model": model} if model else {}),
    }
    about = held_out.about(evidence)
    return Certificate(
        name=NAME,
        quantity=about["quantity"],
        unit=about["unit"],
        loss=wrong / examples,
        bound=held_out.limits(evidence)[0],
        scope=about["scope"],
        whole=about["whole"],
        proof=Proof(about["proof"]),
        probability=CHANCE,
        assumptions=about["assumptions"],
        seconds=time.perf_counter() - start,
        evidence=evidence,
    )
