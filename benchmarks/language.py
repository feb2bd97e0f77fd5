"""Language models with and without a softmax over the vocabulary: exact perplexity, accuracy, and time.

    OMP_NUM_THREADS=1 python benchmarks/language.py                       # everything on the CPU: hours
    OMP_NUM_THREADS=1 python benchmarks/language.py --part words --sizes 10000 --heads softmax sampled   # minutes
    OMP_NUM_THREADS=1 python benchmarks/language.py --part bpe --bpe 4000 16000 --texts 16 --seconds 60   # equal time
    OMP_NUM_THREADS=1 python benchmarks/language.py --part time           # CPU time a step, V = 10k, 33k, 128k
    python benchmarks/language.py --device cuda --seeds 3                 # quality on a GPU, in minutes
    python benchmarks/language.py --quick                                 # see that it works; the figures mean nothing

- `words`: the next of the V most frequent words from the five words before, by a network with one hidden layer.
- `bpe`: the next of 8,000 subwords (`--bpe`) by a transformer with two layers that sees 64 of them; bits per byte, too,
  which can be compared between vocabularies.
- `time`: CPU time of a step of the first network, where words are drawn at random by Zipf's law.

All heads of a part have the same body, the same start, the same batches and the same number of steps, or with
`--seconds` the same time. Perplexity is exact for every head: normalized over the whole vocabulary, in the same unit.
All continuous heads get one number fitted on 4,096 training targets, which those need whose loss says nothing about
probabilities (`cosine`). Seconds are CPU seconds of training alone, on a GPU wall seconds. The text is a folder of
plain text files (also xz); of each the last twentieth is held out.
"""

import argparse
import copy
import itertools
import lzma
import math
import re
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from table import Row, write_json
from torch import Tensor, nn

from thalweg.batch import Batch
from thalweg.data.text.tokenizer import Tokenizer
from thalweg.heads.analytic import AnalyticSoftmax
from thalweg.heads.base import AbstractHead
from thalweg.heads.continuous import AbstractContinuous
from thalweg.heads.contrastive import Contrastive, SampledSoftmax
from thalweg.heads.distance import Cosine
from thalweg.heads.softmax import Softmax
from thalweg.heads.target_tables import random_table
from thalweg.heads.targets import Targets
from thalweg.heads.vmf import VonMisesFisher
from thalweg.models.presets import ModelOptions, ModelShape, causal_transformer
from thalweg.objective import Objective

HERE = Path(__file__).parent
DATA = HERE.parents[1] / "shared" / "data" / "gutenberg_nltk"
CONTEXT, WIDTH, HIDDEN, BATCH = 5, 128, 256, 512
TIME, TEXTS = 64, 64
LONGEST, TIMED_STEPS = 10**9, 5
WORD = re.compile(r"[a-z]+(?:'[a-z]+)?|[0-9]+|[^\sa-z0-9]")
PARTS = ("words", "bpe", "time")

Inputs = dict[str, Tensor]


class FiveWords(nn.Module):
    """Hidden states `[batch, WIDTH]` from the five words before: vectors side by side, one hidden layer."""

    def __init__(self, num_words: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_words, WIDTH)
        nn.init.normal_(self.embedding.weight, std=0.1)
        self.layers = nn.Sequential(nn.Linear(CONTEXT * WIDTH, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, WIDTH))

    def forward(self, words: Tensor) -> Tensor:
        """Return hidden states for ids `[batch, CONTEXT]`."""
        return self.layers(self.embedding(words).flatten(1))


def head_of(name: str, counts: Tensor, num_candidates: int) -> AbstractHead:
    """Return a head by its name in the table; all of them draw their start from the same seed."""
    torch.manual_seed(1)
    num = len(counts)
    start = random_table(num, WIDTH)
    trained = {"trainable": True, "counts": counts}
    trained_start = Targets(start, counts=counts).log_prior
    makers: dict[str, Callable[[], AbstractHead]] = {
        "softmax": lambda: Softmax(WIDTH, num),
        "softmax, unigram start": lambda: unigram_softmax(trained_start),
        "sampled": lambda: SampledSoftmax(None, Targets(start, **trained), num_samples=num_candidates),
        "contrastive": lambda: Contrastive(None, Targets(start, **trained)),
        "analytic trained": lambda: AnalyticSoftmax(None, Targets(start, **trained), shortlist=num_candidates),
        "analytic frozen": lambda: AnalyticSoftmax(None, Targets(start, counts=counts), shortlist=num_candidates),
        "vmf frozen": lambda: VonMisesFisher(None, Targets(start, counts=counts)),
        "cosine frozen": lambda: Cosine(None, Targets(start, counts=counts)),
    }
    return makers[name]()


