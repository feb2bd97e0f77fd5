"""Plain text whose lines carry labels, or whose words carry tags: recognized and told, not read as what it is."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import pairwise
from typing import Final

from thalweg.data.columns.facts import shortened
from thalweg.data.columns.notation import number_of
from thalweg.data.columns.times.dates import readings

NUM_LINES: Final = 1000  # that are looked at
MIN_LINES: Final = 10
_NUM_PROBED: Final = 50  # lines that decide whether the others are looked at
_MOST: Final = 0.95  # of the lines have the shape
_MIN_REPEATED: Final = 0.9  # of the labels come more than once
_MAX_SHARE: Final = 0.2  # different labels a line
_MAX_LABELS: Final = 60
_MAX_LABEL: Final = 30  # characters
_MAX_TAGS: Final = 0.25  # different tags a word
_NUM_SHOWN: Final = 3

Parts = tuple[str, str] | None  # a label and the text that it is about


def _words(names: str) -> frozenset[str]:
    return frozenset(names.split())


_NAME: Final = re.compile(r"[\w+-]+(?: [\w+-]+){0,2}")
_WORD: Final = re.compile(r"[\w+-]+")
# Marks that hardly any text has; those that texts have, too, stand before one word.
_RARE: Final = ("~", "::", "|||", "||", "|", "->", "=>", "^", "@@", "##", "#", "$$", ";;", "\\t")
_USUAL: Final = (",", ";", ":", " - ")
_PAIRS: Final = ("[]", "()", "<>")
_COARSE_AND_FINE: Final = re.compile(r"[A-Za-z]\w*:[A-Za-z]\w*")
_KNOWN: Final = _words(
    "pos neg neu positive negative neutral mixed spam ham yes no true false good bad toxic clean hate offensive normal "
    "entailment contradiction"
)
_DIGIT: Final = re.compile(r"[-+]?\d")
# What programs log begins with a time or a level.
_LEVELS: Final = "debug|info|notice|warn|warning|error|critical|fatal|trace|verbose"
_LOGGED: Final = re.compile(rf"\W*(\d{{2,4}}[-/.:]\d\d|[A-Z][a-z]{{2}} +\d+ \d\d:|({_LEVELS})\b)", re.IGNORECASE)
_LATEX_CELL: Final = re.compile(r"[^\\]&")
_LATEX_END: Final = re.compile(r"\\\\(?:\s*\\\w+)*$")
_MIN_ROWS: Final = 0.8  # of the lines, beside those that begin and end the table
_BOXES: Final = "│┃║┌├└╔╠╚┏┣┗╭╰╞╡"
_DASHES: Final = re.compile(r"-{3,}(?: +-{3,})+|={3,}(?: +={3,})+")  # below the names of columns of fixed width
_SPACED: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[^\s"]+')
_SPACED_ROW: Final = re.compile(r'(?:[^\s"]+\s+)*"(?:[^"\\]|\\.)*"(?:\s+(?:"(?:[^"\\]|\\.)*"|[^\s"]+))+')
_TAG_MARKS: Final = "/_|"
_TAG: Final = re.compile(r"[A-Za-z.,:;'`\"()$#*\[\]{}?!-][\w.,:;'`\"()$#*+=&\[\]{}?!-]{0,19}")


def annotation_in(lines: Iterable[str]) -> str:
    """Return what shows that a text's lines have labels or its words tags, as a clause; "" for any other text.

    Args:
        lines: the first ones of a file.

    Example:
        >>> annotation_in(f"a text that is number {i} ~ {('good', 'bad')[i % 2]}" for i in range(20))
        "nearly all lines end in '~' and one of 2 labels ('bad', 'good')"
        >>> annotation_in(["The river finds the valley, and the valley keeps it."] * 20)
        ''
    """
    filled = [line.strip() for line in lines if line.strip()][:NUM_LINES]
    if len(filled) < MIN_LINES:
        return ""
    if told := _drawn(filled) or _aligned(filled[1:]) or _tagged(filled):
        return told
    if 2 * sum(_LOGGED.match(line) is not None for line in filled) > len(filled):
        return ""
    if told := _labeled(filled, _fine_in_front) or _labeled(filled, _known_in_front, may_alternate=False):
        return f"nearly all lines begin with {told}"
    for pair in _PAIRS:
        if told := _labeled(filled, partial(_in_brackets, pair)):
            return f"nearly all lines have {told} in brackets {pair[0]}...{pair[1]}"
    for mark in (*_RARE, *_USUAL):
        if told := _labeled(filled, partial(_behind, mark)):
            return f"nearly all lines end in {mark!r} and {told}"
    return f"nearly all lines end in {told}" if (told := _labeled(filled, _last_digit)) else ""


def _drawn(lines: Sequence[str]) -> str:
    """Rows as LaTeX writes them, and values between spaces of which some are in quotation marks, as R does."""
    if sum(bool(_LATEX_CELL.search(line) and _LATEX_END.search(line)) for line in lines) >= _MIN_ROWS * len(lines):
        return "nearly all lines are rows of a LaTeX table"
    is_below_names = any(map(_DASHES.fullmatch, lines[1:3]))
    if sum(line[0] in _BOXES or (is_below_names and "  " in line) for line in lines) >= _MIN_ROWS * len(lines):
        return "nearly all lines are rows of a drawn table"
    rows = [_SPACED.findall(line) for line in lines if _SPACED_ROW.fullmatch(line)]
    width, count = Counter(map(len, rows[1:])).most_common(1)[0] if len(rows) > 1 else (0, 0)
    quoted = sum(sum(cell[0] == '"' for cell in row) > 1 for row in rows)  # one alone is what somebody said
    if width < 2 or min(count, quoted) < _MOST * (len(lines) - 1):
        return ""
    return f"nearly all lines are rows of {width} values between spaces, with quotation marks around them"


def _aligned(lines: Sequence[str]) -> str:
    """Values between spaces, most of them numbers, below a line of names."""
    rows = [line.split() for line in lines]
    width, count = Counter(map(len, rows)).most_common(1)[0]
    if count < _MOST * len(rows):
        return ""
    cells = [cell for row in rows if len(row) == width for cell in row]
    numbers = sum(number_of(cell.replace(",", ".")) is not None or bool(readings(cell)) for cell in cells)
    values = "value" if width == 1 else f"{width} values between spaces"
    return f"nearly all lines are {'a ' * (width == 1)}{values}, mostly numbers" if 2 * numbers > len(cells) else ""


def _labeled(lines: Sequence[str], split: Callable[[str], Parts], *, may_alternate: bool = True) -> str:
    """How many labels lines have of which nearly all are of one shape; "" where they do not come again and again."""
    probed = lines[:_NUM_PROBED]
    if sum(split(line) is not None for line in probed) < _MOST * len(probed):
        return ""
    found = [parts for line in lines if (parts := split(line)) is not None]
    labels = [label for label, _ in found]
    counts = Counter(labels)
    repeated = sum(count for count in counts.values() if count > 1)
    is_few = 1 < len(counts) <= min(_MAX_LABELS, max(2, _MAX_SHARE * len(labels)))
    if len(found) < _MOST * len(lines) or not is_few or repeated < _MIN_REPEATED * len(labels):
        return ""
    takes_turns = len(counts) == 2 and all(before != label for before, label in pairwise(labels))
    numbers = [int(label) for label in labels if _DIGIT.fullmatch(label)]
    counts_on = 2 * sum(after == before + 1 for before, after in pairwise(numbers)) > len(labels)  # verses are numbered
    if len({text for _, text in found}) <= len(counts) or (takes_turns and not may_alternate) or counts_on:
        return ""
    return f"one of {len(counts)} labels ({shortened([repr(label) for label in sorted(counts)], _NUM_SHOWN)})"


def _parts(label: str, text: str, shape: re.Pattern[str] = _NAME) -> Parts:
    label, text = label.strip(), text.strip()
    is_label = 0 < len(label) <= _MAX_LABEL and shape.fullmatch(label) is not None
    return (label, text) if is_label and any(map(str.isalpha, text)) else None


def _fine_in_front(line: str) -> Parts:
    """As in `LOC:city What is the capital of Peru?`."""
    label, _, text = line.partition(" ")
    return _parts(label, text, _COARSE_AND_FINE)


def _known_in_front(line: str) -> Parts:
    """As in `pos: a fine film` and `0 a bad one`; other words in front may be the names of people in a play."""
    label, _, text = line.partition(" ")
    label = label.strip(":,;|~>[]() ")
    return _parts(label, text) if label.lower() in _KNOWN or _DIGIT.fullmatch(label) else None


def _in_brackets(pair: str, line: str) -> Parts:
    opening, closing = pair
    if line.startswith(opening):
        label, found, text = line[1:].partition(closing)
    else:
        text, found, label = line.removesuffix(closing).rpartition(opening)
        found = found if line.endswith(closing) else ""
    return _parts(label, text) if found and not label[:1].isdigit() else None


def _behind(mark: str, line: str) -> Parts:
    text, found, label = line.rpartition(mark)
    return _parts(label, text, _NAME if mark in _RARE else _WORD) if found else None


def _last_digit(line: str) -> Parts:
    text, _, label = line.rpartition(" ")
    return _parts(label, text, _DIGIT)


def _tagged(lines: Sequence[str]) -> str:
    """Words with a mark and a tag behind each, as in word/TAG word/TAG."""
    tokens = [token for line in lines for token in line.split()]
    probed = tokens[:_NUM_PROBED]
    if len(tokens) < 2 * len(lines):
        return ""
    for mark in _TAG_MARKS:
        if sum(mark in token[1:-1] for token in probed) < _MOST * len(probed):
            continue
        pairs = [(word, tag) for token in tokens for word, found, tag in [token.rpartition(mark)] if found and word]
        if len(pairs) < _MOST * len(tokens):
            continue
        tags, words = {tag for _, tag in pairs}, {word for word, _ in pairs}
        if all(map(_TAG.fullmatch, tags)) and 1 < len(tags) < min(len(words), max(3, _MAX_TAGS * len(pairs))):
            word, tag = pairs[0]
            return f"nearly all words have a mark and one of {len(tags):,} tags behind them ({word}{mark}{tag})"
    return ""
