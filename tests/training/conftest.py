"""What tests of training share: a file of reviews, and reports that are drawn only where a test looks at one."""

import pytest
from reviews import write_reviews


@pytest.fixture
def pictures():
    """Asked for by tests in whose runs the report is drawn."""


@pytest.fixture(autouse=True)
def _no_pictures(request, monkeypatch):
    """Drawing a report takes longer than most of these runs; its sections are made all the same."""
    if "pictures" not in request.fixturenames:
        monkeypatch.setattr("thalweg.training.session.finish.render_report", lambda report: "no pictures")


@pytest.fixture(scope="module")
def reviews(tmp_path_factory):
    return write_reviews(tmp_path_factory.mktemp("data") / "reviews.csv")
