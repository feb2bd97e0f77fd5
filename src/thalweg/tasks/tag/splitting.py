"""How training data split a text into words, learned from sentences that come with their text, such as CoNLL-U.

White space always separates words. Inside of what it leaves (`don't`, `l'Europe`, `end).`) a logistic regression says
for each place between two characters whether a word ends there, from the characters around it and the parts on both
sides; what training data split in another way than it would is kept as a list.
"""

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, final

import numpy as np
from scipy import sparse
from scipy.optimize import minimize
from scipy.special import expit

from thalweg.data.arrays.split import text_key
from thalweg.storage.forms import many, number, record, table, whole
from thalweg.tasks.reading.saved import json_bytes, reading
from thalweg.tasks.reading.spelling import sign

SPLITTER: Final = "splitter.json"
MAX_PART: Final = 64  # characters of a part that is looked at as a whole; longer ones are cut to it
_REACH: Final = 6  # characters of the parts on both sides that are one feature
MAX_PARTS: Final = 10_000  # different ones that are learned from
_L2: Final = 0.3  # of the sum over all places; of the order that CRFs of this package have
_OFTEN: Final = 3  # a part seen so often is worth an exception
_LEAST: Final = 0.01  # weights nearer to 0 are not kept


def cuts_of(text: str, words: Sequence[str]) -> list[tuple[str, tuple[int, ...]]] | None:
    """Return the parts of a text between white space, each with the places where words end inside.

    None where the words are not those of the text, one after the other.

    Example:
        >>> cuts_of("I don't.", ["I", "do", "n't", "."])
        [('I', ()), ("don't.", (2, 5))]
    """
    rest = iter(words)
    found: list[tuple[str, tuple[int, ...]]] = []
    for part in text.split():
        ends, place = [], 0
        while place < len(part):
            word = next(rest, "")
            if not word or not part.startswith(word, place):
                return None
            place += len(word)
            ends.append(place)
        found.append((part, tuple(ends[:-1])))
    return found if next(rest, None) is None else None


def place_features(part: str, place: int) -> list[str]:
    """Return what is seen of a place inside a part: the characters before and after it, and their kinds."""
    left, right = part[max(0, place - MAX_PART) : place].lower(), part[place : place + MAX_PART].lower()
    before, after = f"^^^{left}", f"{right}$$$"
    kinds = "".join(map(sign, f"^^^{part[max(0, place - 3) : place]}"[-3:])) + "|"
    kinds += "".join(map(sign, f"{part[place : place + 3]}$$$"[:3]))
    is_address = any(mark in part for mark in ("://", "www.", "@"))
    near = f"{before[-1]}|{after[0]}"
    found = ["bias", f"near={near}", f"kinds={kinds}", f"kinds={kinds[1:-1]}", f"kinds={kinds[2:5]}"]
    found += [f"left={before[-size:]}" for size in (1, 2, 3)] + [f"right={after[:size]}" for size in (1, 2, 3)]
    found += [f"both={before[-2:]}|{after[:2]}", f"both={before[-1]}|{after[:3]}", f"both={before[-3:]}|{after[0]}"]
    if len(left) <= _REACH:
        found += [f"whole left={left}", f"whole left={left}|{after[0]}"]
    if len(right) <= _REACH:
        found += [f"whole right={right}", f"whole right={before[-1]}|{right}"]
    return [*found, f"address={kinds[2:5]}"] if is_address else found


