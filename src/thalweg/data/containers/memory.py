"""Data that was given in Python: data frames, lists of dicts, dicts of lists, data sets of `datasets`, Arrow tables."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final

from thalweg.data.containers.arrow import table_source
from thalweg.data.containers.folder import Splits
from thalweg.data.containers.places import OBJECT
from thalweg.data.containers.plain import are_dates, as_date, class_names, flattened, named, plain
from thalweg.data.containers.rows import Columns, RowSource, require_distinct
from thalweg.data.files.base import AbstractSource, BadRows
from thalweg.errors import InputError

_HEAD: Final = 1000  # rows that are looked at to find the columns of a list of dicts, and days among moments
_SPLITS: Final = {"train": "train", "validation": "valid", "valid": "valid", "dev": "valid", "test": "test"}
WHAT: Final = (
    "the name of a file or of a built-in set, several names, a data frame or series, a list of dicts, a dict of lists, "
    "a data set of datasets, or a source"
)


def source_of(data: Any, name: str | None = None, *, skip_bad_rows: bool = False) -> AbstractSource:
    """Return a source of data that was given in Python; a row's line is its number, from 1.

    The data are read again and again, so they must stay as they are.

    Args:
        data: `WHAT`, but for names.
        name: what stands for it in messages and in a recipe; None makes one of its type.
        skip_bad_rows: as in `open_source`.

    Raises:
        InputError: for anything else, or data without rows or columns.

    Example:
        >>> [row.values for row in source_of({"text": ["fine", "bad"], "label": [1, 0]}).rows()]
        [('fine', 1), ('bad', 0)]
    """
    if isinstance(data, AbstractSource):
        return data
    kind = type(data)
    package, name = kind.__module__.split(".")[0], name or f"{OBJECT}{kind.__name__}"
    if package == "pandas" and kind.__name__ == "DataFrame":
        return _table(name, _of_pandas(data), skip_bad_rows=skip_bad_rows)
    if package == "pandas" and kind.__name__ == "Series":
        name_of = "values" if data.name is None else data.name
        return _table(name, _of_pandas(data.to_frame(name_of)), skip_bad_rows=skip_bad_rows)
    if package == "numpy" and getattr(data.dtype, "names", None):
        return _of_columns(name, {field: data[field] for field in data.dtype.names}, skip_bad_rows=skip_bad_rows)
    if package == "polars" and kind.__name__ == "DataFrame":
        columns = {column: data.get_column(column) for column in data.columns}
        parts = {column: _slices(series, lambda part: part.to_list()) for column, series in columns.items()}
        return _table(name, parts, skip_bad_rows=skip_bad_rows)
    if package == "datasets" and hasattr(data, "features") and hasattr(data, "with_format"):
        return _of_datasets(name, data, skip_bad_rows=skip_bad_rows)
    if package == "pyarrow" and hasattr(data, "to_batches"):
        return table_source(
            name, "arrow", data.schema, lambda size: iter(data.to_batches(size)), skip_bad_rows=skip_bad_rows,
            head=next(iter(data.slice(0, _HEAD).combine_chunks().to_batches()), None),
        )  # fmt: skip
    if isinstance(data, Mapping):
        return _of_columns(name, data, skip_bad_rows=skip_bad_rows)
    if isinstance(data, Sequence) and not isinstance(data, str | bytes) and data:
        if all(isinstance(row, Mapping) for row in data):
            return _of_records(name, data, skip_bad_rows=skip_bad_rows)
        raise InputError(f"Expected {WHAT}; got a {kind.__name__} whose entries are not all dicts.")
    if isinstance(data, Iterator):
        raise InputError(f"Expected {WHAT}; got a {kind.__name__}, which can be read only once. Give list(...) of it.")
    hint = ' Give a dict of lists, such as {"text": [...], "label": [...]}.' if package == "numpy" else ""
    raise InputError(f"Expected {WHAT}; got {_described(data)}.{hint}")


def splits_in(data: Any) -> Splits | None:
    """Return the parts of a `DatasetDict` or a dict of such; None for any other data.

    Raises `InputError` when there is none for training.
    """
    if not isinstance(data, Mapping) or not data or not all(map(_is_table, data.values())):
        return None
    found = {_SPLITS.get(str(key), str(key)): value for key, value in data.items()}
    if "train" not in found:
        raise InputError(
            f"Expected data with a part called train, got the parts {', '.join(map(str, data))}; name one."
        )
    notes = ["Training reads the part 'train'."]
    notes += ["The part for validation is read as such."] if "valid" in found else []
    notes += ["The part 'test' is left for later: run.evaluate(data['test'])."] if "test" in found else []
    return Splits(found["train"], found.get("valid"), found.get("test"), notes)


def checksum_of_rows(source: AbstractSource) -> str:
    """Return a SHA-256 sum of all rows of a source: of data that is in no file."""
    digest = hashlib.sha256(json.dumps(source.columns).encode())
    for chunk in source.chunks(4096):
        for row in zip(*chunk.values, strict=True):
            digest.update(json.dumps(row, default=str).encode() + b"\n")
    return digest.hexdigest()


Values = Callable[[int], Iterator[list[Any]]]  # a chunk's size -> the values of a column, chunk by chunk


def is_data(value: Any) -> bool:
    """Whether a value is data with columns, such as `source_of` takes.

    Example:
        >>> is_data([{"text": "fine"}]), is_data({"text": ["fine"]}), is_data(["fine"])
        (True, True, False)
    """
    return isinstance(value, Mapping) or _is_table(value)


def _is_table(data: Any) -> bool:
    if isinstance(data, AbstractSource):
        return True
    if isinstance(data, Sequence) and not isinstance(data, str | bytes):
        return bool(data) and all(isinstance(row, Mapping) for row in data)
    return (
        type(data).__module__.split(".")[0] in ("pandas", "polars", "datasets", "pyarrow")
        and not isinstance(data, Mapping)
        and type(data).__name__ in ("DataFrame", "Dataset", "Table")
    )


def _described(data: Any) -> str:
    if isinstance(data, Sequence) and not data:
        return f"an empty {type(data).__name__}"
    name = type(data).__name__
    return f"{'an' if name[0].lower() in 'aeio' else 'a'} {name}"


def _slices(data: Any, convert: Callable[[Any], list[Any]], length: int | None = None) -> Values:
    length = len(data) if length is None else length

    def values(size: int) -> Iterator[list[Any]]:
        for start in range(0, length, size):
            yield convert(data[start : start + size])

    return values


def _table(
    name: str, parts: dict[str, Values], *, classes: dict[str, list[str]] | None = None, skip_bad_rows: bool
) -> AbstractSource:
    """The source of these columns, all equally long."""
    if not parts:
        raise InputError(f"{name}: expected data with columns, got none.")
    converts = {}
    notes = []
    for column, values in parts.items():
        head = next(values(_HEAD), [])
        names = (classes or {}).get(column)
        if names:
            converts[column] = lambda value, names=names: named(plain(value), names)
            notes.append(f"The classes of {column!r} are read by their names.")
        else:
            converts[column] = as_date if are_dates(head) else plain

    def read(bad: BadRows, size: int) -> Iterator[tuple[range, Columns]]:
        del bad  # what is in memory can be read
        row = 1
        for chunk in zip(*(values(size) for values in parts.values()), strict=True):
            yield (
                range(row, row + len(chunk[0])),
                tuple(list(map(convert, values)) for convert, values in zip(converts.values(), chunk, strict=True)),
            )
            row += len(chunk[0])

    return RowSource(name, "table", tuple(parts), notes, read, skip_bad_rows=skip_bad_rows)


def _of_pandas(frame: Any) -> dict[str, Values]:
    """The columns of a data frame, and its index where that has a name or holds times."""
    is_named = any(one is not None for one in frame.index.names) or type(frame.index).__name__ == "DatetimeIndex"
    frame = frame.reset_index() if is_named else frame
    columns = [".".join(map(str, one)) if isinstance(one, tuple) else str(one) for one in frame.columns]
    require_distinct("The data frame", columns)
    return {
        column: _slices(frame.iloc[:, place].iloc, lambda part: part.astype(object).tolist(), len(frame))
        for place, column in enumerate(columns)
    }


def _of_datasets(name: str, data: Any, *, skip_bad_rows: bool) -> AbstractSource:
    data = data.with_format("arrow")
    schema = data.features.arrow_schema
    return table_source(
        name,
        "arrow",
        schema,
        lambda size: (batch for table in data.iter(size) for batch in table.to_batches()),
        skip_bad_rows=skip_bad_rows,
        classes=class_names(data.features.to_dict()),
        head=next((batch for table in data.iter(_HEAD) for batch in table.combine_chunks().to_batches()), None),
    )


def _of_columns(name: str, data: Mapping[Any, Any], *, skip_bad_rows: bool) -> AbstractSource:
    """The source of a dict of lists."""
    for column, values in data.items():
        if isinstance(values, str | bytes | Mapping) or not hasattr(values, "__len__"):
            raise InputError(f"Expected a dict of lists, one for each column; got {_described(values)} for {column!r}.")
    lengths = {str(column): len(values) for column, values in data.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{column!r} has {length:,}" for column, length in list(lengths.items())[:5])
        raise InputError(f"Expected a dict of lists of one length; {listed}.")
    require_distinct("The dict", list(lengths))
    return _table(
        name,
        {str(column): _slices(values, list) for column, values in data.items()},
        skip_bad_rows=skip_bad_rows,
    )


def _of_records(name: str, data: Sequence[Mapping[Any, Any]], *, skip_bad_rows: bool) -> AbstractSource:
    """The source of a list of dicts; what a dict lacks is missing."""
    rows = _slices(data, lambda part: list(map(flattened, part)))
    columns = dict.fromkeys(column for row in islice(next(rows(_HEAD)), _HEAD) for column in row)

    def values_of(column: str) -> Values:
        return lambda size: ([row.get(column) for row in part] for part in rows(size))

    return _table(name, {column: values_of(column) for column in columns}, skip_bad_rows=skip_bad_rows)
