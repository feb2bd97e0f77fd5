"""How good translations are: BLEU, chrF and exact match, by length, and the best and worst of them."""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from thalweg.data.arrays.batches import Examples
from thalweg.tasks.translate import scores

FURTHER = "target "  # begins the names of the columns that hold further references
MAX_TRANSLATED = 500
NUM_EXAMPLES = 12
NUM_GROUPS = 5
NUM_BINS = 10


def evenly_spaced(size: int, limit: int) -> np.ndarray:
    """Return at most `limit` indices, evenly spread over `size`."""
    return np.arange(size) if size <= limit else np.arange(limit) * size // limit


def texts_of(examples: Examples, side: str, indices: np.ndarray) -> list[str]:
    """Return the texts of some examples as they were before tokenizing; `side` is "source" or "target"."""
    column = examples.ragged(f"{side}_text")
    return [column[index].tobytes().decode("utf-8", "surrogatepass") for index in indices.tolist()]


def references_of(examples: Examples, indices: np.ndarray) -> list[list[str]]:
    """Return the references of some examples: one list or several, each with a text for each of them."""
    sides = ["target", *sorted(name.removesuffix("_text") for name in examples.columns if name.startswith(FURTHER))]
    return [texts_of(examples, side, indices) for side in sides]


def sections(known: Mapping[int, str], valid: Examples, seed: int, *, how: str, tokenizer: str) -> list[dict[str, Any]]:
    """Return the sections for validation data.

    Args:
        known: translations of examples, by their indices; of many, some evenly spread are shown.
        valid: the examples.
        seed: picks those that are shown.
        how: how they are translated, in a few words.
        tokenizer: of BLEU.
    """
    indices = np.array(sorted(known))[evenly_spaced(len(known), MAX_TRANSLATED)]
    sources, references = texts_of(valid, "source", indices), references_of(valid, indices)
    translations = [known[index] for index in indices.tolist()]
    quality = scores.sentence_chrf(translations, references)
    chosen = np.random.default_rng(seed).permutation(len(indices))[:NUM_EXAMPLES]
    wrong: dict[str, int] = {}  # a source -> the place of its worst translation
    for place in np.argsort(quality, kind="stable").tolist():
        if all(translations[place] != wanted[place] for wanted in references):
            wrong.setdefault(sources[place], place)

    def rows(places: list[int]) -> list[list[str]]:
        return [[sources[i], references[0][i], translations[i], f"{quality[i]:.0f}"] for i in places]

    examples = {"kind": "examples", "columns": ["source", "reference", "translation", "chrF"]}
    by_length = _by_length(valid, indices, translations, references, tokenizer)
    signatures = "; ".join(by_length[0][2].signatures.values())
    found = [
        examples
        | {
            "title": "Translations",
            "text": f"Validation texts picked at random, their true translations and those of the model ({how}).",
            "rows": rows(sorted(chosen.tolist())),
        },
        examples
        | {
            "title": "Worst translations",
            "text": "Those that share the fewest character n-grams with the reference, each source once.",
            "rows": rows([*wrong.values()][:NUM_EXAMPLES]),
        },
        {
            "kind": "table",
            "title": "Quality by length",
            "text": f"Validation texts by the length of the source ({how}); long ones are seldom an exact match. "
            f"sacreBLEU's signatures: {signatures}.",
            "columns": ["source tokens", "texts", "BLEU", "chrF", "exact match"],
            "rows": [
                [name, size, *(f"{one.values[key]:.1f}" for key in scores.QUICK), f"{one.values['exact_match']:.1%}"]
                for name, size, one in by_length
            ],
        },
        {
            "kind": "bars",
            "title": "Exact match by length",
            "text": "Fraction of translations that match the reference exactly, by the source's length in tokens.",
            "names": [name for name, _, _ in by_length],
            "values": [one.values["exact_match"] for _, _, one in by_length],
            "x_label": "fraction",
        },
        _histogram(quality),
    ]
    return [section for section in found if any(section.get("rows", ())) or any(section.get("values", ()))]


def _by_length(
    valid: Examples, indices: np.ndarray, translations: list[str], references: list[list[str]], tokenizer: str
) -> list[tuple[str, int, scores.Scores]]:
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
            texts, *wanted = ([side[i] for i in places] for side in (translations, *references))
            name = f"{low}" if high == low + 1 else f"{low} to {high - 1}"
            groups.append((name, len(places), scores.score(texts, wanted, tokenizer=tokenizer, metrics=scores.QUICK)))
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
