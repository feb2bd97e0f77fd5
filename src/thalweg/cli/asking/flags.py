"""The flags of `thalweg predict` and `thalweg evaluate` that say how to answer; no torch is imported.

They are made from the fields of `AnswerOptions`.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, get_type_hints

from cyclopts import Group, Parameter

from thalweg import names
from thalweg.cli.options import real, whole
from thalweg.tasks.questions import AnswerOptions
from thalweg.training.recipe.option import listed

HELP: Final = {
    "top": "Candidates printed for each input, for labels and translations; without it one line, the best (--json: 3).",
    "length": "Maximum number of tokens that a language model generates (200); for a forecast, steps ahead (1).",
    "min_length": "Tokens of a translation at least; for a language model, tokens before --stop is looked for (0).",
    "temperature": "Sampling temperature; 0 is greedy. A language model samples at 0.8; translations are sampled, at "
    "1.0, with --samples, --top-k, --top-p or this option, and else searched for.",
    "top_p": "Nucleus sampling: smallest token set with this total probability (1.0).",
    "top_k": "Sampling from so many of the most probable tokens; default: from the whole vocabulary.",
    "samples": "Texts sampled for each input (1).",
    "repetition_penalty": "Factor of the log-probability of tokens that have come before, such as 1.2 (1.0).",
    "no_repeat": "No run of so many tokens comes twice (0: all may).",
    "stop": "Text before which a language model ends; may be given several times.",
    "prefix": "Text that translations begin with.",
    "beam": "Beam size of translations (4).",
    "length_penalty": "Exponent a of the number of tokens n in the score of a translation, log-probability / n^a "
    "(1.0); 0 favors short ones.",
    "seed": "Random seed for sampling (0); each input and each of its samples has random numbers of its own.",
    "score": "Measure given texts in place of writing: their log-probability, its mean over tokens, the perplexity. "
    "For translations an input is both texts with a tab between them, or the rows of a file with both columns.",
    "threshold": "Probability from which a label is given, in place of the run's own: each of several labels, or the "
    "rarer of two.",
    "tokens": "For a tagger: the inputs are words already, separated by spaces, one sentence a line. (A file in the "
    "format of the training data, such as CoNLL, holds words anyway.)",
}
"""What each option of `predict` says in `--help`."""
SCORING_HELP: Final = {
    **{name: HELP[name] for name in ("beam", "length_penalty")},
    "bleu_tokenizer": f"Tokenizer of BLEU: {listed(names.BLEU_TOKENIZERS)}; default: that of the training.",
    "stride": "Tokens between the sliding windows of a language model, as in training unless given; 0: chunks.",
    "references": "File with further references of translations, a line for each row; several: give it again.",
    "threshold": "Probability from which a label is given, in place of the run's own (see predict).",
}
"""What those of `evaluate` say."""

_KINDS: Final = {  # options that are no fields, and kinds that have another name on a command line
    "threshold": float, "tokens": bool, "score": bool, "stop": list[str], "temperature": float, "top_k": int,
    "beam": int, "bleu_tokenizer": str, "references": list[Path], "stride": int,
}  # fmt: skip
_READERS: Final[dict[Any, Any]] = {int: whole, float: real}


def _flags(title: str, helps: Mapping[str, str]) -> type:
    """Return a dataclass with a field for each option, None where it is not given."""
    kinds = get_type_hints(AnswerOptions) | _KINDS
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