def unigram_softmax(log_prior: Tensor | None) -> Softmax:
    """Return a softmax whose bias starts at the words' frequencies, as those of the continuous heads do."""
    assert log_prior is not None
    head = Softmax(WIDTH, len(log_prior))
    with torch.no_grad():
        head.output.bias.copy_(log_prior)
    return head


HEADS = (
    "softmax",
    "softmax, unigram start",
    "sampled",
    "contrastive",
    "analytic trained",
    "analytic frozen",
    "vmf frozen",
    "cosine frozen",
)


def words_of(folder: Path) -> tuple[list[str], list[str]]:
    """Return the training and the held-out words of all texts in a folder."""
    train, held_out = [], []
    for text in texts_of(folder):
        words = WORD.findall(text.lower())
        cut = int(len(words) * 0.95)
        train += words[:cut]
        held_out += words[cut:]
    return train, held_out


def texts_of(folder: Path) -> Iterator[str]:
    """Yield the texts of a folder."""
    paths = sorted([*folder.glob("*.txt"), *folder.glob("*.txt.xz")])
    if not paths:
        raise SystemExit(f"There are no texts (*.txt, *.txt.xz) in {folder}; give --data.")
    for path in paths:
        raw = path.read_bytes()
        yield (lzma.decompress(raw) if path.suffix == ".xz" else raw).decode("utf-8")


def word_ids(folder: Path, num: int) -> tuple[Tensor, Tensor]:
    """Return both parts as ids: 0 for rare words, then by frequency."""
    train, held_out = words_of(folder)
    ids = {word: place + 1 for place, (word, _) in enumerate(Counter(train).most_common(num - 1))}
    found = [torch.tensor([ids.get(word, 0) for word in part]) for part in (train, held_out)]
    return found[0], found[1]


def subword_ids(folder: Path, size: int) -> tuple[Tensor, Tensor, int, float]:
    """Return both parts as ids of subwords, how many different ones there are, and bytes a token held out."""
    pieces: tuple[list[str], list[str]] = ([], [])
    for text in texts_of(folder):
        lines = text.splitlines(keepends=True)
        cut = int(len(lines) * 0.95)
        pieces[0].extend(lines[:cut])
        pieces[1].extend(lines[cut:])
    tokenizer = Tokenizer.train(pieces[0], "bpe", size, min_count=2)
    train, held_out = (torch.from_numpy(tokenizer.encode_many(part)[0]).long() for part in pieces)
    return train, held_out, tokenizer.vocabulary_size, len("".join(pieces[1]).encode()) / len(held_out)


def word_batches(ids: Tensor, steps: int, seed: int) -> Iterator[tuple[Inputs, Tensor]]:
    """Yield batches of windows drawn at random."""
    windows = ids.unfold(0, CONTEXT + 1, 1)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        chosen = windows[torch.randint(len(windows), (BATCH,), generator=generator).to(ids.device)]
        yield {"words": chosen[:, :CONTEXT]}, chosen[:, CONTEXT]


def text_batches(ids: Tensor, steps: int, seed: int, num_texts: int = TEXTS) -> Iterator[tuple[Inputs, Tensor]]:
    """Yield batches of texts of TIME subwords, each to predict the next one."""
    generator = torch.Generator().manual_seed(seed)
    offsets = torch.arange(TIME + 1, device=ids.device)
    for _ in range(steps):
        starts = torch.randint(len(ids) - TIME - 1, (num_texts, 1), generator=generator).to(ids.device)
        chosen = ids[starts + offsets]
        yield {"tokens": chosen[:, :-1]}, chosen[:, 1:]


def held_out_words(ids: Tensor) -> list[tuple[Inputs, Tensor]]:
    """Return all windows in order."""
    windows = ids.unfold(0, CONTEXT + 1, 1)
    return [({"words": part[:, :CONTEXT]}, part[:, CONTEXT]) for part in windows.split(4096)]


def held_out_texts(ids: Tensor) -> list[tuple[Inputs, Tensor]]:
    """Return texts side by side, each token a target once."""
    num = (len(ids) - 1) // TIME
    tokens, targets = ids[: num * TIME].view(num, TIME), ids[1 : num * TIME + 1].view(num, TIME)
    return [({"tokens": a}, b) for a, b in zip(tokens.split(64), targets.split(64), strict=True)]


