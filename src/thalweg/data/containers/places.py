"""How data is named: a file, a part of one (`archive.zip#part`), a pattern, several files; and their checksums."""

import glob
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from thalweg.data.columns.role_names import ROLE_NAMES
from thalweg.data.files.archive import COMPRESSED, PART, all_files, exists, is_archive, open_part, part_of
from thalweg.errors import InputError

THEN: Final = " + "  # between files that are read one after another
BESIDE: Final = " | "  # between two files that are read line by line
LONGEST_NAME: Final = 255  # of a file or a folder
INDEX: Final = ".thalweg-index"  # how the hidden files end that are kept beside data; see `thalweg.data.blocks.index`
OBJECT: Final = "python:"  # begins the name of data that was given in Python
MAX_FILES: Final = 100_000  # that a pattern or a folder may stand for
_PATTERN: Final = re.compile(r"[*?\[]")
_SIDES: Final = frozenset((*ROLE_NAMES["source"], *ROLE_NAMES["target"]))
ENDINGS: Final = frozenset(
    [
        ".csv",
        ".tsv",
        ".tab",
        ".jsonl",
        ".ndjson",
        ".json",
        ".conll",
        ".conllu",
        ".bio",
        ".iob",
        ".iob2",
        ".conll2002",
        ".conll2003",
        ".tmx",
        ".parquet",
        ".pq",
        ".arrow",
        ".feather",
        ".ipc",
        ".arrows",
        ".xlsx",
        ".xlsm",
        ".zip",
        ".tar",
        ".tgz",
    ]
)


@final
@dataclass(frozen=True)
class Several:
    """Several files as one: read one after another, or two of them line by line."""

    places: tuple[str, ...]
    is_parallel: bool


def several_of(place: str) -> Several | None:
    """Return the files that a place stands for, or None where it is a single one.

    Raises `InputError` when a pattern fits no file.

    Example:
        >>> several_of("a.en | a.de")
        Several(places=('a.en', 'a.de'), is_parallel=True)
        >>> several_of("a.csv + b.csv").places
        ('a.csv', 'b.csv')
    """
    if exists(Path(place)):
        return None
    for mark in (BESIDE, THEN):
        if mark in place:
            named = [one.strip() for one in place.split(mark)]
            if mark == BESIDE and len(named) != 2:
                raise InputError(f"{place}: expected two files to be read line by line, got {len(named)}.")
            return Several(tuple(named), mark == BESIDE)
    if _PATTERN.search(place):
        found = sorted((name for name in glob.glob(place, recursive=True) if Path(name).is_file()), key=natural)
        if not found:
            raise InputError(f"{place}: there is no file whose name fits this pattern; check the folder.")
        if len(found) > MAX_FILES:
            raise InputError(f"{place}: expected at most {MAX_FILES:,} files, got {len(found):,}; name fewer.")
        return Several(tuple(found), is_parallel=False)
    return None


def is_there(place: str) -> bool:
    """Whether there is what a place names: a file, a folder, a part of one, or the first of several."""
    first = re.split(f"{re.escape(THEN)}|{re.escape(BESIDE)}", place)[0]
    return any(exists(Path(one)) or part_of(Path(one))[1] is not None for one in (place, first))


def joined(places: Sequence[str], *, pairs_lines: bool = False) -> str:
    """Return the one place that stands for several files, which `several_of` takes apart again.

    Two files whose names differ in a language alone (a.en a.de), or any two texts where `pairs_lines`, are read line
    by line; others one after another. Raises `InputError` when a name holds what separates them.

    Example:
        >>> joined(["train.en", "train.de"]), joined(["a.csv", "b.csv"])
        ('train.en | train.de', 'a.csv + b.csv')
    """
    for place in places:
        if len(places) > 1 and (THEN in place or BESIDE in place):
            raise InputError(f"{place}: several files can't be read where a name holds {THEN!r} or {BESIDE!r}; rename.")
    if len(places) != 2 or not all(map(_is_line_text, places)):
        return THEN.join(places)
    return (BESIDE if pairs_lines or sides_of(*places) is not None else THEN).join(places)


