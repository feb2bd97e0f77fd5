"""One table of objectives: models x heads x batches; every operator must be right on all of them."""

import types

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from thalweg.batch import Batch
from thalweg.heads.bernoulli import Bernoulli
from thalweg.heads.softmax import Softmax
from thalweg.heads.squared import Squared
from thalweg.models import pool
from thalweg.models.bag import Bag
from thalweg.models.mlp import MLP
from thalweg.models.presets import (
    ModelOptions,
    ModelShape,
    causal_transformer,
    pooled_gru,
    pooled_lstm,
    pooled_transformer,
)
from thalweg.models.pretrained import Pretrained
from thalweg.objective import Objective

SMALL = ModelOptions(width=4, hidden=5, layers=1, heads=2, dropout=0.0)
WORDS = ModelShape(vocabulary_size=7, max_length=6)


def numbers(n=9):
    return {"x": torch.randn(n, 3)}


def tokens(n=4, time=5):
    mask = torch.arange(time)[None] < torch.randint(1, time + 1, (n, 1))
    return {"tokens": torch.randint(1, 7, (n, time)).masked_fill(~mask, 0), "mask": mask}


def bags(n=4):
    offsets = torch.tensor([0, 3, 3, 5][:n])  # the second is empty
    return {"tokens": torch.randint(7, (8,)), "offsets": offsets, "weights": torch.rand(8)}


class Keyword(nn.Module):
    """A module of one positional input as a model of the keyword `x`."""

    def __init__(self, body, width):
        super().__init__()
        self.body, self.width = body, width

    def forward(self, x):
        return self.body(x)


class Checkpointed(nn.Module):
    def __init__(self, use_reentrant=False):
        super().__init__()
        self.first, self.second, self.width = nn.Linear(3, 4), nn.Sequential(nn.Tanh(), nn.LayerNorm(4)), 4
        self.use_reentrant = use_reentrant

    def forward(self, x):
        return checkpoint(self.second, self.first(x), use_reentrant=self.use_reentrant)


class TorchBag(nn.Module):
    """PyTorch's own bag, in any mode, sparse or not."""

    def __init__(self, mode, **options):
        super().__init__()
        self.bag, self.width = nn.EmbeddingBag(7, 3, mode=mode, **options), 3

    def forward(self, tokens, offsets, weights):
        return torch.tanh(self.bag(tokens, offsets, weights if self.bag.mode == "sum" else None))


class PaddedBag(nn.Module):
    """Bags of one length, without offsets, with padding."""

    def __init__(self):
        super().__init__()
        self.bag, self.width = nn.EmbeddingBag(7, 3, mode="mean", padding_idx=0), 3

    def forward(self, tokens, mask):
        return torch.tanh(self.bag(tokens))


