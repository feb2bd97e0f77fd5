"""The defaults that follow from a pretrained model's own configuration: the longest text, and the learning rate."""

from typing import Any, Final

from thalweg import names
from thalweg.data.text.pretrained_folder import PretrainedFolder
from thalweg.tasks.spec import FINE_TUNED, kind_of
from thalweg.training.recipe.options import OPTIONS
from thalweg.training.recipe.recipe import Options

RATE: Final = 5e-5  # of a model of RATE_WIDTH, by benchmarks/pretrained.py
RATE_WIDTH: Final = 768
WIDTHS: Final = ("hidden_size", "d_model", "n_embd", "dim")  # as configurations name it
LOW_RANK_FACTOR: Final = 10.0  # of the rate, where low-rank matrices are trained alone
SCORE_FACTOR: Final = 0.3  # of the rate, where numbers are learned


def pretrained_defaults(options: Options) -> dict[str, Any]:
    """Return the length and the rate that a pretrained model wants; nothing where there is none."""
    model, freeze = options.get("model", ""), bool(options.get("freeze"))
    kind = kind_of(model, freeze=freeze)
    if kind == model:
        return {}
    found = PretrainedFolder.open(model)
    known: dict[str, Any] = {}
    if found.num_positions is not None:
        known["max_length"] = min(found.num_positions, OPTIONS["max_length"].default)
    width = next((size for name in WIDTHS if isinstance(size := found.config.get(name), int) and size > 0), RATE_WIDTH)
    if kind == FINE_TUNED and options.get("optimizer", names.OPTIMIZER) in (names.OPTIMIZER, names.SEARCHED_OPTIMIZER):
        rate = RATE * RATE_WIDTH / width * (LOW_RANK_FACTOR if options.get("lora") else 1.0)
        rate *= SCORE_FACTOR if options.get("task") == "score" else 1.0
        known["lr"] = float(f"{rate:.2g}")
    if "tie_word_embeddings" in found.config or found.is_decoder or found.is_translator:
        # A T5 whose layer is its own says so in one of two ways, by the version of the library that saved it.
        is_own = found.config.get("scale_decoder_outputs") is False
        known["tie"] = bool(found.config.get("tie_word_embeddings", True)) and not is_own
    return known
