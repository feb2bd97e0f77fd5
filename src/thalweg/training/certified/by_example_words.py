"""What a run's training data say example by example, in words: sections of the report, and lines for a terminal."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

from thalweg.errors import counted
from thalweg.report.text import clip
from thalweg.training.certified.by_example import ByExample

SHOWN: Final = 5  # entries of each list on a terminal
SHOWN_LABELS: Final = 6  # of a group
SHOWN_CHARACTERS: Final = 100  # of a text on a terminal
PLACES: Final = 4


def sections(found: ByExample) -> list[dict[str, Any]]:
    """Return the report's sections, as plain data."""
    parts = (
        (found.contradictions, _contradictions_section),
        (found.suspects, _suspects_section),
        (found.contexts, _contexts_section),
    )
    return [section(part) for part, section in parts if part is not None and part.get("worst", True)]


def lines(found: ByExample) -> Iterator[str]:
    """Yield what a terminal shows; text from the data is quoted, so that it cannot steer the terminal."""
    if found.contradictions is not None and found.contradictions["worst"]:
        part = found.contradictions
        yield f"Contradictions: {_contradictory(part)}"
        for one in part["worst"][:SHOWN]:
            yield f"  {_cost(one, part['unit'])}: {_labels(one, quoted=True)}: {_texts(one)}"
        yield from _more(part["num_groups"], "group")
    if found.suspects is not None and found.suspects["worst"]:
        part = found.suspects
        yield f"Labels to check: {_doubted(part)}"
        for one in part["worst"][:SHOWN]:
            yield f"  line {one['lines'][0]}: {one['label']!r}, rather {one['likelier']!r}: {_texts(one)}"
        yield from _more(part["num_doubted"], "label")
    if found.contexts is not None:
        yield f"Contexts: {CONTEXTS}"
        shown = [row for row in found.contexts["rows"] if row["floor"] >= LEAST_FLOOR] or found.contexts["rows"][:1]
        yield "".join(f"{name:>{width}}" for name, width in COLUMNS)
        for row in shown:
            yield "".join(f"{value:>{width}}" for value, (_, width) in zip(_figures(row), COLUMNS, strict=True))
        yield from _uses(found.contexts)
    for part, reason in found.left_out.items():
        yield f"Left out: {LEFT_OUT[part]}. {reason}"


LEAST_FLOOR: Final = 0.001  # contexts of a lower floor are not shown on a terminal
COLUMNS: Final = (("k", 5), ("floor", 10), ("your model", 12), ("k exactly: floor", 18), ("your model", 12))
LEFT_OUT: Final = {
    "contradictions": "which rows contradict each other",
    "suspects": "labels to check",
    "contexts": "floors by length of context",
    "own": "your model's loss by length of context",
}
CONTEXTS: Final = (
    "no model that sees only the last k tokens has a lower mean cross-entropy than the floor (nats per token, over the "
    "training tokens with at least k before them in their chunk). Your model sees all tokens before; below the floor, "
    "it uses more than k of them. Where there are exactly k, it cannot be below theirs."
)


def _contradictions_section(part: Mapping[str, Any]) -> dict[str, Any]:
    listed = f" The {counted(len(part['worst']), 'group')} that cost most are listed." if _cut(part) else ""
    return {
        "kind": "examples",
        "title": "Which rows contradict each other",
        "text": f"{_contradictory(part)}{listed} Correct the labels that are wrong; where both are right, the model "
        "needs to see more of the text (--vocabulary-size, --max-length), or the text does not decide.",
        "columns": [part["unit"], "of the floor", "errors", "labels and lines", "text"],
        "rows": [
            [
                _down(one["cost"]),
                f"{one['share']:.1%}",
                "–" if one["errors"] is None else f"{one['errors']:g}",
                _labels(one, quoted=False),
                " · ".join(one["texts"]),
            ]
            for one in part["worst"]
        ],
    }


def _suspects_section(part: Mapping[str, Any]) -> dict[str, Any]:
    listed = f" The {counted(len(part['worst']), 'label')} most doubted are listed." if _more_doubted(part) else ""
    return {
        "kind": "examples",
        "title": "Labels to check",
        "text": f"{_doubted(part)}{listed}",
        "columns": ["line", "label", "rather", "probability of the label", "text"],
        "rows": [
            [
                str(one["lines"][0]),
                one["label"],
                one["likelier"],
                f"{one['probability']:.1%}" if one["probability"] >= 0.001 else "< 0.1%",
                " · ".join(one["texts"]),
            ]
            for one in part["worst"]
        ],
    }


