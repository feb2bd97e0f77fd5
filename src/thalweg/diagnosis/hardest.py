"""The training examples with the largest losses, as a person reads them."""

from typing import Any, Final

import torch

from thalweg.diagnosis.probes.parts import losses_by_example
from thalweg.diagnosis.probes.untouched import untouched
from thalweg.diagnosis.subject import Subject
from thalweg.errors import InputError
from thalweg.training.folder.again import texts_at
from thalweg.training.folder.run import Run

SHOWN: Final = 20
LONGEST: Final = 2000  # characters of a text


def hardest(run: Run, subject: Subject) -> list[dict[str, Any]]:
    """Return the training examples of a run's subject with the largest losses, the largest first, as plain values.

    Each has its line in the file, its text, its loss, and where the answer is one label of several, the right one and
    the one predicted. Empty where the lines of the examples or their single losses are not known.
    """
    rows, lines, names = subject.data.rows, subject.data.lines, subject.data.label_names
    if rows is None or lines is None:
        return []
    objective, found, start = subject.objective(), [], 0
    with untouched(subject), torch.no_grad():
        for batch in subject.train:
            try:
                sums, counts, prediction = losses_by_example(objective, batch)
            except InputError:
                return []
            best = prediction.argmax(-1) if prediction.dim() == 2 and prediction.shape[1] == len(names) > 1 else None
            for i, (total, count) in enumerate(zip(sums.tolist(), counts.tolist(), strict=True)):
                if count > 0.0:
                    one = {"line": lines[rows[start + i]], "loss": total / count}
                    if best is not None and batch.targets.dim() == 1:
                        one |= {"target": names[int(batch.targets[i])], "prediction": names[int(best[i])]}
                    found.append(one)
            start += batch.num_examples
    found = sorted(found, key=lambda one: -one["loss"])[:SHOWN]
    texts = texts_at(run, run.task, {one["line"] for one in found})
    return [{**one, "text": " / ".join(texts.get(one["line"], []))[:LONGEST]} for one in found]
