"""What tests of comparisons share: a file of reviews."""

import importlib

import pytest
from reviews import write_reviews


@pytest.fixture(scope="session")
def reviews(tmp_path_factory):
    return write_reviews(tmp_path_factory.mktemp("comparison") / "reviews.csv", rows=120)


@pytest.fixture(autouse=True)
def _no_page(monkeypatch):
    """Drawing a page takes longer than most of these comparisons; a fixture of a whole file draws one all the same."""
    # Not by its dotted name, in which `compare` is the function of that name.
    monkeypatch.setattr(importlib.import_module("thalweg.comparison.compare"), "render", lambda result: "")
