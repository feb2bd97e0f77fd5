"""What word vectors add to a bag of words on small data: `--word-vectors` with a linear model, and without.

    python benchmarks/word_vector_features.py                        # TREC, SST-2, BANKING77; word2vec, 8,000 words
    python benchmarks/word_vector_features.py --vectors glove.txt    # another file

Test accuracy, means over draws of so many texts a class; the penalty is chosen by the run itself.
"""

import argparse
import csv
import lzma
import os
import tempfile
from pathlib import Path

os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}

import numpy as np
import torch
from public_sets import DATA, OPEN
from table import Row, write_json

import thalweg

VECTORS = "word_vectors/word2vec.GoogleNews.300d.8k.txt.xz"
ALL = 10**9  # texts a class


def read(path: Path) -> tuple[list[str], np.ndarray]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    return [row[0] for row in rows], np.array([row[1] for row in rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=Path, default=None)
    parser.add_argument("--sets", nargs="*", default=["trec", "sst2", "banking77"])
    parser.add_argument("--texts", nargs="*", type=int, default=[8, 16, 32, 100, ALL], help="a class")
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "word_vector_features.json")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as place:
        vectors = asked.vectors or Path(place) / "vectors.txt"
        if asked.vectors is None:
            vectors.write_bytes(lzma.decompress((DATA / VECTORS).read_bytes()))
        for name in asked.sets:
            folder = Path(place) / name
            folder.mkdir()
            parts = next(one for one in OPEN if one.name == name).write(folder)
            texts, labels = read(parts["train"])
            asked_texts, right = read(parts["test"])
            for count in asked.texts:
                found: dict[str, list[float]] = {}
                for draw in range(1 if count == ALL else asked.draws):
                    random = np.random.default_rng(draw)
                    few = [random.permutation(np.flatnonzero(labels == one))[:count] for one in np.unique(labels)]
                    data = [{"text": texts[i], "label": labels[i]} for i in np.concatenate(few).tolist()]
                    for what, options in (("bag", {}), ("and word vectors", {"word_vectors": str(vectors)})):
                        run = thalweg.train(data, task="classify", model="linear", out=folder / "runs", **options)
                        answers = [answer["label"] for answer in run.predict(asked_texts)]
                        found.setdefault(what, []).append(float(np.mean(np.array(answers) == right)))
                shown = "all" if count == ALL else f"{count} a class"
                for what, values in found.items():
                    rows.append(
                        Row(f"{name}, {shown}", what, float(np.mean(values)), "accuracy", details={"draws": values})
                    )
                    print(rows[-1].line(), flush=True)
                write_json(asked.out, rows)


if __name__ == "__main__":
    main()
