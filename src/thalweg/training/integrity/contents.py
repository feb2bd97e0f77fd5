"""What the JSON files of a run may hold, besides those of its task: data.json and metrics.json."""

from pathlib import Path
from typing import Any, Final

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from thalweg import names
from thalweg.data.columns.notation import notations_of
from thalweg.errors import InputError
from thalweg.status import Status
from thalweg.storage.forms import (
    AGAIN,
    choice,
    either,
    many,
    number,
    parsed,
    perhaps,
    record,
    table,
    text,
    truth,
    whole,
)
from thalweg.storage.ledger import Ledger
from thalweg.training.folder.choice import chosen

_texts = many(text())
_columns = record(
    {
        "series": _texts, "separator": perhaps(text()), "multilabel": truth(), "one_hot": truth(),
        "label_columns": _texts, "label_names": _texts, "na_is_missing": truth(), "notations": table(text()),
    }
)  # fmt: skip
_name = either("the name of a column, or several", text(), _texts)
_DATA: Final = record(
    described=text(), files=table(text()), columns=_columns, num_train=whole(0), num_valid=whole(0), notes=_texts
)

_figure, _count = perhaps(number()), whole(0)
_pair = many(_figure, least=2, most=2)


def _selection(value: Any, where: str) -> dict[str, Any]:
    return record(sentences=_texts)(chosen(value, where), where)


_METRICS: Final = record(
    {
        "loss": _figure, "intervals": table(perhaps(_pair)), "baselines": table(_figure), "num_examples": _count,
        "report_seconds": number(0.0), "keeps_last": truth(), "verdict": text(), "interval_notes": _texts,
        "warnings": _texts, "selection": _selection, "certificate": record(sentence=text()),
    },
    status=choice(*Status.__members__), sentence=text(), metrics=table(_figure), seconds=number(0.0), steps=_count,
    best_step=_count, num_rejected=_count, num_rollbacks=_count, num_parameters=_count, num_train=_count,
    num_valid=_count, steps_per_epoch=whole(1),
)  # fmt: skip


def read_data(ledger: Ledger, name: str, task: str) -> dict[str, Any]:
    """Read what a run of a task says of its data; an InputError tells of a file that is missing or damaged."""
    path = ledger.folder / name
    data: dict[str, Any] = parsed(ledger.read(name), _DATA, path)
    known, columns = names.task_columns(task), data["columns"]
    try:
        for role in known.roles:
            if role in columns:
                _name(columns[role], f"columns.{role}")
            elif role not in known.optional:
                raise ValueError(f"it names no column of the role {role!r}")
        notations_of(columns)
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}); {AGAIN}.") from None
    return data


def read_metrics(ledger: Ledger, name: str) -> dict[str, Any]:
    """Read how a run has ended; an InputError tells of a file that is missing or damaged."""
    metrics: dict[str, Any] = parsed(ledger.read(name), _METRICS, ledger.folder / name)
    return metrics


def read_weights(path: Path, kind: str) -> dict[str, np.ndarray]:
    """Return the weights in a file by name as arrays of a `kind`, "float32" or "float64".

    There are none where numpy can't read the file as it is: loading the networks does, or tells what is wrong with it.
    """
    try:
        weights = safetensors.numpy.load_file(path)
    except (SafetensorError, OSError, ValueError, TypeError, LookupError, AttributeError):
        return {}
    return weights if all(tensor.dtype == kind for tensor in weights.values()) else {}
