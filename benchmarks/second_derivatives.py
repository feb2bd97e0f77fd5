"""Does the self-check refuse what is right, or let through what is wrong? Random ordinary models, and planted faults.

    OMP_NUM_THREADS=1 python benchmarks/second_derivatives.py                # 300 models, some minutes
    OMP_NUM_THREADS=1 python benchmarks/second_derivatives.py --models 30    # fewer

Each model is asked for a product with its Hessian and with its Gauss-Newton matrix: both must come. Then a function
with a derivative that is wrong by some percent is planted behind one of its modules: the Hessian must refuse a wrong
first and a wrong second derivative, Gauss-Newton a wrong first one, unless the fault changes the product by less than a
hundred-thousandth. Models of Hugging Face are built from their configurations and need `transformers`.
"""

import argparse
import collections
import contextlib
import random
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, final

import torch
from table import Row, write_json
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from thalweg.batch import Batch
from thalweg.curvature import CurvatureError, GaussNewton, Hessian
from thalweg.heads.softmax import Softmax
from thalweg.heads.squared import Squared
from thalweg.objective import Objective

RESULTS = Path(__file__).parent / "results" / "second_derivatives.json"
VOCABULARY = 40
SIZES = (0.01, 0.03, 0.1, 1.0)
NOTHING = 1e-5  # a fault that changes a product by less than this share of it is none


@final
class WrongFirst(torch.autograd.Function):
    """A bent line whose gradient is too large by a share."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, size: float) -> Tensor:
        """Return `x + sin(x + 1) / 2`."""
        ctx.save_for_backward(x)
        ctx.size = size
        return x + 0.5 * (x + 1.0).sin()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        """Return what is wrong."""
        (x,) = ctx.saved_tensors
        return grads[0] * (1.0 + 0.5 * (x + 1.0).cos()) * (1.0 + ctx.size), None


@final
class WrongSecond(torch.autograd.Function):
    """A bent line whose gradient is right and whose second derivative is too large by a share."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, size: float) -> Tensor:
        """Return `x + sin(x + 1) / 2`."""
        ctx.save_for_backward(x)
        ctx.size = size
        return x + 0.5 * (x + 1.0).sin()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        """Return what is right, with a derivative that is not."""
        (x,) = ctx.saved_tensors
        slope = 1.0 + 0.5 * (x + 1.0).cos()
        return grads[0] * (slope + ctx.size * (slope - slope.detach())), None


@final
class TextCNN(nn.Module):
    """Words, convolutions of several widths, the largest of each over time; padding is not masked."""

    def __init__(self, draw: random.Random) -> None:
        super().__init__()
        size, filters = draw.choice([4, 8, 12]), draw.choice([3, 6, 10])
        self.table = nn.Embedding(VOCABULARY, size, padding_idx=draw.choice([0, None, 0]))
        self.convolutions = nn.ModuleList(nn.Conv1d(size, filters, k) for k in draw.choice([(2, 3), (3,), (2, 3, 4)]))
        self.norm = draw.choice([nn.Identity, lambda: nn.BatchNorm1d(filters)])()
        self.activation, self.mean = draw.choice([nn.ReLU, nn.GELU, nn.Tanh, nn.LeakyReLU])(), draw.random() < 0.3
        self.width = filters * len(self.convolutions)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Return features [n, width]."""
        del mask
        x = self.table(tokens).transpose(1, 2)
        parts = [self.activation(self.norm(convolution(x))) for convolution in self.convolutions]
        return torch.cat([part.mean(2) if self.mean else part.amax(2) for part in parts], 1)


@final
class Recurrent(nn.Module):
    """Words, an LSTM or a GRU, and its last, mean or largest state; packed, or with padding at the end."""

    def __init__(self, draw: random.Random) -> None:
        super().__init__()
        size, hidden = draw.choice([4, 6]), draw.choice([4, 5])
        self.table = nn.Embedding(VOCABULARY, size, padding_idx=draw.choice([0, 0, None]))
        both = draw.random() < 0.5
        kind: Any = draw.choice([nn.LSTM, nn.GRU, nn.RNN])
        self.layers = kind(size, hidden, draw.choice([1, 2]), batch_first=True, bidirectional=both)
        self.packed, self.pool = draw.random() < 0.5, draw.choice(["last", "mean", "max"])
        self.width = hidden * (1 + both)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Return features [n, width]."""
        x = self.table(tokens)
        if self.packed:
            packed = pack_padded_sequence(x, mask.sum(1).cpu(), batch_first=True, enforce_sorted=False)
            states, _ = pad_packed_sequence(self.layers(packed)[0], batch_first=True)
        else:
            states, _ = self.layers(x)
        return {"last": states[:, -1], "mean": states.mean(1), "max": states.amax(1)}[self.pool]