def clock(device: str) -> float:
    """Return CPU seconds, or on a GPU wall seconds after everything is done."""
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def train(body: nn.Module, head: AbstractHead, batches: Iterator[tuple[Inputs, Tensor]], steps: int, lr: float) -> None:
    """Train with AdamW: 50 steps of warm-up, then a cosine to zero."""
    parameters = [p for p in [*body.parameters(), *head.parameters()] if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.0, fused=True)
    scale = lambda step: min(1.0, (step + 1) / 50) * (0.5 + 0.5 * math.cos(math.pi * step / steps))  # noqa: E731
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, scale)
    for inputs, targets in batches:
        optimizer.step(Objective(body, head, [Batch(inputs, targets)]))
        schedule.step()


@torch.no_grad()
def quality(body: nn.Module, head: AbstractHead, batches: list[tuple[Inputs, Tensor]]) -> tuple[float, float]:
    """Return exact perplexity and accuracy in percent."""
    nats, right, num = 0.0, 0, 0
    for inputs, targets in batches:
        prediction = head(body(**inputs))
        nats -= float(head.log_probability(prediction, targets).double().sum())
        right += int((head.decode(prediction, 1)[0].squeeze(-1) == targets).sum())
        num += targets.numel()
    return math.exp(nats / num), 100.0 * right / num


def measure(part: str, name: str, seed: int, steps: int, options: argparse.Namespace, data: Any) -> dict[str, Any]:
    """Train one head and return its figures."""
    ids, held_out, num, bytes_per_token = data
    counts = torch.bincount(ids, minlength=num)
    torch.manual_seed(seed)
    if part == "words":
        body: nn.Module = FiveWords(num)
        batches, tests = word_batches(ids, steps, seed), held_out_words(held_out)
    else:
        body = causal_transformer(
            ModelShape(num, max_length=TIME), ModelOptions(width=WIDTH, hidden=4 * WIDTH, dropout=0.0)
        )
        batches, tests = text_batches(ids, LONGEST, seed, options.texts), held_out_texts(held_out)
    head = head_of(name, counts.cpu(), options.candidates)
    body.to(options.device)
    head.to(options.device)
    rate = options.lr if part == "words" else options.lr / 2
    if part == "bpe" and options.seconds:
        copies = copy.deepcopy(body), copy.deepcopy(head)
        took = 0.0
        for _ in range(2):  # the first steps of a process are slower
            begin = clock(options.device)
            train(*copies, text_batches(ids, TIMED_STEPS, seed, options.texts), TIMED_STEPS, rate)
            took = clock(options.device) - begin
        steps = max(TIMED_STEPS, round(options.seconds * TIMED_STEPS / took))
    begin = clock(options.device)
    train(body, head, itertools.islice(batches, steps), steps, rate)
    seconds = clock(options.device) - begin
    body.eval()
    head.eval()
    if isinstance(head, AbstractContinuous):
        some = [head(body(**inputs)).flatten(0, -2) for inputs, _ in _few(part, ids, seed)]
        targets = [targets.flatten() for _, targets in _few(part, ids, seed)]
        head.calibrate(torch.cat(some).detach(), torch.cat(targets))
    perplexity, accuracy = quality(body, head, tests)
    found = {"perplexity": perplexity, "accuracy": accuracy, "seconds": seconds, "steps": steps, "seed": seed}
    return found | ({"bits_per_byte": math.log2(perplexity) / bytes_per_token} if bytes_per_token else {})


def _few(part: str, ids: Tensor, seed: int) -> Iterator[tuple[Inputs, Tensor]]:
    return word_batches(ids, 8, seed + 1000) if part == "words" else text_batches(ids, 1, seed + 1000)


def compare(part: str, num: int, options: argparse.Namespace, data: Any) -> list[Row]:
    """Train all heads on all seeds and return their rows."""
    steps = options.steps if part == "words" else options.subword_steps
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in options.heads}
    for seed in range(options.seeds):
        for name in options.heads:
            runs[name].append(measure(part, name, seed, steps, options, data))
            print(f"  {part} V={num} {name} seed {seed}: {runs[name][-1]}", flush=True)
    if "sampled" in runs and "softmax" in runs and options.equal_time:
        ratio = _mean(runs["softmax"], "seconds") / _mean(runs["sampled"], "seconds")
        longer = round(steps * ratio)
        runs["sampled, equal time"] = [measure(part, "sampled", s, longer, options, data) for s in range(options.seeds)]
    rows = []
    base = runs.get("softmax")
    for name, results in runs.items():
        details: dict[str, Any] = {"runs": results}
        units = {"perplexity": "exact", "bits_per_byte": "exact", "accuracy": "% next one", "seconds": "s of training"}
        for key, unit in units.items():
            if key not in results[0]:
                continue
            rows.append(Row(part, f"V={num} {name}: {key}", _mean(results, key), unit, details=details))
            details = {}
        if "bits_per_byte" in results[0] and len(results) > 1:
            spread = statistics.stdev(result["bits_per_byte"] for result in results)
            rows.append(Row(part, f"V={num} {name}: bits_per_byte, spread", spread, f"of {len(results)} seeds"))
        if base and name != "softmax":
            rows.append(_ratio(part, num, name, "perplexity", results, base, 1.01))
            rows.append(_ratio(part, num, name, "seconds", results, base, {10_000: 0.3, 128_000: 0.1}.get(num)))
    return rows


