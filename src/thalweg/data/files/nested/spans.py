"""Marked spans of a text -> words and BIO tags: what annotation tools export, as a tagger reads it."""

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple, final

_STARTS: Final = ("start", "start_offset", "begin", "start_char", "from")
_ENDS: Final = ("end", "end_offset", "stop", "end_char", "to")
_LABELS: Final = ("label", "labels", "type", "entity", "entity_type", "entity_group", "tag", "category", "class")
_WORD: Final = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")
_OUTSIDE: Final = "O"


@final
class Span(NamedTuple):
    """The characters `start` to `end` (not included) of a text, and what they are."""

    start: int
    end: int
    label: str


def span_of(value: Any) -> Span | None:
    """The span that a value such as `[0, 4, "PER"]` or `{"start": 0, "end": 4, "label": "PER"}` is; None for others.

    Example:
        >>> span_of({"start_offset": 0, "end_offset": 4, "label": "PER"})
        Span(start=0, end=4, label='PER')
    """
    if isinstance(value, list) and len(value) >= 3:
        start, end, label = value[:3]
    elif isinstance(value, dict):
        start, end, label = (
            next((value[name] for name in names if name in value), None) for names in (_STARTS, _ENDS, _LABELS)
        )
    else:
        return None
    if isinstance(label, list) and len(label) == 1:
        label = label[0]
    if not isinstance(start, int) or not isinstance(end, int) or isinstance(start, bool) or isinstance(end, bool):
        return None
    if not isinstance(label, str) or not label.strip():
        return None
    return Span(start, end, re.sub(r"\s+", "_", label.strip()))


def are_spans(value: Any) -> bool:
    """Whether a value is a list of spans; an empty one is, too."""
    return isinstance(value, list) and all(span_of(entry) is not None for entry in value)


def words_of(text: str) -> list[Span]:
    """Where the words and marks of a text are; the labels are the words themselves."""
    return [Span(match.start(), match.end(), match[0]) for match in _WORD.finditer(text)]


def tags_of(words: Sequence[Span], spans: Iterable[Span]) -> tuple[list[str], list[str]]:
    """The BIO tag of each word, and what had to be changed, as parts of sentences.

    A span that begins or ends inside a word takes the whole word; of spans that overlap, the first stays.
    """
    tags, problems = [_OUTSIDE] * len(words), []
    for span in sorted(spans):
        places = [i for i, word in enumerate(words) if word.start < span.end and span.start < word.end]
        if not places:
            problems.append("spans without a word, left out")
        elif any(tags[i] != _OUTSIDE for i in places):
            problems.append("spans that overlap an earlier one, left out")
        else:
            if words[places[0]].start < span.start or words[places[-1]].end > span.end:
                problems.append("spans that cut a word, extended to the whole word")
            for i in places:
                tags[i] = f"I-{span.label}"
            tags[places[0]] = f"B-{span.label}"
    return tags, problems
