"""A run named by its folder and the checksum of its weights."""

import pytest

from thalweg.errors import InputError
from thalweg.training.distilled.naming import DIGITS, reference_to, run_named
from thalweg.training.session.api import train


def test_a_reference_means_these_weights(tmp_path):
    rows = [{"text": f"{word} {number}", "label": word} for number in range(6) for word in ("sea", "hill")]
    run = train(rows, fast=True, out=tmp_path, name="a")
    reference = reference_to(run)
    assert len(reference.rpartition("#")[2]) == DIGITS
    for named in (reference, str(run.folder)):
        assert run_named(named).folder == run.folder
    with pytest.raises(InputError, match="has changed: its weights have the checksum"):
        run_named(f"{run.folder}#{'0' * DIGITS}")
