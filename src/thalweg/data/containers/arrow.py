"""Parquet, Arrow and Feather: read batch by batch with pyarrow, which the extra `files` brings."""

import json
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

from thalweg.data.containers.arrow_sizes import unpacked_size
from thalweg.data.containers.plain import SEPARATOR, are_dates, as_date, class_names, named, plain
from thalweg.data.containers.rows import Columns, RowSource, require_distinct
from thalweg.data.files.archive import require_plausible
from thalweg.data.files.base import AbstractSource, BadRows
from thalweg.errors import InputError

PARQUET: Final = b"PAR1"
ARROW_FILE: Final = b"ARROW1"
ARROW_STREAM: Final = b"\xff\xff\xff\xff"
_OLD_FEATHER: Final = b"FEA1"
_ENCRYPTED: Final = b"PARE"
_STREAMS: Final = (".arrow", ".arrows", ".ipc", ".feather")  # endings, for the oldest streams begin with a mere number
_HEAD: Final = 1000  # rows that are looked at when a file is opened
_INDEX: Final = "__index_level_"  # begins the name of the column that pandas makes of an index without a name

_WAY_OUT: Final = "save it as CSV if you trust it"

Open = Callable[[], Any]  # what pyarrow reads: a path, or a file in memory


def kind_of_arrow(start: bytes, name: str) -> str | None:
    """Return parquet, arrow or arrow stream for a file that begins so; None for any other.

    Raises `InputError` for a form of these that can't be read.
    """
    if start.startswith(_OLD_FEATHER):
        raise InputError(f"{name}: this is Feather of version 1; write it again with a newer pandas or pyarrow.")
    if start.startswith(_ENCRYPTED):
        raise InputError(f"{name}: this Parquet file is encrypted; write it without encryption.")
    if start.startswith(PARQUET):
        return "parquet"
    if start.startswith(ARROW_FILE):
        return "arrow"
    is_stream = start.startswith(ARROW_STREAM) and start[4:8] != ARROW_STREAM
    return "arrow stream" if is_stream and name.lower().endswith(_STREAMS) else None


def open_arrow(
    name: str,
    kind: str,
    opened: Open,
    *,
    skip_bad_rows: bool = False,
    classes: dict[str, list[str]] | None = None,
) -> AbstractSource:
    """Open a file that `kind_of_arrow` knows; the number of a row stands for its line.

    Args:
        name: for messages.
        kind: as `kind_of_arrow` returns it.
        opened: gives the path, or the file in memory, anew.
        skip_bad_rows: as in `open_source`.
        classes: the names of classes by column; None takes those that the file itself tells.

    Raises:
        InputError: without pyarrow, or for a file that is damaged or has no column of values that tasks read.
    """
    batches = _reader(name, kind)
    if kind != "parquet":
        require_plausible(name, _guarded(name, lambda: _unpacked(opened(), kind)), _packed_size(opened()), _WAY_OUT)
    schema, first = _guarded(name, lambda: _first_batch(batches, opened))
    return table_source(
        name,
        "parquet" if kind == "parquet" else "arrow",
        schema,
        lambda size: batches(opened(), size)[1],
        skip_bad_rows=skip_bad_rows,
        classes=classes,
        head=first,
        packed=_packed_size(opened()),
    )


def table_source(
    name: str,
    kind: str,
    schema: Any,
    batches: Callable[[int], Iterator[Any]],
    *,
    skip_bad_rows: bool = False,
    classes: dict[str, list[str]] | None = None,
    head: Any = None,
    packed: int | None = None,
) -> AbstractSource:
    """Return a source of the record batches that `batches(size)` gives, all of this schema; `head` is the first.

    Where they come from a file of `packed` bytes, more values than data of that size have are refused.
    """
    notes: list[str] = []
    leaves = _guarded(name, lambda: list(_leaves(schema)))
    refused = {leaf.name: reason for leaf in leaves if (reason := _why_not(leaf.type))}
    notes += [
        f"Column {column!r} holds {reason}, which no task reads; it is left out." for column, reason in refused.items()
    ]
    leaves = [leaf for leaf in leaves if leaf.name not in refused and not leaf.name.startswith(_INDEX)]
    if not leaves:
        raise InputError(f"{name}: expected columns of texts, numbers or lists; got {_listed(refused) or 'no column'}.")
    require_distinct(name, [leaf.name for leaf in leaves])
    known = _classes_of(schema) if classes is None else classes
    used = [leaf.name for leaf in leaves if leaf.name in known]
    if used:
        notes.append(f"The classes of {', '.join(map(repr, used))} are read by their names.")
    converters = [leaf.converter(known.get(leaf.name), head) for leaf in leaves]

    def read(bad: BadRows, size: int) -> Iterator[tuple[range, Columns]]:
        del bad  # no row is bad by itself: what is damaged ends the reading
        row, num_cells, num_bytes = 1, 0, 0
        pieces = _guarded_each(name, batches(size))
        for batch in pieces:
            num_cells += batch.num_rows * len(leaves)
            if packed is not None:
                require_plausible(name, num_cells, packed, _WAY_OUT)
            for start in range(0, batch.num_rows, size):
                piece = batch.slice(start, size)
                if packed is not None:
                    num_bytes += sum(_num_repeated(leaf.array(piece)) for leaf in leaves)
                    require_plausible(name, num_bytes, packed, _WAY_OUT)
                values = tuple(
                    _guarded(name, lambda leaf=leaf, convert=convert, piece=piece: convert(leaf.array(piece)))
                    for leaf, convert in zip(leaves, converters, strict=True)
                )
                yield range(row, row + piece.num_rows), values
                row += piece.num_rows

    return RowSource(name, kind, [leaf.name for leaf in leaves], notes, read, skip_bad_rows=skip_bad_rows)


