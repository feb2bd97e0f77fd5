"""What a user should know about labels that are rare: without examples, or never given."""

from collections.abc import Sequence

import numpy as np

from thalweg.errors import InputError

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


def missing_labels(old: Sequence[str], found: Sequence[str]) -> list[str]:
    """Return a sentence about labels of the run that training starts from which the new data lack."""
    missing = np.array([label not in set(found) for label in old], dtype=bool)
    named = _named(old, missing)
    return [f"Not in the new data, and still known as they were learned before: {named}."] if missing.any() else []


def require_same(*, several: bool, before: bool) -> None:
    """Raise an InputError where one run gives several labels and the other does not."""
    if several != before:
        one, many = "one label a text", "several labels a text"
        raise InputError(
            f"The run to start from has {many if before else one}, and the new data have {many if several else one}; "
            "train without --start-from."
        )


def _named(labels: Sequence[str], chosen: np.ndarray) -> str:
    """Return some of the chosen labels and how many more there are."""
    places = np.flatnonzero(chosen).tolist()
    names = ", ".join(repr(labels[place]) for place in places[:MAX_NAMED])
    more = len(places) - MAX_NAMED
    return f"{names} and {more:,} more" if more > 0 else names
