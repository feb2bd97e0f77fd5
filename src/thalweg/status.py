"""How a run or a solve ended; every member is the sentence the user reads."""

import enum


class Status(enum.Enum):
    """How a piece of work ended.

    The value of a member is the sentence shown to the user, so nothing has to be translated on the way.

    Example:
        >>> Status.COMPLETED.value
        'The run took all the steps it was given.'
        >>> Status.COMPLETED.good
        True
    """

    RUNNING = "The run has not ended; the same command goes on with it."
    COMPLETED = "The run took all the steps it was given."
    OUT_OF_TIME = "The time limit was reached; the best weights so far were kept."
    STOPPED_EARLY = "The validation score stopped improving; the best weights so far were kept."
    INTERRUPTED = "The run was interrupted; the same command goes on with it."
    NOT_FINITE = (
        "The loss stayed NaN or infinite even after going back to the last good checkpoint with a smaller step; "
        "the best weights before that were kept. A smaller --lr, --clip 1.0 or a longer --warmup usually helps."
    )

    @property
    def good(self) -> bool:
        """Whether the work ended as asked for (done, out of its budget, or early because nothing improved)."""
        return self in {Status.COMPLETED, Status.OUT_OF_TIME, Status.STOPPED_EARLY}
