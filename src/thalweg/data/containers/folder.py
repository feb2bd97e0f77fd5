"""Folders: one file, files called train, valid and test, folders of texts for each label, data sets of `datasets`."""

import glob
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any, Final, final

from thalweg.data.containers.arrow import open_arrow
from thalweg.data.containers.places import ENDINGS, is_side, joined, natural
from thalweg.data.containers.plain import class_names
from thalweg.data.containers.rows import Columns, RowSource
from thalweg.data.containers.several import JoinedSource
from thalweg.data.files.archive import COMPRESSED, NO_DATA, PART
from thalweg.data.files.base import AbstractSource, BadRows
from thalweg.errors import InputError

OpenFile = Callable[..., AbstractSource]
MAX_BYTES: Final = 10_000_000  # of a text that is a file
_ROLES: Final = {
    role: re.compile(rf"({names})([-_.].*)?|.*[-_.]({names})", re.I)
    for role, names in (
        ("train", "train|training"),
        ("valid", "valid|validation|val|dev|devel|development"),
        ("test", "test|testing|held[-_]?out"),
    )
}
_UNLABELED: Final = frozenset(("unsup", "unlabeled", "unlabelled", "unsupervised"))
_SAVED: Final = "dataset_info.json"  # in a folder that `Dataset.save_to_disk` made
_SAVED_STATE: Final = "state.json"
_SAVED_SPLITS: Final = "dataset_dict.json"  # in one that `DatasetDict.save_to_disk` made
_TEXTS: Final = (".txt", ".text", "")
_SHOWN: Final = 10  # names in a message


@final
@dataclass(frozen=True)
class Splits:
    """The parts of a data set that stands in one folder: places of data, or data themselves; None where one lacks."""

    train: Any
    valid: Any = None
    test: Any = None
    notes: list[str] = field(default_factory=list)


