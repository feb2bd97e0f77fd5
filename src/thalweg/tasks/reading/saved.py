"""A task's JSON files in a run's folder, refused by name when they are missing or damaged."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from thalweg.errors import InputError


def json_bytes(value: Mapping[str, Any]) -> bytes:
    """Return an object as a file that a person can read."""
    return (json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False) + "\n").encode()


@contextmanager
def reading(path: Path) -> Iterator[dict[str, Any]]:
    """Give the object that a file of `json_bytes` holds; what fails inside the block because of it counts as damage.

    Raises:
        InputError: if the file is missing, is not a JSON object, or the block finds something in it missing or wrong.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(value, dict):
            raise ValueError("expected an object")
        yield value
    except FileNotFoundError:
        raise InputError(f"{path} is missing; the run's folder is not complete.") from None
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise InputError(f"{path} is damaged ({type(error).__name__}: {error}); restore it or train again.") from None