@final
class Encoder(nn.Module):
    """Words, PyTorch's own transformer encoder, and the mean."""

    def __init__(self, draw: random.Random) -> None:
        super().__init__()
        self.width = draw.choice([4, 8])
        self.table = nn.Embedding(VOCABULARY, self.width, padding_idx=draw.choice([0, 0, None]))
        settings: Any = {"activation": draw.choice(["relu", "gelu"]), "norm_first": draw.random() < 0.5}
        layer = nn.TransformerEncoderLayer(self.width, 2, 16, dropout=0.0, batch_first=True, **settings)
        self.layers = nn.TransformerEncoder(layer, draw.choice([1, 2]), enable_nested_tensor=False)
        self.masked = draw.random() < 0.7

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Return features [n, width]."""
        return self.layers(self.table(tokens), src_key_padding_mask=~mask if self.masked else None).mean(1)


@final
class TiedLanguageModel(nn.Module):
    """An LSTM whose output layer is its table of words, with padding."""

    def __init__(self, draw: random.Random) -> None:
        super().__init__()
        size = draw.choice([4, 6])
        self.table = nn.Embedding(VOCABULARY, size, padding_idx=0)
        self.layers = nn.LSTM(size, size, batch_first=True)
        self.output = nn.Linear(size, VOCABULARY)
        self.output.weight = self.table.weight

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Return logits [n, time, words]."""
        del mask
        return self.output(self.layers(self.table(tokens))[0])


@final
class HuggingFace(nn.Module):
    """A model of Hugging Face made from its configuration; hidden states are averaged, logits are logits."""

    def __init__(self, draw: random.Random, kind: str) -> None:
        super().__init__()
        import transformers as hf

        act = draw.choice(["relu", "gelu", "gelu_new", "silu"])
        layers = draw.choice([1, 2])
        size = {"vocab_size": VOCABULARY, "attn_implementation": draw.choice(["eager", "sdpa"])}
        if kind == "bert":
            config = hf.BertConfig(
                hidden_size=8, num_hidden_layers=layers, num_attention_heads=2, intermediate_size=16,
                hidden_act=act, max_position_embeddings=32, **size,
            )  # fmt: skip
            self.body: Any = hf.BertModel(config, add_pooling_layer=False)
        elif kind == "distilbert":
            config = hf.DistilBertConfig(
                dim=8, n_layers=layers, n_heads=2, hidden_dim=16, activation=draw.choice(["relu", "gelu"]),
                max_position_embeddings=32, **size,
            )  # fmt: skip
            self.body = hf.DistilBertModel(config)
        elif kind == "t5":
            config = hf.T5Config(
                d_model=8, d_kv=4, d_ff=16, num_layers=layers, num_heads=2, vocab_size=VOCABULARY,
                feed_forward_proj=draw.choice(["relu", "gated-gelu"]),
            )  # fmt: skip
            self.body = hf.T5EncoderModel(config)
        else:
            config = hf.GPT2Config(n_embd=8, n_layer=layers, n_head=2, n_positions=32, activation_function=act, **size)
            self.body = (hf.GPT2LMHeadModel if kind == "gpt2-lm" else hf.GPT2Model)(config)
        self.width = VOCABULARY if kind == "gpt2-lm" else 8
        self.eval()

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Return features [n, width], or logits [n, time, words]."""
        result = self.body(input_ids=tokens, attention_mask=mask.long())
        if "logits" in result:
            return result.logits
        states, real = result.last_hidden_state, mask.unsqueeze(-1)
        return (states * real).sum(1) / real.sum(1)


@final
class Perceptron(nn.Module):
    """Words' vectors next to each other, linear layers with normalization and kinks."""

    def __init__(self, draw: random.Random, time: int) -> None:
        super().__init__()
        size, self.width = 3, draw.choice([6, 10])
        self.table = nn.Embedding(VOCABULARY, size, padding_idx=0)
        normalization: Any = draw.choice([nn.BatchNorm1d, nn.LayerNorm, nn.Identity])
        activation = draw.choice([nn.ReLU, nn.GELU, nn.LeakyReLU, nn.Hardtanh, nn.SELU])
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(size * time, 12), normalization(12), activation(), nn.Linear(12, self.width),
            activation(),
        )  # fmt: skip

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Return features [n, width]."""
        del mask
        return self.layers(self.table(tokens))


FAMILIES: dict[str, Callable[[random.Random, int], nn.Module]] = {
    "text CNN": lambda draw, _: TextCNN(draw),
    "recurrent": lambda draw, _: Recurrent(draw),
    "encoder": lambda draw, _: Encoder(draw),
    "tied LSTM language model": lambda draw, _: TiedLanguageModel(draw),
    "perceptron": Perceptron,
}
HUGGING_FACE = ("bert", "distilbert", "t5", "gpt2", "gpt2-lm")


def objective(family: str, seed: int) -> Objective:
    """Return a random model of a family, with a random batch that has padding."""
    draw = random.Random(f"{family} {seed}")
    torch.manual_seed(seed)
    n, time = draw.choice([4, 8, 30]), draw.choice([6, 9])
    network = HuggingFace(draw, family) if family in HUGGING_FACE else FAMILIES[family](draw, time)
    mask = torch.arange(time)[None] < torch.randint(2, time + 1, (n, 1))
    mask[0] = True
    tokens = torch.randint(1, VOCABULARY, (n, time)).masked_fill(~mask, 0)
    batch = {"tokens": tokens, "mask": mask}
    if family not in HUGGING_FACE:
        network.train(draw.random() < 0.5)
    if family in ("tied LSTM language model", "gpt2-lm"):
        made = Objective(network, Softmax(None, None), [Batch(batch, tokens.roll(-1, 1), mask)])
    elif draw.random() < 0.3:
        made = Objective(network, Squared(int(network.width), 2), [Batch(batch, torch.randn(n, 2))], l2=0.01)
    else:
        made = Objective(network, Softmax(int(network.width), 3), [Batch(batch, torch.randint(3, (n,)))])
    for module in (made.model, made.head):
        module.to(torch.float64 if seed % 5 == 4 else torch.float32)
    if seed % 5 == 4:
        made = made.copied(torch.float64)
    optimizer = torch.optim.Adam(made.parameters, lr=1e-2)
    for _ in range(draw.choice([0, 0, 20])):
        optimizer.step(made)
    return made


@contextlib.contextmanager
def planted(made: Objective, wrong: Any, size: float, seed: int) -> Iterator[str | None]:
    """Plant a function behind a module, with a wrong derivative; yield the module's name, or None if none matters."""
    draw = random.Random(seed)
    names = [name for name, module in made.model.named_modules() if name and not list(module.children())]
    draw.shuffle(names)
    start = float(made.value())
    for name in names:
        module = made.model.get_submodule(name)

        def after(module: nn.Module, args: Any, output: Any) -> Any:
            del module, args
            return wrong.apply(output, size) if isinstance(output, Tensor) and output.is_floating_point() else output

        handle = module.register_forward_hook(after)
        try:
            if float(made.value()) != start:
                yield name
                return
        finally:
            handle.remove()
    yield None


