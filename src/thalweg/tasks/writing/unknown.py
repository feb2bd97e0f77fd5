"""Words that a written text has no entry for: each is the word of the source that the network looked at there."""

from collections.abc import Sequence
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn

from thalweg.data.text.pretrained_tokenizer import AnyTokenizer
from thalweg.data.text.tokenizer import Tokenizer


def pieces_of(tokenizer: AnyTokenizer, text: str) -> list[str]:
    """Return the parts of a text, one for each of its ids, by a tokenizer that has whole words."""
    assert isinstance(tokenizer, Tokenizer)
    return tokenizer.pieces(text)


@final
class UnknownWords:
    """What stands for `<unk>` in translations.

    For each `<unk>` that was written, the words of the source are ranked by how much the network looked at them when it
    wrote it (mean over layers and heads). Taken is the best of those that have no entry themselves, and where there
    are none the best of all. Its text is copied, as it fits names and numbers.

    Args:
        source: tokenizer of the sources; one without whole words has nothing unknown.
        target: tokenizer of what is written.
        texts: the sources, normalized.

    Source: Luong, Sutskever, Le, Vinyals, Zaremba (2015), Addressing the Rare Word Problem in Neural Machine
    Translation (copying the aligned word); Jean, Cho, Memisevic, Bengio (2015), On Using Very Large Target Vocabulary
    for Neural Machine Translation (the attention as alignment).
    """

    def __init__(self, source: AnyTokenizer, target: AnyTokenizer, texts: Sequence[str]) -> None:
        self.source, self.target, self.texts = source, target, texts

    @property
    def is_idle(self) -> bool:
        """Whether nothing can be unknown, or nothing be copied, so that `<unk>` is not to be written."""
        return not (self.source.has_words and self.target.has_words and self.texts)

    @torch.inference_mode()
    def find(
        self, model: nn.Module, tokens: Tensor, mask: Tensor, written: Tensor, rows: Sequence[int]
    ) -> list[list[list[str]]]:
        """Return for each text `[batch, candidates]` the words that stand for its `<unk>`s, in their order.

        Args:
            model: has written, and has `attention` (see `thalweg.models.translator.Translator.attention`).
            tokens: the sources as it read them, `[batch, source]`.
            mask: True at their real tokens, `[batch, source]`.
            written: ids `[batch, candidates, time]`.
            rows: where the sources stand in `texts`.
        """
        words: list[list[list[str]]] = [[[] for _ in candidates] for candidates in written]
        unknown = written == self.target.unknown
        if self.is_idle or not bool(unknown.any()):
            return words
        writer: Any = model
        chosen = unknown.any(-1).nonzero().tolist()
        for row, candidate in chosen:
            ids = written[row, candidate]
            before = torch.cat([ids.new_full((1,), self.target.begin), ids[:-1]])
            looks = writer.attention(tokens[row : row + 1], before[None], mask[row : row + 1])[0]
            pieces = pieces_of(self.source, self.texts[rows[int(row)]])[: int(mask[row].sum())]
            is_new = np.array([self.source.id_of(piece) is None for piece in pieces])
            is_word = np.array([bool(piece.strip()) for piece in pieces])
            allowed = is_word & is_new if (is_word & is_new).any() else is_word
            for place in unknown[row, candidate].nonzero().flatten().tolist():
                shares = looks[place, : len(pieces)].float().cpu().numpy()
                best = int(np.where(allowed, shares, -1.0).argmax()) if allowed.any() else -1
                words[row][candidate].append(pieces[best].strip() if best >= 0 else "")
        return words
