"""Writing on from a prompt: texts, each with its tokens and their probabilities, at once or as they are written."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, final

from torch import nn

from thalweg.data.text.pretrained_tokenizer import AnyTokenizer, PretrainedTokenizer
from thalweg.data.text.tokenizer import BOS, EOS, PAD, UNK
from thalweg.heads.base import AbstractHead
from thalweg.tasks.answering import answering
from thalweg.tasks.questions import AnswerOptions
from thalweg.tasks.writing.asked import rules_of, sampling_of
from thalweg.tasks.writing.generate import Continuation, continue_texts, written_tokens
from thalweg.tasks.writing.sampling import stream_seed
from thalweg.tasks.writing.scoring import told

TEMPERATURE = 0.8  # where none is asked for
DRAWN_TOGETHER = 256  # texts
LOOK_BACK = 8  # tokens before those that are turned into text, which say whether a space stands between


class Reader(Protocol):
    """What is asked of a language task here."""

    max_length: int
    tokenizer: AnyTokenizer

    def prompt(self, text: str) -> list[int]:
        """Return the ids of a prompt."""
        ...

    def added(self, before: list[int], after: list[int]) -> str:
        """Return what the ids `after` add to the text of the ids `before`, broken characters included."""
        ...

    def continuation(self, before: list[int], after: list[int]) -> str:
        """Return what the ids `after` add to the text of the ids `before`, up to its last whole character."""
        ...


def continued(
    task: Reader, model: nn.Module, head: AbstractHead, prompts: Sequence[str], options: AnswerOptions
) -> list[dict[str, Any]]:
    """Return an answer for each prompt: see `Language.predict`."""
    ids = [task.prompt(text) for text in prompts]
    rows = [(row, sample) for row in range(len(ids)) for sample in range(options.samples)]
    places = options.places_of(len(ids))
    texts: list[list[dict[str, Any]]] = [[] for _ in ids]
    writer: Any = model
    with answering(model, head) as parameter:
        for start in range(0, len(rows), DRAWN_TOGETHER):
            part = rows[start : start + DRAWN_TOGETHER]
            stops = [Stops(task, ids[row], options) for row, _ in part]
            found = continue_texts(
                writer,
                head,
                [ids[row] for row, _ in part],
                seeds=[stream_seed(options.seed, places[row], sample) for row, sample in part],
                is_over=(lambda place, tokens, stops=stops: stops[place].is_over(tokens)) if options.stop else None,
                device=parameter.device,
                **_how(task, options),
            )
            for (row, _), stop, one in zip(part, stops, found, strict=True):
                texts[row].append(_answer(task, stop, one))
    answers = []
    for prompt, given, written in zip(prompts, ids, texts, strict=True):
        answer = {"prompt": prompt, **written[0]}
        if options.samples > 1:
            answer["samples"] = written
        if len(given) > task.max_length:
            answer["note"] = f"cut to its last {task.max_length:,} tokens"
        answers.append(answer)
    return answers


def streamed(task: Reader, model: nn.Module, head: AbstractHead, prompt: str, options: AnswerOptions) -> Iterator[str]:
    """Yield the text that `continued` gives, piece by piece, as soon as the characters of a piece are whole."""
    before = task.prompt(prompt)
    stop, written, shown = Stops(task, before, options), list[int](), 0
    pending, waiting = 0, ""  # the tokens that have been turned into text; text that may be the beginning of a stop
    seeds = [stream_seed(options.seed, options.places_of(1)[0])]
    writer: Any = model
    with answering(model, head) as parameter:
        steps = written_tokens(writer, head, [before], seeds=seeds, device=parameter.device, **_how(task, options))
        for _, ids, _ in steps:
            written.append(int(ids[0]))
            if options.stop and stop.is_over(written):
                break
            behind = (before + written)[: len(before) + pending][-LOOK_BACK:]
            piece = task.added(behind, written[pending:])
            if not piece or piece.endswith("\ufffd"):
                continue
            pending, waiting = len(written), waiting + piece
            ready = len(waiting) - stop.held_back(waiting)
            yield waiting[:ready]
            shown, waiting = shown + ready, waiting[ready:]
    yield stop.text(written)[shown:]


def _how(task: Reader, options: AnswerOptions) -> dict[str, Any]:
    return {
        "length": options.length,
        "window": task.max_length,
        "sampling": sampling_of(options, TEMPERATURE),
        "rules": rules_of(options, unwritten(task.tokenizer)),
    }


def unwritten(tokenizer: AnyTokenizer) -> tuple[int, ...]:
    """Return the ids that stand for no text."""
    if isinstance(tokenizer, PretrainedTokenizer):
        return tuple(set(tokenizer.specials.values()))
    return (PAD, UNK, BOS, EOS) if tokenizer.knows_lines else (PAD, UNK, BOS)


def _answer(task: Reader, stop: "Stops", found: Continuation) -> dict[str, Any]:
    text, num = stop.cut(found.tokens)
    return {"text": text, **told(task.tokenizer, found.tokens[:num], found.log_probabilities[:num])}


@final
class Stops:
    """Where a continuation ends: before the first of some texts.

    Args:
        task: turns ids into text.
        before: the ids of the prompt.
        options: `stop`, the texts, and `min_length`, the tokens after which they count.
    """

    def __init__(self, task: Reader, before: list[int], options: AnswerOptions) -> None:
        self._task, self._before, self._options = task, before, options
        self._tail = max((len(text.encode("utf-8", "replace")) for text in options.stop), default=0) + LOOK_BACK

    def text(self, tokens: list[int]) -> str:
        """Return the text of what was written, up to a stop."""
        return self.cut(tokens)[0]

    def is_over(self, tokens: list[int]) -> bool:
        """Whether the last tokens make one of the texts whole."""
        last = self._task.continuation(self._before[-LOOK_BACK:], tokens[-self._tail :])
        return any(text in last for text in self._options.stop) and self._place(tokens) is not None

    def held_back(self, text: str) -> int:
        """Return how many of the last characters of a text may be the beginning of a stop."""
        longest = min(len(text), max(map(len, self._options.stop), default=0))
        sizes = range(longest, 0, -1)
        return next((n for n in sizes if any(stop.startswith(text[-n:]) for stop in self._options.stop)), 0)

    def cut(self, tokens: list[int]) -> tuple[str, int]:
        """Return the text before a stop, and how many of the tokens it is made of."""
        text = self._task.continuation(self._before, tokens)
        place = self._place(tokens)
        if place is None:
            return text, len(tokens)
        num = len(tokens)
        while num and len(self._task.continuation(self._before, tokens[: num - 1])) >= place:
            num -= 1
        return text[:place], num

    def _place(self, tokens: list[int]) -> int | None:
        """Return where the first stop begins that is whole only after `min_length` tokens."""
        if not self._options.stop or len(tokens) <= self._options.min_length:
            return None
        text = self._task.continuation(self._before, tokens)
        known = len(self._task.continuation(self._before, tokens[: self._options.min_length]))
        found = [text.find(stop, max(0, known - len(stop) + 1)) for stop in self._options.stop]
        return min((place for place in found if place >= 0), default=None)
