"""Which tags may follow each other where tags mark spans: in BIO, or in BIOES (BILOU, BMES) where ends have tags."""

from collections.abc import Sequence

import numpy as np

from thalweg.data.arrays.ragged import Ragged
from thalweg.tasks.tag.spans import split_tag

_STARTED, _GOES_ON = "BIM", "IELM"


def follows(before: str, after: str, *, bioes: bool) -> bool:
    """Whether a tag may follow another; "O" stands before the first word, and after the last.

    Example:
        >>> follows("B-city", "I-city", bioes=False), follows("O", "I-city", bioes=False)
        (True, False)
        >>> follows("B-city", "O", bioes=True)
        False
    """
    letter, kind = split_tag(after)
    last, last_kind = split_tag(before)
    if letter in _GOES_ON:
        return last in _STARTED and kind == last_kind
    return not (bioes and last in _STARTED)


def allowed_steps(tags: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return which tags may come first (row 0) or after tag j (row 1 + j), bool `[1 + C, C]`, and which last `[C]`."""
    bioes = any(split_tag(tag)[0] in tuple("ESLUW") for tag in tags)
    steps = [[follows(before, after, bioes=bioes) for after in tags] for before in ("O", *tags)]
    return np.array(steps), np.array([follows(tag, "O", bioes=bioes) for tag in tags])


def num_broken(steps: np.ndarray, ends: np.ndarray, sentences: Ragged) -> int:
    """Return how many sentences of tag ids take a step that is not allowed."""
    lengths = sentences.lengths
    ids = sentences.values[: int(sentences.offsets[-1])].astype(np.int64)
    place = np.repeat(np.arange(len(sentences)), lengths)
    is_first = np.ones(len(ids), dtype=bool)
    is_first[1:] = place[1:] != place[:-1]
    before = np.where(is_first, 0, 1 + np.concatenate([ids[:1], ids[:-1]]))
    is_known = (before >= 0) & (ids >= 0)  # a tag that is not given may be any
    wrong = ~steps[np.maximum(before, 0), np.maximum(ids, 0)] & is_known
    wrong |= (
        np.concatenate([is_first[1:], np.ones(min(1, len(ids)), dtype=bool)]) & ~ends[np.maximum(ids, 0)] & (ids >= 0)
    )
    return len(np.unique(place[wrong]))
