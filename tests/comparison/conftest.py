"""What tests of comparisons share: a file of reviews."""

import pytest
from reviews import write_reviews


@pytest.fixture(scope="session")
def reviews(tmp_path_factory):
    return write_reviews(tmp_path_factory.mktemp("comparison") / "reviews.csv", rows=120)
