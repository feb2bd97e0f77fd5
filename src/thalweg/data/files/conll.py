"""CoNLL and CoNLL-U: one word per line with its columns, an empty line between sentences; a row is a sentence."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any, Final, final

from thalweg.data.columns.role_names import ROLE_NAMES, normalized
from thalweg.data.files.base import BadRows, Chunk
from thalweg.errors import InputError

MAX_WORDS: Final = 100_000  # in one sentence: a file without empty lines must not fill the memory
_CONLLU: Final = ("id", "tokens", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
_CONLL_2009: Final = (
    "tokens",
    "lemma",
    "plemma",
    "pos",
    "ppos",
    "feats",
    "pfeats",
    "head",
    "phead",
    "deprel",
    "pdeprel",
    "fillpred",
    "pred",
)  # behind the number of the word, and before arguments of predicates
_CONLL_2012: Final = (
    "document",
    "part",
    "number",
    "tokens",
    "pos",
    "parse",
    "lemma",
    "frameset",
    "sense",
    "speaker",
    "entities",
)  # before arguments of predicates and coreference
_WORD_NAMES: Final = frozenset((*ROLE_NAMES["tokens"], *ROLE_NAMES["tags"], "lemma", "id", "index"))
_SPACES: Final = " \t\r\f\v"  # between words; other spaces are characters of a word
_DOCUMENT: Final = "-DOCSTART-"  # where a document begins
_NOT_GIVEN: Final = ("_", "")  # values of a word
_BIO: Final = re.compile(r"[BIESLUMW]-\S+")
_MIN_FITTING: Final = 0.95  # of the sentences are numbered, where a column is that of numbers
_MIN_WORDS: Final = 1.2  # in a sentence, on average, where nothing else says that it is one
_FACT: Final = re.compile(r"#\s*([^=]+?)\s*=\s*(.*)")


@final
@dataclass(frozen=True)
class Sentences:
    """How the sentences of a CoNLL file are read."""

    columns: tuple[str, ...]  # first those of the words (lists of str), then those of the sentence (str or None)
    num_fields: int  # on each line of a word
    delimiter: str | None  # a tab, or None for spaces and tabs
    is_conllu: bool  # the ten columns of CoNLL-U, where ranges of words (1-2) and empty words (1.1) are left out
    facts: tuple[str, ...]  # keys of the comments `# key = value` that are columns
    joins_text: bool  # whether the last column, "text", is the words joined by spaces
    is_numbered: bool = False  # whether the first field is the number of the word in its sentence
    has_names: bool = False  # whether the first line holds the names of the columns
    tags: frozenset[str] = frozenset()  # seen in the last field of a word; a comment ends otherwise

    def parse(self, blocks: Iterator[tuple[int, str]], bad: BadRows, size: int) -> Iterator[Chunk]:
        """Blocks of whole lines (see `LineReader.blocks`) -> chunks of at most `size` sentences."""
        sentences = self._sentences(blocks, bad)
        while batch := list(islice(sentences, size)):
            lines, rows = zip(*batch, strict=True)
            yield Chunk(self.columns, list(lines), tuple(map(list, zip(*rows, strict=True))))

    def _sentences(self, blocks: Iterator[tuple[int, str]], bad: BadRows) -> Iterator[tuple[int, tuple]]:
        words: list[list[str]] = []
        facts: dict[str, str] = {}
        start, problem = 0, ""  # the sentence's first line, and what is wrong with the sentence
        delimiter, num_fields, is_conllu = self.delimiter, self.num_fields, self.is_conllu
        is_header = self.has_names
        for first, text in blocks:
            for line, content in enumerate(text[:-1].split("\n"), start=first):
                fields = fields_of(content, delimiter)
                if not fields:
                    if problem:
                        bad.add(start, problem)
                    elif words:
                        yield start, self._row(words, facts)
                    words, facts, problem = [], {}, ""
                elif is_header or (fields[0] == _DOCUMENT and not words):
                    is_header = False
                elif content[0] == "#" and self.is_comment(content, fields, is_first=not words):
                    if match := _FACT.fullmatch(content):
                        facts[match[1]] = match[2].strip()
                elif len(fields) != num_fields:
                    start = start if words or problem else line
                    problem = problem or f"expected {num_fields} columns on line {line}, got {len(fields)}"
                elif not (is_conllu and ("-" in fields[0] or "." in fields[0])):
                    start = start if words or problem else line
                    words.append(fields)
                    if len(words) > MAX_WORDS:
                        words, problem = [], f"the sentence has more than {MAX_WORDS:,} words without an empty line"
        if problem:
            bad.add(start, problem)
        elif words:
            yield start, self._row(words, facts)

    def is_comment(self, content: str, fields: list[str], *, is_first: bool = True) -> bool:
        """Whether a line that begins with ``#`` is a comment; a word may begin with it too (#hashtag)."""
        if len(fields) != self.num_fields or (self.delimiter is None and _FACT.fullmatch(content) is not None):
            return True
        return is_first and fields[0] == "#" and bool(self.tags) and fields[-1] not in self.tags

    def _row(self, words: list[list[str]], facts: dict[str, str]) -> tuple:
        columns: list[list[Any]] = list(map(list, zip(*words, strict=True)))[self.is_conllu or self.is_numbered :]
        first = 2 if self.is_conllu else 1  # a form or a lemma may be spelled so
        columns[first:] = [[None if value in _NOT_GIVEN else value for value in column] for column in columns[first:]]
        tail = [" ".join(columns[0])] if self.joins_text else []
        return (*columns, *(facts.get(key) for key in self.facts), *tail)