def sides_of(first: str, second: str) -> tuple[str, str] | None:
    """Return in what the names of two files differ where that is one word for a language or a side; else None.

    Example:
        >>> sides_of("corpus/train.en.txt", "corpus/train.de.txt")
        ('en', 'de')
    """
    words = [re.split(r"[._-]", _without_compression(Path(one)).name) for one in (first, second)]
    if len(words[0]) != len(words[1]) or len(words[0]) < 2:
        return None
    differing = [pair for pair in zip(*words, strict=True) if pair[0] != pair[1]]
    if len(differing) != 1 or not all(re.fullmatch("[A-Za-z]{2}", word) or word in _SIDES for word in differing[0]):
        return None
    return differing[0]


def _is_line_text(place: str) -> bool:
    """Whether a file's name leaves it open that each of its lines is a text."""
    inner = place.rpartition(PART)[2]
    suffix = _without_compression(Path(inner)).suffix.lower()
    return suffix not in ENDINGS and (bool(suffix) or PART not in place)


def is_side(path: Path) -> bool:
    """Whether a file's name ends in a language or a side, as that of one text of two does."""
    ending = _without_compression(path).suffix[1:]
    return re.fullmatch("[A-Za-z]{2}", ending) is not None or ending in _SIDES


def _without_compression(path: Path) -> Path:
    while path.suffix.lower() in COMPRESSED:
        path = path.with_suffix("")
    return path


def checksums_of(place: str) -> dict[str, str]:
    """Return the SHA-256 sum of every file and folder that a place stands for; nothing for those that are not there.

    The sum of a folder is that of the names and contents of all files in it, without indexes of blocks.
    """
    several = several_of(place)
    if several is not None:
        return {name: value for one in several.places for name, value in checksums_of(one).items()}
    found = checksum_of(place)
    return {} if found is None else {place: found}


def checksum_of(name: str) -> str | None:
    """Return the SHA-256 sum of a file, of a folder's files, or of a part of one; None where there is nothing."""
    path, part = part_of(Path(name))
    try:
        if part is not None:
            return _checksum_of_part(path, part)
        if path.is_file():
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        if not path.is_dir():
            return None
        digest = hashlib.sha256()
        for inner in sorted(one for one in path.rglob("*") if one.is_file() and one.suffix != INDEX):
            with inner.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            digest.update(f"{inner.relative_to(path).as_posix()}\0{content}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()
    except (OSError, ValueError) as error:
        raise InputError(f"{name}: the file can't be read ({error}).") from None


def _checksum_of_part(path: Path, part: str) -> str | None:
    """That of a file in an archive, or of a folder in a folder; else that of the whole, with the part's name."""
    if path.is_dir():
        return checksum_of(str(path / part))
    with path.open("rb") as file:
        start = file.read(16)
    if is_archive(path, start) and part in all_files(path):
        with open_part(path, part) as file:
            digest = hashlib.sha256()
            while block := file.read(1 << 20):
                digest.update(block)
            return digest.hexdigest()
    return hashlib.sha256(f"{checksum_of(str(path))}{PART}{part}".encode()).hexdigest()


def short_name(place: str) -> str:
    """Return what a place is called in a sentence and in the name of a run's folder.

    Example:
        >>> short_name("corpus/train.en | corpus/train.de"), short_name("data/a.csv + data/b.csv")
        ('train.en-de', 'a+b')
    """
    if place.startswith(OBJECT):
        return place.removeprefix(OBJECT)
    if exists(Path(place)):
        return Path(place).name
    for mark in (BESIDE, THEN):
        if mark in place:
            named = [one.strip() for one in place.split(mark)]
            if mark == BESIDE:
                sides = sides_of(named[0], named[-1])
                if sides:
                    return Path(named[0]).name.replace(sides[0], "-".join(sides), 1)
            stems = [_without_compression(Path(one)).stem for one in named]
            return "+".join(stems) if len(stems) <= 3 else f"{stems[0]}+{len(stems) - 1}-more"
    if _PATTERN.search(place):
        stem = re.sub(r"[*?\[\]]+", "", Path(place).stem).strip("-_.")
        return stem or Path(place).parent.name or "files"
    container, part = part_of(Path(place))
    return f"{container.stem}-{Path(part).name}" if part else Path(place).name or Path(place).resolve().name


def natural(name: str) -> list[tuple[int, int | str]]:
    """Sort key by which part2 comes before part10."""
    return [(0, int(piece)) if piece.isdigit() else (1, piece) for piece in re.split(r"(\d+)", name) if piece]
