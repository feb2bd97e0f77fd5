"""How a run or a solve ended; every member is the sentence the user reads."""

import enum


class Status(enum.Enum):
    """How a piece of work ended.

    The value of a member is the sentence that the user reads.

    Example:
        >>> Status.COMPLETED.value
        'The run completed all of its steps.'
        >>> Status.COMPLETED.good
        True
    """

    RUNNING = "The run has not finished; run the same command again to resume it."
    COMPLETED = "The run completed all of its steps."
    OUT_OF_TIME = "Stopped at the time limit."
    STOPPED_EARLY = "Stopped early because the validation score no longer improved."
    INTERRUPTED = "The run was interrupted; run the same command again to resume it."
    NOT_FINITE = (
        "The loss was NaN or infinite and stayed so. A smaller --lr, --clip 1.0 or a longer --warmup usually helps."
    )
    PROVED = "Converged: the penalized training loss is provably within the requested tolerance of its global optimum."
    CONVERGED = "Converged to the requested tolerance, or as far as the precision of the numbers goes."
    LITTLE_PROGRESS = "Stopped because further iterations would improve the result by less than requested."
    NEGATIVE_CURVATURE = "A direction of negative curvature was found; the solution from before it was kept."
    ON_BOUNDARY = "The step reached the boundary of the trust region."
    OUT_OF_ITERATIONS = "The iteration limit was reached before the tolerance."
    OUT_OF_EVALUATIONS = "The limit of evaluations was reached before the tolerance."
    STOPPED_BY_CALLBACK = "The callback asked to stop."
    BROKEN_OFF = "Interrupted; the best point so far was kept."
    BROKE_DOWN = "A product with the matrix was NaN or infinite; the solution from before it was kept."
    STEPPED = "The step was taken."
    TURNED_DOWNHILL = (
        "The proposed direction was not a descent direction, so its memory was reset and a steepest-descent step was "
        "taken."
    )
    SEARCHED_AGAIN = (
        "No step along the proposed direction was good enough, so its memory was reset and another step was taken."
    )
    STATIONARY = "The gradient is zero, but for what bounds hold back; the parameters are unchanged."
    NO_PROGRESS = (
        "For several steps neither the loss nor the gradient has fallen any further; the parameters are unchanged. The "
        "precision of the numbers is used up (float64 goes further), or the loss has a kink here."
    )
    NO_STEP = (
        "No step lowers the loss, not even along steepest descent; the parameters are unchanged. Near a minimum this "
        "is the limit of the floating-point precision (float64 goes further); otherwise the loss has a kink here, is "
        "nondeterministic, its gradient is wrong, or the learning rate is not positive."
    )
    UNBOUNDED = (
        "The loss keeps falling: it is below -1e20, and seems to have no lower bound; the parameters are unchanged. A "
        "penalty, bounds on the parameters or another sign gives it one."
    )
    LOSS_NOT_FINITE = "The loss is NaN or infinite at the start of the step; the parameters are unchanged."
    GRADIENT_NOT_FINITE = "The gradient is NaN or infinite at the start of the step; the parameters are unchanged."

    @property
    def good(self) -> bool:
        """Whether the work ended as requested: done, out of its budget, or early because nothing improved."""
        return self in {
            Status.COMPLETED,
            Status.OUT_OF_TIME,
            Status.STOPPED_EARLY,
            Status.STOPPED_BY_CALLBACK,
            Status.PROVED,
            Status.CONVERGED,
            Status.LITTLE_PROGRESS,
            Status.NEGATIVE_CURVATURE,
            Status.ON_BOUNDARY,
            Status.STEPPED,
            Status.TURNED_DOWNHILL,
            Status.SEARCHED_AGAIN,
            Status.STATIONARY,
            Status.NO_PROGRESS,
        }

    @property
    def continues(self) -> bool:
        """Whether another step may get further: the condition of a loop over an optimizer's steps.

        Example:
            >>> Status.RUNNING.continues, Status.STEPPED.continues, Status.CONVERGED.continues
            (True, True, False)
        """
        return self in {Status.RUNNING, Status.STEPPED, Status.TURNED_DOWNHILL, Status.SEARCHED_AGAIN}