def pyarrow_for(name: str) -> Any:
    """Return the module pyarrow; an InputError says how to install it for reading this file."""
    try:
        import pyarrow as pa
        import pyarrow.compute
        import pyarrow.parquet
    except ImportError:
        raise InputError(
            f"{name}: reading Parquet and Arrow needs pyarrow; install it with pip install 'thalweg[files]'."
        ) from None
    return pa


def _reader(name: str, kind: str) -> Callable[[Any, int], tuple[Any, Iterator[Any]]]:
    """Return the function that gives schema and batches of a file."""
    pa = pyarrow_for(name)

    def parquet(opened: Any, size: int) -> tuple[Any, Iterator[Any]]:
        file = pa.parquet.ParquetFile(opened)
        groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
        require_plausible(name, sum(group.total_byte_size for group in groups), _packed_size(opened), _WAY_OUT)
        if numbered := [column for column in file.schema_arrow.names if _is_numbered(column, groups)]:
            # Its texts stay numbers until they are counted: a few bytes can stand for a large text in every row.
            file = pa.parquet.ParquetFile(opened, read_dictionary=numbered)
        return file.schema_arrow, _closing(file, file.iter_batches(batch_size=size, use_threads=False))

    def arrow(opened: Any, size: int) -> tuple[Any, Iterator[Any]]:  # noqa: ARG001
        source = pa.memory_map(str(opened)) if isinstance(opened, Path) else opened
        if kind == "arrow stream":
            stream = pa.ipc.open_stream(source)
            return stream.schema, _closing(source, _whole(iter(stream)))
        file = pa.ipc.open_file(source)
        batches = (file.get_batch(number) for number in range(file.num_record_batches))
        return file.schema, _closing(source, _whole(batches))

    return parquet if kind == "parquet" else arrow


def _closing(file: Any, batches: Iterator[Any]) -> Iterator[Any]:
    try:
        yield from batches
    finally:
        file.close()


def _whole(batches: Iterator[Any]) -> Iterator[Any]:
    """The batches of a file that lie in it as in memory: places that lead out of it are found before they are read."""
    for batch in batches:
        batch.validate(full=True)
        yield batch


def _unpacked(opened: Any, kind: str) -> int:
    with open(opened, "rb") if isinstance(opened, Path) else opened as file:
        return unpacked_size(file, is_stream=kind == "arrow stream")


def _packed_size(opened: Any) -> int:
    return opened.stat().st_size if isinstance(opened, Path) else opened.size()


def _is_numbered(column: str, groups: list[Any]) -> bool:
    """Whether a column of texts is written by their numbers in a list."""
    chunks = (group.column(number) for group in groups for number in range(group.num_columns))
    return any(
        chunk.path_in_schema == column
        and chunk.physical_type == "BYTE_ARRAY"
        and any("DICTIONARY" in encoding for encoding in chunk.encodings)
        for chunk in chunks
    )


def _num_repeated(array: Any) -> int:
    """How many bytes the texts of an array have that is written by their numbers."""
    if not _types().is_dictionary(array.type) or not hasattr(array.dictionary, "buffers"):
        return 0
    if not (_types().is_string(array.type.value_type) or _types().is_large_string(array.type.value_type)):
        return 0
    lengths = _compute().binary_length(array.dictionary)
    return _compute().sum(_compute().cast(lengths.take(array.indices), "int64")).as_py() or 0


def _first_batch(batches: Callable[[Any, int], tuple[Any, Iterator[Any]]], opened: Open) -> tuple[Any, Any]:
    schema, found = batches(opened(), _HEAD)
    first = next((batch for batch in found if batch.num_rows), None)
    return schema, None if first is None else first.slice(0, _HEAD)


