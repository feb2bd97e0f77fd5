"""Which training labels are doubtful, by a linear model of the tokens of all other examples."""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from thalweg.batch import Batch
from thalweg.certificates.by_example.suspects import suspect_labels
from thalweg.certificates.linear.matrices import Features
from thalweg.diagnosis.probes.untouched import probe
from thalweg.diagnosis.subject import Subject

MAX_EXAMPLES: Final = 4096
# Below, the linear model is wrong about many labels that are right: on 1,000 sentences of reviews it is sure that 27 %
# of them are others, and on 2,000 questions of 77 kinds that 37 % are.
FEWEST, FEWEST_A_LABEL = 1500, 100
SECONDS: Final = 4.0
STRENGTH: Final = 3.0  # of the penalty, divided by the number of examples


@probe(finite=False)
def labels(subject: Subject) -> dict[str, Any]:
    """Return the share of doubtful labels among some thousand training examples.

    Tokens are counted, the penalized linear model on them is solved, and each example is judged without itself (see
    `thalweg.certificates.suspect_labels`). It does not apply where targets are no classes of whole examples, nor with
    fewer than 1,500 examples, or 100 for each label, of which a linear model knows too little.

    Returns:
        `noise_share`: labels that are confidently of another class (see `confident_joint`); `disagreement`: labels
        that are not the likeliest class, what the linear model itself gets wrong included; `rarer`: labels
        other than the most frequent one; `judged`: how many.
    """
    if subject.facts.num_classes is None or subject.in_order is None:
        return {}
    ids: list[np.ndarray] = []
    answers: list[int] = []
    number = min(subject.facts.num_train or MAX_EXAMPLES, MAX_EXAMPLES)
    for step in range(subject.facts.steps_per_epoch or 0):
        if len(answers) >= number:
            break
        for batch in subject.in_order(step):
            if batch.targets.dim() != 1 or batch.targets.is_floating_point():
                return {}
            ids += list(_tokens(batch))
            answers += batch.targets.tolist()
    ids, answers = ids[:number], answers[:number]
    kinds = len(set(answers))
    if len(answers) < max(FEWEST, FEWEST_A_LABEL * kinds) or kinds < 2 or len(ids) != len(answers):
        return {}
    rows = np.repeat(np.arange(len(ids)), [len(one) for one in ids])
    columns = np.concatenate(ids) if ids else np.zeros(0, dtype=np.int64)
    _, columns = np.unique(columns, return_inverse=True)
    matrix = sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=(len(ids), int(columns.max(initial=0)) + 1))
    matrix.sum_duplicates()
    lengths = np.sqrt(matrix.multiply(matrix).sum(1)).ravel()
    matrix = sparse.csr_array(sparse.diags_array(1.0 / np.maximum(lengths, 1e-12)) @ matrix)
    found = suspect_labels(
        Features(matrix), np.array(answers), max(answers) + 1, l2=STRENGTH / 10.0 / len(ids), seconds=SECONDS
    )
    counted = confident_joint(found.probabilities, found.labels)
    return {
        "noise_share": 1.0 - float(np.trace(counted) / max(counted.sum(), 1)),
        "disagreement": float((found.likelier != found.labels).mean()),
        "rarer": 1.0 - float(np.bincount(answers).max() / len(answers)),
        "judged": len(ids),
    }


def confident_joint(probabilities: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Return how many examples of each given label are confidently of each class, `[classes, classes]`.

    An example counts for the most probable of the classes whose probability is at least what examples with that label
    have on average; where there is none it does not count.

    Args:
        probabilities: of the classes for each example, estimated without its own label, `[n, classes]`.
        given: class ids, `[n]`.

    Source: Northcutt, Jiang and Chuang (2021), Confident Learning: Estimating Uncertainty in Dataset Labels.
    """
    number = probabilities.shape[1]
    thresholds = np.array([
        probabilities[given == k, k].mean() if (given == k).any() else np.inf for k in range(number)
    ])  # fmt: skip
    sure = probabilities >= thresholds
    rows = sure.any(1)
    classes = np.where(sure, probabilities, -1.0).argmax(1)
    found = np.zeros((number, number), dtype=np.int64)
    np.add.at(found, (given[rows], classes[rows]), 1)
    return found


def _tokens(batch: Batch) -> Iterator[np.ndarray]:
    """Yield the tokens of each example, without padding."""
    tokens = batch.inputs.get("tokens")
    if not isinstance(tokens, Tensor) or tokens.is_floating_point():
        return
    offsets, mask = batch.inputs.get("offsets"), batch.inputs.get("mask")
    if offsets is not None:
        for part in torch.tensor_split(tokens.cpu(), offsets[1:].cpu().tolist()):
            yield part.numpy()
    elif tokens.dim() == 2:
        for place, row in enumerate(tokens.cpu()):
            yield (row if mask is None else row[mask[place].cpu()]).numpy()
