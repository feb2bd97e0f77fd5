"""A model of one's own with the library's data, loop and evaluation: a convolution over words.

A model is any module that maps the keywords of a batch to hidden states and has an attribute `width`. Here it reads the
"padded" layout: `tokens` [batch, time] and `mask` [batch, time].
"""

import torch
from torch import Tensor, nn

import thalweg
from thalweg.data import SAMPLES
from thalweg.optim import linear, make_optimizer
from thalweg.tasks import Classify, HeadOptions, Settings
from thalweg.training import Feed, evaluate


class Convolution(nn.Module):
    """Token vectors, one convolution over three neighbors, and the largest value of each channel."""

    def __init__(self, vocabulary_size: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, width, padding_idx=0)
        self.convolution = nn.Conv1d(width, width, kernel_size=3, padding=1)
        self.width = width

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Return hidden states `[batch, width]`."""
        channels = torch.relu(self.convolution(self.embedding(tokens).transpose(1, 2)))
        return channels.masked_fill(~mask.unsqueeze(1), 0.0).amax(2)


def main(steps: int = 100) -> None:
    torch.manual_seed(0)
    settings = Settings(
        columns={"text": "text", "label": "label"},
        valid_share=0.1,
        normalize=("nfc", "lower", "spaces"),
        tokenizer="word",
        vocabulary_size=5000,
        bigrams=0,
        max_length=64,
        lags=0,
        scaling="none",
        layout="padded",
    )
    task, prepared = Classify.prepare(SAMPLES["docstrings"], None, settings)
    model = Convolution(task.shape().vocabulary_size, 64)
    head = task.head(model, HeadOptions(label_smoothing=0.1))
    optimizer = make_optimizer(torch.optim.AdamW, model, head, lr=0.01)
    feed = Feed(prepared.train, task.batch, batch_size=64)

    schedule = linear(optimizer, total_steps=steps)
    for record in thalweg.fit(model, head, optimizer, feed, steps=steps, schedule=schedule):
        if record.step % 25 == 0:
            print(f"step {record.step}, epoch {feed.epoch_of(record.step):.2f}: loss {record.loss:.3f}")
    result = evaluate(task, model, head, prepared.valid)
    print(f"validation: loss {result.loss:.3f}, accuracy {result.metrics['accuracy']:.3f}")


if __name__ == "__main__":
    main()
