"""A classifier's answers to the texts of a CSV file, as JSON: `python benchmarks/answers.py RUN TEST`.

What the program answers, the likeliest label and its probability, and the probability of the true label.
"""

import json
import sys
from pathlib import Path
from typing import Any

from linear_peers import read_labeled

import thalweg


def main() -> None:
    run, test = thalweg.load(sys.argv[1]), Path(sys.argv[2])
    texts, truth = read_labeled(test)
    answers: list[dict[str, Any]] = run.predict(texts, top=len(getattr(run.task, "labels", ())))
    print(
        json.dumps(
            {
                "labels": [str(answer["label"]) for answer in answers],
                "likeliest": [str(answer["top"][0]["label"]) for answer in answers],
                "probability": [answer["top"][0]["probability"] for answer in answers],
                "of_truth": [_of(label, answer["top"]) for label, answer in zip(truth, answers, strict=True)],
            }
        )
    )


def _of(label: str, top: list[dict[str, Any]]) -> float:
    return next((float(one["probability"]) for one in top if str(one["label"]) == label), 0.0)


if __name__ == "__main__":
    main()
