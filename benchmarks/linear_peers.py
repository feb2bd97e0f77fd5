"""Classifiers that people would take instead: linear models on TF-IDF or hashed words, and fastText.

Each is a function from the training part, the development part (or none: a stratified tenth of the training part is
cut) and the test part to its answers, with the score by which its settings were chosen. The chosen one is fitted again
on training and development part together, as thalweg does; fastText and the hashed one excepted.
"""

import csv
import random
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Texts = list[str]
FASTTEXT = ((0.1, 5), (0.5, 25), (0.5, 50), (1.0, 25))  # learning rate, epochs


def read_labeled(path: Path) -> tuple[Texts, Texts]:
    """Return texts and labels of a CSV file with a header."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    return [row[0] for row in rows], [row[1] for row in rows]


def labeled_parts(train: Path, valid: Path | None) -> tuple[Texts, Texts, Texts, Texts, bool]:
    """Return texts and labels to train on, those to choose on, and whether these were cut from the training part."""
    texts, labels = read_labeled(train)
    if valid is not None:
        return texts, labels, *read_labeled(valid), False
    from sklearn.model_selection import train_test_split

    single = {label for label, count in Counter(labels).items() if count == 1}  # cannot be in both parts
    kept, chosen, kept_labels, chosen_labels = train_test_split(
        texts, labels, test_size=0.1, random_state=0, stratify=["" if label in single else label for label in labels]
    )
    return kept, kept_labels, chosen, chosen_labels, True


def tfidf(train: Path, valid: Path | None, test: Path) -> dict[str, Any]:
    """Words and bigrams, TF-IDF, logistic regression; C from 0.1 to 1000."""
    from sklearn.linear_model import LogisticRegression

    return _best(lambda c: LogisticRegression(C=c, max_iter=1000), (0.1, 1.0, 10.0, 100.0, 1000.0), train, valid, test)


def svm(train: Path, valid: Path | None, test: Path) -> dict[str, Any]:
    """Words and bigrams, TF-IDF, a linear support vector machine; C from 0.1 to 10. It has no probabilities."""
    from sklearn.svm import LinearSVC

    return _best(lambda c: LinearSVC(C=c), (0.1, 1.0, 10.0), train, valid, test)


def _best(
    make: Callable[[float], Any], grid: Sequence[float], train: Path, valid: Path | None, test: Path
) -> dict[str, Any]:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline

    def pipeline(c: float) -> Any:
        return make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), make(c))

    texts, labels, valid_texts, valid_labels, cut = labeled_parts(train, valid)
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    inputs, valid_inputs = vectorizer.fit_transform(texts), vectorizer.transform(valid_texts)
    models = {c: make(c).fit(inputs, labels) for c in grid}
    scores = {c: float(model.score(valid_inputs, valid_labels)) for c, model in models.items()}
    best = max(scores, key=scores.__getitem__)
    everything = read_labeled(train) if cut else (texts + valid_texts, labels + valid_labels)
    model = pipeline(best).fit(*everything)
    return {"valid": scores[best], "settings": best, **_answers(model, test)}


def _answers(model: Any, test: Path) -> dict[str, Any]:
    texts, truth = read_labeled(test)
    if not hasattr(model, "predict_proba"):
        return {"labels": model.predict(texts).tolist()}
    probabilities, classes = model.predict_proba(texts), model.classes_.tolist()
    best, place = probabilities.argmax(1), {label: number for number, label in enumerate(classes)}
    labels = [classes[number] for number in best]
    of_truth = [
        float(row[place[label]]) if label in place else 0.0 for row, label in zip(probabilities, truth, strict=True)
    ]
    return {"labels": labels, "likeliest": labels, "probability": probabilities.max(1).tolist(), "of_truth": of_truth}


def hashing(train: Path, valid: Path | None, test: Path) -> dict[str, Any]:
    """Words and bigrams, hashed, logistic regression by stochastic gradient descent; alpha from 1e-4 to 1e-6."""
    from sklearn.feature_extraction.text import HashingVectorizer
    from sklearn.linear_model import SGDClassifier
    from sklearn.pipeline import make_pipeline

    def fitted(alpha: float, inputs: Any, labels: Texts) -> Any:
        return SGDClassifier(loss="log_loss", alpha=alpha, random_state=0).fit(inputs, labels)

    vectorizer = HashingVectorizer(ngram_range=(1, 2))
    texts, labels, valid_texts, valid_labels, _ = labeled_parts(train, valid)
    inputs, valid_inputs = vectorizer.transform(texts), vectorizer.transform(valid_texts)
    del texts
    models = {alpha: fitted(alpha, inputs, labels) for alpha in (1e-4, 1e-5, 1e-6)}
    scores = {alpha: float(model.score(valid_inputs, valid_labels)) for alpha, model in models.items()}
    best = max(scores, key=scores.__getitem__)
    return {"valid": scores[best], "settings": best, **_answers(make_pipeline(vectorizer, models[best]), test)}


def fasttext(train: Path, valid: Path | None, test: Path) -> dict[str, Any]:
    """Supervised fastText with bigrams on one thread; its default rate and epochs, or larger ones."""
    import fasttext as library

    texts, labels, valid_texts, valid_labels, _ = labeled_parts(train, valid)
    names = {f"__label__{number}": label for number, label in enumerate(sorted(set(labels)))}
    numbers = {label: name for name, label in names.items()}

    def fitted(settings: tuple[float, int]) -> Any:
        path = train.with_suffix(".fasttext")
        lines = [f"{numbers[label]} {_words(text)}" for text, label in zip(texts, labels, strict=True)]
        random.Random(0).shuffle(lines)  # it takes them as they come, and some files are sorted by label
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        lr, epoch = settings
        return library.train_supervised(
            str(path), lr=lr, epoch=epoch, wordNgrams=2, bucket=200_000, thread=1, verbose=0
        )

    def candidates(model: Any, texts: Texts, count: int) -> list[list[tuple[float, str]]]:
        # The wrapper's own `predict` does not know numpy 2; what it wraps does.
        found = (model.f.predict(_words(text) + "\n", count, 0.0, "strict") for text in texts)
        return [[(min(probability, 1.0), names[name]) for probability, name in row] for row in found]

    def accuracy(model: Any) -> float:
        answers = candidates(model, valid_texts, 1)
        return float(np.mean([row[0][1] == label for row, label in zip(answers, valid_labels, strict=True)]))

    models = {settings: fitted(settings) for settings in FASTTEXT}
    scores = {settings: accuracy(model) for settings, model in models.items()}
    best = max(scores, key=scores.__getitem__)
    # Not trained again on all of TRAIN: with the larger rates a second training may end far below the chosen one.
    test_texts, truth = read_labeled(test)
    rows = candidates(models[best], test_texts, len(names))
    of_truth = [{label: p for p, label in row}.get(label, 0.0) for row, label in zip(rows, truth, strict=True)]
    first = [row[0][1] for row in rows]
    return {
        "valid": scores[best],
        "settings": best,
        "labels": first,
        "likeliest": first,
        "probability": [row[0][0] for row in rows],
        "of_truth": of_truth,
    }


def _words(text: str) -> str:
    """Lower case, punctuation apart: what fastText's tutorial does to a text."""
    import re

    return " ".join(re.findall(r"\w+|[^\w\s]", text.lower()))
