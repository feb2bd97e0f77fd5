"""CoNLL and CoNLL-U: one word per line with its columns, an empty line between sentences; a row is a sentence."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final, final

from thalweg.data.files.base import BadRows, Chunk
from thalweg.errors import InputError

MAX_WORDS: Final = 100_000  # in one sentence: a file without empty lines must not fill the memory
_CONLLU: Final = ("id", "tokens", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
_FACT: Final = re.compile(r"#\s*([^=]+?)\s*=\s*(.*)")


@final
@dataclass(frozen=True)
class Sentences:
    """How the sentences of a CoNLL file are read."""

    columns: tuple[str, ...]  # first those of the words (lists of str), then those of the sentence (str or None)
    num_fields: int  # on each line of a word
    delimiter: str | None  # a tab, or None for any white space
    is_conllu: bool  # the ten columns of CoNLL-U, where ranges of words (1-2) and empty words (1.1) are left out
    facts: tuple[str, ...]  # keys of the comments `# key = value` that are columns
    joins_text: bool  # whether the last column, "text", is the words joined by spaces

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
        for first, text in blocks:
            for line, content in enumerate(text[:-1].split("\n"), start=first):
                fields = content.split(delimiter)
                if not content or content.isspace():
                    if problem:
                        bad.add(start, problem)
                    elif words and not (len(words) == 1 and words[0][0] == "-DOCSTART-"):
                        yield start, self._row(words, facts)
                    words, facts, problem = [], {}, ""
                elif content[0] == "#" and self.is_comment(content, fields):
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

    def is_comment(self, content: str, fields: list[str]) -> bool:
        """Whether a line that begins with ``#`` is a comment; a word may begin with it too (#hashtag)."""
        return len(fields) != self.num_fields or (self.delimiter is None and _FACT.fullmatch(content) is not None)

    def _row(self, words: list[list[str]], facts: dict[str, str]) -> tuple:
        columns = list(map(list, zip(*words, strict=True)))[1 if self.is_conllu else 0 :]
        tail = [" ".join(columns[0])] if self.joins_text else []
        return (*columns, *(facts.get(key) for key in self.facts), *tail)


def open_sentences(name: str, sample: str) -> tuple[Sentences, list[str]]:
    """Return how a CoNLL file is read, judged by its first (whole) lines, and notes on the choices made.

    Raises `InputError` when there are no words, or a word has no tag.
    """
    lines = [line for line in sample.split("\n") if line and not line.isspace()]
    if not lines:
        raise InputError(f"{name}: expected words with their tags, one word per line, got an empty file.")
    delimiter, num_fields = _layout(lines)
    if num_fields < 2:
        raise InputError(
            f"{name}: expected words with their tags, one word per line, the columns separated by tabs or spaces; got "
            "lines with one column."
        )
    words = [line.split(delimiter) for line in lines if not line.startswith("#")]
    is_conllu = num_fields == 10 and any(re.match(r"[0-9]", fields[0]) for fields in words)
    if is_conllu:
        names = _CONLLU[1:]
    elif num_fields <= 4:
        names = ("tokens", *("pos", "chunk")[: num_fields - 2], "tags")
    else:
        names = ("tokens", *(f"column{i}" for i in range(2, num_fields)), "tags")
    reader = Sentences(names, num_fields, delimiter, is_conllu, (), joins_text=False)
    facts = tuple(key for key in _frequent_facts(sample, reader) if key not in names)
    joins_text = bool(facts) and "text" not in facts
    columns = (*names, *facts, *(("text",) if joins_text else ()))
    notes = [f"The columns of a word are {', '.join(names)}."]
    if facts:
        notes.append(f"Each sentence also has {', '.join(facts)} from its comments.")
    return Sentences(columns, num_fields, delimiter, is_conllu, facts, joins_text), notes


def _layout(lines: list[str]) -> tuple[str | None, int]:
    """The delimiter (a tab when most lines have one, or None) and the usual number of fields; at least one line."""
    words = [line for line in lines if not line.startswith("#")] or lines
    delimiter = "\t" if sum("\t" in line for line in words) * 2 > len(words) else None
    return delimiter, Counter(len(line.split(delimiter)) for line in words).most_common(1)[0][0]


def _frequent_facts(sample: str, reader: Sentences) -> list[str]:
    """Keys of the comments that at least half of the sentences have."""
    counts: Counter[str] = Counter()
    num_sentences = 0
    for block in re.split(r"\n\s*\n", sample):
        lines = [line for line in block.split("\n") if line]
        comments = [line for line in lines if line[0] == "#" and reader.is_comment(line, line.split(reader.delimiter))]
        num_sentences += len(comments) < len(lines)
        counts.update(dict.fromkeys((match[1] for line in comments if (match := _FACT.fullmatch(line))), 1))
    return [key for key, count in counts.items() if 2 * count >= num_sentences > 0]


def looks_like_conll(sample: str) -> bool:
    """Whether a file of unknown kind is CoNLL: short columns of equal number, and empty lines between sentences."""
    lines = sample.strip("\n").split("\n")
    words = [line for line in lines if line.strip() and not line.startswith("#")]
    if len(words) < 4 or len(words) > 0.99 * len(lines):
        return False
    delimiter, num_fields = _layout(words)
    fitting = [fields for fields in (line.split(delimiter) for line in words) if len(fields) == num_fields]
    if num_fields < 2 or len(fitting) < 0.99 * len(words):
        return False
    return delimiter == "\t" or len({fields[-1] for fields in fitting}) < 0.2 * len(fitting)