def _ratio(part: str, num: int, name: str, key: str, results: list, base: list, most: float | None) -> Row:
    ratio = _mean(results, key) / _mean(base, key)
    aimed = name == "sampled" and most is not None
    return Row(part, f"V={num} {name}: {key}", ratio, "of softmax's", f"<={most:g}" if aimed and most else "",
               ratio <= most if aimed and most else None)  # fmt: skip


def _mean(results: list[dict[str, Any]], key: str) -> float:
    return statistics.fmean(result[key] for result in results)


def time_steps(num: int, options: argparse.Namespace) -> list[Row]:
    """Time steps of all heads in turn, and return the median and its ratio to softmax."""
    frequencies = 1.0 / torch.arange(1, num + 1)
    torch.manual_seed(0)
    words = torch.multinomial(frequencies, BATCH * (CONTEXT + 1), replacement=True).view(BATCH, -1)
    counts = (1e6 * frequencies / frequencies.sum()).long()
    kept = [name for name in options.heads if name in HEADS]
    heads = {name: head_of(name, counts, options.candidates) for name in kept}
    bodies = {name: FiveWords(num) for name in kept}
    optimizers = {
        name: torch.optim.AdamW([*bodies[name].parameters(), *heads[name].parameters()], lr=1e-3, fused=True)
        for name in kept
    }
    times: dict[str, list[float]] = {name: [] for name in kept}
    batch = Batch({"words": words[:, :CONTEXT]}, words[:, CONTEXT])
    for repeat in range(options.repeats + 1):
        for name in kept:
            begin = time.process_time()
            optimizers[name].step(Objective(bodies[name], heads[name], [batch]))
            if repeat:
                times[name].append(time.process_time() - begin)
    rows = []
    for name in kept:
        middle = statistics.median(times[name])
        rows.append(Row("time", f"V={num} {name}: a step", 1e3 * middle, "ms CPU"))
        if name != "softmax" and "softmax" in times:
            ratio = statistics.median(a / b for a, b in zip(times[name], times["softmax"], strict=True))
            most = {10_000: 0.3, 128_000: 0.1}.get(num) if name == "sampled" else None
            rows.append(Row("time", f"V={num} {name}: a step", ratio, "of softmax's",
                            f"<={most:g}" if most else "", ratio <= most if most else None))  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of texts")
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--sizes", nargs="+", type=int, default=[10_000, 33_000], help="words in the vocabulary")
    parser.add_argument("--bpe", nargs="+", type=int, default=[8000], help="subwords in the vocabulary")
    parser.add_argument("--heads", nargs="+", choices=HEADS, default=list(HEADS))
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--subword-steps", type=int, default=3000)
    parser.add_argument("--texts", type=int, default=TEXTS, help="texts of 64 subwords in a step")
    parser.add_argument("--seconds", type=float, default=0.0, help="of training with subwords, in place of steps")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--candidates", type=int, default=512, help="words that stand for all in a step")
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--repeats", type=int, default=7, help="of timed steps")
    parser.add_argument("--equal-time", action="store_true", help="also train `sampled` as long as softmax takes")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "language.json")
    options = parser.parse_args()
    if options.quick:
        options.steps = options.subword_steps = 20
        options.sizes, options.bpe, options.repeats = [1000], [1000], 2
    rows: list[Row] = []
    if "words" in options.part:
        for num in options.sizes:
            ids, held_out = (part.to(options.device) for part in word_ids(options.data, num))
            rows += compare("words", num, options, (ids, held_out, num, 0.0))
    for size in options.bpe if "bpe" in options.part else []:
        ids, held_out, num, bytes_per_token = subword_ids(options.data, size)
        data = ids.to(options.device), held_out.to(options.device), num, bytes_per_token
        rows += compare("bpe", num, options, data)
    if "time" in options.part and options.device == "cpu":
        for num in [1000] if options.quick else [10_000, 33_000, 128_000]:
            rows += time_steps(num, options)
    print("\n".join(row.line() for row in rows))
    write_json(options.out, rows, seeds=options.seeds, steps=options.steps, candidates=options.candidates)


if __name__ == "__main__":
    main()
