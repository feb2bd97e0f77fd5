"""What a linear tagger sees of a word: its spelling in parts, and the words around it, as ids of features.

A feature is a string such as `0:end=ing` (the word ends in -ing) or `-1:word=the` (the word before is "the"). Those
that training words have at least twice are kept. The set is the usual one of taggers without gazetteers (Toutanova et
al., 2003, Feature-Rich Part-of-Speech Tagging with a Cyclic Dependency Network; Ratinov and Roth, 2009, Design
Challenges and Misconceptions in Named Entity Recognition).
"""

import functools
import itertools
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, final

from thalweg.storage.forms import distinct_texts, record
from thalweg.tasks.reading.saved import json_bytes, reading
from thalweg.tasks.reading.spelling import sign

FEATURES = "features.json"
MIN_COUNT: Final = 2
MAX_PART: Final = 4  # letters of beginnings and ends
MAX_SHAPE: Final = 12
MAX_RUNS: Final = 8
MAX_LENGTH: Final = 10
MAX_KNOWN: Final = 500_000  # words whose features are kept at hand
_ALWAYS: Final = ("bias", "first", "last")
_OFFSETS: Final = (-2, -1, 1, 2)


def spelling_features(word: str) -> list[str]:
    """Return what a word's own letters say: the word, its beginnings and ends, its shape, marks inside it.

    Example:
        >>> spelling_features("U2")[:4]
        ['form=U2', 'word=u2', 'shape=X0', 'runs=X0']
    """
    lower, shape, runs = word.lower(), "".join(map(sign, word)), _runs(word)
    found = [f"form={word}", f"word={lower}", f"shape={shape[:MAX_SHAPE]}", f"runs={runs[:MAX_RUNS]}"]
    for size in range(1, MAX_PART + 1):
        found += [f"start={lower[:size]}", f"end={lower[-size:]}"]
    found += ["digit"] * ("0" in shape) + ["hyphen"] * ("-" in word) + ["inner capital"] * ("X" in shape[1:])
    return [*dict.fromkeys(found), f"length={min(len(word), MAX_LENGTH)}"]


def neighbor_features(word: str, offset: int) -> list[str]:
    """Return what a word says to one `offset` places to its left; far words say less."""
    lower = word.lower()
    if abs(offset) > 1:
        return [f"word={lower}"]
    ends = [f"end={lower[-3:]}", f"end={lower[-2:]}"]
    return [f"word={lower}", *ends, f"runs={_runs(word)[:MAX_RUNS]}", f"start={lower[:2]}"]


def pair_features(before: str, after: str) -> list[str]:
    """Return what two neighboring words say together: both words, and the runs of both."""
    return [f"{before.lower()} {after.lower()}", f"{_runs(before)[:MAX_PART]}|{_runs(after)[:MAX_PART]}"]


@functools.lru_cache(maxsize=100_000)
def _runs(word: str) -> str:
    """The kinds of a word's characters, each run once: "Running" is `Xx`."""
    return "".join(letter for letter, _ in itertools.groupby(map(sign, word)))


@final
class WordFeatures:
    """From sentences of words to the ids of their features.

    Args:
        ids: the features that are known, by name.
    """

    def __init__(self, ids: Mapping[str, int]) -> None:
        self._ids = ids
        self._words: dict[str, array[int]] = {}
        self._neighbors: dict[int, dict[str, array[int]]] = {offset: {} for offset in _OFFSETS}
        self._pairs: dict[tuple[str, str], tuple[array[int], array[int]]] = {}

    def __len__(self) -> int:
        return len(self._ids)

    @classmethod
    def fit(
        cls, words: Counter[str], pairs: Counter[tuple[str, str]], old: "WordFeatures | None" = None
    ) -> "WordFeatures":
        """Keep the features that are seen at least twice.

        Args:
            words: how often each word occurs.
            pairs: how often each two words follow each other.
            old: features that keep their ids; new ones come after them.
        """
        counts: Counter[str] = Counter()
        for word, count in words.items():
            for name in spelling_features(word):
                counts[f"0:{name}"] += count
            for offset in _OFFSETS:
                for name in neighbor_features(word, offset):
                    counts[f"{offset}:{name}"] += count
        for (before, after), count in pairs.items():
            for name in pair_features(before, after):
                counts[f"-1,0:{name}"] += count
                counts[f"0,1:{name}"] += count
        # In alphabetical order: the same data in another order give the same ids.
        kept = sorted(name for name, count in counts.items() if count >= MIN_COUNT)
        return cls({name: place for place, name in enumerate(dict.fromkeys([*(old._ids if old else _ALWAYS), *kept]))})

    def encode(self, words: Sequence[str]) -> tuple["array[int]", list[int]]:
        """Return the features of all words, one word after the other, and how many each word has."""
        found, counts = array("i"), []
        last = len(words) - 1
        pairs = [self._pair(*both) for both in itertools.pairwise(words)]
        bias, first, end = (self._ids[name] for name in _ALWAYS)
        for place, word in enumerate(words):
            before = len(found)
            found.extend(self._words[word] if word in self._words else self._read(word))
            for offset in _OFFSETS:
                if 0 <= place + offset <= last:
                    other, known = words[place + offset], self._neighbors[offset]
                    found.extend(known[other] if other in known else self._read_neighbor(other, offset))
            found.append(bias)
            if place:
                found.extend(pairs[place - 1][0])
            else:
                found.append(first)
            if place < last:
                found.extend(pairs[place][1])
            else:
                found.append(end)
            counts.append(len(found) - before)
        return found, counts

    def _read(self, word: str) -> "array[int]":
        return _kept(self._words, word, self._known(f"0:{name}" for name in spelling_features(word)))

    def _read_neighbor(self, word: str, offset: int) -> "array[int]":
        names = (f"{offset}:{name}" for name in neighbor_features(word, offset))
        return _kept(self._neighbors[offset], word, self._known(names))

    def _pair(self, before: str, after: str) -> "tuple[array[int], array[int]]":
        """The features of two neighbors for the second word, and for the first."""
        known = self._pairs.get((before, after))
        if known is not None:
            return known
        names = pair_features(before, after)
        both = self._known(f"-1,0:{name}" for name in names), self._known(f"0,1:{name}" for name in names)
        return _kept(self._pairs, (before, after), both)

    def _known(self, names: Iterable[str]) -> "array[int]":
        return array("i", [self._ids[name] for name in names if name in self._ids])

    def to_bytes(self) -> bytes:
        """Return `features.json`."""
        return json_bytes({"features": list(self._ids)})

    @classmethod
    def load(cls, folder: Path) -> "WordFeatures":
        """Read `features.json` of a folder; an InputError names the file where it is missing or damaged."""
        with reading(folder / FEATURES, record(features=distinct_texts())) as saved:
            names = saved["features"]
            ids = {name: place for place, name in enumerate(names)}
            if names[: len(_ALWAYS)] != list(_ALWAYS):
                raise ValueError("its features are not those of a tagger.")
        return cls(ids)


def _kept(known: dict[Any, Any], key: Any, value: Any) -> Any:
    if len(known) < MAX_KNOWN:
        known[key] = value
    return value
