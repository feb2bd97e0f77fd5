"""What notebooks show of runs, intervals, diagnoses and comparisons: text stays text, colors are the notebook's."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from thalweg.certificates.certificate.interval import Certificate, Interval, Proof
from thalweg.comparison.compare import Comparison
from thalweg.diagnosis.finding import Diagnosis, Finding, Repair, Severity
from thalweg.report.cells import block, table

EVIL = "<script>alert(1)</script>\x1b[31m"
LEVEL = Certificate(
    name="floor", quantity="training loss", unit="nats", loss=0.5, bound=0.4, scope=EVIL, proof=Proof.PROOF, seconds=0.0
)  # fmt: skip
SHOWN = {
    "interval": (Interval(loss=0.5, levels=(LEVEL,), notes=(EVIL,)), "Interval(training loss: 0.4, 0.5; proof)"),
    "no bound": (Interval(loss=0.5, levels=()), "Interval(training loss: no bound, 0.5; estimate)"),
    "diagnosis": (Diagnosis([Finding(EVIL, Severity.ERROR, EVIL, Repair(EVIL))]), f"Diagnosis({EVIL})"),
    "healthy": (Diagnosis([], skipped={"probe": EVIL}), "Diagnosis(nothing found)"),
    "comparison": (
        Comparison(Path("runs/x"), {"rows": [{"name": EVIL, "loss": 0.25, "seeds": 3}], "sentence": EVIL}),
        "Comparison('runs/x')",
    ),
}


class Reader(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        assert {name for name, _ in attributes} <= {"style"}
        self.tags.append(tag)

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize("kind", SHOWN)
def test_values_show_themselves_as_tables_without_scripts(kind):
    value, short = SHOWN[kind]
    page = value._repr_html_()
    read = Reader(page)
    assert set(read.tags) <= {"div", "b", "table", "tr", "th", "td"}
    assert "\x1b" not in page
    assert repr(value) == short
    colors = set(re.findall(r"(?<![\w-])(?:color|background):([^;\"]+)", page))
    assert colors <= {"inherit", "transparent"}  # as the notebook's theme has them
    assert ("alert(1)" in read.text) == (kind != "no bound")


def test_numbers_are_written_for_people_and_long_texts_are_cut():
    page = block("title", [table(("a",), [[1234567], [0.00001234], [None], ["x" * 1000]])])
    text = Reader(page).text
    assert "1,234,567" in text
    assert "1.234 × 10⁻⁵" in text
    assert "–" in text
    assert "x" * 400 not in text
