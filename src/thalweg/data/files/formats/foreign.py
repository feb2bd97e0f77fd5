"""Files that hold no rows of text data, recognized by their ending or their content, and what to do with them."""

import re
from pathlib import Path
from typing import Final

from thalweg.errors import InputError

_SCRIPTS: Final = "load it with the program that wrote it, and save the rows as CSV or JSON Lines"
# Endings of files that are never read, whatever they hold.
_ENDINGS: Final = {
    **dict.fromkeys(
        (".docx", ".doc", ".odt", ".rtf", ".pages"), "a word processor's document; save it as plain text (.txt)"
    ),
    **dict.fromkeys((".pptx", ".ppt", ".odp"), "a presentation; save its text as plain text (.txt)"),
    **dict.fromkeys((".pkl", ".pickle", ".joblib", ".dill"), f"a Python pickle, which can run any code; {_SCRIPTS}"),
    **dict.fromkeys((".pt", ".pth", ".ckpt", ".safetensors"), "weights of a model, not data; name the data file"),
    **dict.fromkeys((".npy", ".npz", ".h5", ".hdf5", ".mat"), f"arrays of numbers; {_SCRIPTS}"),
    **dict.fromkeys((".rds", ".rdata", ".rda"), "data of R; write it with write.csv(x, file, row.names = FALSE)"),
    **dict.fromkeys((".sav", ".dta", ".sas7bdat", ".por"), "data of a statistics program; export the table as CSV"),
    ".ipynb": "a notebook; save the data that it reads or shows as CSV",
    ".arff": "an ARFF file; save it as CSV (in Weka: Save, type CSV), or replace the lines up to @data by a header",
    **dict.fromkeys((".yaml", ".yml"), "YAML; convert it to JSON, for example with yq -o=json"),
    ".sql": "an SQL dump; load it into the database and export the table as CSV",
    **dict.fromkeys((".html", ".htm", ".xhtml"), "a web page; save its text as .txt, or its table as CSV"),
    **dict.fromkeys(
        (".xml", ".tei", ".xlf", ".xliff", ".sgm"),
        "XML; convert its elements to CSV or JSON Lines (--kind tmx reads a translation memory)",
    ),
    **dict.fromkeys((".srt", ".vtt", ".sbv"), "subtitles with their times; save the text alone as .txt"),
    **dict.fromkeys((".po", ".pot"), "messages of gettext; convert them to TMX (po2tmx) or CSV (po2csv)"),
    ".mbox": "a mailbox; save subjects and bodies as CSV or JSON Lines (the module mailbox of Python reads it)",
    **dict.fromkeys((".svmlight", ".libsvm", ".svm"), "numeric features (LIBSVM); give the texts they are from"),
}
# Where a file of numbers, markup or commands is what a language model is to learn, it may be read as text.
_FEATURES: Final = re.compile(
    r"[-+]?\d+(\.\d*)?(,\d+)*(\s+(qid:)?\d+:[-+]?[\d.]+(e[-+]?\d+)?)+\s*(#.*)?", re.IGNORECASE
)
_NO_FEATURES: Final = re.compile(r"[-+]?\d+(\.\d*)?")
_CONTENTS: Final = (
    (re.compile(r"\s*(<\?xml|<!DOCTYPE (?!html))", re.IGNORECASE), "XML; convert its elements to CSV or JSON Lines"),
    (re.compile(r"\s*(<!DOCTYPE html|<html\b)", re.IGNORECASE), "a web page; save its text, or its table as CSV"),
    (re.compile(r"\{\\rtf"), "a word processor's document (RTF); save it as plain text"),
    (
        re.compile(r"(\s*(%.*)?\n)*\s*@relation\b.*\n(.*\n)*?\s*@data\b", re.IGNORECASE),
        "an ARFF file; save it as CSV, or replace the lines up to @data by a header",
    ),
    (
        re.compile(
            r"-- (MySQL|MariaDB|PostgreSQL|phpMyAdmin|SQLite)"
            r"|(--.*\n|\s*\n)*((CREATE|ALTER|DROP) (TABLE|DATABASE|SCHEMA|TYPE|VIEW)|INSERT INTO) "
        ),
        "an SQL dump; load it into the database and export the table as CSV",
    ),
    (
        re.compile(r"(\s*([#%].*)?\n)*\s*@(problemName|timeStamps|univariate)\b.*\n(.*\n)*?\s*@data\b", re.I),
        "labeled series of numbers (.ts of sktime), and no task learns labels of series; name a file of texts",
    ),
    (re.compile(r"%YAML|---\s*\n\s*(- )?[\w ]+:(\s|$)"), "YAML; convert it to JSON, for example with yq -o=json"),
)


def refuse_by_ending(path: Path) -> None:
    """Raise an InputError for a file whose ending says that it is not read, and what to do."""
    what = _ENDINGS.get(path.suffix.lower())
    if what:
        raise InputError(f"{path}: expected a text file with rows of data, got {what}.")


def refuse_by_content(name: str, sample: str, lines: list[str], *, is_table: bool = False) -> None:
    """Raise an InputError for markup, commands or numeric features, and say what to do.

    `sample` is the beginning of the file and `lines` are those of its first lines that are not empty. Where a file is
    a table by its ending (`is_table`), `--kind csv` reads it as one.
    """
    for pattern, what in _CONTENTS:
        if pattern.match(sample):
            how = "csv reads it as a table" if is_table else "text reads it as plain text"
            raise InputError(f"{name}: got {what}. --kind {how}.")
    if is_table:
        return
    features = sum(_FEATURES.fullmatch(line.strip()) is not None for line in lines)
    empty = sum(_NO_FEATURES.fullmatch(line.strip()) is not None for line in lines)  # all of them are zero
    if features > empty and features > 0.9 * (len(lines) - empty):
        raise InputError(
            f"{name}: these are numeric features (a LIBSVM or SVMlight file: {lines[0][:40]!r}), and thalweg reads "
            "texts; give the texts that they were made from."
        )
