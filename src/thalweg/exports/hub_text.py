"""Texts of a folder for `transformers`: what its tokenizer is told, and the code in README.md."""

import json
from collections.abc import Sequence
from typing import Any, Final

import tokenizers
from tokenizers import processors

from thalweg.data.text.pretrained_folder import PretrainedFolder
from thalweg.data.text.pretrained_tokenizer import PretrainedTokenizer

POOLING_FILE: Final = "1_Pooling/config.json"
_MODES: Final = {"mean": "mean_tokens", "cls": "cls_token", "last": "lasttoken"}


def tokenizer_files(
    tokenizer: PretrainedTokenizer, max_length: int, found: PretrainedFolder, *, writes: bool = False
) -> dict[str, bytes | str]:
    """Return `tokenizer.json`, and what `AutoTokenizer` wants to know beside it.

    Args:
        tokenizer: of the run.
        max_length: longest sequence in tokens.
        found: the model that it belongs to.
        writes: whether ids are framed as tasks that write do it: decoders have no special ids around a text, and
            translators the end.
    """
    kinds = ["token_type_ids"] if found.takes_kinds else []
    content = tokenizer.to_bytes()
    if writes:
        inner = tokenizers.Tokenizer.from_str(content.decode())
        end = tokenizer.token(tokenizer.end)
        single = f"$A {end}" if found.is_translator else "$A"
        inner.post_processor = processors.TemplateProcessing(single=single, special_tokens=[(end, tokenizer.end)])
        content = inner.to_str(pretty=True).encode()
    ids = {**tokenizer.specials, "pad": tokenizer.pad}
    names = {f"{use}_token": tokenizer.token(index) for use, index in ids.items()}
    about = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_length,
        "model_input_names": ["input_ids", *kinds, "attention_mask"],
        "padding_side": "left" if writes and not found.is_translator else "right",
        "clean_up_tokenization_spaces": False,
        **{use: name for use, name in names.items() if name},
    }
    return {"tokenizer.json": content, "tokenizer_config.json": _json(about)}


