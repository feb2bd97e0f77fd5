"""What word vectors add to a bag of words on small data: the mean of a text's word vectors as features beside the bag.

    python benchmarks/word_vector_features.py trec.tsv trec_test.tsv --label coarse --vectors w2v.txt

Logistic regression of scikit-learn on TF-IDF of words and pairs of words, on the mean of the unit vectors of a text's
words (scaled to length one), and on both side by side, the mean times 1 or 2. The penalty is chosen among three by
cross-validation of the training texts. Means over three draws of so many texts a class.
"""

import argparse
import csv
import re
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix, hstack
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.preprocessing import normalize
from table import Row, write_json

from thalweg.data.text.word_vectors import WordVectors, read_word_vectors

WORD = r"\w+|[^\w\s]"
STRENGTHS = (1.0, 10.0, 100.0)


def read(path: str, text: str, label: str) -> tuple[list[str], np.ndarray]:
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [row[text].lower() for row in rows], np.array([row[label] for row in rows])


def means(texts: list[str], vectors: WordVectors) -> np.ndarray:
    places = {word: place for place, word in enumerate(vectors.words)}
    table, found = vectors.normalized("length"), np.zeros((len(texts), vectors.width))
    for row, text in enumerate(texts):
        for word in re.findall(WORD, text):
            if word in places:
                found[row] += table[places[word]]
    return normalize(found)


def accuracies(train: tuple[list[str], np.ndarray], test: tuple[list[str], np.ndarray], vectors: WordVectors) -> dict:
    bag = TfidfVectorizer(token_pattern=WORD, ngram_range=(1, 2), sublinear_tf=True)
    first, second = bag.fit_transform(train[0]), bag.transform(test[0])
    own, other = (means(texts, vectors) for texts in (train[0], test[0]))
    inputs = {"bag": (first, second), "mean": (own, other)}
    for scale in (1.0, 2.0):
        both = [hstack([part, csr_matrix(scale * mean)]).tocsr() for part, mean in ((first, own), (second, other))]
        inputs[f"bag and {scale:g} x mean"] = both[0], both[1]
    found = {}
    for name, (a, b) in inputs.items():
        models = [LogisticRegression(C=strength, max_iter=300) for strength in STRENGTHS]
        best = max(models, key=lambda model: cross_val_score(model, a, train[1], cv=3).mean())
        found[name] = float((best.fit(a, train[1]).predict(b) == test[1]).mean())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train")
    parser.add_argument("test")
    parser.add_argument("--vectors", required=True)
    parser.add_argument("--text", default="text")
    parser.add_argument("--label", default="label")
    parser.add_argument("--classes", default="8,16,32,100", help="texts a class")
    parser.add_argument("--draws", type=int, default=3)
    options = parser.parse_args()
    train, test = (read(path, options.text, options.label) for path in (options.train, options.test))
    wanted = {word for texts in (train[0], test[0]) for text in texts for word in re.findall(WORD, text)}
    vectors, rows = read_word_vectors(options.vectors, wanted), []
    for count in map(int, options.classes.split(",")):
        found = []
        for seed in range(options.draws):
            drawn = np.random.default_rng(seed)
            places = [drawn.permutation(np.flatnonzero(train[1] == label))[:count] for label in np.unique(train[1])]
            few = np.concatenate(places)
            found.append(accuracies(([train[0][place] for place in few], train[1][few]), test, vectors))
        for name in found[0]:
            rows.append(Row(f"{count}", name, float(np.mean([one[name] for one in found])), "accuracy"))
            print(rows[-1].line(), flush=True)
    write_json(Path(__file__).parent / "results" / f"word-vector-features-{Path(options.train).stem}.json", rows)


if __name__ == "__main__":
    main()
