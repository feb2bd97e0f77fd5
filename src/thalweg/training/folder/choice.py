"""What validation has chosen, as a run keeps it in `selection.json` and `metrics.json`: every value checked."""

from typing import Any, Final

from thalweg.storage.forms import many, number, perhaps, record, table, text

_figure = perhaps(number())
_POINT: Final = record(
    model=text(), l2=number(0.0), loss=_figure, loss_error=_figure, accuracy=_figure, accuracy_error=_figure
)
_CHOICE: Final = record(
    model=text(), l2=number(0.0), points=many(_POINT, least=1), judged_on=text(), left_out=table(text())
)


def chosen(value: Any, where: str) -> dict[str, Any]:
    """A form: the chosen model and penalty, and the points that they were chosen from, one of them the chosen one."""
    found: dict[str, Any] = _CHOICE(value, where)
    points = found["points"]
    own = [point for point in points if (point["model"], point["l2"]) == (found["model"], found["l2"])]
    if not own or own[0]["loss"] is None:
        raise ValueError("expected the chosen model and penalty among the points, with a loss")
    if len({point["accuracy"] is None for point in points}) > 1:
        raise ValueError("expected the accuracy of every point, or of none")
    said = [found["judged_on"], *found["left_out"], *found["left_out"].values(), *(point["model"] for point in points)]
    if not all(map(str.isprintable, said)):
        raise ValueError("expected texts without control characters")
    return found
