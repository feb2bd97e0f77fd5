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
    PROVED = "The loss was proved to be as close to the best possible one as asked for."
    CONVERGED = "The tolerance asked for was reached."
    LITTLE_PROGRESS = "Further iterations would improve the result by less than asked for."
    NEGATIVE_CURVATURE = "A direction of negative curvature was found; the solution from before it was kept."
    ON_BOUNDARY = "The step reached the edge of the trust region."
    OUT_OF_ITERATIONS = "The iterations allowed were used up before the tolerance was reached."
    BROKE_DOWN = "A product with the matrix was NaN or infinite; the solution from before it was kept."
    STEPPED = "The step was taken."
    TURNED_DOWNHILL = (
        "The direction did not lead downhill, so its memory was started again and a steepest-descent step was taken."
    )
    SEARCHED_AGAIN = (
        "No step along the direction was good enough, so its memory was started again and another step was taken."
    )
    STATIONARY = "The gradient is zero: there is nothing to descend, and the parameters are as before the step."
    NO_STEP = (
        "No step lowers the loss, not even along steepest descent; the parameters are as before the step. Close to a "
        "minimum this is the limit of the number format (float64 goes further); elsewhere it means that the loss is "
        "not the same function at every evaluation, or that the gradient is wrong."
    )
    LOSS_NOT_FINITE = "The loss is NaN or infinite where the step starts; the parameters are as before the step."
    GRADIENT_NOT_FINITE = (
        "The gradient is NaN or infinite where the step starts; the parameters are as before the step."
    )

    @property
    def good(self) -> bool:
        """Whether the work ended as asked for (done, out of its budget, or early because nothing improved)."""
        return self in {
            Status.COMPLETED,
            Status.OUT_OF_TIME,
            Status.STOPPED_EARLY,
            Status.PROVED,
            Status.CONVERGED,
            Status.LITTLE_PROGRESS,
            Status.NEGATIVE_CURVATURE,
            Status.ON_BOUNDARY,
            Status.STEPPED,
            Status.TURNED_DOWNHILL,
            Status.SEARCHED_AGAIN,
            Status.STATIONARY,
        }