class Table(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.table, self.width = nn.Embedding(7, 3, **options), 3

    def forward(self, tokens, mask):
        return pool.mean(torch.tanh(self.table(tokens)), mask)


class TorchAttention(nn.Module):
    """PyTorch's own attention and encoder layer, in evaluation mode, where it takes its fast path."""

    def __init__(self):
        super().__init__()
        self.table, self.width = nn.Embedding(7, 4), 4
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.layer = nn.TransformerEncoderLayer(4, 2, 5, dropout=0.0, batch_first=True)
        self.eval()

    def forward(self, tokens, mask):
        x = self.table(tokens)
        return self.layer(x + self.attention(x, x, x, need_weights=False)[0]).mean(1)


class HuggingFaceLike(nn.Module):
    """What the interface of a pretrained encoder looks like: keywords in, an object with hidden states out."""

    def __init__(self):
        super().__init__()
        self.config = types.SimpleNamespace(hidden_size=4)
        self.embeddings, self.query = nn.Embedding(7, 4), nn.Linear(4, 4)
        self.norm = nn.LayerNorm(4)
        self.register_buffer("scale", torch.ones(4))

    def forward(self, input_ids, attention_mask):
        x = self.embeddings(input_ids) * self.scale
        q = self.query(x).unsqueeze(1)
        x = x + F.scaled_dot_product_attention(q, q, q, attn_mask=attention_mask.bool()[:, None, None]).squeeze(1)
        return types.SimpleNamespace(last_hidden_state=self.norm(x))


def layer_norm_net():
    return Keyword(nn.Sequential(nn.Linear(3, 5), nn.LayerNorm(5), nn.Tanh()), 5)


def sparse_mlp():
    masks = [torch.rand(*shape) < 0.6 for shape in ((4, 3), (4, 4), (4, 3))]
    return MLP([3, 4, 4], activation=nn.Tanh, input_skip=True, masks=masks)


def sequential(*layers):
    return Keyword(nn.Sequential(*layers), 4)


MODELS = {
    "linear": (lambda: Keyword(nn.Identity(), 3), numbers),
    "tanh": (lambda: sequential(nn.Linear(3, 4), nn.Tanh()), numbers),
    "relu": (lambda: sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 4), nn.ReLU()), numbers),
    "sparse wiring and skip": (lambda: Keyword(sparse_mlp(), 4), numbers),
    "layer norm": (layer_norm_net, numbers),
    "batch norm in training": (lambda: sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh()).train(), numbers),
    "weight norm": (lambda: sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 4)), nn.Tanh()), numbers),
    "embedding with padding": (lambda: Table(padding_idx=0), tokens),
    "sparse embedding": (lambda: Table(sparse=True), tokens),
    "bag": (lambda: Bag(7, 3, body=MLP([3, 4], output_activation=nn.Tanh, activation=nn.Tanh)), bags),
    "torch bag, sum": (lambda: TorchBag("sum"), bags),
    "torch bag, sparse mean": (lambda: TorchBag("mean", sparse=True), bags),
    "torch bag, max": (lambda: TorchBag("max"), bags),
    "torch bag, padded": (PaddedBag, tokens),
    "lstm": (lambda: pooled_lstm(WORDS, ModelOptions(width=2, hidden=2, layers=1, dropout=0.0)), tokens),
    "gru": (lambda: pooled_gru(WORDS, ModelOptions(width=2, hidden=2, layers=1, dropout=0.0)), tokens),
    "transformer": (lambda: pooled_transformer(WORDS, SMALL), tokens),
    "torch transformer in evaluation": (TorchAttention, tokens),
    "hugging face": (lambda: Pretrained(HuggingFaceLike(), pooling=pool.mean), tokens),
    "checkpointed": (Checkpointed, numbers),
    "compiled": (lambda: torch.compile(layer_norm_net(), backend="aot_eager"), numbers),
}
HEADS = {
    "softmax": (lambda width: Softmax(width, 3), lambda n: torch.randint(3, (n,))),
    "smoothed softmax": (lambda width: Softmax(width, 3, label_smoothing=0.2), lambda n: torch.randint(3, (n,))),
    "chunked softmax": (lambda width: Softmax(width, 3, chunk=2), lambda n: torch.randint(3, (n,))),
    "squared": (lambda width: Squared(width, 2), lambda n: torch.randn(n, 2)),
    "bernoulli": (lambda width: Bernoulli(width, 2, pos_weight=torch.tensor([2.0, 0.5])), lambda n: torch.rand(n, 2)),
}


def one(make, targets):
    inputs = make()
    return [Batch(inputs, targets(_length(inputs)))]


def uneven(make, targets):
    """Micro-batches of other sizes, with masks that leave other numbers of real targets, and weights."""
    batches = []
    for n in (4, 2, 3):
        inputs = make(n)
        real = torch.rand(n) < 0.7
        real[0] = True
        batches.append(Batch(inputs, targets(n), real, torch.rand(n) + 0.1))
    return batches


def _length(inputs):
    return len(inputs.get("offsets", next(iter(inputs.values()))))


# Every model once, every head once, every kind of batch with several models.
CASES = {name: (name, "softmax", one, 0.0) for name in MODELS}
CASES |= {f"layer norm, {head}": ("layer norm", head, uneven, 0.3) for head in HEADS}
CASES |= {
    f"{name}, uneven": (name, "squared", uneven, 0.1) for name in ("bag", "lstm", "transformer", "torch bag, sum")
}
CASES |= {"batch norm, uneven": ("batch norm in training", "softmax", uneven, 0.0)}


def objective_of(case):
    if case == "tied language model":
        return tied_language_model()
    model, head, batches, l2 = CASES[case]
    make, inputs = MODELS[model]
    network = make()
    make_head, targets = HEADS[head]
    return Objective(network, make_head(network.width), batches(inputs, targets), l2=l2)


def tied_language_model():
    """A causal transformer whose output layer shares the token table; the loss is by token, with padding."""
    model = causal_transformer(WORDS, SMALL)
    batches = []
    for n, time in ((2, 5), (1, 3)):
        ids = torch.randint(1, 7, (n, time + 1))
        mask = torch.arange(time)[None] < torch.randint(2, time + 1, (n, 1))
        batches.append(Batch({"tokens": ids[:, :-1]}, ids[:, 1:], mask))
    return Objective(model, Softmax(4, 7, tied=model.embedding), batches)


ALL = [*CASES, "tied language model"]
# PyTorch's own double backward is missing or wrong for these (that is why ours replaces functions); differences remain.
NO_DOUBLE_BACKWARD = ("bag", "sparse", "weight norm", "compiled")


