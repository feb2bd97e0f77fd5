"""Rules about vectors: hidden states, embeddings, and where attention looks."""

from thalweg.diagnosis.finding import Finding, Repair, Severity
from thalweg.diagnosis.symptoms.evidence import Evidence
from thalweg.diagnosis.symptoms.limits import limit


def embedding_collapse(evidence: Evidence) -> Finding | None:
    """Embeddings, or hidden states of a network that does no better than a guess, that are nearly all the same."""
    most, equal, cosine = limit("cosine"), limit("equal vectors"), _embedding_cosine(evidence)
    if cosine is not None and cosine > equal:
        return _collapse("embeddings", cosine, equal)
    hidden = (evidence.found("representations", "states") or {}).get("cosine")
    gain = evidence.probe("predictions", "accuracy_over_majority")
    if hidden is not None and hidden > most and gain is not None and gain < limit("no better than a guess"):
        return _collapse("hidden states", hidden, most)
    return None


def _embedding_cosine(evidence: Evidence) -> float | None:
    """Return the largest mean cosine between the used rows of a table of embeddings."""
    tables = (evidence.found("representations", "embeddings") or {}).values()
    return max((one["used_cosine"] for one in tables if one.get("used_cosine") is not None), default=None)


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
    cosine, most = _embedding_cosine(evidence), limit("token cosine")
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
    """Heads that look at one position each; not those that a training which has learned began with spread out."""
    start = {name.removesuffix(" (attention)"): value for name, value in evidence.table("entropy_start").items()}
    heads = [
        (str(site.get("name", "")), peaked, entropy)
        for site in evidence.found("attention", "sites") or ()
        if not (evidence.has_learned and start.get(str(site.get("name", "")), 0.0) >= limit("entropy"))
        for peaked, entropy in zip(site.get("peaked") or (), site.get("entropy") or (), strict=False)
        if peaked is not None and entropy is not None
    ]
    if not heads:
        return None
    most, least, many = limit("one position"), limit("entropy"), limit("collapsed heads")
    shut = [name for name, peaked, entropy in heads if peaked > most or entropy < least]
    if len(shut) < many * len(heads):
        return None
    share = sum(peaked for _, peaked, _ in heads) / len(heads)
    entropy = sum(entropy for _, _, entropy in heads) / len(heads)
    return Finding(
        "attention-collapse",
        Severity.WARNING,
        f"{share:.0%} of the queries put 95 % of their attention on one position; the mean entropy is {entropy:.1%} of "
        "the largest possible.",
        Repair("Start with smaller query and key weights (--init default), a longer warmup (--warmup 0.1) or a lower "
               "rate.", {"init": "default", "warmup": 0.1}, "initialize"),
        {"one_position": share, "entropy": entropy},
        {"one_position": most, "entropy": least},
        where=list(dict.fromkeys(shut))[:8],
        strength=max(share / most, least / max(entropy, 1e-6)),
    )  # fmt: skip
