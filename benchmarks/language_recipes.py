"""Language models within one budget of CPU time: thalweg's defaults beside two well-known recipes, in bits per byte.

    nice -n 5 env OMP_NUM_THREADS=1 python benchmarks/language_recipes.py train.txt test.txt --seconds 60

- `thalweg`: `thalweg.train` with its defaults, with other rates and optimizers, and with `--carry 1`.
- `word_language_model`: the LSTM of PyTorch's examples: two layers of 200 units, tied, dropout 0.2, parallel streams
  whose state is carried over, chunks of 35, SGD at the rate 20, clipped at 0.25, a quarter of the rate after each epoch
  whose validation loss is no better than the best.
- `nanoGPT`: its decoder for Shakespeare on a CPU: four layers of width 128, chunks of 64, batches of 12, no dropout,
  AdamW at 1e-3 (betas 0.9 and 0.99, decay 0.1), warm-up over 100 steps, a cosine to a tenth; of characters, and of the
  subwords that thalweg reads.

Seconds are CPU seconds of training, of one thread; a recipe with a schedule knows how many steps fit into them, from
some steps that are timed before. All learn from the whole training text, but for the LSTM of the examples, which looks
at the first 5 % of it to choose its rate. (The last 5 % would be nearest to the test text, and cost it more.) Bits per
byte are of the test text, at the end of training, so that nothing is chosen by it: of chunks one after the other, of
the LSTM of the examples with its state carried through ten streams, as it is there.
"""

import argparse
import dataclasses
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from table import Row, write_json
from torch import Tensor, nn

import thalweg
from thalweg.data.text.tokenizer import Tokenizer

TIMED_STEPS = 12
SHARE = 0.05  # of the training text that is validation, for those who need some
VOCABULARY = 4000


@dataclasses.dataclass(frozen=True)
class Texts:
    """Both texts as ids of one tokenizer, and the bytes of the test text."""

    train: Tensor
    test: Tensor
    size: int
    num_bytes: int

    def bits_per_byte(self, nats: float, num: int) -> float:
        """Return bits per byte for summed nats of `num` tokens of the test text."""
        return nats / num / math.log(2) * (len(self.test) - 1) / self.num_bytes


def read(train: Path, test: Path, kind: str) -> Texts:
    """Return the texts as ids, by a tokenizer that is learned from the training text as thalweg's is."""
    parts = [path.read_text(encoding="utf-8").splitlines(keepends=True) for path in (train, test)]
    tokenizer = Tokenizer.train(parts[0], kind, VOCABULARY, min_count=50 if kind == "bpe" else 1)
    begin = np.array([tokenizer.begin])
    ids = [torch.from_numpy(np.concatenate([begin, tokenizer.encode_many(part)[0]])).long() for part in parts]
    return Texts(ids[0], ids[1], tokenizer.vocabulary_size, len("".join(parts[1]).encode()))


