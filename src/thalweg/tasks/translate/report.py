"""How good translations are: BLEU, chrF and exact match, by length, and the best and worst of them."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.text import chrf_score
from torchmetrics.text import CHRFScore, SacreBLEUScore

from thalweg.certificates.new_texts.resampling import Samples, of_sums, ratio
from thalweg.data.arrays.batches import Examples

MAX_TRANSLATED = 500
NUM_EXAMPLES = 12
NUM_GROUPS = 5
NUM_BINS = 10
MIN_WORDS = 4


def evenly_spaced(size: int, limit: int) -> np.ndarray:
    """Return at most `limit` indices, evenly spread over `size`."""
    return np.arange(size) if size <= limit else np.arange(limit) * size // limit


def texts_of(examples: Examples, side: str, indices: np.ndarray) -> list[str]:
    """Return the texts of some examples as they were before tokenizing; `side` is "source" or "target"."""
    column = examples.ragged(f"{side}_text")
    return [column[index].tobytes().decode("utf-8", "surrogatepass") for index in indices.tolist()]


def translation_scores(translations: list[str], references: list[str]) -> dict[str, float]:
    """Return BLEU (of sacreBLEU, tokenized by its "13a") and chrF from 0 to 100, and the fraction of exact matches.

    BLEU is left out where no reference has four words: it counts n-grams of up to four, so it would always be zero.

    Source: Papineni et al. (2002), BLEU; Post (2018), A Call for Clarity in Reporting BLEU Scores; Popovic
    (2015), chrF.
    """
    wanted = [[reference] for reference in references]
    found = {}
    if any(len(reference.split()) >= MIN_WORDS for reference in references):
        bleu = SacreBLEUScore(sync_on_compute=False)
        bleu.update(translations, wanted)
        found["bleu"] = 100 * float(bleu.compute())
    chrf = CHRFScore(n_word_order=0, sync_on_compute=False)
    chrf.update(translations, wanted)
    chrf_value = chrf.compute()
    assert isinstance(chrf_value, Tensor)
    found["chrf"] = 100 * float(chrf_value)
    found["exact_match"] = sum(map(str.__eq__, translations, references)) / max(1, len(references))
    return found


def translation_samples(translations: list[str], references: list[str]) -> Samples:
    """Return what each translation adds to the figures of `translation_scores`, by which they can be drawn again."""
    with_bleu = any(len(reference.split()) >= MIN_WORDS for reference in references)
    makers = {"chrf": CHRFScore(n_word_order=0, sync_on_compute=False)} | (
        {"bleu": SacreBLEUScore(sync_on_compute=False)} if with_bleu else {}
    )
    exact = np.array([a == b for a, b in zip(translations, references, strict=True)], dtype=np.float64)
    parts = {name: _states(metric, translations, references) for name, metric in makers.items()}
    edges = np.cumsum([part.shape[1] for part in parts.values()])

    def figures(sums: np.ndarray) -> dict[str, np.ndarray]:
        by_name = dict(zip(parts, np.split(sums, edges, axis=1)[:-1], strict=True))
        found = {"bleu": _bleu(by_name["bleu"])} if with_bleu else {}
        return found | {"chrf": _chrf(by_name["chrf"]), "exact_match": sums[:, -2] / sums[:, -1]}

    shares = {"exact_match": (int(exact.sum()), len(exact))}
    sums = np.column_stack([*parts.values(), exact, np.ones(len(exact))])
    return of_sums(sums, figures, unit="texts", shares=shares)


def _states(metric: Metric, translations: list[str], references: list[str]) -> np.ndarray:
    """Return the sums that torchmetrics keeps of each translation, one below the other."""
    rows = []
    for translation, reference in zip(translations, references, strict=True):
        metric.reset()
        metric.update([translation], [[reference]])
        states = metric.metric_state
        rows.append(np.concatenate([np.ravel(np.asarray(states[name])) for name in sorted(states)]))
    return np.array(rows, dtype=np.float64)


def _bleu(sums: np.ndarray) -> np.ndarray:
    """Return BLEU from sums by name: denominators and numerators of four precisions, lengths of both sides."""
    denominator, numerator, (written, wanted) = sums[:, :4], sums[:, 4:8], sums[:, 8:].T
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.exp(np.log(numerator / denominator).mean(1))
        brevity = np.where(written > wanted, 1.0, np.exp(1.0 - wanted / written))
    return 100.0 * np.where((numerator > 0.0).all(1), np.nan_to_num(brevity * precision), 0.0)


def _chrf(sums: np.ndarray, beta: float = 2.0) -> np.ndarray:
    """Return chrF from sums by name: n-grams that match, of the translation and of the reference."""
    matching, written, wanted = np.split(sums, 3, axis=1)
    precision, recall = (np.nan_to_num(ratio(matching, size)) for size in (written, wanted))
    weighted = np.maximum(beta**2 * precision + recall, 1e-16)
    return 100.0 * ((1.0 + beta**2) * precision * recall / weighted).mean(1)


def sections(translate: Callable[[np.ndarray], list[str]], valid: Examples, seed: int) -> list[dict[str, Any]]:
    """Return the sections for validation data; `translate` maps indices of examples to translations.

    The seed picks the examples that are shown.
    """
    indices = evenly_spaced(len(valid), MAX_TRANSLATED)
    sources, references = (texts_of(valid, side, indices) for side in ("source", "target"))
    translations = translate(indices)
    wanted = [[reference] for reference in references]
    _, each = chrf_score(translations, wanted, n_word_order=0, return_sentence_level_score=True)  # type: ignore[misc]
    quality = 100 * each.double().numpy()
    chosen = np.random.default_rng(seed).permutation(len(indices))[:NUM_EXAMPLES]
    wrong = [place for place in np.argsort(quality, kind="stable").tolist() if translations[place] != references[place]]

    def rows(places: list[int]) -> list[list[str]]:
        return [[sources[i], references[i], translations[i], f"{quality[i]:.0f}"] for i in places]

    examples = {"kind": "examples", "columns": ["source", "reference", "translation", "chrF"]}
    by_length = _by_length(valid, indices, translations, references)
    quality_rows = []
    for name, size, found in by_length:
        bleu = f"{found['bleu']:.1f}" if "bleu" in found else "-"
        quality_rows.append([name, size, bleu, f"{found['chrf']:.1f}", f"{found['exact_match']:.1%}"])
    return [
        examples
        | {
            "title": "Translations",
            "text": "Validation texts picked at random, their true translations and those of the model (the most "
            "probable token each time).",
            "rows": rows(sorted(chosen.tolist())),
        },
        examples
        | {
            "title": "Worst translations",
            "text": "Those that share the fewest character n-grams with the reference.",
            "rows": rows(wrong[:NUM_EXAMPLES]),
        },
        {
            "kind": "table",
            "title": "Quality by length",
            "text": "Validation texts by the length of the source; long ones are seldom an exact match.",
            "columns": ["source tokens", "texts", "BLEU", "chrF", "exact match"],
            "rows": quality_rows,
        },
        {
            "kind": "bars",
            "title": "Exact match by length",
            "text": "Fraction of translations that match the reference exactly, by the source's length in tokens.",
            "names": [name for name, _, _ in by_length],
            "values": [found["exact_match"] for _, _, found in by_length],
            "x_label": "fraction",
        },
        _histogram(quality),
    ]


def _by_length(
    valid: Examples, indices: np.ndarray, translations: list[str], references: list[str]
) -> list[tuple[str, int, dict[str, float]]]:
    """Return for groups of about equal size: the range of lengths, number of texts, scores."""
    lengths = valid.ragged("source").lengths[indices] - 1  # without the end
    edges = np.unique(np.quantile(lengths, np.linspace(0, 1, NUM_GROUPS + 1), method="higher"))
    edges[-1] += 1
    if len(edges) == 1:
        edges = np.array([lengths.min(), lengths.max() + 1])
    groups = []
    for low, high in itertools.pairwise(edges.tolist()):
        places = np.flatnonzero((lengths >= low) & (lengths < high)).tolist()
        if places:
            found = translation_scores([translations[i] for i in places], [references[i] for i in places])
            name = f"{low}" if high == low + 1 else f"{low} to {high - 1}"
            groups.append((name, len(places), found))
    return groups


def _histogram(quality: np.ndarray) -> dict[str, Any]:
    counts, edges = np.histogram(quality, bins=NUM_BINS, range=(0.0, 100.0))
    return {
        "kind": "bars",
        "title": "How many translations are how good",
        "text": "Number of validation texts by chrF of their translation; 100 is the true one.",
        "names": [f"{low:.0f} to {high:.0f}" for low, high in itertools.pairwise(edges)],
        "values": [float(count) for count in counts],
        "x_label": "texts",
    }