class _Leaf:
    """A column that holds no records: its name with points, the way to it, and its type."""

    def __init__(self, place: int, way: tuple[int, ...], name: str, kind: Any) -> None:
        self.place, self.way, self.name, self.type = place, way, name, kind

    def array(self, batch: Any) -> Any:
        """Return the column's values in a batch."""
        array = batch.column(self.place)
        if not self.way:
            return array
        return _compute().struct_field(array, list(self.way))

    def converter(self, names: list[str] | None, head: Any) -> Callable[[Any], list[Any]]:
        """Return what makes a list of plain values of such an array; `head` is the first batch."""
        values_of = _values_of(self.type)
        if names is not None:
            return lambda array: [named(value, names) for value in values_of(array)]
        if _types().is_timestamp(_value_type(self.type)):
            is_daily = head is not None and are_dates(values_of(self.array(head)))
            convert = as_date if is_daily else plain
            return lambda array: list(map(convert, values_of(array)))
        if _is_as_it_is(_value_type(self.type)):
            return values_of
        return lambda array: list(map(plain, values_of(array)))


def _leaves(schema: Any) -> Iterator[_Leaf]:
    """The columns of a schema, those inside records under names with points."""

    def inside(place: int, way: tuple[int, ...], name: str, kind: Any) -> Iterator[_Leaf]:
        if _types().is_struct(kind) and kind.num_fields:
            for number in range(kind.num_fields):
                field = kind.field(number)
                yield from inside(place, (*way, number), f"{name}{SEPARATOR}{field.name}", field.type)
        else:
            yield _Leaf(place, way, name, kind)

    for place, field in enumerate(schema):
        yield from inside(place, (), field.name, field.type)


def _why_not(kind: Any) -> str:
    """Why values of a type are not read, as the end of a sentence; empty if they are."""
    types, kind = _types(), _value_type(kind)
    while types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        kind = _value_type(kind.value_type)
    if types.is_struct(kind):
        return next((why for i in range(kind.num_fields) if (why := _why_not(kind.field(i).type))), "")
    is_binary = types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind)
    if is_binary or "binary_view" in str(kind):
        return "bytes, such as pictures or sound"
    return f"values of the type {kind}" if types.is_map(kind) or types.is_union(kind) or "view" in str(kind) else ""


def _value_type(kind: Any) -> Any:
    """The type of the values themselves, where they are numbered or have a name of their own."""
    if hasattr(kind, "storage_type"):  # an extension type
        kind = kind.storage_type
    return kind.value_type if _types().is_dictionary(kind) else kind


def _is_as_it_is(kind: Any) -> bool:
    types = _types()
    return types.is_string(kind) or types.is_large_string(kind) or types.is_integer(kind) or types.is_boolean(kind)


def _values_of(kind: Any) -> Callable[[Any], list[Any]]:
    """Return what makes a list of Python's values of an array of a type."""
    types = _types()

    def values(array: Any) -> list[Any]:
        array = array.storage if hasattr(kind, "storage_type") else array
        array = array.dictionary_decode() if types.is_dictionary(array.type) else array
        if types.is_timestamp(array.type) and array.type.unit == "ns":  # finer than Python's own
            array = array.cast(_timestamp(array.type.tz), safe=False)
        return array.to_pylist()

    return values


def _classes_of(schema: Any) -> dict[str, list[str]]:
    """The names of classes that `datasets` writes into a schema."""
    try:
        told = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        return class_names(told["info"]["features"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}


def _types() -> Any:
    import pyarrow as pa

    return pa.types


def _compute() -> Any:
    import pyarrow.compute as pc

    return pc


def _timestamp(zone: str | None) -> Any:
    import pyarrow as pa

    return pa.timestamp("us", zone)


def _guarded(name: str, what: Callable[[], Any]) -> Any:
    """Do something with pyarrow; its errors are told in a sentence."""
    try:
        return what()
    except MemoryError:  # pyarrow's own is one, too
        raise InputError(f"{name}: there is no memory for a part of it; write it with fewer rows in a group.") from None
    except (OSError, ValueError, NotImplementedError, TypeError, LookupError) as error:  # pyarrow's are all of these
        if isinstance(error, InputError):
            raise
        raise InputError(f"{name}: the file is damaged or can't be read ({_first_line(error)}).") from None


def _guarded_each(name: str, batches: Iterator[Any]) -> Iterator[Any]:
    while (batch := _guarded(name, lambda: next(batches, None))) is not None:
        yield batch


def _first_line(error: BaseException) -> str:
    return next(islice((line for line in str(error).splitlines() if line.strip()), 1), type(error).__name__).rstrip(".")


def _listed(refused: dict[str, str]) -> str:
    return ", ".join(f"{column!r} with {reason}" for column, reason in list(refused.items())[:5])