@pytest.fixture(params=ALL)
def case(request):
    return request.param


@pytest.fixture
def objective(case, float64):
    torch.manual_seed(3)
    return objective_of(case)


@pytest.fixture(params=[case for case in ALL if not any(part in case for part in NO_DOUBLE_BACKWARD)])
def twice_differentiated(request, float64):
    """An objective whose second derivatives PyTorch has, too."""
    torch.manual_seed(3)
    return objective_of(request.param)


@pytest.fixture
def build(float64):
    """Make the objective of a case by name."""
    torch.manual_seed(3)
    return objective_of


@pytest.fixture
def references():
    """The slow ways to the same matrices."""
    return References


class References:
    """Reference matrices, each by a way that shares nothing with the library's but the forward pass."""


def loss_of(objective):
    """The objective written out once more: sums, counts, one division, the penalty."""
    parts = [objective.sum_and_count(batch) for batch in objective.batches]
    loss = sum(total for total, _ in parts) / sum(count for _, count in parts)
    return loss + 0.5 * objective.l2 * sum(p.square().sum() for p in objective.penalized)


def rows_by_double_backward(objective, most=20):
    """Some rows of the Hessian, by plain PyTorch in attention's plain form: their numbers, and the rows."""
    parameters = objective.parameters
    chosen = torch.randperm(sum(p.numel() for p in parameters))[:most]
    with sdpa_kernel(SDPBackend.MATH):
        gradient = torch.autograd.grad(loss_of(objective), parameters, create_graph=True, materialize_grads=True)
        rows = []
        for entry in torch.cat([part.reshape(-1) for part in gradient])[chosen]:
            parts = torch.autograd.grad(entry, parameters, retain_graph=True, materialize_grads=True)
            rows.append(torch.cat([part.reshape(-1) for part in parts]))
    return chosen, torch.stack(rows)


def rows_by_differences(objective, step=1e-5, most=15):
    """Some rows of the Hessian by central differences of the gradient: their numbers, and the rows."""
    places = [(p, i) for p in objective.parameters for i in range(p.numel())]
    chosen = torch.randperm(len(places))[:most]
    rows = []
    for place in chosen.tolist():
        parameter, i = places[place]
        flat = parameter.data.view(-1)
        sides = []
        for sign in (1, -2):
            flat[i] += sign * step
            with torch.compiler.set_stance("force_eager"):
                parts = torch.autograd.grad(loss_of(objective), objective.parameters, materialize_grads=True)
            sides.append(torch.cat([part.to_dense().reshape(-1) for part in parts]))
        flat[i] += step
        rows.append((sides[0] - sides[1]) / (2 * step))
    return chosen, torch.stack(rows)


def penalty(objective):
    penalized = {id(tensor) for tensor in objective.penalized}
    parts = [torch.full((p.numel(),), objective.l2 if id(p) in penalized else 0.0) for p in objective.parameters]
    return torch.diag(torch.cat(parts))


def jacobian(objective, batch):
    """The predictions [targets, outputs] and their Jacobian [targets, outputs, n], one backward pass an entry."""
    with sdpa_kernel(SDPBackend.MATH), torch.compiler.set_stance("force_eager"):
        prediction = objective.prediction(batch)
        rows = []
        for entry in prediction.reshape(-1):
            parts = torch.autograd.grad(entry, objective.parameters, retain_graph=True, materialize_grads=True)
            rows.append(torch.cat([part.to_dense().reshape(-1) for part in parts]))
    outputs = prediction.shape[-1]
    return prediction.detach(), torch.stack(rows).reshape(-1, outputs, len(rows[0]))


def gauss_newton(objective):
    """J^T H J with all matrices written out; H by differentiating the head's loss twice."""
    total, count = 0.0, 0.0
    for batch in objective.batches:
        prediction, slopes = jacobian(objective, batch)
        loss = lambda p, b=batch: objective.head.loss(p, b.targets, b.mask, b.weights)[0]  # noqa: E731
        curvature = torch.autograd.functional.hessian(loss, prediction).reshape(prediction.numel(), prediction.numel())
        slopes = slopes.reshape(prediction.numel(), -1)
        total = total + slopes.T @ curvature @ slopes
        count = count + objective.head.loss(prediction, batch.targets, batch.mask, batch.weights)[1]
    return total / count + penalty(objective)


References.rows_by_double_backward = staticmethod(rows_by_double_backward)
References.rows_by_differences = staticmethod(rows_by_differences)
References.gauss_newton = staticmethod(gauss_newton)
References.jacobian = staticmethod(jacobian)
References.penalty = staticmethod(penalty)
