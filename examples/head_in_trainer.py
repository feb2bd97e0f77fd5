"""An output layer of thalweg inside Hugging Face's Trainer: a small GPT-2 that is trained with a sample of the words.

The Trainer takes any module that returns a loss. The softmax over all words is computed for the score alone.
"""

import math

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import GPT2Config, GPT2Model, Trainer, TrainingArguments

from thalweg import AbstractHead, SampledSoftmax, Softmax, Targets
from thalweg.heads import random_table

WORDS, WIDTH, LENGTH = 500, 24, 16


class WithHead(nn.Module):
    """A body of the library under an output layer of thalweg."""

    def __init__(self, body: nn.Module, head: AbstractHead) -> None:
        super().__init__()
        self.body, self.head = body, head

    def forward(self, input_ids: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return the mean loss of the words that come next, which the Trainer minimizes."""
        hidden = self.body(input_ids).last_hidden_state[:, :-1]
        total, count = self.head.loss_from_hidden(hidden, labels[:, 1:])
        return {"loss": total / count}

    @torch.inference_mode()
    def perplexity(self, input_ids: Tensor) -> float:
        """Return the perplexity by the probabilities of all words, exactly."""
        hidden = self.body(input_ids).last_hidden_state[:, :-1]
        return math.exp(-self.head.log_probability(self.head(hidden), input_ids[:, 1:]).mean())


def texts(num: int, seed: int) -> Tensor:
    """Return sequences in which each word mostly says the next one."""
    random = torch.Generator().manual_seed(seed)
    ids = torch.zeros(num, LENGTH, dtype=torch.long)
    ids[:, 0] = torch.randint(WORDS, (num,), generator=random)
    for place in range(1, LENGTH):
        noise = torch.randint(3, (num,), generator=random)
        ids[:, place] = (7 * ids[:, place - 1] + noise) % 100 + (100 if place % 2 else 0)
    return ids


class Texts(Dataset[dict[str, Tensor]]):
    """The texts as the Trainer's batches want them."""

    def __init__(self, ids: Tensor) -> None:
        self.ids = ids

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, place: int) -> dict[str, Tensor]:
        return {"input_ids": self.ids[place], "labels": self.ids[place]}


def train(name: str, head: AbstractHead) -> None:
    config = GPT2Config(
        vocab_size=WORDS,
        n_positions=LENGTH,
        n_embd=WIDTH,
        n_layer=1,
        n_head=2,
        bos_token_id=None,
        eos_token_id=None,
    )
    model = WithHead(GPT2Model(config), head)
    arguments = TrainingArguments(
        output_dir=f"checkpoints/{name}",
        max_steps=100,
        per_device_train_batch_size=32,
        learning_rate=0.03,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    )
    Trainer(model=model, args=arguments, train_dataset=Texts(texts(640, seed=1))).train()
    print(f"{name}: perplexity {model.eval().perplexity(texts(100, seed=2)):.1f} of {WORDS} words")


def main() -> None:
    counts = texts(640, seed=1).flatten().bincount(minlength=WORDS) + 1.0
    torch.manual_seed(0)
    train("softmax", Softmax(WIDTH, WORDS))
    torch.manual_seed(0)
    targets = Targets(random_table(WORDS, WIDTH), trainable=True, counts=counts)
    train("sampled", SampledSoftmax(WIDTH, targets, num_samples=64))


if __name__ == "__main__":
    main()
