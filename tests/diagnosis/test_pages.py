"""The pages about findings say what the catalog says: one for each kind, with a picture where it names one."""

import re
from pathlib import Path

import pytest

from thalweg.diagnosis.catalog import KINDS

PAGES = Path(__file__).parents[2] / "docs" / "findings"


@pytest.mark.parametrize("name", KINDS)
def test_page_of_a_kind(name):
    text = (PAGES / f"{name}.md").read_text(encoding="utf-8")
    kind = KINDS[name]
    assert text.startswith(f"# {kind.title}\n")
    assert kind.meaning in text
    assert f"Source: {kind.source}." in text
    for picture in re.findall(r"\]\((pictures/[^)]+)\)", text):
        assert (PAGES / picture).stat().st_size > 1000
    for other in re.findall(r"\]\(([a-z-]+)\.md\)", text):
        assert other in KINDS


def test_every_page_is_of_a_kind_and_listed():
    assert {path.stem for path in PAGES.glob("*.md")} == {*KINDS, "index"}
    listed = (PAGES / "index.md").read_text(encoding="utf-8")
    assert all(f"[{name}]({name}.md) | {kind.meaning} |" in listed for name, kind in KINDS.items())