def open_sentences(name: str, sample: str) -> tuple[Sentences, list[str]]:
    """Return how a CoNLL file is read, judged by its first (whole) lines, and notes on the choices made.

    Words alone, without tags, are lines with one column, as a tagger is to answer them. Raises `InputError` when there
    are no words.
    """
    lines = [line for line in sample.split("\n") if line.strip(_SPACES)]
    if not lines:
        raise InputError(f"{name}: expected words with their tags, one word per line, got an empty file.")
    delimiter, num_fields = _layout(lines)
    words = [fields_of(line, delimiter) for line in _lines_of_words(lines)]
    words = [fields for fields in words if len(fields) == num_fields and fields[0] != _DOCUMENT]
    is_conllu = num_fields == 10 and any(re.match(r"[0-9]", fields[0]) for fields in words)
    notes = []
    is_numbered = not is_conllu and num_fields > 2 and _are_numbers(sample, delimiter, num_fields)
    if is_numbered:
        notes.append("The first column numbers the words of each sentence and is left out.")
    has_names = not is_conllu and num_fields > 1 and _holds_names(words)
    if is_conllu:
        names = _CONLLU[1:]
    elif has_names:
        names = tuple(words[0][is_numbered:])
        words = words[1:]
    else:
        names = _names([fields[is_numbered:] for fields in words], is_numbered=is_numbered)
    tags = frozenset(fields[-1] for fields in words if fields[0] != "#" and num_fields > 1)
    reader = Sentences(names, num_fields, delimiter, is_conllu, (), joins_text=False, tags=tags)
    facts = tuple(key for key in _frequent_facts(sample, reader) if key not in names)
    joins_text = bool(facts) and "text" not in facts
    columns = (*names, *facts, *(("text",) if joins_text else ()))
    notes.append(f"The columns of a word are {', '.join(names)}." if num_fields > 1 else "Words have no tags.")
    if facts:
        notes.append(f"Each sentence also has {', '.join(facts)} from its comments.")
    return (
        Sentences(columns, num_fields, delimiter, is_conllu, facts, joins_text, is_numbered, has_names, tags),
        notes,
    )


def fields_of(line: str, delimiter: str | None) -> list[str]:
    r"""A line's fields; between tabs, or runs of spaces and tabs: a no-break space is part of a word. Empty if blank.

    Example:
        >>> fields_of("1\u00a0200  B-NUM", None)
        ['1\xa0200', 'B-NUM']
    """
    if not line.strip(_SPACES):
        return []
    if delimiter is not None:
        return line.split(delimiter)
    return [field for field in line.replace("\t", " ").split(" ") if field]


def _are_numbers(sample: str, delimiter: str | None, num_fields: int) -> bool:
    """Whether the first fields of nearly all sentences count 1, 2, 3 ... (or from 0), some of them beyond the first."""
    num_fitting = num_sentences = longest = 0
    numbers: list[str] = []
    for line in [*sample.split("\n"), ""]:
        fields = fields_of(line, delimiter)
        if len(fields) == num_fields and fields[0] not in ("#", _DOCUMENT):
            numbers.append(fields[0])
        elif not fields and numbers:
            num_sentences += 1
            start = 0 if numbers[0] == "0" else 1
            num_fitting += numbers == [str(i) for i in range(start, start + len(numbers))]
            longest, numbers = max(longest, len(numbers)), []
    return num_fitting >= _MIN_FITTING * num_sentences > 0 and longest > 1