class WordLanguageModel(nn.Module):
    """Scores for the next token from an LSTM whose state is given and returned; ids are `[time, batch]`."""

    def __init__(self, size: int, width: int = 200, layers: int = 2, dropout: float = 0.2) -> None:
        super().__init__()
        self.drop, self.table = nn.Dropout(dropout), nn.Embedding(size, width)
        self.lstm = nn.LSTM(width, width, layers, dropout=dropout)
        self.output = nn.Linear(width, size)
        self.output.weight = self.table.weight
        nn.init.uniform_(self.table.weight, -0.1, 0.1)
        nn.init.zeros_(self.output.bias)

    def forward(self, ids: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Return the scores `[time, batch, size]` and the state after them."""
        hidden, state = self.lstm(self.drop(self.table(ids)), state)
        return self.output(self.drop(hidden)), state


def streams(ids: Tensor, num: int) -> Tensor:
    """Return a text as parallel streams, `[time, num]`."""
    length = len(ids) // num
    return ids[: length * num].view(num, length).t().contiguous()


def chunks_of(text: Tensor, length: int = 35) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the chunks of some streams in their order, and the token after each of theirs."""
    for start in range(0, len(text) - 1, length):
        end = min(start + length, len(text) - 1)
        yield text[start:end], text[start + 1 : end + 1]


def word_language_model(texts: Texts, seconds: float, seed: int) -> tuple[float, dict[str, Any]]:
    """Train as PyTorch's example does, until the time is over; return bits per byte and what was done."""
    torch.manual_seed(seed)
    model = WordLanguageModel(texts.size)
    cut = round(SHARE * len(texts.train))
    train, valid = streams(texts.train[cut:], 20), streams(texts.train[:cut], 10)
    rate, best, kept = 20.0, math.inf, None
    begin, steps, parts = time.process_time(), 0, list(chunks_of(train))

    @torch.no_grad()
    def loss(text: Tensor) -> tuple[float, int]:
        model.eval()
        state, nats, num = None, 0.0, 0
        for ids, following in chunks_of(text):
            scores, state = model(ids, state)
            nats += float(F.cross_entropy(scores.flatten(0, 1), following.flatten(), reduction="sum"))
            num += following.numel()
        model.train()
        return nats, num

    def is_over() -> bool:
        return time.process_time() - begin >= seconds

    while not is_over():
        state = None
        for ids, following in parts:
            state = None if state is None else tuple(part.detach() for part in state)
            model.zero_grad()
            scores, state = model(ids, state)
            F.cross_entropy(scores.flatten(0, 1), following.flatten()).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.25)
            with torch.no_grad():
                for parameter in model.parameters():
                    assert parameter.grad is not None
                    parameter -= rate * parameter.grad
            steps += 1
            if is_over():
                break
        nats, num = loss(valid)
        if nats / num < best:
            best, kept = nats / num, {name: value.clone() for name, value in model.state_dict().items()}
        else:
            rate /= 4.0
    took = time.process_time() - begin
    if kept is not None:
        model.load_state_dict(kept)
    return texts.bits_per_byte(*loss(streams(texts.test, 10))), {
        "seconds": took,
        "steps": steps,
        "epochs": steps / len(parts),
    }


class Block(nn.Module):
    """Attention to the tokens before, then two linear layers, each added to what it reads."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(width, bias=False) for _ in range(2))
        self.mix, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the next states `[batch, time, width]`."""
        parts = self.mix(self.norms[0](x)).chunk(3, -1)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norms[1](x))))


class NanoGPT(nn.Module):
    """Scores for the next token `[batch, time, size]`; the output layer is the table of tokens."""

    def __init__(self, size: int, width: int = 128, layers: int = 4, heads: int = 4, length: int = 64) -> None:
        super().__init__()
        self.table, self.places = nn.Embedding(size, width), nn.Embedding(length, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(width, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                last = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * layers) if last else 0.02)

    def forward(self, ids: Tensor) -> Tensor:
        """Return the scores."""
        x = self.blocks(self.table(ids) + self.places.weight[: ids.shape[1]])
        return self.norm(x) @ self.table.weight.t()


def nano_gpt(texts: Texts, seconds: float, seed: int) -> tuple[float, dict[str, Any]]:
    """Train as nanoGPT does on a CPU, as many steps as fit; return bits per byte and what was done."""
    length, batch, rate = 64, 12, 1e-3
    torch.manual_seed(seed)
    model = NanoGPT(texts.size)
    groups = [
        {"params": [p for p in model.parameters() if p.dim() >= 2], "weight_decay": 0.1},
        {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.99), fused=True)

    def step(scale: float) -> None:
        starts = torch.randint(len(texts.train) - length, (batch, 1))
        ids = texts.train[starts + torch.arange(length + 1)]
        for group in optimizer.param_groups:
            group["lr"] = rate * scale
        optimizer.zero_grad()
        F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    begin = time.process_time()
    for _ in range(TIMED_STEPS):  # at a rate of nothing
        step(0.0)
    each = (time.process_time() - begin) / TIMED_STEPS
    steps = max(1, round(seconds / each))
    begin = time.process_time()
    for number in range(steps):
        share = (number - 100) / max(1, steps - 100)
        step((number + 1) / 100 if number < 100 else 0.1 + 0.45 * (1.0 + math.cos(math.pi * share)))
    took, epochs = time.process_time() - begin, steps * batch * length / len(texts.train)
    nats, num = 0.0, 0
    with torch.no_grad():
        for start in range(0, len(texts.test) - 1, length):
            ids = texts.test[None, start : start + length + 1]
            nats += float(F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten(), reduction="sum"))
            num += ids.shape[1] - 1
    return texts.bits_per_byte(nats, num), {"seconds": took, "steps": steps, "epochs": epochs}


