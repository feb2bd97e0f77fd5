"""What a page shows under one heading, and how each kind of result section becomes one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, final

import plotly.graph_objects as go

from thalweg.errors import counted
from thalweg.report import section_figures
from thalweg.report.calibration import calibration_error
from thalweg.report.penalty_path import path_figure
from thalweg.report.reliability import reliability_figure
from thalweg.report.text import clip, common_decimals, format_percentage, format_value, number, visible

LONGEST_TEXT = 280  # characters of a cell or a caption; the rest is folded away
LONGEST_WORD = 24  # characters; a longer one is broken at the edge of its column
LONGEST_SAMPLE = 2000  # characters of a sampled text
MAX_ROWS = 1000  # of a table
MAX_MISTAKES = 10  # pairs of labels listed under a confusion matrix


@final
@dataclass(frozen=True)
class Cell:
    """One entry of a table."""

    text: str  # all of it
    short: str | None = None  # its beginning where it is long
    numeric: bool = False  # whether it is a number, and so aligned to the right

    @property
    def style(self) -> str:
        """Name of the look: a number, a text with words too long for a column, or plain."""
        if self.numeric:
            return "number"
        return "breakable" if max(map(len, self.text.split()), default=0) > LONGEST_WORD else "plain"


@final
@dataclass(frozen=True)
class Table:
    """Rows of cells under named columns."""

    columns: list[str]
    rows: list[list[Cell]]  # as many cells in each as there are columns
    num_left_out: int = 0  # rows that were too many to show
    stacked: bool = False  # whether a row becomes a card on a narrow screen (for long texts)

    @property
    def numeric(self) -> list[bool]:
        """Whether each column holds numbers (and gaps) alone."""
        return [bool(self.rows) and all(row[i].numeric for row in self.rows) for i in range(len(self.columns))]


@final
@dataclass(frozen=True)
class View:
    """Another look at a figure, taken at the press of a button: what changes in its traces and in its layout."""

    label: str
    traces: dict[str, list[Any]]  # for each property that changes, its value in every trace
    layout: dict[str, Any] = field(default_factory=dict)


@final
@dataclass(frozen=True)
class Panel:
    """A heading with a sentence that says how to read what follows, and any of a figure, a table and texts."""

    title: str
    text: str = ""  # how to read it
    figure: go.Figure | None = None
    table: Table | None = None  # below the figure
    table_title: str = ""  # where a figure stands above the table
    texts: list[tuple[str, Cell]] = field(default_factory=list)  # pairs of a label and a preformatted text
    half: bool = False  # whether two such panels stand side by side on a wide screen
    log_toggle: bool = False  # whether a button switches the vertical axis between linear and logarithmic
    views: Sequence[View] = ()  # buttons above the figure, which is drawn in the first of them
    views_label: str = ""  # what the buttons choose
    max_width_pixels: int | None = None  # widest that the figure may become
    min_width_pixels: int | None = None  # narrowest that it may become, beyond which it scrolls


def cell(value: object, longest: int = LONGEST_TEXT) -> Cell:
    """Return a value as an entry of a table, its beginning beside it where it is long."""
    if number(value) is not None or value is None:
        return Cell(format_value(value), numeric=True)
    text = visible(format_value(value))
    return Cell(text, short=text[:longest].rstrip() + "…" if len(text) > longest + 40 else None)


def _aligned(value: object, decimals: int | None) -> Cell:
    """Return an entry of a table with the decimals of its column."""
    as_float = number(value)
    if as_float is None or decimals is None:
        return cell(value)
    return Cell(f"{as_float:.{decimals}f}".replace("-", "−"), numeric=True)


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], stacked: bool = False) -> Table:
    """Return a table of values, long texts clipped and too many rows left out.

    Raises `ValueError` where a row has not as many values as there are columns.
    """
    for place, row in enumerate(rows):
        if len(row) != len(columns):
            raise ValueError(f"table(rows=...): row {place} has {len(row)} values for {len(columns)} columns.")
    decimals = [common_decimals([row[i] for row in rows]) for i in range(len(columns))]
    shown = [[_aligned(value, digits) for value, digits in zip(row, decimals, strict=True)] for row in rows[:MAX_ROWS]]
    return Table([visible(name) for name in columns], shown, max(0, len(rows) - MAX_ROWS), stacked)


def most_frequent_mistakes(labels: Sequence[str], counts: Sequence[Sequence[int]]) -> Table | None:
    """Return the pairs of labels that were confused most often, or None where none was."""
    pairs = [
        (int(count), true, predicted)
        for true, row in enumerate(counts)
        for predicted, count in enumerate(row)
        if true != predicted and count > 0
    ]
    if not pairs:
        return None
    pairs.sort(key=lambda pair: -pair[0])
    rows = [
        [*map(cell, (labels[i], labels[j], count)), Cell(format_percentage(count, sum(counts[i])), numeric=True)]
        for count, i, j in pairs[:MAX_MISTAKES]
    ]
    return Table(["true", "predicted as", "examples", "of this label"], rows)


def _confusion_width(labels: Sequence[str], *, numbered: bool) -> int:
    """Return how many pixels a confusion matrix needs at least, beyond which it scrolls."""
    if numbered:
        return 170 + 5 * min(len(labels), section_figures.MAX_LABELS)
    return 60 + 6 * max(map(len, section_figures.short_labels(labels)), default=0) + 18 * len(labels)


def _confusion(section: Mapping[str, Any]) -> Panel:
    labels, counts = section["labels"], section["counts"]
    if any(len(row) != len(labels) for row in counts) or len(counts) != len(labels):
        raise ValueError(f"a confusion matrix of {len(labels)} labels needs as many rows and columns of counts.")
    numbered = len(labels) > section_figures.NAMES_ON_BOTH_SIDES
    text = f"{section['text']} Colors show the fraction of each row; "
    text += (
        "hover over a cell for its count. Columns are numbered like the rows." if numbered else "numbers are counts."
    )
    return Panel(
        section["title"],
        text,
        figure=section_figures.confusion_figure(labels, counts),
        table=most_frequent_mistakes(labels, counts),
        table_title="Most frequent mistakes",
        max_width_pixels=max(420, 56 * len(labels) + 190) if len(labels) <= 16 else None,
        min_width_pixels=_confusion_width(labels, numbered=numbered),
    )


def _scatter(section: Mapping[str, Any]) -> Panel:
    figure = section_figures.scatter_figure(
        section["x"], section["y"], section["x_label"], section["y_label"], section.get("names")
    )
    text, num_all = section["text"], len(section["x"])
    num_finite = sum(
        number(a) is not None and number(b) is not None for a, b in zip(section["x"], section["y"], strict=True)
    )
    if num_finite < num_all:
        text += (
            f" {format_value(num_all - num_finite)} of {format_value(num_all)} points have no value and are not drawn."
        )
    if num_finite > section_figures.MAX_POINTS:
        text += f" {format_value(section_figures.MAX_POINTS)} points are drawn, including those farthest from the line."
    return Panel(section["title"], text, figure=figure, max_width_pixels=640)


def _series(section: Mapping[str, Any]) -> Panel:
    figure = section_figures.series_figure(
        section["x"],
        section["lines"],
        section["x_label"],
        section["y_label"],
        section.get("split"),
        section.get("band"),
    )
    return Panel(section["title"], section["text"], figure=figure)


def _path(section: Mapping[str, Any]) -> Panel:
    figure = path_figure(section["lines"], section["chosen"], section["x_label"], section["y_label"])
    return Panel(section["title"], section["text"], figure=figure)


def _reliability(section: Mapping[str, Any]) -> Panel:
    confidence, accuracy, counts = section["confidence"], section["accuracy"], section["counts"]
    error = calibration_error(confidence, accuracy, counts)
    text = section["text"]
    if error is not None:
        text += (
            f" Expected calibration error: {format_value(error)}, over {counted(len(counts), 'bin')} of equal width."
        )
    figure = reliability_figure(confidence, accuracy, counts, section.get("intervals"))
    return Panel(section["title"], text, figure=figure, max_width_pixels=640)


def _bars(section: Mapping[str, Any]) -> Panel:
    names, values, text = section["names"], section["values"], section["text"]
    limit = section_figures.MAX_BARS
    if len(names) > limit:
        text = f"{text} The first {limit} of {format_value(len(names))} are shown."
    figure = section_figures.bars_figure(names[:limit], values[:limit], section["x_label"])
    return Panel(section["title"], text, figure=figure)


def _ladder(section: Mapping[str, Any]) -> Panel:
    figure = section_figures.ladder_figure(section["rungs"], section["low"], section["high"], section["x_label"])
    panel = Panel(section["title"], section["text"], figure=figure, min_width_pixels=460)
    if not section["rows"]:
        return panel
    rows = table(section["columns"], section["rows"], stacked=True)
    return replace(panel, table=rows, table_title="Evidence for each level")


def _table(section: Mapping[str, Any], *, stacked: bool = False) -> Panel:
    return Panel(section["title"], section["text"], table=table(section["columns"], section["rows"], stacked))


def _texts(section: Mapping[str, Any]) -> Panel:
    texts = [
        (visible(clip(str(item["label"]), 200)), cell(str(item["text"]), LONGEST_SAMPLE)) for item in section["texts"]
    ]
    return Panel(section["title"], section["text"], texts=texts)


RENDERERS: dict[str, Callable[[Mapping[str, Any]], Panel]] = {
    "confusion": _confusion,
    "scatter": _scatter,
    "series": _series,
    "path": _path,
    "reliability": _reliability,
    "bars": _bars,
    "ladder": _ladder,
    "table": _table,
    "texts": _texts,
    "examples": partial(_table, stacked=True),
}


def section_panel(section: Mapping[str, Any]) -> Panel:
    """Return the panel of a result section: its `kind`, `title`, `text` and the entries of its kind.

    Raises `ValueError` where the kind is unknown, or an entry is missing or of the wrong size.
    """
    kind, title = section.get("kind"), section.get("title")
    if kind not in RENDERERS:
        raise ValueError(
            f"Report(sections=...): section {title!r} has the unknown kind {kind!r}; known: {', '.join(RENDERERS)}."
        )
    try:
        return RENDERERS[kind](section)
    except KeyError as error:
        raise ValueError(f"Report(sections=...): section {title!r} of kind {kind!r} is missing {error}.") from None
    except ValueError as error:
        raise ValueError(f"Report(sections=...): section {title!r} of kind {kind!r}: {error}") from error
