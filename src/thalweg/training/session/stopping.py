"""When a run ends: rules in order of precedence, each one idea.

A rule looks at the run just after a step and says how it ends, or nothing. The first rule that speaks decides.
"""

import dataclasses
from collections.abc import Callable
from typing import Final, final

from thalweg.status import Status

MAX_REJECTED = 3  # steps rejected in a row before the run goes back
MAX_ROLLBACKS = 4
MAX_STUCK = 3  # steps in a row with nothing left to descend that end the run: on mini-batches one alone says little
REPORT_SECONDS, REPORT_SHARE = 4.0, 0.05  # kept free for the report: so long, or of a short limit so much
WRITING_SHARE = 0.08  # of a limit, for texts that are written and measured
MOST_AT_END = 0.4  # of a time limit is kept free for what follows the steps
NOTHING_TO_DESCEND: Final = {Status.STATIONARY, Status.CONVERGED, Status.NO_PROGRESS, Status.NO_STEP}


@final
@dataclasses.dataclass
class TimeLimit:
    """A time limit for a whole run: for its steps, and for measuring and the report behind them.

    Args:
        seconds: the limit; 0: there is none.
        at_end: seconds that are kept free for what follows the last step, as far as known.
        writes: whether texts are written and measured then.
    """

    seconds: float = 0.0
    at_end: float = 0.0
    writes: bool = False

    @property
    def for_steps(self) -> float:
        """Seconds for steps, and evaluations between them; 0 without a limit."""
        return max(self.seconds - self.at_end, min(self.seconds, 1e-3))

    def progress(self, seconds: float) -> float:
        """Return the fraction of them that is over after so many seconds, in [0, 1]; 0 without a limit.

        Example:
            >>> TimeLimit(100.0, at_end=20.0).progress(40.0)
            0.5
        """
        return min(1.0, seconds / self.for_steps) if self.seconds else 0.0

    def measured(self, evaluation: float) -> None:
        """Take note of how long an evaluation takes: the one at the end, with intervals, takes about twice that."""
        report = min(REPORT_SECONDS, REPORT_SHARE * self.seconds)
        self.at_end = min(2.0 * evaluation + report + self.for_writing, MOST_AT_END * self.seconds)

    @property
    def for_writing(self) -> float:
        """Seconds for the texts that are written and measured at the end."""
        return WRITING_SHARE * self.seconds if self.writes else 0.0


@final
@dataclasses.dataclass
class Moment:
    """What the rules look at: the limits of a run (0: none), and where it is just after a step."""

    total_steps: int
    seconds_limit: float = 0.0
    tolerance: float = 0.0  # the gap at which the run is good enough, where the optimizer knows one
    patience: int = 0  # evaluations without progress
    step: int = 0
    seconds: float = 0.0
    gap: float | None = None
    step_status: Status | None = None
    stuck_in_a_row: int = 0  # steps that found nothing to descend
    rejected_in_a_row: int = 0  # steps that were not finite, as far as the log has seen them
    num_rollbacks: int = 0
    without_progress: int = 0  # evaluations, where one was made after this step; else 0

    def advance(self, step: int, seconds: float, gap: float | None, step_status: Status | None) -> None:
        """Take note of one more step."""
        self.step, self.seconds, self.gap, self.step_status = step, seconds, gap, step_status
        self.stuck_in_a_row = self.stuck_in_a_row + 1 if step_status in NOTHING_TO_DESCEND else 0
        self.without_progress = 0

    @property
    def is_spoiled(self) -> bool:
        """Whether the run should go back to its last good checkpoint."""
        return self.rejected_in_a_row >= MAX_REJECTED


def not_finite(moment: Moment) -> Status | None:
    """Going back has not helped: the weights since the last good checkpoint are worth nothing."""
    return Status.NOT_FINITE if moment.is_spoiled and moment.num_rollbacks >= MAX_ROLLBACKS else None


def certified(moment: Moment) -> Status | None:
    """The loss is provably good enough, however the budget stands."""
    return Status.PROVED if moment.gap is not None and moment.gap <= moment.tolerance else None


def out_of_patience(moment: Moment) -> Status | None:
    """The validation score no longer improves."""
    return Status.STOPPED_EARLY if moment.patience and moment.without_progress >= moment.patience else None


def stuck(moment: Moment) -> Status | None:
    """The optimizer finds nothing to descend."""
    return moment.step_status if moment.stuck_in_a_row >= MAX_STUCK else None


def completed(moment: Moment) -> Status | None:
    """All steps are taken; with the last one a time limit has been kept."""
    return Status.COMPLETED if moment.step >= moment.total_steps else None


def out_of_time(moment: Moment) -> Status | None:
    """The time limit is reached before the last step."""
    return Status.OUT_OF_TIME if 0.0 < moment.seconds_limit <= moment.seconds else None


RULES: Final[tuple[Callable[[Moment], Status | None], ...]] = (
    not_finite,
    certified,
    out_of_patience,
    stuck,
    completed,
    out_of_time,
)


def ending(moment: Moment) -> Status | None:
    """Return how the run ends at this moment, or None where it goes on."""
    for rule in RULES:  # at every step, so no generator
        status = rule(moment)
        if status is not None:
            return status
    return None
