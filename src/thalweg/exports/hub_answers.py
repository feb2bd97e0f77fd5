"""What a folder for `transformers` answers, by that library alone, beside what the run answers."""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import safetensors.torch
import torch
from torch import Tensor
from torch.nn import functional

from thalweg.batch import Batch
from thalweg.models.pretrained import DECODER, library
from thalweg.tasks.answering import answering
from thalweg.tasks.classify.task import Classify
from thalweg.training.folder.run import Run

HEAD, SETTINGS = "head.safetensors", "head.json"
TEXTS: Final = (
    "A good film, and a bad one.", "x", "Is it 1984, or not (yet)?", "the end " * 700, "Ça va? Straße, naïve.",
)  # fmt: skip
WORDS: Final = (["The", "cat", "sat", "in", "Paris", "."], ["no"], ["1984", ",", "unbelievably", "cold"])
WRITTEN: Final = 6  # tokens


def opened(folder: Path, auto: str) -> tuple[Any, Any]:
    """Return the tokenizer and the model in a folder."""
    transformers = library()
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **options)
    return tokenizer, getattr(transformers, auto).from_pretrained(folder, use_safetensors=True, **options).eval()


def pooled_scores(folder: Path, about: dict[str, Any], texts: Sequence[Any]) -> Tensor:
    """Return what the layer beside a network says of texts or pairs of texts, `[texts, outputs]`."""
    tokenizer, model = opened(folder, about["opens_with"])
    head = safetensors.torch.load_file(folder / HEAD)

    def states(*columns: Sequence[str]) -> Tensor:
        given = [list(column) for column in columns]
        inputs = tokenizer(*given, padding=True, truncation=True, return_tensors="pt")
        hidden, mask = model(**inputs).last_hidden_state, inputs["attention_mask"].unsqueeze(-1)
        if about["pooling"] == "cls":
            state = hidden[:, 0]
        elif about["pooling"] == "last":
            state = hidden[torch.arange(len(hidden)), mask.sum((1, 2)) - 1]
        else:
            state = (hidden * mask).sum(1) / mask.sum(1)
        return functional.normalize(state, dim=-1) if about["unit_length"] else state

    with torch.inference_mode():
        columns = list(zip(*texts, strict=True)) if about["pairs"] else [texts]
        if about["pairs"] == "bi":
            u, v = (states(column) for column in columns)
            state = torch.cat([u, v, (u - v).abs(), u.shape[-1] ** 0.5 * u * v], -1)
        else:
            state = states(*columns)
        return (state @ head["weight"].T + head["bias"]).double()


def compare_pooled(run: Run, folder: Path, about: dict[str, Any]) -> float:
    """Return the largest difference of probabilities or numbers from the run's."""
    about, task = json.loads((folder / SETTINGS).read_text(encoding="utf-8")), cast("Any", run.task)
    rows: list[Any] = list(zip(TEXTS, reversed(TEXTS), strict=True)) if about["pairs"] else list(TEXTS)
    scores = pooled_scores(folder, about, rows)
    if isinstance(task, Classify):
        found = (scores.sigmoid() if about["several"] else scores.softmax(-1)).numpy()
        answers = run.predict(rows, top=len(about["labels"]))
        places = {label: place for place, label in enumerate(about["labels"])}
        expected = np.zeros_like(found)
        for row, answer in enumerate(answers):
            for one in answer["top"]:
                expected[row, places[one["label"]]] = one["probability"]
    else:  # before they are kept within the span, at whose ends all numbers are alike
        found, pairs = scores.numpy()[:, 0], [row if isinstance(row, tuple) else (row,) for row in rows]
        batch = Batch(task.inputs_of(pairs), torch.zeros(len(pairs)))
        with answering(run.model, run.head) as parameter:
            inputs = batch.to(parameter.device, parameter.dtype).inputs
            expected = run.head(run.model(**inputs)).double().cpu().numpy()[:, 0]
    unit = max(1.0, float(np.abs(expected).max()))
    return float(np.abs(found - expected).max()) / unit


def compare_tagger(run: Run, folder: Path) -> float:
    """Return the largest difference of the probabilities of tags from the run's."""
    tokenizer, model = opened(folder, "AutoModelForTokenClassification")
    largest = 0.0
    for words in WORDS:
        inputs = tokenizer(" ".join(words), return_offsets_mapping=True, return_tensors="pt")
        ends = inputs.pop("offset_mapping")[0, :, 1].tolist()
        starts = itertools.accumulate([0, *(len(word) + 1 for word in words[:-1])])
        spaces = [max(start - 1, 0) for start in starts]  # a word's first token may be the space before it
        places = [next((place for place, end in enumerate(ends) if end > space), 0) for space in spaces]
        with torch.inference_mode():
            found = model(**inputs).logits[0, places].double().softmax(-1)
        (answer,) = run.predict([words])
        ids = [model.config.label2id[tag] for tag in answer["tags"]]
        expected = torch.tensor(answer["probabilities"], dtype=torch.float64)
        largest = max(largest, float((found[torch.arange(len(ids)), ids] - expected).abs().max()))
    return largest


def compare_writer(run: Run, folder: Path, auto: str) -> float:
    """Return the largest difference of the logarithms of probabilities, token by token, while the folder writes."""
    tokenizer, model = opened(folder, auto)
    largest = 0.0
    for text in TEXTS[:3]:
        inputs = tokenizer(text, return_tensors="pt", return_token_type_ids=False)
        made = model.generate(
            **inputs, max_new_tokens=WRITTEN, do_sample=False, num_beams=1, output_scores=True,
            return_dict_in_generate=True,
        )  # fmt: skip
        found = torch.stack(made.scores, 1)[0].double()
        with answering(run.model, run.head) as parameter:
            ids, written = inputs["input_ids"].to(parameter.device), made.sequences.to(parameter.device)[:, :-1]
            hidden = run.model(written) if auto == DECODER else run.model(ids, written)
            scores = run.head(hidden)[0, -len(found) :].double().cpu()
        allowed = torch.isfinite(found)
        ours = scores.masked_fill(~allowed, -torch.inf).log_softmax(-1)
        largest = max(largest, float((found.log_softmax(-1) - ours)[allowed].abs().max()))
    return largest
