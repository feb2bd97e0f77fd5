"""The one way to open whatever holds data: a file, a container, several files, a built-in set."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from thalweg.data.builtin.catalog import SAMPLES
from thalweg.data.containers.memory import is_data, source_of
from thalweg.data.containers.places import OBJECT, is_there
from thalweg.data.files.base import KINDS, AbstractSource
from thalweg.data.files.detection import suffix_of
from thalweg.data.files.sources import open_source
from thalweg.errors import InputError

_READING: Final = {"kind": KINDS, "header": ("yes", "no")}  # option -> its values


def open_any(data: Any, **options: Any) -> AbstractSource:
    """Open data of any kind.

    Args:
        data: a file's path, or that of a container; the name of a built-in set, where there is no file of that name; or
            data in memory (see `thalweg.data.containers.memory`); a source is returned as it is.
        **options: those of `thalweg.data.open_source`, such as `skip_bad_rows=True`.

    Raises:
        InputError: when it can't be opened, or is no data.

    Example:
        >>> open_any("sunspots").columns
        ('year', 'sunspots')
    """
    if not isinstance(data, str | Path):
        return source_of(data, skip_bad_rows=bool(options.get("skip_bad_rows")))
    name = str(data)
    if name.startswith(OBJECT):
        raise InputError(
            f"{name}: these data were given in Python, so they can't be read again from here; give them again, or save "
            "them to a file and train on that."
        )
    if is_sample(name):
        return SAMPLES[name]
    try:
        return open_source(name, **options)
    except InputError as error:
        if "/" not in name and "." not in name and not is_there(name):
            raise InputError(f"{error} The built-in sets are {', '.join(SAMPLES)}.") from None
        raise


def reading_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a recipe's options say about how files are read, as `open_any` takes it.

    Raises `InputError` for values that there are not.

    Example:
        >>> reading_of({"kind": "csv", "header": "no", "skip_bad_rows": False, "lags": 3})
        {'kind': 'csv', 'header': False}
    """
    given = {name: value for name, value in options.items() if name in _READING and value}
    for name, value in given.items():
        if value not in _READING[name]:
            raise InputError(
                f"There is no {name} {value!r}; expected one of {', '.join(_READING[name])} (--{name})."
                f"{' Other files are known by what they hold.' if name == 'kind' else ''}"
            )
    given |= {"header": given["header"] == "yes"} if "header" in given else {}
    return given | ({"skip_bad_rows": True} if options.get("skip_bad_rows") else {})


def reading_like(trained: Mapping[str, Any], data: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return options of reading another file: those given, and for the others those of the training data.

    The format counts for files of the same ending only.

    Args:
        trained: the options of a run's data, with its `source`.
        data: the other file, or data in memory, which need none.
        given: options that were named for it.

    Example:
        >>> trained = {"source": "a.dat", "kind": "csv", "header": "no"}
        >>> reading_like(trained, "b.dat", {"header": ""}), reading_like(trained, "b.jsonl", {"header": "yes"})
        ({'header': 'no', 'kind': 'csv'}, {'header': 'yes'})
    """
    if not isinstance(data, str | Path):
        return dict(given)
    is_same = suffix_of(Path(data)) == suffix_of(Path(str(trained.get("source", ""))))
    own = {name: trained.get(name) for name in _READING if name != "kind" or is_same}
    return {**given, **{name: value for name, value in own.items() if value and not given.get(name)}}


def open_like(
    trained: Mapping[str, Any], data: Any, named: Mapping[str, Any], *, skip_bad_rows: bool, once: bool = False
) -> AbstractSource:
    """Open other data, read as those that a run was trained on where nothing else is named.

    `trained` are the options of the run's data, `named` those that were given for these; `once` as in `open_source`.
    """
    if is_data(data):
        return source_of(data, skip_bad_rows=skip_bad_rows)
    how = {**reading_like(trained, data, named), "skip_bad_rows": skip_bad_rows}
    return open_any(data, **reading_of(how), once=once)


def is_sample(name: str) -> bool:
    """Whether a name is that of a built-in set, and not of a file."""
    return name in SAMPLES and not Path(name).exists()