def ours(train: Path, test: Path, seconds: float, seed: int, **options: Any) -> tuple[float, dict[str, Any]]:
    """Train with thalweg, as many steps as fit; return bits per byte and what was done."""

    def trained(steps: int, folder: str) -> tuple[float, Any]:
        given = {"task": "language", "valid": test, "evaluate_every": steps, "seed": seed, "steps": steps, **options}
        begin = time.process_time()
        run = thalweg.train(train, out=folder, **given)
        return time.process_time() - begin, run

    with tempfile.TemporaryDirectory() as folder:
        # The first run loads code; what a run takes beside its steps, an evaluation too, counts.
        times = [trained(steps, f"{folder}/{place}")[0] for place, steps in enumerate((2, 4, 4 + 2 * TIMED_STEPS))]
        each = (times[2] - times[1]) / (2 * TIMED_STEPS)
        steps = max(1, round((seconds - times[1]) / each))
        took, run = trained(steps, f"{folder}/run")
        epochs = run.result["steps"] / run.result["steps_per_epoch"]
        found = run.result["metrics"]
        return found["bits_per_byte"], {"seconds": took, "steps": steps, "epochs": epochs}


def recipes(train: Path, test: Path) -> dict[str, Callable[[float, int], tuple[float, dict[str, Any]]]]:
    """Return what trains each recipe, from seconds and seed to bits per byte and what was done."""

    def of(**options: Any) -> Callable[[float, int], tuple[float, dict[str, Any]]]:
        return lambda seconds, seed: ours(train, test, seconds, seed, **options)

    subwords = lambda: read(train, test, "bpe")  # noqa: E731
    return {
        "thalweg": of(),
        "thalweg --lr 0.003": of(lr=0.003),
        "thalweg --lr 0.006": of(lr=0.006),
        "thalweg --lr 0.02": of(lr=0.02),
        "thalweg --lr 0.04": of(lr=0.04),
        "thalweg --carry 1": of(carry=1),
        "thalweg --max-length 128 --batch-size 8": of(max_length=128, batch_size=8),
        "thalweg --optimizer adamw --lr 0.01": of(optimizer="adamw", lr=0.01),
        "thalweg --model transformer": of(model="transformer"),
        "thalweg --tokenizer char": of(tokenizer="char"),
        "word_language_model": lambda seconds, seed: word_language_model(subwords(), seconds, seed),
        "nanoGPT, subwords": lambda seconds, seed: nano_gpt(subwords(), seconds, seed),
        "nanoGPT, characters": lambda seconds, seed: nano_gpt(read(train, test, "char"), seconds, seed),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path, help="text to learn from")
    parser.add_argument("test", type=Path, help="text to measure on")
    parser.add_argument("--seconds", type=float, default=480.0, help="CPU seconds a recipe")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", nargs="+", help="names of recipes, or the beginnings of some")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "language_recipes.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = recipes(options.train, options.test)
    wanted = [name for name in found if not options.only or name in options.only]
    rows = []
    for name in wanted:
        runs = [found[name](options.seconds, seed) for seed in range(options.seeds)]
        bits = [one for one, _ in runs]
        details = {"bits_per_byte": bits, "runs": [about for _, about in runs]}
        rows.append(Row("language", name, float(np.mean(bits)), "bits per byte", details=details))
        last = runs[-1][1]
        print(
            f"{rows[-1].line()} {last['seconds']:.0f} s, {last['steps']} steps, {last['epochs']:.2f} epochs", flush=True
        )
        write_json(options.out, rows, seconds=options.seconds, seeds=options.seeds, train=options.train.name)


if __name__ == "__main__":
    main()
