"""The flags of `thalweg predict` that say how to answer, made from the fields of `AnswerOptions`. Imports no torch."""

import dataclasses
from typing import Annotated, Any, Final

from cyclopts import Group, Parameter

from thalweg.cli.options import real, whole
from thalweg.tasks.questions import AnswerOptions

HELP: Final = {
    "top": "Candidates shown for each input (3), for labels and translations.",
    "length": "Maximum number of tokens that a language model generates (200); for a forecast, steps ahead (1).",
    "temperature": "Sampling temperature of a language model (0.8); 0 is greedy.",
    "top_p": "Nucleus sampling of a language model: smallest token set with this total probability (1.0).",
    "beam": "Beam size of translations (4).",
    "length_penalty": "Exponent a of the number of tokens n in the score of a translation, log-probability / n^a "
    "(1.0); 0 favors short ones.",
    "seed": "Random seed for the sampling of a language model (0).",
    "threshold": "Probability from which a label is given, in place of the run's own: each of several labels, or the "
    "rarer of two.",
    "tokens": "For a tagger: the inputs are words already, separated by spaces, one sentence a line. (A file in the "
    "format of the training data, such as CoNLL, holds words anyway.)",
}
"""What each option says in `--help`."""

_KINDS: Final = {"threshold": float, "tokens": bool}  # options that are no fields
_READERS: Final[dict[Any, Any]] = {int: whole, float: real}


def _flags() -> type:
    """Return a dataclass with a field for each option, None where it is not given."""
    kinds = {field.name: field.type for field in dataclasses.fields(AnswerOptions)} | _KINDS
    group = Group.create_ordered("Answers")
    fields = []
    for name, said in HELP.items():
        kind: Any = kinds[name]
        parameter = Parameter(help=said, group=group, converter=_READERS.get(kind), negative=(), show_default=False)
        fields.append((name, Annotated[kind | None, parameter], dataclasses.field(default=None)))
    made = dataclasses.make_dataclass("AnswerFlags", fields, kw_only=True)
    made.__module__ = __name__
    return made


AnswerFlags = _flags()