def _contexts_section(part: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "kind": "table",
        "title": "How much context is used",
        "text": " ".join([CONTEXTS[0].upper() + CONTEXTS[1:], *_uses(part)]),
        "columns": [name for name, _ in COLUMNS],
        "rows": [_figures(row) for row in part["rows"]],
    }


def _figures(row: Mapping[str, Any]) -> list[str]:
    """Return the figures of one length of the context, under the names in `COLUMNS`."""
    own, exact_own = ("–" if row[name] is None else f"{row[name]:.{PLACES}f}" for name in ("own", "exact_own"))
    return [str(row["context"]), _down(row["floor"]), own, _down(row["exact_floor"]), exact_own]


def _uses(part: Mapping[str, Any]) -> list[str]:
    """Return a sentence about the longest context that the model is better than."""
    known = [row for row in part["rows"] if row["own"] is not None]
    if not known:
        return []
    below = [row["context"] for row in known if row["own"] < row["floor"] - 10.0**-PLACES]
    if not below:
        return ["Nothing here shows that your model uses more than one token."]
    noun = "token" if max(below) == 1 else f"{max(below)} tokens"
    return [f"Your model is better than every model that sees only the last {noun}, so it uses more than that."]


def _contradictory(part: Mapping[str, Any]) -> str:
    """Return what all contradictory groups cost together, as a sentence."""
    what, groups, one = part["what"], counted(part["num_groups"], "group"), part["num_groups"] == 1
    wrong = "" if part["errors"] is None else f" at least {_wrong(part['errors'])} and"
    smoothing = ", label smoothing left aside" if part["smoothing"] else ""
    scaled = ", the numbers scaled to a variance of 1" if part["unit"] == "squared error" else ""
    return (
        f"{groups} of {what} {'looks' if one else 'look'} the same to a model whose input is {part['sees']}, and "
        f"{'has' if one else 'have'} different targets: {part['num_rows']:,} of {part['num_targets']:,} training "
        f"{what}. They force{wrong} {_amount(part['cost'], part['unit'])} on every such model, summed over these "
        f"{what}{smoothing}{scaled}."
    )


def _doubted(part: Mapping[str, Any]) -> str:
    return (
        f"A linear model of words and bigrams finds another label likelier for {part['num_doubted']:,} of "
        f"{part['num_rows']:,} training rows, judged by all rows but the row itself. A ranking for your eyes, not a "
        "proof: some of these labels are right."
    )


def _labels(one: Mapping[str, Any], *, quoted: bool) -> str:
    """Return the labels of a group, each with its lines."""
    parts = []
    for label in one["labels"][:SHOWN_LABELS]:
        places = ", ".join(map(str, label["lines"]))
        more = ", ..." if label["num_rows"] > len(label["lines"]) else ""
        noun = "line" if label["num_rows"] == 1 else f"{label['num_rows']:,} rows, lines"
        name = repr(label["label"]) if quoted else label["label"]
        parts.append(f"{name} ({noun} {places}{more})")
    if len(one["labels"]) > SHOWN_LABELS:
        parts.append(f"{len(one['labels']) - SHOWN_LABELS:,} more")
    return "; ".join(parts)


def _texts(one: Mapping[str, Any]) -> str:
    """Return the first text of an entry, quoted and clipped."""
    return repr(clip(one["texts"][0], SHOWN_CHARACTERS)) if one["texts"] else "(no text)"


def _cost(one: Mapping[str, Any], unit: str) -> str:
    wrong = "" if one["errors"] is None else f", {one['errors']:g} wrong"
    return f"at least {_amount(one['cost'], unit)}{wrong}"


def _wrong(errors: float) -> str:
    return counted(int(errors), "wrong answer") if errors == int(errors) else f"{errors:,g} wrong answers"


def _amount(cost: float, unit: str) -> str:
    return f"{_down(cost)} nats" if unit == "nats" else f"a {unit} of {_down(cost)}"


def _more(number: int, noun: str) -> Iterator[str]:
    if number > SHOWN:
        yield f"  ... and {counted(number - SHOWN, f'more {noun}')}; the report lists the first."


def _cut(part: Mapping[str, Any]) -> bool:
    return part["num_groups"] > len(part["worst"])


def _more_doubted(part: Mapping[str, Any]) -> bool:
    return part["num_doubted"] > len(part["worst"])


def _down(value: float) -> str:
    """Return a lower bound with four decimals, rounded down."""
    return f"{math.floor(value * 10**PLACES) / 10**PLACES:,.{PLACES}f}"
