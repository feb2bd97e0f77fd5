"""The rules that end a run, and which of them precedes which."""

import itertools

import pytest

from thalweg.status import Status
from thalweg.training.session.stopping import MAX_REJECTED, MAX_ROLLBACKS, MAX_STUCK, RULES, Moment, ending

# What makes each rule speak, in order of precedence.
CAUSES = {
    Status.NOT_FINITE: {"rejected_in_a_row": MAX_REJECTED, "num_rollbacks": MAX_ROLLBACKS},
    Status.PROVED: {"gap": 1e-4, "tolerance": 1e-4},
    Status.STOPPED_EARLY: {"patience": 2, "without_progress": 2},
    Status.NO_STEP: {"stuck_in_a_row": MAX_STUCK, "step_status": Status.NO_STEP},
    Status.COMPLETED: {"step": 100},
    Status.OUT_OF_TIME: {"seconds_limit": 5.0, "seconds": 5.0},
}


def moment(**changes):
    return Moment(100, **changes)


@pytest.mark.parametrize("status", CAUSES, ids=lambda status: status.name)
def test_every_rule_ends_a_run_and_one_step_less_does_not(status):
    assert ending(moment(**CAUSES[status])) is status
    less = {
        Status.NOT_FINITE: {"num_rollbacks": MAX_ROLLBACKS - 1},
        Status.PROVED: {"gap": 2e-4},
        Status.STOPPED_EARLY: {"without_progress": 1},
        Status.NO_STEP: {"stuck_in_a_row": MAX_STUCK - 1},
        Status.COMPLETED: {"step": 99},
        Status.OUT_OF_TIME: {"seconds": 4.9},
    }
    assert ending(moment(**CAUSES[status] | less[status])) is None


def test_of_two_causes_the_first_in_the_table_decides():
    assert len(CAUSES) == len(RULES)
    for first, second in itertools.combinations(CAUSES, 2):
        assert ending(moment(**CAUSES[second] | CAUSES[first])) is first, (first, second)


def test_what_was_not_asked_for_ends_nothing():
    assert ending(moment(seconds=1e9, without_progress=1000, num_rollbacks=1000)) is None


def test_steps_without_descent_count_only_in_a_row():
    now = moment()
    for step, status in enumerate(
        [Status.NO_STEP, Status.STATIONARY, Status.STEPPED, *[Status.STATIONARY] * MAX_STUCK]
    ):
        assert ending(now) is None
        now.advance(step, 1.0, None, status)
    assert ending(now) is Status.STATIONARY


def test_the_next_step_forgets_the_evaluation_before_it():
    now = moment(patience=1, without_progress=1)
    assert ending(now) is Status.STOPPED_EARLY
    now.advance(7, 1.0, None, None)
    assert ending(now) is None
