"""A toy model that looks the next token's distribution up in a table, so that every text can be counted out."""

import torch
from torch import Tensor, nn

END, BEGIN = 0, 1


class Toy(nn.Module):
    """Logits of the next token depend on the text's number, the last token and the number of tokens so far."""

    def __init__(self, num_texts: int, vocabulary_size: int, length: int, *, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        shape = num_texts, length + 1, vocabulary_size, vocabulary_size
        self.table = torch.randn(shape, generator=generator, dtype=torch.float64)
        self.num_calls = 0

    def start(self, batch_size: int) -> tuple[Tensor, ...]:
        return torch.arange(batch_size) % len(self.table), torch.zeros(batch_size, dtype=torch.long)

    def advance(self, tokens: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        self.num_calls += 1
        text, place = state
        return self.table[text, place.clamp(max=self.table.shape[1] - 1), tokens], (text, place + 1)
