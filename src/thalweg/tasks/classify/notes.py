"""What a user should know about labels that are rare: without examples, or never given."""

from collections.abc import Sequence

import numpy as np

MAX_NAMED = 5


def label_notes(
    labels: Sequence[str], *, train: np.ndarray, valid: np.ndarray, given: np.ndarray, multilabel: bool
) -> list[str]:
    """Return a sentence for each kind of label that is in trouble, with the names of some of them.

    Args:
        labels: the names.
        train: how many training texts have each label, `[labels]`.
        valid: how many validation texts have it; all 0: there are no validation texts, and nothing is said about them.
        given: to how many validation texts it is given.
        multilabel: whether a text may have several.
    """
    notes = []
    if (train == 0).any():
        notes.append(f"Without a training example, so that it can't be learned: {_named(labels, train == 0)}.")
    if not valid.any():
        return notes
    if (valid == 0).any():
        notes.append(f"Without a validation example, so that no figure is about it: {_named(labels, valid == 0)}.")
    never = (given == 0) & (valid > 0)
    if never.any():
        help_ = "--threshold gives it more often" if multilabel else "--class-weights balanced may find it"
        notes.append(
            f"Never given to a validation text, though there are some that have it: {_named(labels, never)}; more "
            f"examples or a smaller --l2 help, and {help_}."
        )
    return notes


def _named(labels: Sequence[str], chosen: np.ndarray) -> str:
    """Return some of the chosen labels and how many more there are."""
    places = np.flatnonzero(chosen).tolist()
    names = ", ".join(repr(labels[place]) for place in places[:MAX_NAMED])
    more = len(places) - MAX_NAMED
    return f"{names} and {more:,} more" if more > 0 else names
