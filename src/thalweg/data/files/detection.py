"""Which kind of file it is: by its ending, and by what it holds where that is clear and says something else."""

from collections import Counter
from pathlib import Path
from typing import Final

from thalweg.data.files.archive import COMPRESSED
from thalweg.data.files.conll import looks_like_conll
from thalweg.data.files.formats.fasttext import looks_like_fasttext
from thalweg.data.files.formats.foreign import refuse_by_content
from thalweg.data.files.formats.tmx import looks_like_tmx
from thalweg.data.files.jsonl import decoded
from thalweg.data.files.table.dialect import fitting_rows
from thalweg.data.files.table.header import holds_names
from thalweg.data.files.table.ruled import has_sides
from thalweg.errors import InputError

LINES: Final = (".jsonl", ".ndjson")  # one object a line, by name
_KIND_OF_SUFFIX: Final = {
    **dict.fromkeys((".csv",), "csv"),
    **dict.fromkeys((".tsv", ".tab"), "tsv"),
    **dict.fromkeys(LINES, "jsonl"),
    **dict.fromkeys((".json",), "json"),
    **dict.fromkeys((".conll", ".bio", ".iob", ".iob2", ".conll2002", ".conll2003"), "conll"),
    **dict.fromkeys((".conllu",), "conllu"),
    **dict.fromkeys((".txt", ".text"), "text"),
    **dict.fromkeys((".md", ".rst"), "prose"),  # text, whatever it looks like
}
_NUM_LINES: Final = 1000  # that are looked at
_MIN_FITTING: Final = 0.98  # of the lines have as many fields as the others, in what is clearly a table
_MIN_DOUBTFUL: Final = 0.9  # so many may be a table, or a text with many commas
_MIN_LINES: Final = 3  # fewer lines say nothing
_MIN_DOUBTFUL_LINES: Final = 10
_MIN_OBJECTS: Final = 0.5


def suffix_of(path: Path) -> str:
    """The ending that says what a file holds, in lower case: that before an ending of compression."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    while suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def is_memory(path: Path, beginning: str) -> bool:
    """Whether a file is a translation memory, by its ending or its first characters."""
    return suffix_of(path) == ".tmx" or looks_like_tmx(beginning)


def kind_of(path: Path, sample: str) -> tuple[str, list[str]]:
    """The kind of a file (one of `KINDS`), judged by its ending and its first (whole) lines, and notes on that.

    Raises `InputError` when the content is of a kind that is not read, or it is in doubt whether it is a table.
    """
    suffix = suffix_of(path)
    by_ending = _KIND_OF_SUFFIX.get(suffix)
    if by_ending in ("prose", "text", None) and has_sides(sample) is not None:
        return "csv", ["The file holds a table, and is read as one; --kind text reads it as plain text."]
    if by_ending in ("prose", "conll", "conllu"):
        return by_ending.replace("prose", "text"), []
    lines = [line for line in sample.split("\n") if line.strip()][:_NUM_LINES]
    refuse_by_content(str(path), sample, lines, is_table=by_ending in ("csv", "tsv"))
    found = _kind_of_content(str(path), sample, lines, by_ending)
    if found == by_ending or (found, by_ending) in (("json", "jsonl"), ("jsonl", "json")):
        return found, []
    if by_ending is None:
        return found, [f"Judging by its content, the file is read as {found}; --kind chooses another format."]
    return found, [f"Its content is {found} in spite of the ending {suffix}, and is read so; --kind decides otherwise."]


def _kind_of_content(name: str, sample: str, lines: list[str], by_ending: str | None) -> str:
    """What the content is; the kind of the ending where it does not clearly say something else."""
    if looks_like_json(lines):
        return "jsonl"
    if by_ending in ("json", "jsonl", None) and _looks_like_document(sample, lines):
        return "json"
    if looks_like_fasttext(lines):
        return "fasttext"
    if by_ending == "csv" or (by_ending in ("json", "jsonl") and _has_json(lines)):
        return by_ending
    if looks_like_conll(sample):
        return "conll"
    if by_ending == "tsv":
        has_tabs = 2 * sum("\t" in line for line in lines) > len(lines)
        return "csv" if not has_tabs and _fitting(lines, ",;|") else "tsv"
    return _table_or_text(name, lines, is_text=by_ending == "text")


def _has_json(lines: list[str]) -> bool:
    """Whether one of the first lines begins as a JSON value does, or is one."""
    return any(line.lstrip()[:1] in ("{", "[", '"') or "got a" in str(decoded(line)) for line in lines[:20])


def looks_like_json(lines: list[str]) -> bool:
    """Whether most of the first lines are a JSON object each."""
    first = lines[:20]
    return sum(isinstance(decoded(line), dict) for line in first) > _MIN_OBJECTS * len(first)


def _looks_like_document(sample: str, lines: list[str]) -> bool:
    """Whether it begins as JSON does, and no line is an object by itself, as in a list or where it is spread."""
    first = sample.lstrip()[:1]
    if first == "[":
        return sample.lstrip()[1:].lstrip()[:1] in ("{", "[", "]", "n", '"') and not looks_like_conll(sample)
    return first == "{" and not any(isinstance(decoded(line), dict) for line in lines[:20])


def _table_or_text(name: str, lines: list[str], *, is_text: bool) -> str:
    if len(lines) < (_MIN_LINES if is_text else 2):
        return "text"
    inner = Counter(line.strip().count("\t") for line in lines)
    (num_tabs, count), total = inner.most_common(1)[0], len(lines)
    if num_tabs and count >= _MIN_DOUBTFUL * total:
        return "tsv"
    delimiter = _fitting(lines, ",;|")
    if not delimiter:
        return "text"
    share, rows = fitting_rows("\n".join(lines), delimiter)
    if holds_names(rows):
        return "csv"
    if share >= _MIN_DOUBTFUL and total >= _MIN_DOUBTFUL_LINES:
        raise InputError(
            f"{name}: nearly all lines have {len(rows[0])} parts between the marks {delimiter!r}, so this may be a "
            "table or a text; --kind csv or --kind text decides."
        )
    return "text"


def _fitting(lines: list[str], delimiters: str) -> str:
    """The delimiter that nearly all lines have equally often; empty if there is none."""
    text = "\n".join(lines)
    shares = {one: fitting_rows(text, one)[0] for one in delimiters if lines and one in lines[0]}
    best = max(shares, key=lambda one: shares[one], default="")
    return best if best and shares[best] >= _MIN_DOUBTFUL else ""
