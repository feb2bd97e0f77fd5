"""What annotation tools wrap around their answers -> plain records: Label Studio, Prodigy and Doccano."""

from collections.abc import Sequence
from typing import Any, Final

Record = dict[str, Any]

_WRAPPERS: Final = ("annotations", "completions")  # of Label Studio
_CHOICES: Final = "choices"  # of which a text may have several
_ACCEPTED: Final = "accept"
_ANSWERS: Final = frozenset((_ACCEPTED, "reject", "ignore"))  # of Prodigy
_ASKED: Final = ("label", "spans", "accept", "options", "_input_hash", "_task_hash")  # what such an answer is about
REJECTED: Final = "what an annotator rejected or ignored ('answer') is left out"


def unwrapped(record: Record, *, one_label: bool = False) -> Record:
    """A record of an annotation tool with its answers as plain values; others as they are.

    Of Label Studio's annotations the first that was not cancelled counts. What Prodigy's annotator chose is the label;
    where all questions were about `one_label`, a rejected one is its opposite.

    Example:
        >>> unwrapped({"text": "a", "options": [], "accept": ["GOOD"], "answer": "accept"})
        {'text': 'a', 'label': ['GOOD']}
        >>> unwrapped({"text": "a", "label": "SPAM", "answer": "reject"}, one_label=True)
        {'text': 'a', 'label': 'not SPAM'}
    """
    if is_answer(record):
        plain = {key: value for key, value in record.items() if key not in ("answer", "options", "accept")}
        if "label" in plain:
            label = plain["label"]
            return plain | {"label": f"not {label}" if one_label and is_rejected(record) else label}
        return plain | ({"label": record["accept"]} if isinstance(record.get("accept"), list) else {})
    held = next((key for key in _WRAPPERS if _has_results(record.get(key))), None)
    if held is None:
        return record
    made = {key: value for key, value in record.items() if key not in (held, "predictions")}
    spans: list[Any] = []
    kept = next((one for one in record[held] if not one.get("was_cancelled")), {})
    for answer in kept.get("result") or ():
        value = answer.get("value") if isinstance(answer, dict) else None
        if not isinstance(value, dict):
            continue
        if "start" in value:
            spans.append(value)
        else:
            for kind, given in value.items():
                is_one = isinstance(given, list) and len(given) == 1 and kind != _CHOICES
                made[str(answer.get("from_name", kind))] = given[0] if is_one else given
    return {**made, "entities": spans} if spans else made


def is_answer(record: Record) -> bool:
    """Whether a record is what Prodigy writes: a question with the annotator's answer."""
    answer = record.get("answer")
    return isinstance(answer, str) and answer in _ANSWERS and any(key in record for key in _ASKED)


def is_rejected(record: Record) -> bool:
    """Whether an annotator said that what the record holds is not so, or gave no answer."""
    return is_answer(record) and record["answer"] != _ACCEPTED


def asks_one_label(records: Sequence[Record]) -> bool:
    """Whether all questions are about one label, which was accepted and rejected: its opposite is a label, too."""
    labels = {str(record.get("label")) for record in records}
    answers = {record["answer"] for record in records if is_answer(record)}
    return len(labels) == 1 and all(isinstance(one.get("label"), str) for one in records) and len(answers) > 1


def _has_results(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(one, dict) and isinstance(one.get("result"), list) for one in value)
    )
