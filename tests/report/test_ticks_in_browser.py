"""The names in pictures, read from the page as a browser draws it, whatever the labels look like."""

import pytest
from browser import BROWSER, READ_TICKS, look_at

from thalweg.report.page import Report, render_report

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium or google-chrome on the PATH")

LABELS = {
    "stars": ["1", "2", "3", "4", "5"],
    "tens": ["10", "20"],
    "zeros": ["01", "1", "001"],
    "truth": ["true", "false"],
    "like numbers": ["1e3", "2020-01-01", "nan", "-1", "inf", "0x10", "1,000", "3.0"],
    "like code": ["constructor", "__proto__", "null", "undefined"],
    "alike": ["a", "a", "b"],
    "whole numbers": [2, 1, 0],
    "one": ["7"],
    "31": [str(31 - i) for i in range(31)],
    "many": [str(i) for i in range(40)],
}
IN_LINES = ["stars", "like numbers", "like code", "31"]  # of them, those that are drawn as lines, too
LONG = {
    "long": [f"a label of department {i}, which is long" for i in range(15)],
    "most": [f"category number {i}" for i in range(30)],
    "many": [f"category number {i}" for i in range(60)],
}


def sections(name, labels):
    """Return a section of every kind that has names, under titles that say which labels they are."""
    size = len(labels)
    read = {"text": "", "x_label": "", "y_label": ""}
    counts = [[i + 1 if i == j else 0 for j in range(size)] for i in range(size)]
    found = [
        {**read, "kind": "confusion", "title": f"confusion {name}", "labels": labels, "counts": counts},
        {**read, "kind": "bars", "title": f"bars {name}", "names": labels, "values": [1.0] * size},
    ]
    if name not in {*IN_LINES, *LONG}:
        return found
    rungs = [{"name": label, "value": float(size - i), "kind": "bound"} for i, label in enumerate(labels)]
    lines = {str(label): [[1e-3, 0.5], [1e-1, 0.1 * i]] for i, label in enumerate(labels[:7])}
    return [
        *found,
        {**read, "kind": "ladder", "title": f"ladder {name}", "rungs": rungs, "low": 0.0, "high": 1.0}
        | {"columns": [], "rows": []},
        {**read, "kind": "series", "title": f"series {name}", "x": labels, "split": labels[-1]}
        | {"lines": {key: list(range(size)) for key in lines}},
        {**read, "kind": "path", "title": f"path {name}", "lines": lines, "chosen": [next(iter(lines)), 1e-1]},
    ]


def layered(names):
    layers = {name: {"update_ratio": 10.0 ** -(i + 3), "grad_norm": 1.0} for i, name in enumerate(names)}
    return [{"event": "step", "step": step, "loss": 1.0, "layers": layers} for step in (1, 2, 3)]


def page_of(labels):
    return render_report(
        Report(
            **dict.fromkeys(("name", "task", "sentence", "status", "created", "version"), "a report"),
            history=layered([str(i) for i in range(12, 0, -1)]),
            sections=[section for name, names in labels.items() for section in sections(name, names)],
        )
    )


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    found = look_at(page_of(LABELS), tmp_path_factory.mktemp("ticks"), "--window-size=1100,2000", probe=READ_TICKS)
    assert found["problems"] == []
    return {figure["title"]: figure for figure in found["figures"]}


@pytest.mark.parametrize("name", LABELS)
def test_every_row_and_column_of_a_confusion_matrix_has_its_own_name(seen, name):
    labels = [str(label) for label in LABELS[name]]
    figure = seen[f"confusion {name}"]
    if len(labels) <= 30:
        assert figure["x"] == figure["y"] == labels
    else:
        assert figure["y"] == [f"{label}  {i + 1}" for i, label in enumerate(labels)]
        assert figure["x"] == [str(i + 1) for i in range(len(labels)) if i % 5 == 4]
    assert figure["hover"]
    for i, (label, hover) in enumerate(zip(labels, figure["hover"], strict=False)):  # of the first rows
        assert hover == f"true: {label}predicted: {label}{i + 1} (100.0% of the row)"


@pytest.mark.parametrize("name", LABELS)
def test_bars_have_their_names_in_order(seen, name):
    assert seen[f"bars {name}"]["y"] == [str(label) for label in LABELS[name]]


@pytest.mark.parametrize("name", IN_LINES)
def test_ladders_series_and_lines_have_their_names(seen, name):
    labels = LABELS[name]
    assert seen[f"ladder {name}"]["y"] == labels
    assert seen[f"series {name}"]["x"] == labels[:: -(-len(labels) // 12)]
    assert seen[f"series {name}"]["legend"] == labels[:7]
    assert seen[f"path {name}"]["legend"] == [*labels[:7], "chosen"]
    assert seen[f"path {name}"]["x"] == ["0.001", "0.002", "0.005", "0.01", "0.02", "0.05", "0.1"]


def test_layers_that_are_called_like_numbers_have_their_own_rows(seen):
    layers = [str(i) for i in range(12, 0, -1)]
    figure = seen["Update-to-weight ratio by layer"]
    assert figure["y"] == layers
    assert [
        hover.split("1 × ")[0].split("0.")[0][: len(layer)]
        for hover, layer in zip(figure["hover"], layers, strict=True)
    ] == layers


def test_names_are_readable_on_a_phone(tmp_path):
    found = look_at(page_of(LONG), tmp_path, "--window-size=400,2000", probe=READ_TICKS)
    assert found["problems"] == []
    assert not found["tooWide"]
    for figure in found["figures"]:
        assert figure["overlapping"] == [], figure["title"]
        assert figure["cut"] == [], figure["title"]
        assert min(figure["sizes"]) >= 9, figure["title"]
