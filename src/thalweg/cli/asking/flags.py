"""The flags of `thalweg predict` and `thalweg evaluate` that say how to answer; no torch is imported.

They are made from the fields of `AnswerOptions`.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

from cyclopts import Group, Parameter

from thalweg import names
from thalweg.cli.options import real, whole
from thalweg.tasks.questions import AnswerOptions
from thalweg.training.recipe.option import listed

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
"""What each option of `predict` says in `--help`."""
SCORING_HELP: Final = {
    **{name: HELP[name] for name in ("beam", "length_penalty")},
    "bleu_tokenizer": f"Tokenizer of BLEU: {listed(names.BLEU_TOKENIZERS)}; default: that of the training.",
    "references": "File with further references of translations, a line for each row; several: give it again.",
    "threshold": "Probability from which a label is given, in place of the run's own (see predict).",
}
"""What those of `evaluate` say."""

_KINDS: Final = {  # options that are no fields
    "threshold": float, "tokens": bool, "bleu_tokenizer": str, "references": list[Path],
}  # fmt: skip
_READERS: Final[dict[Any, Any]] = {int: whole, float: real}


def _flags(title: str, helps: Mapping[str, str]) -> type:
    """Return a dataclass with a field for each option, None where it is not given."""
    kinds = {field.name: field.type for field in dataclasses.fields(AnswerOptions)} | _KINDS
    group = Group.create_ordered("Answers")
    fields = []
    for name, said in helps.items():
        kind: Any = kinds[name]
        parameter = Parameter(help=said, group=group, converter=_READERS.get(kind), negative=(), show_default=False)
        fields.append((name, Annotated[kind | None, parameter], dataclasses.field(default=None)))
    made = dataclasses.make_dataclass(title, fields, kw_only=True)
    made.__module__ = __name__
    return made


AnswerFlags = _flags("AnswerFlags", HELP)
ScoringFlags = _flags("ScoringFlags", SCORING_HELP)
