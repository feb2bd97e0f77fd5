"""accelerate needs no adapter: its optimizer hands closures on, and its loop is one's own."""

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from thalweg.batch import Batch
from thalweg.objective import Objective
from thalweg.optim.clipping import ClipNorm
from thalweg.optim.descent import Descent
from thalweg.optim.lbfgs import LBFGS
from thalweg.optim.levenberg_marquardt import LevenbergMarquardt
from thalweg.optim.newton_cg import NewtonCG

X = torch.randn(24, 3, generator=torch.Generator().manual_seed(1))
Y = X.prod(1, keepdim=True)
DIRECTIONS = {"lbfgs": LBFGS(), "levenberg-marquardt": LevenbergMarquardt(), "newton-cg": NewtonCG()}


@pytest.fixture(autouse=True)
def _own_state():
    yield
    AcceleratorState._reset_state(True)


class Loop:
    """What a user writes."""

    def __init__(self, direction=None, precision: str = "no", accumulate: int = 1, **options) -> None:
        AcceleratorState._reset_state(True)
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))
        self.accelerator = Accelerator(cpu=True, mixed_precision=precision, gradient_accumulation_steps=accumulate)
        optimizer = Descent(model.parameters(), direction, **options)
        loader = DataLoader(TensorDataset(X, Y), batch_size=8)
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.99)
        prepared = self.accelerator.prepare(model, optimizer, loader, schedule)
        self.model, self.optimizer, self.loader, self.schedule = prepared

    def train(self, epochs: int) -> torch.Tensor:
        waiting = []
        for _ in range(epochs):
            for x, y in self.loader:
                with self.accelerator.accumulate(self.model):
                    waiting.append(Batch({"input": x}, y))
                    if self.accelerator.sync_gradients:
                        self.optimizer.step(Objective(self.accelerator.unwrap_model(self.model), nn.MSELoss(), waiting))
                        self.schedule.step()
                        waiting = []
        return nn.utils.parameters_to_vector(self.model.parameters()).detach()


@pytest.mark.parametrize("precision", ["no", "bf16"])
@pytest.mark.parametrize("name", DIRECTIONS)
def test_a_resumed_training_ends_where_the_undisturbed_one_does(name, precision, tmp_path):
    loop = Loop(DIRECTIONS[name], precision)
    start = nn.functional.mse_loss(loop.model(X), Y)
    loop.train(1)
    loop.accelerator.save_state(str(tmp_path))
    end = loop.train(2)
    assert nn.functional.mse_loss(loop.model(X), Y) < start
    resumed = Loop(DIRECTIONS[name], precision)
    resumed.accelerator.load_state(str(tmp_path))
    assert torch.equal(resumed.train(2), end)
    assert resumed.optimizer.optimizer.counts == loop.optimizer.optimizer.counts
    assert resumed.optimizer.param_groups[0]["lr"] == pytest.approx(0.99**9)


def test_accumulated_micro_batches_are_one_step_and_clipping_composes():
    parts = Loop(accumulate=3, clip=ClipNorm(0.1))
    end = parts.train(3)
    assert parts.optimizer.optimizer.counts["steps"] == 3
    whole = Loop(clip=ClipNorm(0.1))
    whole.loader = [(X, Y)]
    assert torch.allclose(end, whole.train(3), atol=1e-5)


def test_a_gradient_scaler_is_refused_in_a_sentence():
    loop = Loop()
    optimizer = type(loop.optimizer)(loop.optimizer.optimizer, scaler=(scaler := torch.amp.GradScaler("cpu")))
    scaler.scale(nn.functional.mse_loss(loop.model(X), Y)).backward()
    with pytest.raises(ValueError, match="GradScaler's factor would be in some of its numbers"):
        optimizer.step(Objective(loop.model, nn.MSELoss(), X, Y))
