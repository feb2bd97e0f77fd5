"""A network that the machine's memory does not hold is refused before anything of it is built."""

import resource
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from thalweg import names
from thalweg.data.arrays.batches import Examples
from thalweg.data.arrays.ragged import Ragged
from thalweg.errors import InputError
from thalweg.models.presets import ModelOptions
from thalweg.models.shape import ModelShape
from thalweg.training.folder import memory
from thalweg.training.folder.build import model_options
from thalweg.training.folder.memory import memory_bytes, require_batch, require_memory
from thalweg.training.recipe.complete import complete
from thalweg.training.recipe.recipe import Options
from thalweg.training.steps.feed import Feed

SHAPE = ModelShape(vocabulary_size=50, num_columns=2, lags=5, target_vocabulary_size=60, num_outputs=3, max_length=20)
REFUSED = {
    "layers": ({"model": "mlp", "layers": 250, "hidden": 32_768}, r"smaller --hidden or --layers\.$"),
    "width": ({"model": "transformer", "width": 32_768}, r"smaller --width\.$"),
    "gates": (
        {"model": "lstm", "hidden": 32_768},
        r"about 8,6[\d,]{10} weights, and take 96\.\d GB of memory; the machine",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_network_beyond_the_memory_is_refused_with_its_size_and_what_to_lower(case):
    given, message = REFUSED[case]
    recipe = complete(Options({"task": "classify", "source": "docstrings", **given}))
    builder = names.load(names.task_spec("classify").models[recipe.model.model].builder)
    with pytest.raises(InputError, match=message):
        require_memory(recipe.values(), builder, SHAPE, model_options(recipe), trained=True)


@pytest.mark.parametrize("task", names.TASKS)
def test_every_model_is_counted_without_memory(task, monkeypatch):
    """As many weights as the network that is built, and the random state untouched; one byte more suffices."""
    for name, spec in names.task_spec(task).models.items():
        given = {"task": task, "source": "x.csv", "model": name, "vocabulary_size": 10**6, "lags": 10**6}
        recipe = complete(Options(given))
        builder, options = names.load(spec.builder), ModelOptions(layers=2, sparsity=0.5, input_skip=True)
        model: nn.Module = builder(SHAPE, options)
        number = sum(weight.numel() for weight in model.parameters()) + 60 * int(getattr(model, "width", 0))
        size = 8 if recipe.run.precision == "float64" else 4
        before = torch.get_rng_state()
        monkeypatch.setattr(memory, "memory_bytes", lambda limit=number * size: float(limit))
        require_memory(recipe.values(), builder, SHAPE, options, trained=False)
        if number:
            with pytest.raises(InputError, match=f"about {number:,} weights"):
                require_memory(recipe.values(), builder, SHAPE, options, trained=True)
        assert torch.equal(before, torch.get_rng_state())


def test_networks_that_are_counted_load_no_compiler():
    script = (
        "import sys\nfrom thalweg.models.presets import ModelOptions, ModelShape, encoder\nimport torch\n"
        "from thalweg.training.folder.memory import _Undrawn\n"
        "shape = ModelShape(vocabulary_size=9, num_outputs=2)\n"
        "with torch.device('meta'), _Undrawn():\n    encoder(shape, ModelOptions(heads=4))\n"
        "sys.exit(int('sympy' in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.parametrize(("batch_size", "number"), [(2, 100_000), (3, 200_000), (5, 500_000), (0, 100_000)])
def test_a_batch_beyond_the_memory_is_refused_with_what_to_lower(monkeypatch, batch_size, number):
    """By its longest text, padding included; texts of like lengths come together."""
    long = 100_000
    examples = Examples({"tokens": Ragged.from_lengths(np.zeros(long + 9, np.int64), np.array([4, 1, 2, 2, long]))})
    recipe = complete(Options(task="classify", source="x.csv", model="lstm", width=8, hidden=8, batch_size=batch_size))
    feed = Feed(examples, lambda *_: pytest.fail("a batch is built"), batch_size=batch_size)
    assert feed.num_tokens() == number <= feed.most_tokens
    need = number * (8 + 4 * 16)
    monkeypatch.setattr(memory, "memory_bytes", lambda: float(need))
    require_batch(recipe.values(), feed)
    monkeypatch.setattr(memory, "memory_bytes", lambda: need - 1.0)
    with pytest.raises(InputError, match=rf"have {number:,} tokens, .* smaller --batch-size or --max-length"):
        require_batch(recipe.values(), feed)
    require_batch({**recipe.values(), "model": "mlp"}, feed)


def test_a_limit_of_the_process_counts(monkeypatch):
    assert 2**20 < memory_bytes() < 2**60
    monkeypatch.setattr(resource, "getrlimit", lambda which: (12345, resource.RLIM_INFINITY))
    assert memory_bytes() == 12345.0


def test_counting_draws_no_numbers():
    """For which PyTorch would load its compiler."""
    with torch.device("meta"), memory._Undrawn():
        weight = nn.Linear(3, 2).weight
        nn.init.normal_(weight, generator="none")
        weight.detach().normal_(torch.inf, -1.0)
    assert (weight.shape, weight.is_meta, weight.requires_grad) == ((2, 3), True, True)