def _holds_names(words: list[list[str]]) -> bool:
    """Whether the first line holds the names of the columns, none of which comes again in its place."""
    first = words[0] if words else []
    known = [normalized(cell) in _WORD_NAMES for cell in first]
    columns = list(zip(*words, strict=True))
    return len(words) > 1 and all(known) and all(set(column[1:]).isdisjoint(column[:1]) for column in columns)


def _names(words: list[list[str]], *, is_numbered: bool) -> tuple[str, ...]:
    """The names of columns by number: the words first, the tags last, or before further layers of such tags."""
    num_fields = len(words[0]) if words else 2
    are_tags = [all(fields[i] == "O" or _BIO.match(fields[i]) for fields in words) for i in range(num_fields)]
    if num_fields == 2 and are_tags == [True, False] and len({fields[0] for fields in words}) > 1:
        return ("tags", "tokens")
    if num_fields == 3 and all(are_tags[1:]) and any(fields[1] == "O" for fields in words):
        return ("tokens", "tags", "tags2")
    if num_fields == 1:
        return ("tokens",)
    if num_fields <= 4:
        return ("tokens", *("pos", "chunk")[: num_fields - 2], "tags")
    if is_numbered and num_fields >= len(_CONLL_2009) and all(fields[7].isdigit() for fields in words):
        return _by_number(_CONLL_2009, num_fields)
    are_documents = all(fields[1].isdigit() and fields[2].isdigit() for fields in words)
    if not is_numbered and num_fields > len(_CONLL_2012) and are_documents:
        return (*_by_number(_CONLL_2012, num_fields)[:-1], "coreference")
    return ("tokens", *(f"column{i}" for i in range(2, num_fields)), "tags")


def _by_number(names: tuple[str, ...], num_fields: int) -> tuple[str, ...]:
    return (*names, *(f"argument{i + 1}" for i in range(num_fields - len(names))))


def _layout(lines: list[str]) -> tuple[str | None, int]:
    """The delimiter (a tab when most lines have one, or None) and the usual number of fields; at least one line."""
    words = _lines_of_words(lines)
    delimiter = "\t" if sum("\t" in line for line in words) * 2 > len(words) else None
    return delimiter, Counter(len(fields_of(line, delimiter)) for line in words).most_common(1)[0][0]


def _lines_of_words(lines: list[str]) -> list[str]:
    """The lines that are no comments; all where they all begin as comments do, which then are told by their fields."""
    return [line for line in lines if not line.startswith("#")] or lines


def _frequent_facts(sample: str, reader: Sentences) -> list[str]:
    """Keys of the comments that at least half of the sentences have."""
    counts: Counter[str] = Counter()
    num_sentences = 0
    for block in re.split(r"\n\s*\n", sample):
        lines = [line for line in block.split("\n") if line]
        comments = [
            line for line in lines if line[0] == "#" and reader.is_comment(line, fields_of(line, reader.delimiter))
        ]
        num_sentences += len(comments) < len(lines)
        counts.update(dict.fromkeys((match[1] for line in comments if (match := _FACT.fullmatch(line))), 1))
    return [key for key, count in counts.items() if 2 * count >= num_sentences > 0]


def looks_like_conll(sample: str) -> bool:
    """Whether a file of unknown kind is CoNLL: short columns of equal number, and empty lines between sentences."""
    lines = sample.strip("\n").split("\n")
    words = [line for line in lines if line.strip(_SPACES) and not line.startswith(("#", _DOCUMENT))]
    num_empty = sum(not line.strip(_SPACES) for line in lines)
    num_sentences = sum(bool(line.strip(_SPACES)) and not before.strip(_SPACES) for before, line in pairwise(lines)) + 1
    if len(words) < 4 or num_empty < 0.01 * len(words) or len(words) <= _MIN_WORDS * num_sentences:
        return False  # nothing ends sentences, or everything does
    delimiter, num_fields = _layout(words)
    fitting = [fields for fields in (fields_of(line, delimiter) for line in words) if len(fields) == num_fields]
    if num_fields < 2 or len(fitting) < 0.99 * len(words):
        return False
    return delimiter == "\t" or len({fields[-1] for fields in fitting}) < 0.2 * len(fitting)
