"""What a notebook shows of a value: a small table in its own colors, without scripts."""

import html
from collections.abc import Iterable, Sequence

from thalweg.report.text import format_value, one_line

LONGEST = 300  # characters of a cell
# Colors are the notebook's own, dark or light; lines are gray, which is seen on both.
_CELL = "text-align:left;padding:2px 12px 2px 0;border-bottom:1px solid rgba(128,128,128,.35);vertical-align:top"
_BLOCK = "color:inherit;background:transparent;max-width:60em"


def block(title: str, parts: Iterable[str], sentences: Iterable[object] = ()) -> str:
    """Return a title, tables (`table`), and sentences below them, as HTML; whatever is in them is text.

    Example:
        >>> block("<b>", [], ["a & b"]).endswith("<div><b>&lt;b&gt;</b></div><div>a &amp; b</div></div>")
        True
    """
    below = "".join(f"<div>{_text(sentence, 2_000)}</div>" for sentence in sentences)
    return f'<div style="{_BLOCK}"><div><b>{_text(title)}</b></div>{"".join(parts)}{below}</div>'


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table as HTML, numbers as a person writes them; without columns it has no header."""
    head = "".join(f'<th style="{_CELL}">{_text(name)}</th>' for name in columns)
    lines = [f"<tr>{head}</tr>"] if columns else []
    for row in rows:
        cells = "".join(f'<td style="{_CELL}">{_text(format_value(value))}</td>' for value in row)
        lines.append(f"<tr>{cells}</tr>")
    return f'<table style="border-collapse:collapse;{_BLOCK}">{"".join(lines)}</table>'


def _text(value: object, width: int = LONGEST) -> str:
    return html.escape(one_line(value, width))
