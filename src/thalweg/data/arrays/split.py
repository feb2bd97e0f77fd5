"""The validation split, decided by the text itself: the same text always lands on the same side."""

import hashlib
from collections.abc import Iterable

import numpy as np

from thalweg.errors import InputError


def text_key(text: str) -> int:
    """Return a 64-bit number for a text, the same in every process and on every machine (BLAKE2b of its UTF-8 form)."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def text_keys(texts: Iterable[str]) -> np.ndarray:
    """Return `text_key` of each text, uint64 `[num_texts]`."""
    blake2b = hashlib.blake2b
    digests = [blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest() for text in texts]
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64, copy=False)


def splitmix64(numbers: np.ndarray) -> np.ndarray:
    """Return uint64 numbers scrambled over all bits, one to one: the finalizer of SplitMix64.

    Source: Steele, Lea and Flood (2014), Fast Splittable Pseudorandom Number Generators.
    """
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


def order_of_texts(keys: np.ndarray) -> np.ndarray:
    """Return for each row's key (from `text_keys`) the place of its text among the different ones, in scrambled order.

    int64 `[num_rows]`. It depends on the keys alone, not on the order of the rows.
    """
    return np.unique(_scrambled(keys), return_inverse=True)[1].astype(np.int64, copy=False)


def require_two_texts(places: np.ndarray, name: str | None) -> None:
    """Raise an InputError where there is nothing to split; `places` hold one number a row, equal for equal texts."""
    if not len(places) or places.min() == places.max():
        raise InputError(
            f"{name or 'The data'}: expected at least two different texts, to split off validation data; "
            f"got {min(len(places), 1)}. Give more data, or a validation file."
        )


def validation_rows(
    keys: np.ndarray, fraction: float, labels: np.ndarray | None = None, name: str | None = None
) -> np.ndarray:
    """Return which rows are for validation, bool `[num_rows]`, decided by each row's key (from `text_keys`) alone.

    A row is for validation when its key, scrambled and read as a number in [0, 1), is below `fraction`. So the choice
    depends neither on the order of the rows nor on the other rows, and two rows with the same text are never separated.
    Two repairs: if one side would be empty, the text nearest to the threshold goes there; and rows whose label would be
    missing from training move to training, along with all rows of the same text.

    The labels are bool `[num_rows, num_labels]`; `name` is where the rows come from, for messages. Raises `ValueError`
    for a fraction outside (0, 1), and `InputError` with fewer than two different texts, or if every text is the only
    one with its label. For labels of whole texts `thalweg.data.arrays.stratified` keeps their shares as well.
    """
    if not 0.0 < fraction < 1.0:
        raise ValueError(f"validation_rows(fraction=...) must lie in (0, 1); got {fraction!r}.")
    places = _scrambled(keys)
    require_two_texts(places, name)
    valid = places < np.uint64(fraction * 2.0**64)
    if not valid.any():
        valid = places == places.min()
    elif valid.all():
        valid = places != places.max()
    if labels is not None:
        valid = _with_all_labels(valid, places, np.asarray(labels), name or "The data")
    return valid


def _scrambled(keys: np.ndarray) -> np.ndarray:
    return splitmix64(np.asarray(keys, dtype=np.uint64) + np.uint64(0x9E3779B97F4A7C15))


def _with_all_labels(valid: np.ndarray, places: np.ndarray, labels: np.ndarray, name: str) -> np.ndarray:
    """Move texts out of validation until every label is in training; refuse if nothing is left for validation."""
    # Moving a text moves all rows of that text; they can only add labels to training, so one round is enough.
    valid = valid & ~np.isin(places, places[valid & _lacking(valid, labels)])
    if not valid.any():  # training needs all texts that were drawn: take the first one that it does not need
        valid = _first_spare(places, labels)
    if valid.any():
        return valid
    raise InputError(
        f"{name}: expected a label with at least two different texts, to split off validation data; every text is the "
        "only one with its label. Give more data, or a validation file."
    )


def _lacking(valid: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the rows with a label that no training row has."""
    lacking = ~(labels & ~valid[:, None]).any(axis=0)
    return np.any(labels & lacking, axis=1)


def _first_spare(places: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the rows of the text with the lowest place whose labels other texts have as well; else all False."""
    text = np.unique(places, return_inverse=True)[1]  # texts numbered from the lowest place on
    order = np.argsort(text, kind="stable")
    begins = np.flatnonzero(np.diff(text[order], prepend=-1))
    counts = np.add.reduceat(labels[order].astype(np.int64), begins, axis=0)  # of each text's labels
    needed = ((counts > 0) & (counts == labels.sum(axis=0))).any(axis=1)
    if needed.all():
        return np.zeros(len(text), dtype=bool)
    return np.isin(text, np.argmin(needed))