@final
class Splitter:
    """Splits texts into words as training data did.

    Args:
        weights: of the features of a place, by name.
        exceptions: parts that are split in another way than the weights say, with the places where words end.
    """

    def __init__(self, weights: dict[str, float], exceptions: dict[str, tuple[int, ...]]) -> None:
        self._weights = weights
        self._known = dict(exceptions)
        self._exceptions = exceptions

    @classmethod
    def fit(cls, sentences: Iterable[tuple[str, Sequence[str]]]) -> "Splitter | None":
        """Learn from texts and their words; None where no text tells where words end without white space."""
        counts: defaultdict[str, Counter[tuple[int, ...]]] = defaultdict(Counter)
        for text, words in sentences:
            for part, cuts in cuts_of(text, words) or ():
                counts[part][cuts] += 1
        # Some of the different parts, as if by chance, and the same for the same data in another order.
        chosen = sorted(counts, key=lambda part: (text_key(part), part))[:MAX_PARTS]
        usual = {part: counts[part].most_common(1)[0][0] for part in chosen}
        if not any(usual.values()):
            return None
        splitter = cls(_weights(usual, {part: counts[part].total() for part in chosen}), {})
        usual |= {part: seen.most_common(1)[0][0] for part, seen in counts.items() if seen.total() >= _OFTEN}
        wrong = {part: cuts for part, cuts in sorted(usual.items()) if splitter.cuts(part) != cuts}
        return cls(splitter._weights, wrong)

    def split(self, text: str) -> list[str]:
        """Return the words of a text."""
        words: list[str] = []
        for part in text.split():
            ends = [0, *self.cuts(part), len(part)]
            words += [part[start:end] for start, end in itertools.pairwise(ends)]
        return words

    def cuts(self, part: str) -> tuple[int, ...]:
        """Return the places inside a part without white space where words end."""
        if part not in self._known:
            weights = self._weights
            found = tuple(
                place
                for place in range(1, len(part))
                if sum(weights.get(name, 0.0) for name in place_features(part, place)) > 0.0
            )
            if len(self._known) >= 100_000 + len(self._exceptions):
                return found
            self._known[part] = found
        return self._known[part]

    def to_bytes(self) -> bytes:
        """Return `splitter.json`."""
        exceptions = {part: list(cuts) for part, cuts in self._exceptions.items()}
        return json_bytes({"weights": self._weights, "exceptions": exceptions})

    @classmethod
    def load(cls, folder: Path) -> "Splitter | None":
        """Read `splitter.json` of a folder, None where there is no such file; an InputError names a damaged one."""
        if not (folder / SPLITTER).exists():
            return None
        form = record(weights=table(number()), exceptions=table(many(whole(1))))
        with reading(folder / SPLITTER, form) as saved:
            exceptions = {part: tuple(cuts) for part, cuts in saved["exceptions"].items()}
            if any(sorted(set(cuts)) != list(cuts) for cuts in exceptions.values()):
                raise ValueError("the places where words end are not in order")
            if any(cuts and cuts[-1] >= len(part) for part, cuts in exceptions.items()):
                raise ValueError("it splits words where they have no character")
        return cls(saved["weights"], exceptions)


def _weights(usual: dict[str, tuple[int, ...]], counts: dict[str, int]) -> dict[str, float]:
    """Logistic regression on the places inside of parts, a part counting as the root of how often it occurs."""
    ids: dict[str, int] = {}
    indices: list[int] = []
    ends, targets, weights = [0], [], []
    for part, cuts in usual.items():
        for place in range(1, len(part)):
            indices += [ids.setdefault(name, len(ids)) for name in place_features(part, place)]
            ends.append(len(indices))
            targets.append(1.0 if place in cuts else -1.0)
            weights.append(counts[part] ** 0.5)
    matrix = sparse.csr_array((np.ones(len(indices)), indices, ends), shape=(len(targets), len(ids)))
    back, y, w = matrix.T.tocsr(), np.array(targets), np.array(weights)

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        margin = y * (matrix @ theta)
        slope = back @ (-w * y * expit(-margin)) + _L2 * theta
        return float(w @ np.logaddexp(0.0, -margin) + 0.5 * _L2 * theta @ theta), slope

    best = minimize(loss, np.zeros(len(ids)), jac=True, method="L-BFGS-B", options={"maxiter": 60, "maxcor": 10}).x
    return {name: round(float(best[i]), 4) for name, i in ids.items() if abs(best[i]) >= _LEAST}