def sentence_files(about: dict[str, Any], width: int, max_length: int) -> dict[str, str]:
    """Return what sentence-transformers reads, to make states of texts with the network."""
    modes = {f"pooling_mode_{mode}": name == about["pooling"] for name, mode in _MODES.items()}
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling")]
    kinds += [("2_Normalize", "Normalize")] if about["unit_length"] else []
    modules = [
        {"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for place, (path, kind) in enumerate(kinds)
    ]
    return {
        "modules.json": _json(modules),
        POOLING_FILE: _json({"word_embedding_dimension": width, **modes}),
        "sentence_bert_config.json": _json({"max_seq_length": max_length, "do_lower_case": False}),
    }


def writing_settings(task: Any, is_translator: bool) -> dict[str, Any]:
    """Return how a run writes, as the library's `GenerationConfig` names it."""
    tokenizer: PretrainedTokenizer = task.tokenizer
    settings: dict[str, Any] = {"pad_token_id": tokenizer.pad, "bos_token_id": tokenizer.begin}
    if is_translator:
        never = {tokenizer.pad, tokenizer.unknown, tokenizer.begin} - {tokenizer.end}
        settings |= {"decoder_start_token_id": tokenizer.begin, "max_length": task.max_length + 1}
        settings |= {"eos_token_id": tokenizer.end}
    else:
        never = set(tokenizer.specials.values())
    return settings | {"suppress_tokens": sorted(never)}


TAGGER_CODE: Final = """import torch
from itertools import accumulate
from transformers import AutoModelForTokenClassification, AutoTokenizer

folder = "."
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForTokenClassification.from_pretrained(folder).eval()


@torch.inference_mode()
def answer(words):
    inputs = tokenizer(" ".join(words), return_offsets_mapping=True, return_tensors="pt")
    ends = inputs.pop("offset_mapping")[0, :, 1].tolist()
    starts = accumulate([0] + [len(word) + 1 for word in words[:-1]])
    places = [next(i for i, end in enumerate(ends) if end > max(start - 1, 0)) for start in starts]
    chances, tags = model(**inputs).logits[0, places].softmax(-1).max(-1)  # of a word: its first subword
    return [(model.config.id2label[tag], chance) for tag, chance in zip(tags.tolist(), chances.tolist())]
"""


def writer_code(about: dict[str, Any]) -> str:
    """Return code that writes with a folder."""
    auto = about["opens_with"]
    more = ""
    if "bias" in about:
        more = """

# generate() adds the bias of the output layer by generation_config.json. For logits that have it, too:
def with_bias(model):
    from safetensors.torch import load_file
    model.get_output_embeddings().bias = torch.nn.Parameter(load_file(f"{folder}/head.safetensors")["bias"])
    model.generation_config.sequence_bias = None
    return model
"""
    return f"""import torch
from transformers import {auto}, AutoTokenizer

folder = "."
tokenizer, model = AutoTokenizer.from_pretrained(folder), {auto}.from_pretrained(folder).eval()


def answer(text, **options):
    inputs = tokenizer(text, return_tensors="pt", return_token_type_ids=False)
    return tokenizer.decode(model.generate(**inputs, **options)[0], skip_special_tokens=True)
{more}"""


def pooled_code(about: dict[str, Any]) -> str:
    """Return code that answers with a network and the layer beside it."""
    auto = about["opens_with"]
    state = {
        "mean": "(hidden * mask).sum(1) / mask.sum(1)",
        "cls": "hidden[:, 0]",
        "last": "hidden[torch.arange(len(hidden)), mask.sum((1, 2)) - 1]",
    }[about["pooling"]]
    state = f"torch.nn.functional.normalize({state}, dim=-1)" if about["unit_length"] else state
    if about["pairs"] == "bi":
        given = "firsts, seconds"
        read = "u, v = states(firsts), states(seconds)\n    state = "
        read += "torch.cat([u, v, (u - v).abs(), u.shape[-1] ** 0.5 * u * v], -1)"
    elif about["pairs"] == "cross":
        given, read = "firsts, seconds", "state = states(firsts, seconds)"
    else:
        given, read = "texts", "state = states(texts)"
    if "scale" in about:
        last = 'numbers = (about["scale"] * scores[:, 0] + about["shift"])\n    return '
        last += "numbers.clip(*about['span'])" if about["span"] else "numbers"
    else:
        kind = "sigmoid()" if about["several"] else "softmax(-1)"
        last = f'return scores.{kind}  # a column for each of about["labels"]'
    return f"""import json
import torch
from pathlib import Path
from safetensors.torch import load_file
from transformers import {auto}, AutoTokenizer

folder = "."
tokenizer, model = AutoTokenizer.from_pretrained(folder), {auto}.from_pretrained(folder).eval()
head, about = load_file(f"{{folder}}/head.safetensors"), json.loads(Path(folder, "head.json").read_text())


def states(*texts):
    inputs = tokenizer(*texts, padding=True, truncation=True, return_tensors="pt")
    hidden, mask = model(**inputs).last_hidden_state, inputs["attention_mask"].unsqueeze(-1)
    return {state}


@torch.inference_mode()
def answer({given}):
    {read}
    scores = state @ head["weight"].T + head["bias"]
    {last}
"""


BESIDE: Final = (
    "`head.safetensors` and `head.json` have the output layer, which the library has no class for. Where it says that "
    "a `pooler` was newly initialized: nothing here uses that. The run reads a text of no token as the end token."
)
ENCODES: Final = "sentence-transformers opens the folder, too, and gives the states of texts that the layer reads."
DECIDES: Final = (
    "Of the probabilities, the largest is the answer, but where head.json has `thresholds`: those labels are given "
    "above theirs, and of two labels that exclude one another the other one is given below it."
)
MEASURES: Final = "The numbers are in the unit of the training data, and within their range."
CUTS: Final = (
    "Words are joined by spaces. The run reads a sentence of more tokens than `tokenizer.model_max_length` in pieces, "
    "which this code does not."
)
BIASED: Final = (
    "The output layer of this class has no bias, and the run's has one. `generate` adds it by `sequence_bias` of "
    "generation_config.json; the logits and the loss of the model alone do not have it."
)
TRANSLATES: Final = "The run cuts texts that are too long (`tokenizer.model_max_length`) without an end token."


def readme(name: str, about: dict[str, Any], notes: Sequence[str], code: str) -> str:
    """Return README.md."""
    parts = [
        f"# {name}",
        f"A thalweg run of the task {about['task']}; `{about['opens_with']}` of transformers opens its network.",
        f"```python\n{code}```",
        *notes,
        "Opened again by transformers alone, it differs from the run's answers by at most "
        f"{about['largest_difference']:.1e}.",
    ]
    return "\n\n".join(parts) + "\n"


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"
