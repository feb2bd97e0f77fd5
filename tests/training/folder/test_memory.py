"""A network that the machine's memory does not hold is refused before anything of it is built."""

import resource

import pytest
import torch
from torch import nn

from thalweg import names
from thalweg.errors import InputError
from thalweg.models.presets import ModelOptions, ModelShape
from thalweg.training.folder import memory
from thalweg.training.folder.build import model_options
from thalweg.training.folder.memory import memory_bytes, require_memory
from thalweg.training.recipe.complete import complete
from thalweg.training.recipe.recipe import Options

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
