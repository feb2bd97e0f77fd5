"""What people would take instead on public data: one method a process, so that its whole cost is counted.

`python benchmarks/peers.py METHOD TRAIN DEV TEST` prints one JSON object; an empty DEV takes a tenth of TRAIN. It has
a score, or a classifier's answers, which `scores.py` measures. Settings are chosen on DEV among those that people
try.
"""

import csv
import json
import sys
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import linear_peers
import numpy as np

Texts = list[str]


def main() -> None:
    method, train, valid, test = sys.argv[1:]
    print(json.dumps(METHODS[method](Path(train), Path(valid) if valid else None, Path(test))))


Pairs = tuple[Texts, Texts, np.ndarray]


def read_pairs(path: Path) -> Pairs:
    """Return both sentences and the scores."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    return [row[0] for row in rows], [row[1] for row in rows], np.array([float(row[2]) for row in rows])


def pair_parts(train: Path, valid: Path | None) -> tuple[Pairs, Pairs]:
    """Return pairs to train on, and those to choose on: a tenth of the training part where there are no others."""
    pairs = read_pairs(train)
    if valid is not None:
        return pairs, read_pairs(valid)
    order = np.random.default_rng(0).permutation(len(pairs[2]))

    def taken(places: np.ndarray) -> Pairs:
        return [pairs[0][place] for place in places], [pairs[1][place] for place in places], pairs[2][places]

    cut = len(order) // 10
    return taken(order[cut:]), taken(order[:cut])


def cosine(train: Path, valid: Path | None, test: Path) -> dict[str, Any]:
    """Cosine of the TF-IDF vectors of both sentences; nothing is learned but the weights of words."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    (first, second, _), chosen = pair_parts(train, valid)
    vectorizer = TfidfVectorizer(sublinear_tf=True).fit(first + second)

    def pearson(first: Texts, second: Texts, scores: np.ndarray) -> float:
        products = vectorizer.transform(first).multiply(vectorizer.transform(second)).sum(axis=1)
        return float(np.corrcoef(np.asarray(products).ravel(), scores)[0, 1])

    return {"score": pearson(*read_pairs(test)), "valid": pearson(*chosen)}


def ridge(train: Path, valid: Path | None, test: Path) -> dict[str, Any]:
    """Ridge regression on products and differences of the TF-IDF vectors, and on their cosine."""
    from scipy import sparse
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import Ridge

    (first, second, scores), chosen = pair_parts(train, valid)
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True).fit(first + second)

    def features(first: Texts, second: Texts) -> Any:
        u, v = vectorizer.transform(first), vectorizer.transform(second)
        product = u.multiply(v)
        return sparse.hstack([10 * sparse.csr_matrix(product.sum(axis=1)), product, abs(u - v)]).tocsr()

    def pearson(model: Any, first: Texts, second: Texts, scores: np.ndarray) -> float:
        return float(np.corrcoef(model.predict(features(first, second)), scores)[0, 1])

    inputs = features(first, second)
    models = {alpha: Ridge(alpha=alpha).fit(inputs, scores) for alpha in (0.1, 1.0, 10.0, 100.0)}
    scores_of = {alpha: pearson(model, *chosen) for alpha, model in models.items()}
    best = max(scores_of, key=scores_of.__getitem__)
    return {"score": pearson(models[best], *read_pairs(test)), "valid": scores_of[best], "settings": best}


NEGATIONS = frozenset({"no", "not", "never", "none", "nothing", "nobody", "neither", "nor", "cannot", "without", "t"})


def overlap(train: Path, valid: Path | None, test: Path) -> dict[str, Any]:
    """Gradient boosting on six numbers: two cosines, Jaccard, containment, lengths, numbers and negation that agree."""
    import re

    from sklearn.ensemble import GradientBoostingRegressor, HistGradientBoostingRegressor
    from sklearn.feature_extraction.text import TfidfVectorizer

    (first, second, scores), chosen = pair_parts(train, valid)
    words = TfidfVectorizer(sublinear_tf=True).fit(first + second)
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True).fit(first + second)

    def agree(one: set[str], other: set[str]) -> float:
        numbers = {word for word in one if word.isdigit()} == {word for word in other if word.isdigit()}
        return float(numbers) + float(bool(one & NEGATIONS) == bool(other & NEGATIONS))

    def features(first: Texts, second: Texts) -> np.ndarray:
        sets = [[set(re.findall(r"\w+", text.lower())) for text in texts] for texts in (first, second)]
        cosines = [
            np.asarray(one.transform(first).multiply(one.transform(second)).sum(axis=1)).ravel()
            for one in (words, characters)
        ]
        rows = [
            (
                len(one & other) / max(1, len(one | other)),
                len(one & other) / max(1, min(len(one), len(other))),
                min(len(one), len(other)) / max(1, len(one), len(other)),
                agree(one, other),
            )
            for one, other in zip(*sets, strict=True)
        ]
        return np.column_stack([*cosines, np.array(rows)])

    def pearson(model: Any, first: Texts, second: Texts, scores: np.ndarray) -> float:
        return float(np.corrcoef(model.predict(features(first, second)), scores)[0, 1])

    inputs = features(first, second)
    models = {
        type(model).__name__: model.fit(inputs, scores)
        for model in (GradientBoostingRegressor(random_state=0), HistGradientBoostingRegressor(random_state=0))
    }
    scores_of = {name: pearson(model, *chosen) for name, model in models.items()}
    best = max(scores_of, key=scores_of.__getitem__)
    return {"score": pearson(models[best], *read_pairs(test)), "valid": scores_of[best], "settings": best}


