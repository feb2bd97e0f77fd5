"""A task's JSON files in a run's folder, refused by name when they are missing or damaged."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from thalweg.errors import InputError
from thalweg.storage.forms import AGAIN, Form, read_json


def json_bytes(value: Mapping[str, Any]) -> bytes:
    """Return an object as a file that a person can read."""
    return (json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False) + "\n").encode()


@contextmanager
def reading(path: Path, form: Form) -> Iterator[dict[str, Any]]:
    """Give what a file of `json_bytes` holds; a ValueError inside the block says that its values do not fit together.

    Raises:
        InputError: if the file is missing, or holds something else than an object of this form.
    """
    saved = read_json(path, form)
    try:
        yield saved
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}); {AGAIN}.") from None
