"""What a decoder of words costs, on paper: parameters, memory, arithmetic and messages of a step.

Everything is computed from sizes, by hand; `scaling.py` compares it with what is measured.
"""

import dataclasses
from typing import Final, final

MOST_LOGITS: Final = 2**24  # of a softmax at once; more are made in chunks
SHORTLIST: Final = 512  # frequent words that continuous outputs are always compared with
FLOAT: Final = 4  # bytes


@final
@dataclasses.dataclass(frozen=True)
class Decoder:
    """A transformer decoder with its output layer, and a batch for it.

    Args:
        width: of hidden states.
        hidden: units of a feed-forward block.
        layers: number of blocks.
        vocabulary: number of words.
        length: tokens of a sequence.
        sequences: of a batch, on one process.
        target_width: of the words' fixed vectors, where the output is continuous; 0: a softmax.
    """

    width: int
    hidden: int
    layers: int
    vocabulary: int
    length: int
    sequences: int
    target_width: int = 0

    @property
    def tokens(self) -> int:
        """Tokens of a batch, on one process."""
        return self.length * self.sequences

    def matrices(self) -> list[tuple[int, int]]:
        """Return rows and columns of the matrices inside the model: what Muon steps on."""
        w, h = self.width, self.hidden
        return self.layers * [*4 * [(w, w)], (h, w), (w, h)]

    def output(self) -> tuple[int, int]:
        """Return rows and columns of the output layer."""
        return self.target_width or self.vocabulary, self.width

    def parameters(self) -> int:
        """Return how many numbers are trained."""
        inside = sum(rows * columns for rows, columns in self.matrices())
        vectors = self.layers * (9 * self.width + self.hidden) + 2 * self.width
        outputs, width = self.output()
        return self.vocabulary * self.width + inside + vectors + outputs * width + outputs

    def fixed(self) -> int:
        """Return how many numbers are kept and not trained: the vectors of the words."""
        return self.vocabulary * self.target_width

    def state(self, optimizer: str) -> int:
        """Return how many numbers an optimizer remembers: sgd, adamw or muon (AdamW on what is no inner matrix)."""
        inside = sum(rows * columns for rows, columns in self.matrices())
        return {"sgd": 0, "adamw": 2 * self.parameters(), "muon": 2 * self.parameters() - inside}[optimizer]

    def products(self) -> float:
        """Return floating-point operations of the matrix products of a step, forward and backward."""
        inside = sum(rows * columns for rows, columns in self.matrices())
        rows, columns = self.output()
        attention = 2 * self.layers * self.length * self.width  # scores and their sums
        words = self.compared() * self.target_width if self.target_width else 0
        return 6.0 * self.tokens * (inside + rows * columns + attention + words)

    def compared(self) -> int:
        """Return with how many words a prediction is compared: all, or frequent ones and those of the batch."""
        return min(self.vocabulary, SHORTLIST + self.tokens) if self.target_width else self.vocabulary

    def kept(self) -> int:
        """Return how many numbers the forward pass keeps for the backward pass, without dropout.

        Of a block eight of the width (two norms and what they read, query, key, value, what attention gives) and two of
        the hidden units, before and after the activation. Of a softmax in chunks its gradients.
        """
        inside = self.tokens * (self.layers * (8 * self.width + 2 * self.hidden) + 2 * self.width)
        if self.target_width:  # four vectors, and scores with a byte each that says which counts
            return inside + self.tokens * (4 * self.target_width + 5 * self.compared() // 4)
        if self.tokens * self.vocabulary <= MOST_LOGITS:
            return inside + self.logits()
        outputs, width = self.output()
        return inside + self.tokens * width + outputs * (width + 1)

    def logits(self) -> int:
        """Return how many scores of words there are at once."""
        scores = self.tokens * self.compared()
        return scores if self.target_width else min(scores, MOST_LOGITS)


@final
@dataclasses.dataclass(frozen=True)
class Network:
    """What connects the processes.

    Args:
        ranks: number of processes.
        bandwidth: bytes a second from one to the next.
        latency: seconds of a message of no length.
    """

    ranks: int
    bandwidth: float
    latency: float

    def sum(self, size: float) -> float:
        """Return the seconds of a sum over all processes, in a ring: every byte goes nearly twice to the next one."""
        steps = 2 * (self.ranks - 1)
        return steps * (self.latency + size / self.ranks / self.bandwidth)

    def share(self, size: float) -> float:
        """Return the seconds in which all get the shares of all, or each its share of a sum: half of a sum."""
        return 0.5 * self.sum(size)


def memory(decoder: Decoder, optimizer: str, ranks: int = 1) -> dict[str, float]:
    """Return bytes of a process in single precision, its parameters divided among so many.

    Of divided parameters two blocks, or the largest matrix, are there as a whole at a time.
    """
    block = sum(rows * columns for rows, columns in decoder.matrices()) / max(1, decoder.layers)
    whole = max(2 * block, decoder.vocabulary * decoder.width) if ranks > 1 else 0.0
    return {
        "weights": FLOAT * (decoder.parameters() / ranks + decoder.fixed() + whole),
        "gradients": FLOAT * (decoder.parameters() / ranks + whole),
        "state": FLOAT * decoder.state(optimizer) / ranks,
        "kept": FLOAT * decoder.kept(),
    }


def messages(decoder: Decoder, network: Network, *, divided: bool = False) -> float:
    """Return the seconds of messages of a step: a sum of the gradient, or, of divided parameters, three half sums.

    Divided parameters come together twice, forward and backward, and the gradient is summed to shares once.
    """
    size = FLOAT * decoder.parameters()
    return 3.0 * network.share(size) if divided else network.sum(size)
