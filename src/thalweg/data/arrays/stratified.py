"""The validation split of labeled texts: every label has its share in it, and a text is on one side only."""

import numpy as np

from thalweg.data.arrays.ragged import Ragged
from thalweg.data.arrays.split import order_of_texts, require_two_texts
from thalweg.errors import InputError

_TRAIN, _VALID = 1, 2


def stratified_rows(
    keys: np.ndarray, fraction: float, labels: np.ndarray | Ragged, name: str | None = None
) -> np.ndarray:
    """Return which rows are for validation, bool `[num_rows]`: of the texts of each label this fraction, or nearly.

    Label by label, from the one with the fewest different texts to the one with the most, those of its texts that are
    not assigned yet go to validation in the order of their scrambled keys, until the label has its share; the others
    go to training. What rounding took from one label, the next one gets, so that all of them together have their
    share as well. The choice does not depend on the order of the rows, rows with the same text are never separated,
    and every label stays in training; having no label counts as a label.

    Args:
        keys: of each row's text (from `text_keys`), uint64 `[num_rows]`.
        fraction: in (0, 1).
        labels: ids int `[num_rows]`, or the ids of each row's labels.
        name: where the rows come from, for messages.

    Raises:
        ValueError: for a fraction outside (0, 1).
        InputError: with fewer than two different texts, or if every text is the only one with its label.

    Source: a single pass of Sechidis, Tsoumakas and Vlahavas, "On the Stratification of Multi-label Data" (2011).
    """
    if not 0.0 < fraction < 1.0:
        raise ValueError(f"stratified_rows(fraction=...) must lie in (0, 1); got {fraction!r}.")
    text = order_of_texts(keys)
    require_two_texts(text, name)
    num_texts = int(text.max()) + 1
    label, of_text = _pairs(text, labels, num_texts)
    starts = np.flatnonzero(np.diff(label, prepend=-1))
    counts = np.diff(np.append(starts, len(label)))
    side = np.zeros(num_texts, dtype=np.int8)
    side[of_text[np.repeat(counts, counts) == 1]] = _TRAIN
    carry = 0.0
    for place in np.argsort(counts, kind="stable").tolist():
        count, texts = int(counts[place]), of_text[starts[place] : starts[place] + counts[place]]
        if count < 2:
            continue
        share = fraction * count + carry
        carry = share - np.floor(share + 0.5)
        free, already = texts[side[texts] == 0], int((side[texts] == _VALID).sum())
        wanted = int(np.clip(np.floor(share + 0.5), 0, count - 1)) - already
        side[free] = _TRAIN
        side[free[: max(wanted, 0)]] = _VALID
    valid = _one_at_least(side == _VALID, label, of_text)
    if not valid.any():
        raise InputError(
            f"{name or 'The data'}: expected a label with at least two different texts, to split off validation data; "
            "every text is the only one with its label. Give more data, or a validation file."
        )
    return valid[text]


def _pairs(text: np.ndarray, labels: np.ndarray | Ragged, num_texts: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the different pairs of a label and a text, by label and then by text; a row without labels has label -1.

    The labels come back as places among those that there are.
    """
    if isinstance(labels, Ragged):
        bare = labels.lengths == 0
        values = labels.values[int(labels.offsets[0]) : int(labels.offsets[-1])]
        ids = np.concatenate([values.astype(np.int64) + 1, np.zeros(int(bare.sum()), dtype=np.int64)])
        rows = np.concatenate([np.repeat(text, labels.lengths), text[bare]])
    else:
        ids, rows = np.unique(labels, return_inverse=True)[1].astype(np.int64), text
    label, of_text = np.divmod(np.unique(ids * num_texts + rows), num_texts)
    return label, of_text


def _one_at_least(valid: np.ndarray, label: np.ndarray, of_text: np.ndarray) -> np.ndarray:
    """Return the texts for validation without those that training needs, or the first that it does not need."""

    def needed(held_out: np.ndarray) -> np.ndarray:
        """Texts held out that have a label which no other text has in training."""
        in_training = np.zeros(int(label.max()) + 1, dtype=bool)
        in_training[label[~held_out[of_text]]] = True
        found = np.zeros(len(held_out), dtype=bool)
        found[of_text[~in_training[label]]] = True
        return found & held_out

    valid = valid & ~needed(valid)  # what moves can only add labels to training, so one round is enough
    if valid.any():
        return valid
    counts = np.bincount(label)
    spare = np.ones(len(valid), dtype=bool)
    spare[of_text[counts[label] == 1]] = False
    valid[np.flatnonzero(spare)[:1]] = True
    return valid