def splits_of(place: str) -> Splits | None:
    """Return the parts of a folder that has one for training; None for any other place.

    Raises `InputError` when what is there is damaged.
    """
    folder = Path(place)
    if not folder.is_dir():
        return None
    if (folder / _SAVED_SPLITS).is_file():
        names = _read_json(folder / _SAVED_SPLITS).get("splits")
        names = [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
        found = {_role(name): f"{place.rstrip('/')}{PART}{name}" for name in names}
    elif (folder / _SAVED).is_file():
        return None
    else:
        found = _splits_by_name(_holder(folder))
    if "train" not in found:
        return None
    notes = [f"Training reads {found['train']}."]
    if "valid" in found:
        notes.append(f"Validation reads {found['valid']}.")
    if "test" in found:
        notes.append(f"Held-out data is left for later: thalweg evaluate RUN '{found['test']}'.")
    return Splits(found["train"], found.get("valid"), found.get("test"), notes)


def open_folder(folder: Path, part: str | None, open_file: OpenFile, *, skip_bad_rows: bool = False) -> AbstractSource:
    """Open what a folder holds as one source.

    Args:
        folder: the folder.
        part: the part of a data set of `datasets` that is read; None where none is named.
        open_file: opens a file or another folder, with the options of `open_source`.
        skip_bad_rows: as in `open_source`.

    Raises:
        InputError: when nothing in it can be read as a whole, with what is there.
    """
    if (folder / _SAVED_SPLITS).is_file() and part is not None:
        if "/" in part or "\\" in part or not (folder / part / _SAVED).is_file():
            raise InputError(f"{folder}: there is no part {part!r} in this data set; {_choices(folder)}.")
        return _saved(folder / part, f"{folder}{PART}{part}", skip_bad_rows=skip_bad_rows)
    if part is not None:
        raise InputError(f"{folder}{PART}{part}: there is no such file, and {folder} has no parts.")
    if (folder / _SAVED).is_file() and (folder / _SAVED_STATE).is_file():
        return _saved(folder, str(folder), skip_bad_rows=skip_bad_rows)
    splits = splits_of(str(folder))
    if splits is not None or (folder / _SAVED_SPLITS).is_file():
        raise InputError(f"{folder}: expected one set of data, got a folder with several; {_choices(folder)}.")
    holder = _holder(folder)
    files, folders = _entries(holder)
    if len(files) == 1 and not folders:
        source = open_file(str(files[0]))
        source.notes.insert(0, f"The folder holds one file of data, {files[0].name}.")
        return source
    if not folders and are_shards([one.name for one in files]):
        return open_file(joined([str(one) for one in files]))
    classes = {inner.name: texts for inner in folders if (texts := _texts_in(inner))}
    if len(classes) > 1 and len(classes) == len(folders):
        return _labeled(holder, classes, skip_bad_rows=skip_bad_rows)
    raise InputError(
        f"{folder}: expected a folder with one set of data, {_held(files, folders)}; {_hint(holder, files)}."
    )


def are_shards(names: Sequence[str]) -> bool:
    """Whether files are parts of one set: their names differ in numbers alone.

    Example:
        >>> are_shards(["part-000.jsonl.gz", "part-001.jsonl.gz"]), are_shards(["a.csv", "b.csv"])
        (True, False)
    """
    return len(names) > 1 and len({re.sub(r"\d+", "0", name) for name in names}) == 1


def _holder(folder: Path) -> Path:
    """The folder itself, or the only one in it (such as `data`) where it has no data of its own."""
    files, folders = _entries(folder)
    if not files and len(folders) == 1 and folders[0].name.lower() in ("data", folder.name.lower()):
        return folders[0]
    return folder


def _entries(folder: Path) -> tuple[list[Path], list[Path]]:
    """The files that may hold data, and the folders, in their natural order."""
    try:
        inner = sorted(folder.iterdir(), key=lambda one: natural(one.name))
    except OSError as error:
        raise InputError(f"{folder}: the folder can't be read ({error.strerror}).") from None
    named = [one for one in inner if not NO_DATA.search(one.name)]
    return [one for one in named if one.is_file()], [one for one in named if one.is_dir()]


def _role(name: str) -> str:
    return next((role for role, pattern in _ROLES.items() if pattern.fullmatch(name)), name)


def _splits_by_name(folder: Path) -> dict[str, str]:
    """Role -> the place of its data, by the names of files and folders."""
    files, folders = _entries(folder)
    for entries in ([one for one in files if _is_data(one) or is_side(one)], folders):
        inner: dict[str, list[Path]] = {}
        for one in entries:
            inner.setdefault(_role(_stem(one)), []).append(one)
        for paths in inner.values():  # the plain text of a treebank stands beside it
            others = {_stem(one) for one in paths if one.suffix not in _TEXTS}
            paths[:] = [one for one in paths if one.is_dir() or one.suffix not in _TEXTS or _stem(one) not in others]
        if "train" in inner:
            return {role: _place(folder, paths) for role, paths in inner.items() if role in _ROLES}
    return {}


def _is_data(path: Path) -> bool:
    name = path.name.lower()
    while name.endswith(COMPRESSED):
        name = name.rpartition(".")[0]
    return name.endswith((*ENDINGS, ".txt", ".text"))


def _stem(path: Path) -> str:
    return path.name.split(".")[0] if path.is_file() else path.name


def _place(folder: Path, paths: list[Path]) -> str:
    """One place for these files: a pattern where it fits them alone."""
    if len(paths) == 1:
        return str(paths[0])
    names = [path.name for path in paths]
    start = re.sub(r"\d+.*", "", names[0])
    pattern = f"{glob.escape(str(folder))}/{start}*{paths[0].suffix}"
    return pattern if sorted(glob.glob(pattern)) == sorted(map(str, paths)) else joined(list(map(str, paths)))


def _choices(folder: Path) -> str:
    splits = splits_of(str(folder))
    found = [place for place in (splits.train, splits.valid, splits.test) if place] if splits else []
    if not found and (folder / _SAVED_SPLITS).is_file():
        found = [f"{folder}{PART}{one.name}" for one in sorted(folder.iterdir()) if one.is_dir()]
    return f"name one of them: {', '.join(found[:_SHOWN])}" if found else "it has no parts"


def _held(files: list[Path], folders: list[Path]) -> str:
    if not files and not folders:
        return "got an empty one"
    names = [*(one.name for one in files), *(f"{one.name}/" for one in folders)]
    return f"got {', '.join(names[:_SHOWN])}{' ...' if len(names) > _SHOWN else ''}"


def _hint(folder: Path, files: list[Path]) -> str:
    suffixes = {one.suffix for one in files}
    if len(suffixes) == 1 and len(files) > 1:
        return f"name one of them, or all with '{folder}/*{files[0].suffix}'"
    return "name a file inside it, or call files train, valid and test"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        raise InputError(f"{path}: the file is damaged, so the data set can't be read; save it again.") from None
    if not isinstance(found, dict):
        raise InputError(f"{path}: the file is damaged, so the data set can't be read; save it again.")
    return found


def _saved(folder: Path, name: str, *, skip_bad_rows: bool) -> AbstractSource:
    """The source of a folder that `Dataset.save_to_disk` made; its files are read as Arrow, without `datasets`."""
    listed = _read_json(folder / _SAVED_STATE).get("_data_files")
    named = [one.get("filename") for one in listed if isinstance(one, Mapping)] if isinstance(listed, list) else []
    files = [one for one in named if isinstance(one, str) and Path(one).name == one]
    if not files or len(files) < len(named):
        raise InputError(f"{folder / _SAVED_STATE}: expected the names of the Arrow files; save the data set again.")
    features = _read_json(folder / _SAVED).get("features")
    classes = class_names(features)
    parts = []
    for one in files:
        path = folder / one
        if not path.is_file():
            raise InputError(f"{name}: the data set is incomplete, there is no {one}; save it again.")
        own = name if len(files) == 1 else str(path)
        parts.append(
            open_arrow(own, "arrow stream", lambda path=path: path, skip_bad_rows=skip_bad_rows, classes=classes)
        )
    return parts[0] if len(parts) == 1 else JoinedSource(parts)


def _texts_in(folder: Path) -> list[Path]:
    """The files of a folder that are all texts; empty if something else is there."""
    files, folders = _entries(folder)
    return files if files and not folders and all(one.suffix.lower() in _TEXTS for one in files) else []


def _labeled(folder: Path, classes: dict[str, list[Path]], *, skip_bad_rows: bool) -> AbstractSource:
    """The source of a folder with a folder of texts for each label; the labels take turns."""
    unlabeled = [name for name in classes if name.lower() in _UNLABELED]
    used = {name: texts for name, texts in classes.items() if name not in unlabeled}
    shown = ", ".join(list(used)[:_SHOWN]) + (" ..." if len(used) > _SHOWN else "")
    notes = [f"Each file in the folders {shown} is a text, and its folder's name is the label."]
    notes += [f"The folder {name} has no label by its name and is left out." for name in unlabeled]
    if not used:
        raise InputError(f"{folder}: expected a folder of texts for each label, got only texts without one.")

    def read(bad: BadRows, size: int) -> Iterator[tuple[list[int], Columns]]:
        turns = zip_longest(*([(path, name) for path in paths] for name, paths in used.items()))
        pairs = enumerate((pair for turn in turns for pair in turn if pair is not None), start=1)
        while batch := list(islice(pairs, size)):
            lines, texts, labels = [], [], []
            for line, (path, label) in batch:
                text, problem = _text(path)
                if problem:
                    bad.add(line, f"{label}/{path.name}: {problem}")
                else:
                    lines.append(line)
                    texts.append(text)
                    labels.append(label)
            yield lines, (texts, labels)

    return RowSource(str(folder), "folder", ("text", "label"), notes, read, skip_bad_rows=skip_bad_rows)


def _text(path: Path) -> tuple[str, str]:
    """The text of a file, and what is wrong with it, as half a sentence."""
    try:
        if path.stat().st_size > MAX_BYTES:
            return "", f"it is longer than {MAX_BYTES:,} bytes"
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return "", f"expected UTF-8 text, got the byte 0x{error.object[error.start]:02x}"
    except OSError as error:
        return "", f"it can't be read ({error.strerror})"
    return ("", "it has a NUL byte") if "\0" in text else (text.strip(), "")
