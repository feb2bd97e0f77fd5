"""Rules about vectors: hidden states, embeddings, and where attention looks."""

from thalweg.diagnosis.finding import Finding, Repair, Severity
from thalweg.diagnosis.symptoms.evidence import Evidence
from thalweg.diagnosis.symptoms.limits import limit


def embedding_collapse(evidence: Evidence) -> Finding | None:
    """Embeddings, or hidden states of a network that does no better than a guess, that are nearly all the same."""
    most, rank = limit("cosine"), limit("rank share")
    cosine, effective = (
        evidence.probe("representations", "embedding_cosine"),
        evidence.probe("representations", "embedding_rank_share"),
    )
    if cosine is not None and cosine > most:
        return _collapse("embeddings", cosine, most)
    hidden = evidence.probe("representations", "mean_cosine")
    gain = evidence.probe("predictions", "accuracy_over_majority")
    del effective, rank
    if hidden is not None and hidden > most and gain is not None and gain < 0.03:
        return _collapse("hidden states", hidden, most)
    return None


def _collapse(what: str, cosine: float, most: float) -> Finding:
    return Finding(
        "embedding-collapse",
        Severity.ERROR,
        f"The mean cosine between {what} of different inputs is {cosine:.3f}.",
        Repair("Start from vectors that differ (--init default), and keep what separates them: --skip prenorm.",
               {"init": "default"}, "initialize"),
        {"cosine": cosine},
        {"cosine": most},
        strength=max(1.0, (1.0 - most) / max(1.0 - cosine, 1e-6)),
    )  # fmt: skip


def anisotropic_embeddings(evidence: Evidence) -> Finding | None:
    """Embeddings with a large common part."""
    cosine, most = evidence.probe("representations", "embedding_cosine"), limit("token cosine")
    if cosine is None or cosine <= most:
        return None
    return Finding(
        "anisotropic-embeddings",
        Severity.WARNING,
        f"The mean cosine between the embeddings of different tokens is {cosine:.2f}.",
        Repair("Start from centered vectors (--init default; --normalize-vectors center for word vectors).",
               {"init": "default"}, "initialize"),
        {"cosine": cosine},
        {"cosine": most},
        strength=cosine / most,
    )  # fmt: skip


def attention_collapse(evidence: Evidence) -> Finding | None:
    """Heads that look at one position each, wherever they are asked from."""
    share, most = evidence.probe("attention", "one_position"), limit("one position")
    entropy, least = evidence.probe("attention", "entropy"), limit("entropy")
    if share is None or entropy is None or (share < most and entropy > least):
        return None
    return Finding(
        "attention-collapse",
        Severity.WARNING,
        f"{share:.0%} of the queries put 95 % of their attention on one position; the mean entropy is {entropy:.1%} of "
        "the largest possible.",
        Repair("Start with smaller query and key weights (--init default), a longer warmup (--warmup 0.1) or a lower "
               "rate.", {"init": "default", "warmup": 0.1}, "initialize"),
        {"one_position": share, "entropy": entropy},
        {"one_position": most, "entropy": least},
        strength=max(share / most, least / max(entropy, 1e-6)),
    )  # fmt: skip
