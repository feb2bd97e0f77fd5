"""Built-in pairs from small grammars: number names in two languages, and sentences whose likeness is known."""

import hashlib
import random
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, final


def _words(names: str) -> list[str]:
    return names.split()


_ENGLISH_SMALL: Final = _words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_ENGLISH_TENS: Final = _words("- - twenty thirty forty fifty sixty seventy eighty ninety")
# In a compound, one is "ein"; only at the end of a number it is "eins".
_GERMAN_SMALL: Final = _words(
    "null ein zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn sechzehn siebzehn "
    "achtzehn neunzehn"
)
_GERMAN_TENS: Final = _words("- - zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig")
NUM_BY_DIGITS: Final = {4: 1500, 5: 1500, 6: 2000}  # how many numbers of so many digits; all those up to 1,000 are in


def english_number(n: int) -> str:
    """The English name of a number from 0 to 999,999, such as "twelve thousand three hundred forty-five"."""
    if not 0 <= n < 1_000_000:
        raise ValueError(f"english_number(n) must lie in [0, 999999]; got {n}.")
    if n >= 1000:
        rest = f" {english_number(n % 1000)}" if n % 1000 else ""
        return f"{english_number(n // 1000)} thousand{rest}"
    if n >= 100:
        rest = f" {english_number(n % 100)}" if n % 100 else ""
        return f"{_ENGLISH_SMALL[n // 100]} hundred{rest}"
    if n >= 20:
        return _ENGLISH_TENS[n // 10] + (f"-{_ENGLISH_SMALL[n % 10]}" if n % 10 else "")
    return _ENGLISH_SMALL[n]


def german_number(n: int) -> str:
    """The German name of a number from 0 to 999,999, which is one word, such as "einhunderteins"."""
    if not 0 <= n < 1_000_000:
        raise ValueError(f"german_number(n) must lie in [0, 999999]; got {n}.")
    return _german_stem(n) + ("s" if n % 100 == 1 else "")


def _german_stem(n: int) -> str:
    """The name inside a compound: one is "ein"."""
    if n >= 1000:
        return f"{_german_stem(n // 1000)}tausend" + (_german_stem(n % 1000) if n % 1000 else "")
    if n >= 100:
        return f"{_GERMAN_SMALL[n // 100]}hundert" + (_german_stem(n % 100) if n % 100 else "")
    if n >= 20:
        return (f"{_GERMAN_SMALL[n % 10]}und" if n % 10 else "") + _GERMAN_TENS[n // 10]
    return _GERMAN_SMALL[n]


def numbers() -> list[tuple[str, str]]:
    """Pairs (English name, German name): every number up to 1,000, and a sample of the larger ones, in mixed order."""
    chosen = dict.fromkeys(range(1001))
    for digits, count in NUM_BY_DIGITS.items():
        low, high = 10 ** (digits - 1), 10**digits
        size = len(chosen) + count
        i = 0
        while len(chosen) < size:
            chosen[low + _hash(f"{digits} {i}") % (high - low)] = None
            i += 1
    return [(english_number(n), german_number(n)) for n in sorted(chosen, key=lambda n: _hash(str(n)))]


def _hash(text: str) -> int:
    # Python's own hash of a string changes from run to run.
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


@final
class _Idea(NamedTuple):
    """Words that mean the same, and the group of ideas that are like each other."""

    group: str
    words: tuple[str, ...]


def _ideas(table: str) -> list[_Idea]:
    """Lines "group: word/word, word/word" -> ideas; words joined by a slash mean the same."""
    return [
        _Idea(group.strip(), tuple(word.strip() for word in idea.split("/")))
        for line in table.strip().splitlines()
        for group, ideas in [line.split(":")]
        for idea in ideas.split(",")
    ]


_SUBJECTS: Final = _ideas("""
    person: woman/lady, man/gentleman, child/kid, teacher/instructor, doctor/physician, farmer/grower, thief/robber
    animal: dog/hound, cat/kitty, horse/steed, bird/fowl, rabbit/bunny
    vehicle: car/automobile, ship/vessel, plane/aircraft, bike/bicycle
""")
_VERBS: Final = _ideas("""
    see: watches/observes, finds/discovers, seeks/looks for
    move: carries/transports, pulls/drags, follows/trails
    harm: hits/strikes, breaks/destroys, frightens/scares
    help: protects/guards, repairs/fixes, rescues/saves
""")
_OBJECTS: Final = _ideas("""
    thing: box/crate, stone/rock, present/gift, picture/image, purse/wallet
    place: house/home, garden/yard, street/road, forest/woods, store/shop
    being: baby/infant, stranger/outsider, friend/companion, enemy/foe
""")
_MANNERS: Final = _ideas("""
    speed: quickly/fast, slowly/unhurriedly, suddenly/abruptly
    mood: happily/cheerfully, sadly/sorrowfully, angrily/furiously
    time: today/this day, every day/daily, at night/after dark
""")
_SLOTS: Final = ((_SUBJECTS, 0.35), (_VERBS, 0.3), (_OBJECTS, 0.25), (_MANNERS, 0.1))  # ideas, weight; the sum is 1
_RELATED: Final = 0.4  # the likeness of two ideas of one group


def phrases(num_pairs: int = 6000) -> list[tuple[str, str, float]]:
    """Different pairs of sentences (subject, verb, object, manner) and their likeness in [0, 1], to 3 decimals.

    The likeness is the sum over the four slots of weight times likeness of the two ideas: 1 for the same idea (in the
    same or another word), 0.4 for ideas of one group, otherwise 0; the weights are 0.35, 0.3, 0.25 and 0.1. The first
    pairs are the same for every number of pairs.
    """
    generator = random.Random(0)

    def choose(options: Sequence[object]) -> int:
        return int(generator.random() * len(options))

    pairs: dict[tuple[str, str], float] = {}
    while len(pairs) < num_pairs:
        likeness, first, second = 0.0, [], []
        # Both alike and different pairs are to be frequent, so how much changes is drawn for each pair anew.
        keep, relate = generator.random() ** 2, generator.random()
        for ideas, weight in _SLOTS:
            one = ideas[choose(ideas)]
            if generator.random() < keep:
                other = one
            else:
                among = [idea for idea in ideas if idea.group == one.group] if generator.random() < relate else ideas
                other = among[choose(among)]
            likeness += weight * (1.0 if one is other else _RELATED if one.group == other.group else 0.0)
            first.append(one.words[choose(one.words)])
            second.append(other.words[choose(other.words)])
        pairs.setdefault((_sentence(first, choose), _sentence(second, choose)), round(likeness, 3))
    return [(first, second, likeness) for (first, second), likeness in pairs.items()]


def _sentence(words: list[str], choose: Callable[[Sequence[object]], int]) -> str:
    subject, verb, thing, manner = words
    plain = f"the {subject} {verb} the {thing}"
    return (f"{plain} {manner}", f"{manner} {plain}", f"{plain}, {manner}")[choose((0, 1, 2))]