def read_tagged(path: Path) -> tuple[list[list[str]], list[list[str]]]:
    """Return words and tags of each sentence: the columns FORM and UPOS of CoNLL-U, the first and last of CoNLL."""
    word, tag = (1, 3) if path.suffix == ".conllu" else (0, -1)
    sentences: list[tuple[list[str], list[str]]] = [([], [])]
    for line in path.read_text(encoding="utf-8").split("\n"):
        cells = line.split("\t")
        if not line.strip():
            sentences.append(([], []))
        elif not line.startswith("#") and (path.suffix != ".conllu" or cells[0].isdigit()):
            sentences[-1][0].append(cells[word])
            sentences[-1][1].append(cells[tag])
    full = [sentence for sentence in sentences if sentence[0]]
    return [words for words, _ in full], [tags for _, tags in full]


def word_features(words: list[str], place: int) -> dict[str, str | bool | float]:
    """The usual fifteen features of a word and its neighbors."""
    word = words[place]
    found: dict[str, str | bool | float] = {
        "bias": 1.0,
        "lower": word.lower(),
        "last 3": word[-3:],
        "last 2": word[-2:],
        "first 3": word[:3],
        "upper": word.isupper(),
        "title": word.istitle(),
        "digits": word.isdigit(),
        "hyphen": "-" in word,
    }
    for name, other in (("previous", place - 1), ("next", place + 1)):
        if 0 <= other < len(words):
            neighbor = words[other]
            found |= {
                f"{name} lower": neighbor.lower(),
                f"{name} title": neighbor.istitle(),
                f"{name} upper": neighbor.isupper(),
            }
        else:
            found[f"{name} none"] = True
    return found


def crf(train: Path, valid: Path | None, test: Path) -> dict[str, Any]:
    """A linear-chain CRF with the settings of sklearn-crfsuite's tutorial: F1 of spans, or accuracy for CoNLL-U."""
    del valid  # nothing is chosen
    from sklearn_crfsuite import CRF

    def inputs(sentences: list[list[str]]) -> list[list[dict[str, str | bool | float]]]:
        return [[word_features(words, place) for place in range(len(words))] for words in sentences]

    words, tags = read_tagged(train)
    model = CRF(algorithm="lbfgs", c1=0.1, c2=0.1, max_iterations=100, all_possible_transitions=True)
    model.fit(inputs(words), tags)
    words, tags = read_tagged(test)
    answers = [list(answer) for answer in model.predict(inputs(words))]
    if test.suffix != ".conllu":
        return {"score": span_f1(tags, answers)}
    flat = zip(chain.from_iterable(tags), chain.from_iterable(answers), strict=True)
    return {"score": float(np.mean([tag == answer for tag, answer in flat]))}


def span_f1(tags: list[list[str]], answers: list[list[str]]) -> float:
    """Micro F1 of spans that agree in both ends and in kind."""
    true = {(number, *span) for number, row in enumerate(tags) for span in spans(row)}
    found = {(number, *span) for number, row in enumerate(answers) for span in spans(row)}
    return 2 * len(true & found) / max(len(true) + len(found), 1)


def spans(tags: list[str]) -> list[tuple[int, int, str]]:
    """Return start, end and kind of each BIO span; an I of another kind begins a new one."""
    found, start, kind = [], 0, ""
    for place, tag in enumerate([*tags, "O"]):
        prefix, _, name = tag.partition("-")
        if kind and (prefix != "I" or name != kind):
            found.append((start, place, kind))
            kind = ""
        if prefix in {"B", "I"} and not kind:
            start, kind = place, name
    return found


METHODS: dict[str, Callable[[Path, Path | None, Path], dict[str, Any]]] = {
    "tfidf": linear_peers.tfidf,
    "svm": linear_peers.svm,
    "hashing": linear_peers.hashing,
    "fasttext": linear_peers.fasttext,
    "cosine": cosine,
    "ridge": ridge,
    "overlap": overlap,
    "crf": crf,
}


if __name__ == "__main__":
    main()
