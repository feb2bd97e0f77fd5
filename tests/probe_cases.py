"""Subjects for the tests of the probes: one of every kind of network, with data that it could learn."""

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn

from thalweg.batch import Batch
from thalweg.diagnosis.subject import Facts, Networks, Subject
from thalweg.heads import AbstractHead, Softmax, as_head
from thalweg.models import MLP, Bag, Decoder, Encoder, Recurrent, pool

NUM_CLASSES, VOCABULARY, WIDTH = 3, 20, 8


def tokens_of(number: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Ids with padding (0) on the right, and the mask of the real ones."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(2, 8, (number,), generator=generator)
    lengths[0] = 7
    mask = torch.arange(7) < lengths.unsqueeze(1)
    tokens = torch.randint(2, VOCABULARY, (number, 7), generator=generator)
    return tokens.masked_fill(~mask, 0), mask


def text_batch(number: int = 8, seed: int = 0) -> Batch:
    tokens, mask = tokens_of(number, seed)
    return Batch({"tokens": tokens, "mask": mask}, tokens[:, 0] % NUM_CLASSES)


def bag_batch(number: int = 8, seed: int = 0) -> Batch:
    tokens, mask = tokens_of(number, seed)
    lengths = mask.sum(1)
    return Batch({"tokens": tokens[mask], "offsets": lengths.cumsum(0) - lengths}, tokens[:, 0] % NUM_CLASSES)


def next_token_batch(number: int = 8, seed: int = 0) -> Batch:
    tokens, mask = tokens_of(number, seed)
    targets = torch.cat([tokens[:, 1:], torch.zeros_like(tokens[:, :1])], 1)
    return Batch({"tokens": tokens}, targets, mask & (targets != 0))


def number_batch(number: int = 8, seed: int = 0) -> Batch:
    x = torch.randn(number, 5, generator=torch.Generator().manual_seed(seed))
    return Batch({"input": x}, x[:, :2] * 2.0 + 1.0)


def mlp() -> Networks:
    model = Bag(VOCABULARY, WIDTH, dropout=0.2, body=MLP([WIDTH, WIDTH, WIDTH], activation=nn.ReLU))
    return model, Softmax(WIDTH, NUM_CLASSES)


def lstm(cell: type[nn.LSTM] | type[nn.GRU] = nn.LSTM) -> Networks:
    model = Recurrent(
        VOCABULARY, WIDTH, cell=cell, hidden=4, layers=2, bidirectional=True, dropout=0.2, pooling=pool.mean
    )
    return model, Softmax(WIDTH, NUM_CLASSES)


def transformer() -> Networks:
    model = Encoder(VOCABULARY, WIDTH, dropout=0.2, hidden=16, layers=2, heads=2, pooling=pool.mean)
    return model, Softmax(WIDTH, NUM_CLASSES)


def decoder() -> Networks:
    model = Decoder(VOCABULARY, WIDTH, dropout=0.2, hidden=16, layers=1, heads=2)
    return model, Softmax(WIDTH, VOCABULARY, tied=model.embedding)


def sequential() -> Networks:
    model = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Dropout(0.2), nn.Linear(6, 2))
    return model, as_head(nn.MSELoss())


def seeded(build: Callable[[], Networks]) -> Networks:
    torch.manual_seed(1)
    return build()


NETWORKS: dict[str, tuple[Callable[[], Networks], Callable[..., Batch]]] = {
    "mlp": (mlp, bag_batch),
    "lstm": (lstm, text_batch),
    "gru": (functools.partial(lstm, nn.GRU), text_batch),
    "transformer": (transformer, text_batch),
    "decoder": (decoder, next_token_batch),
    "sequential": (sequential, number_batch),
}


def subject_of(kind: str, *, num_batches: int = 4, **facts: object) -> Subject:
    """A subject whose networks have taken a few steps away from the start that it knows."""
    build, batch = NETWORKS[kind]
    model, head = seeded(build)
    batches = [batch(8, seed) for seed in range(num_batches)]
    take_steps(model, head, batches[0])
    known: dict[str, object] = {
        "lr": 0.01,
        "optimizer": "adamw",
        "batch_size": 8,
        "num_classes": NUM_CLASSES,
        "l2": 0.01,
    }
    return Subject(
        model=model,
        head=head,
        train=batches,
        valid=[batch(8, 100)],
        facts=Facts(**(known | facts)),  # type: ignore[arg-type]
        initial=lambda: seeded(build),
        in_order=lambda step: [batches[step % num_batches]],
    )


def take_steps(model: nn.Module, head: AbstractHead, batch: Batch) -> None:
    optimizer = torch.optim.SGD(dict.fromkeys([*model.parameters(), *head.parameters()]), lr=0.05)
    for _ in range(3):
        optimizer.zero_grad()
        total, count = head.loss_from_hidden(model(**batch.inputs), batch.targets, batch.mask)
        (total / count).backward()
        optimizer.step()