def effect(made: Objective, make: Any, wrong: Any, seed: int, size: float) -> float:
    """Return what a fault changes of a product with a random vector, as a share of it, in float64."""
    wide, sides = made.copied(torch.float64), []
    for each in (size, 0.0):
        with planted(wide, wrong, each, seed):
            operator = make(wide, check=False)
            vector = torch.randn(operator.size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
            sides.append(operator @ vector)
    return float((sides[0] - sides[1]).norm() / sides[1].norm())


def refusal(make: Any, made: Objective) -> str:
    """Return why a product was refused, or nothing."""
    operator = make(made)
    try:
        operator @ torch.zeros(operator.size, dtype=operator.dtype)
    except CurvatureError as error:
        return str(error)
    return ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=300)
    parser.add_argument("--first", type=int, default=0, help="seed of the first model of each family")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", DeprecationWarning)
    families = list(FAMILIES)
    try:
        import transformers  # noqa: F401

        families += HUGGING_FACE
    except ImportError:
        print("transformers is missing: its models are left out")
    counts: dict[str, collections.Counter[str]] = {family: collections.Counter() for family in families}
    start = time.process_time()
    for number in range(arguments.models):
        family, seed = families[number % len(families)], arguments.first + number // len(families)
        made, count = objective(family, seed), counts[family]
        count["models"] += 1
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always", UserWarning)
            for make in (Hessian, GaussNewton):
                reason = refusal(make, made)
                count["refused"] += bool(reason)
                if reason:
                    print(f"  refused: {family} {seed} {make.__name__}: {reason}", flush=True)
        unchecked = [str(one.message) for one in told if "could not be checked" in str(one.message)]
        count["unchecked"] += len(unchecked)
        if unchecked:
            print(f"  unchecked: {family} {seed}", flush=True)
        size = SIZES[seed % len(SIZES)]
        for wrong, make in ((WrongSecond, Hessian), (WrongFirst, Hessian), (WrongFirst, GaussNewton)):
            share = effect(made, make, wrong, number, size)
            if share < NOTHING:
                count["without effect"] += 1
                continue
            with planted(made, wrong, size, number) as name:
                if name is None:
                    continue
                reason = refusal(make, made)
                count["planted"] += 1
                count["missed"] += not reason
                count["named"] += f"'{name}'" in reason
                if not reason:
                    print(
                        f"  missed: {family} {seed} {wrong.__name__} {make.__name__} {size} in {name}: {share:.0e}",
                        flush=True,
                    )
    rows = []
    for family, count in counts.items():
        details = dict(count)
        for what in ("refused", "missed"):
            of = 2 * count["models"] if what == "refused" else count["planted"]
            rows.append(Row(family, f"{what}, of {of}", count[what], "", "= 0", count[what] == 0, details=details))
        rows.append(Row(family, f"could not be checked, of {2 * count['models']}", count["unchecked"], ""))
        rows.append(Row(family, f"faults named by their module, of {count['planted']}", count["named"], ""))
    for row in rows:
        print(row.line())
    print(f"{time.process_time() - start:.0f} CPU s")
    write_json(arguments.out, rows, threads=1, models=arguments.models)
    print(f"written to {arguments.out}")


if __name__ == "__main__":
    main()
