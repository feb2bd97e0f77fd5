"""No step waits for a device, and none for its batches: on the device "meta" asking for a number fails."""

import contextlib
import functools

import numpy as np
import pytest
import torch
from torch import Tensor

from thalweg.batch import Batch
from thalweg.data.arrays.batches import Examples
from thalweg.errors import InputError
from thalweg.heads.softmax import Softmax
from thalweg.models.presets import ModelOptions, causal_transformer
from thalweg.models.shape import ModelShape
from thalweg.objective import Objective
from thalweg.optim.clipping import ClipNorm
from thalweg.optim.schedules import cosine
from thalweg.training.recipe.recipe import Options
from thalweg.training.session.prepare import Request, prepare
from thalweg.training.steps import feed, stepper
from thalweg.training.steps.device import compiled
from thalweg.training.steps.fit import FitOptions, fit

SIZE, LENGTH = 50, 12


class Skipping(torch.optim.AdamW):
    """As the fused kernels for a GPU: a step that the flag says is bad would be skipped on the device."""

    def step(self, closure=None):
        assert vars(self).pop("found_inf").device.type == "meta"
        return super().step(closure)


def batch_of(step, device):
    ids = torch.randint(SIZE, (4, LENGTH + 1), generator=torch.Generator().manual_seed(step))
    real = torch.arange(LENGTH) < torch.tensor([[12], [5], [12], [1]])
    return [Batch({"tokens": ids[:, :-1]}, ids[:, 1:], real, keys=torch.arange(4) + step).to(device)]


def records(device, batches=None, num=3, kind=torch.optim.AdamW, **options):
    torch.manual_seed(0)
    model = causal_transformer(ModelShape(SIZE, max_length=LENGTH), ModelOptions(width=8, hidden=8, heads=2))
    head = Softmax(8, SIZE)
    model.to(device), head.to(device)
    optimizer = kind([*model.parameters(), *head.parameters()], foreach=True)
    taken = stepper.FirstOrderStepper(optimizer, clip=ClipNorm(1.0))
    schedule = cosine(optimizer, total_steps=num, warmup=1)
    batches = batches or functools.partial(batch_of, device=device)
    yield from fit(model, head, taken, batches, steps=num, schedule=schedule, options=FitOptions(**options))


@pytest.fixture
def on_meta(monkeypatch):
    """What PyTorch lacks on that device: autocast, which is off here."""
    monkeypatch.setattr(Objective, "_autocast", lambda *given: contextlib.nullcontext())


def test_a_step_of_the_usual_training_waits_for_nothing(monkeypatch, on_meta):
    monkeypatch.setattr(stepper, "_skips_on_device", lambda optimizer: True)
    found = list(records("meta", kind=Skipping))
    assert [record.loss.device.type for record in found] == ["meta"] * 3
    with pytest.raises(RuntimeError, match="item"):  # only whoever wants to know waits
        found[0].resolve()


def test_a_number_that_is_asked_for_fails(on_meta):
    with pytest.raises(RuntimeError, match="item"):
        list(records("meta"))  # an optimizer that cannot skip a bad step by itself


def test_batches_that_are_collated_ahead_are_the_same():
    asked = []

    def collated(step):
        asked.append(step)
        return batch_of(step, "cpu")

    plain = [float(record.loss) for record in records("cpu", collated)]
    asked.clear()
    source = feed.Ahead(collated, 3)
    assert [float(record.loss) for record in records("cpu", source)] == plain
    assert asked == [0, 1, 2]
    source(0)  # a training that goes back
    assert torch.equal(source(1)[0].targets, batch_of(1, "cpu")[0].targets)

    def fails(step):
        raise InputError(f"no batch {step}")

    with pytest.raises(InputError, match="no batch 0"):
        feed.Ahead(fails, 3)(0)


def test_only_batches_for_a_gpu_are_pinned(monkeypatch):
    pinned = []
    monkeypatch.setattr(Tensor, "pin_memory", lambda tensor: pinned.append(tensor.shape) or tensor)
    monkeypatch.setattr(Batch, "to", lambda batch, *given: batch)
    examples = Examples({"x": np.ones((5, 2))})
    for device in ("cpu", "cuda"):
        assert pinned == []
        feed.Feed(examples, lambda _, indices: batch_of(0, "cpu")[0], batch_size=2, device=device)(0)
    assert sorted(shape[0] for shape in pinned) == [2, 4, 4, 4]  # keys, tokens, targets, mask


@pytest.fixture
def on_eager_code(monkeypatch):
    """What is compiled is traced, and then run as it is: the compiler itself takes a minute."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))


def test_a_compiled_training_has_the_same_losses(on_eager_code):
    plain = [float(record.loss) for record in records("cpu")]
    own = [float(record.loss) for record in records("cpu", compiled=True, sites=lambda step: step == 1)]
    assert own == pytest.approx(plain, rel=1e-5)


def test_without_a_compiler_there_is_a_sentence(monkeypatch):
    import torch._inductor.cpp_builder as builder

    def missing():
        raise RuntimeError("No working C++ compiler found")

    monkeypatch.setattr(builder, "get_cpp_compiler", missing)
    with pytest.raises(InputError, match=r"--compile needs a C\+\+ compiler on --device cpu.*install g\+\+"):
        compiled(torch.nn.Linear(1, 1), torch.device("cpu"))


@pytest.mark.parametrize("given", [{"optimizer": "newton-cg"}, {"optimizer": "adamw", "line_search": "armijo"}])
def test_methods_that_look_into_the_layers_refuse_compiled_code(given, tmp_path):
    with pytest.raises(InputError, match=r"--compile is for optimizers that make one step from one gradient.*got "):
        prepare(
            Request(
                Options({"task": "forecast", "source": "sunspots", "model": "mlp", "compile": True, **given}), tmp_path
            ),
            print,
        )
