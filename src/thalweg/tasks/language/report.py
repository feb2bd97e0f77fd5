"""What the report shows about a language model: texts it writes, and which tokens, lines and places cost most."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import nn

from thalweg.data.arrays.batches import Examples
from thalweg.heads.base import AbstractHead
from thalweg.tasks.answering import answering
from thalweg.tasks.language.chunks import BEFORE
from thalweg.tasks.questions import AnswerOptions
from thalweg.tasks.writing.base import AbstractWritingTask

MAX_TOKENS = 100_000  # of the validation text are looked at
BATCH_TOKENS = 8192
TEMPERATURES = (0.0, 0.7, 1.0)
WRITTEN_TOKENS, NUM_PROMPTS, NO_REPEAT = 120, 2, 3
NUM_TOKENS, NUM_LINES, MIN_LINE_TOKENS, MAX_LINE_TOKENS = 20, 10, 6, 200
MAX_PLACES = 64


def sections(
    task: AbstractWritingTask, model: nn.Module, head: AbstractHead, valid: Examples, seed: int
) -> list[dict[str, Any]]:
    """Return the sections for a language model's validation text."""
    tokens, losses, places = token_losses(task, model, head, valid)
    lines = _lines(task, tokens, losses)
    return [
        _written(task, model, head, lines, seed),
        _expensive_tokens(task, tokens, losses),
        _surprising_lines(lines),
        _by_place(losses, places, carried=BEFORE in valid.columns),
    ]


