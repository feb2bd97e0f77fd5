"""What is known of one option; `thalweg.training.recipe.options` is the table of them. Imports no torch."""

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, final

from thalweg.status import Status
from thalweg.training.recipe.defaults import Values
from thalweg.training.recipe.ranges import Range
from thalweg.training.recipe.spelled import written


@final
@dataclass(frozen=True)
class Option:
    """What is known of an option; `OPTIONS` fills in the last three fields."""

    help: str  # one sentence, without its period
    default: Any = None  # the usual value; None where every task or run has its own
    range: Range | None = None  # the numbers that are allowed
    choices: Iterable[str] | None = None  # the names that are allowed
    what: str = ""  # what one of the choices is called in messages; the option's name if empty
    by_model: Values = dataclasses.field(default_factory=dict)  # the models with another default
    full_batch: Any = None  # default for methods that look at curvature, which want the same function every time
    proved: Any = None  # default for training to a proved optimum, where it differs from `full_batch`
    proved_given: Callable[[Values], Any] | None = None  # the same, from the options that were given
    follows: Callable[[Values], Any] | None = None  # default from the values so far, its own default among them
    solver_needs: Any = None  # the only value that the solver behind such training takes
    wants: Literal["", "method", "passes"] = ""  # giving it asks for a method other than that solver, or so many passes
    trait: str = ""  # what a task must have to do with to read it (see `thalweg.tasks.spec.TaskSpec`)
    models: tuple[str, ...] = ()  # the models that read it; all where empty
    idle: Callable[[Values], str] = lambda values: ""  # noqa: ARG005  (why it has no effect, as the end of a sentence)
    # In a comparison: "equal" for all optimizers; "fixed", whatever is compared; "budget", which ends runs: left out.
    compared: Literal["", "equal", "fixed", "budget"] = ""
    other_losses: Literal["", "always", "of texts"] = ""  # whether losses with two values of it can't be compared
    continuous: bool = False  # read by continuous outputs only, and refused beside a softmax
    resumed: bool = False  # whether a run that goes on may be given another value
    ends: Status | None = None  # how a run ends that comes to this limit: with a larger one it may go on
    # With --online: the argument of what learns from a stream; "" if the command itself reads it; None: no effect.
    online: str | None = None
    parse: Callable[[str], Any] | None = None  # makes the value from the command line's text, where its type does not
    may_be_number: bool = False  # a text that may say a number, which Python and TOML may give as one
    name: str = ""
    kind: Any = None  # its type
    section: str = ""  # of the recipe

    @property
    def flag(self) -> str:
        """Its name on the command line."""
        return f"--{self.name.replace('_', '-')}"

    def written(self, value: Any) -> str:
        """A value as one gives it on the command line.

        Example:
            >>> from thalweg.training.recipe.options import OPTIONS
            >>> OPTIONS["model"].written("gru"), OPTIONS["tie"].written(False), OPTIONS["epochs"].written(40.0)
            ('--model gru', '--no-tie', '--epochs 40')
            >>> OPTIONS["normalize"].written(("nfc", "lower"))
            '--normalize nfc,lower'
        """
        return written(self.flag, value)


def listed(names: Iterable[str]) -> str:
    """Return names as a sentence lists them, without those that are empty.

    Example:
        >>> listed(["adam", "", "muon", "soap"])
        'adam, muon or soap'
    """
    *first, last = filter(None, names)
    return f"{', '.join(first)} or {last}"
