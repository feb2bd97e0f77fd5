"""Levels tried one after the other: within the time there is, and so that one that fails leaves itself out."""

import dataclasses
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Final, final

from thalweg.batch import Batch
from thalweg.certificates.certificate.interval import Certificate, rounding_slack
from thalweg.certificates.certificate.ladder import NAMES
from thalweg.curvature.culprit import CurvatureError
from thalweg.errors import InputError, is_out_of_memory

LOSS: Final = "training loss"
ROUNDING: Final = 1e-12  # of the size of a prediction's terms: what two orders of summation may differ by
# What takes no longer than this part of the time may run in any case, within these seconds.
GRACE, LEAST_GRACE, MOST_GRACE = 0.05, 0.05, 1.0
COUNTING: Final = 2e-6  # seconds that a target takes to be counted, about
FIRST: Final = 0.02  # of the time, before which nothing is foretold of a pass over the data


@final
class TooLongError(InputError):
    """Something would take longer than the time there is."""


@final
class Clock:
    """The time that a certificate may take.

    Args:
        seconds: how long.
        begin: since when, as `time.perf_counter` has it; None: now.
        reserve: seconds of them that are kept for what comes last, so that they never count as left.
    """

    def __init__(self, seconds: float, begin: float | None = None, *, reserve: float = 0.0) -> None:
        self.begin, self.seconds = time.perf_counter() if begin is None else begin, seconds
        self.reserve = reserve

    @property
    def left(self) -> float:
        """Seconds that are left, at least 0."""
        return max(0.0, self.seconds - self.reserve - (time.perf_counter() - self.begin))

    @property
    def grace(self) -> float:
        """Seconds: what takes no longer may run in any case."""
        return max(LEAST_GRACE, min(GRACE * self.seconds, MOST_GRACE))

    def require(self, expected: float, what: str, *, grace: float | None = None) -> None:
        """Raise an InputError if something would take longer than what is left.

        Args:
            expected: seconds that it takes.
            what: what it is, as the start of a sentence.
            grace: what is expected to take no longer than this may run in any case; None: the clock's own.
        """
        if expected > max(self.left, self.grace if grace is None else grace):
            raise TooLongError(
                f"{what} would take about {_amount(expected)} s, and {_amount(self.left)} s of the {self.seconds:g} s "
                f"are left; allow more time (--seconds {_enough(self.seconds - self.left + expected)})."
            )


@final
class Watch:
    """Ends a pass over the data that would take longer than what is left of the time; called after each batch.

    Args:
        clock: the time there is.
        batches: of the pass, one after the other; what each takes is like the numbers that it holds.
        what: the pass, as the start of a sentence.

    Raises:
        TooLongError: as soon as that is foreseen, from the batches after the first one, which is a slow one.
    """

    def __init__(self, clock: Clock, batches: Sequence[Batch], what: str) -> None:
        self._clock, self._what = clock, what
        self._sizes = [max(tensor.numel() for tensor in (*one.inputs.values(), one.targets)) for one in batches]
        self._begin = self._after_first = time.perf_counter()
        self._num_done = 0

    def __call__(self) -> None:
        """Note that a batch is done."""
        now, self._num_done = time.perf_counter(), self._num_done + 1
        if self._num_done == 1:
            self._after_first = now
        rest = sum(self._sizes[self._num_done :])
        done = sum(self._sizes[1 : self._num_done])
        if rest == 0 or done == 0 or now - self._begin < FIRST * self._clock.seconds:
            return
        self._clock.require((now - self._after_first) * rest / done, self._what)


@final
@dataclasses.dataclass
class Attempts:
    """What came of the levels that were tried."""

    loss: float  # of the point
    clock: Clock
    say: Callable[[str], None]
    size: float = 0.0  # of the terms that the loss is made of
    levels: list[Certificate] = dataclasses.field(default_factory=list)
    left_out: dict[str, str] = dataclasses.field(default_factory=dict)

    def make(self, name: str, make: Callable[[], list[Certificate]], *, expected: float = 0.0) -> None:
        """Make the certificates of a level, or note why there are none.

        An InputError and a lack of memory say so by themselves. Any other exception is a mistake of thalweg: it leaves
        the level out as well, and is shown as a warning, which `-W error` turns into the exception.

        Args:
            name: the level's.
            make: makes them.
            expected: seconds that it takes.
        """
        self.say(f"Looking for: {NAMES.get(name, name)}.")
        try:
            self.clock.require(expected, "It")
            self.levels.extend(self._same_point(level) for level in make())
        except (InputError, CurvatureError) as error:
            self.left_out[name] = str(error)
        except Exception as error:
            if is_out_of_memory(error):
                self.left_out[name] = "There is not enough memory for it."
                return
            said = f"{type(error).__name__}: {error}".splitlines()[0]
            self.left_out[name] = f"It failed ({said}). That is a mistake of thalweg's; please report it."
            warnings.warn(f"The level {name!r} of a certificate failed: {said}", RuntimeWarning, stacklevel=2)

    def _same_point(self, level: Certificate) -> Certificate:
        """Return a certificate with the loss that was computed once, if its own is the same."""
        if level.quantity != LOSS:
            return level
        if abs(level.loss - self.loss) > rounding_slack(level.loss, self.loss) + ROUNDING * self.size:
            raise InputError(
                f"It computes a {LOSS} of {level.loss:.12g} where the model gives {self.loss:.12g}, so it is about "
                "another function."
            )
        reached = None if level.reached is None else min(level.reached, self.loss)
        return dataclasses.replace(level, loss=self.loss, reached=reached)


def _amount(seconds: float) -> str:
    return f"{seconds:,.0f}" if seconds >= 10.0 else f"{seconds:.2g}"


def _enough(seconds: float) -> int:
    """Return a round number of seconds that is more than these."""
    unit = 10 ** max(0, len(str(int(seconds))) - 2)
    return (int(1.2 * seconds) // unit + 1) * unit