def token_losses(
    task: AbstractWritingTask, model: nn.Module, head: AbstractHead, examples: Examples, limit: int = MAX_TOKENS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the first tokens of a text, the loss of each in nats, and its place in its chunk, from 0."""
    per_batch = max(1, BATCH_TOKENS // task.max_length)
    num_chunks = min(len(examples), max(1, limit // task.max_length))
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    with answering(model, head) as parameter:
        for start in range(0, num_chunks, per_batch):
            batch = task.batch(examples, np.arange(start, min(start + per_batch, num_chunks))).to(parameter.device)
            losses = -head.log_probability_from_hidden(model(**batch.inputs), batch.targets)
            mask = batch.mask if batch.mask is not None else torch.ones_like(batch.targets, dtype=torch.bool)
            places = torch.arange(mask.shape[1], device=parameter.device).expand_as(mask)
            values = batch.targets[mask], losses[mask].double(), places[mask]
            found.append(tuple(value.cpu().numpy() for value in values))  # type: ignore[arg-type]
    tokens, losses, places = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return tokens, losses, places


def _lines(task: AbstractWritingTask, tokens: np.ndarray, losses: np.ndarray) -> list[tuple[float, int, str]]:
    """Return for each line of the tokens: mean loss, number of tokens, text."""
    texts = {token: task.text([token]) for token in np.unique(tokens).tolist()}
    ends = np.isin(tokens, [token for token, text in texts.items() if "\n" in text])
    lines, start = [], 0
    for end in [*(np.flatnonzero(ends) + 1).tolist(), len(tokens)]:
        # A text may have no line ends at all.
        for begin in range(start, end, MAX_LINE_TOKENS):
            part = slice(begin, min(begin + MAX_LINE_TOKENS, end))
            text = task.text(tokens[part].tolist())
            lines.append((float(losses[part].mean()), part.stop - part.start, text.strip("\n")))
        start = end
    return lines


def _written(
    task: AbstractWritingTask, model: nn.Module, head: AbstractHead, lines: list[tuple[float, int, str]], seed: int
) -> dict[str, Any]:
    """Return texts that the model writes, after nothing and after the beginnings of lines of the validation text."""
    prompts = ["", *(_beginning(text) for text in _spread(lines, NUM_PROMPTS))]
    texts = []
    for temperature in TEMPERATURES:
        # The most probable text soon turns in a circle.
        no_repeat = NO_REPEAT if temperature == 0.0 else 0
        options = AnswerOptions(length=WRITTEN_TOKENS, temperature=temperature, seed=seed, no_repeat=no_repeat)
        for answer in task.predict(model, head, prompts, options):
            after = f"after {answer['prompt']!r}" if answer["prompt"] else "after nothing"
            texts.append({"label": f"temperature {temperature:g}, {after}", "text": answer["text"]})
    return {
        "kind": "texts",
        "title": "Written by the model",
        "text": "Lines of the validation text, continued from the middle. At temperature 0 the most probable token is "
        f"taken each time, but for runs of {NO_REPEAT} that have come before; at 1 tokens are drawn as the model "
        "weighs them, and in between rare ones come less often.",
        "texts": texts,
    }


def _spread(lines: list[tuple[float, int, str]], number: int) -> list[str]:
    """Return so many different lines of text, from all over; of those with letters, where there are some."""
    full = [text for _, size, text in lines if size >= MIN_LINE_TOKENS and text.strip()]
    full = list(dict.fromkeys([text for text in full if any(map(str.isalpha, text))] or full))
    return [full[(2 * place + 1) * len(full) // (2 * number)] for place in range(min(number, len(full)))]


def _beginning(line: str) -> str:
    """Return the first half of a line, up to the end of a word.

    Example:
        >>> _beginning("the river runs to the sea"), _beginning("abcdef")
        ('the river runs', 'abc')
    """
    half = len(line) // 2
    space = line.find(" ", half)
    return line[:space] if half < space < len(line) - 1 - half // 2 else line[: max(1, half)]


def _expensive_tokens(task: AbstractWritingTask, tokens: np.ndarray, losses: np.ndarray) -> dict[str, Any]:
    """Return the tokens with the largest fraction of the total loss."""
    counts = np.bincount(tokens)
    sums = np.bincount(tokens, weights=losses)
    chosen = np.argsort(-sums, kind="stable")[: min(NUM_TOKENS, int((counts > 0).sum()))]
    rows = []
    for token in chosen.tolist():
        count, cost = counts[token], sums[token]
        figures = [f"{count / len(tokens):.2%}", f"{cost / count:.2f}", f"{cost / max(losses.sum(), 1e-12):.2%}"]
        rows.append([repr(task.text([token]) or task.tokenizer.token(token)), *figures])
    return {
        "kind": "table",
        "title": "Where the loss comes from",
        "text": "The tokens that add most to the loss of the validation text: how frequent each is, how many nats it "
        "costs where it comes, and its fraction of the total loss.",
        "columns": ["token", "of all tokens", "nats each", "of the loss"],
        "rows": rows,
    }


def _distinct(lines: Iterable[tuple[float, int, str]]) -> list[tuple[float, int, str]]:
    """Return lines without those whose text has come before."""
    found: dict[str, tuple[float, int, str]] = {}
    for line in lines:
        found.setdefault(line[2], line)
    return list(found.values())


def _surprising_lines(lines: list[tuple[float, int, str]]) -> dict[str, Any]:
    """Return the lines with the highest and the lowest loss per token, each text once."""
    ranked = sorted((line for line in lines if line[1] >= MIN_LINE_TOKENS), key=lambda line: -line[0])
    most = _distinct(ranked)[:NUM_LINES]
    shown = {text for _, _, text in most}
    least = _distinct(line for line in reversed(ranked) if line[2] not in shown)[:NUM_LINES]
    rows = [["most", f"{loss:.2f}", text] for loss, _, text in most]
    rows += [["least", f"{loss:.2f}", text] for loss, _, text in least]
    return {
        "kind": "examples",
        "title": "The most and the least surprising lines",
        "text": "Lines of the validation text by loss in nats per token; the model almost predicts the last ones.",
        "columns": ["surprising", "nats per token", "line"],
        "rows": rows,
    }


def _by_place(losses: np.ndarray, places: np.ndarray, *, carried: bool) -> dict[str, Any]:
    """Return the mean loss by the number of tokens that are seen before, or that follow the state of a chunk before."""
    width = -(-(int(places.max()) + 1) // MAX_PLACES)
    groups = places // width
    counts = np.bincount(groups)
    means = np.bincount(groups, weights=losses) / np.maximum(counts, 1)
    return {
        "kind": "series",
        "title": "Loss by place in a chunk",
        "text": "A chunk begins with the state after those before it (--carry); where the curve falls, longer "
        "chunks might help, through which a gradient goes."
        if carried
        else "A token late in a chunk has more text before it; where the curve is flat, longer ones would not help.",
        "x": [int(group * width + width // 2 + 1) for group in range(len(means))],
        "lines": {"loss": [float(mean) for mean in means]},
        "x_label": "tokens of the chunk" if carried else "tokens seen",
        "y_label": "nats per token",
        "split": None,
    }
