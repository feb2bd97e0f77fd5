"""Lightning: automatic optimization with and without the mixin, and manual optimization."""

import logging
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

with warnings.catch_warnings():  # of the package about PyTorch's and its own parts
    warnings.simplefilter("ignore")
    from lightning import LightningModule, Trainer
    from lightning.pytorch.callbacks import ModelCheckpoint
    from lightning.pytorch.plugins import MixedPrecision

from thalweg.frameworks.lightning import LightningSteps
from thalweg.objective import Objective
from thalweg.optim.clipping import ClipNorm, ClipValue
from thalweg.optim.descent import Descent
from thalweg.optim.directions import Update
from thalweg.optim.lbfgs import LBFGS
from thalweg.optim.levenberg_marquardt import LevenbergMarquardt
from thalweg.optim.line_search import Fixed
from thalweg.optim.muon import NorMuon
from thalweg.optim.newton_cg import NewtonCG
from thalweg.optim.soap import SOAP

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

X = torch.randn(24, 3, generator=torch.Generator().manual_seed(1))
Y = X.prod(1, keepdim=True)


class Base(LightningModule):
    def __init__(self, optimizer=None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))
        self.make, self.losses, self.norms = optimizer or Descent, [], []

    def objective_of(self, batch) -> Objective:
        return Objective(self.model, nn.MSELoss(), *batch)

    def configure_optimizers(self):
        return self.make(self.model.parameters())

    def on_before_optimizer_step(self, optimizer) -> None:
        self.norms.append(
            nn.utils.get_total_norm([p.grad for p in self.model.parameters() if p.grad is not None]).item()
        )

    @property
    def descent(self) -> Descent:
        return self.trainer.optimizers[0]


class Automatic(LightningSteps, Base):
    def training_step(self, batch, batch_idx):
        loss = self.minimized(self.objective_of(batch))
        self.losses.append(loss.item())
        self.log("loss", loss)
        return loss


class Manual(Base):
    def __init__(self, optimizer=None) -> None:
        super().__init__(optimizer)
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        loss = self.optimizers().step(self.objective_of(batch))
        self.losses.append(loss.item())
        self.log("loss", loss)


class HandedOver(Base):
    """Without the mixin: the closure runs first, and makes the objective of its batch."""

    def configure_optimizers(self):
        optimizer = self.make(self.model.parameters())
        optimizer.objective = lambda: self.objective
        return optimizer

    def training_step(self, batch, batch_idx):
        self.objective = self.objective_of(batch)
        loss = nn.functional.mse_loss(self.model(batch[0]), batch[1])
        self.losses.append(loss.item())
        return loss


MAKERS = {
    "lbfgs": lambda p: Descent(p, LBFGS()),
    "levenberg-marquardt": lambda p: Descent(p, LevenbergMarquardt()),
    "newton-cg": lambda p: Descent(p, NewtonCG()),
}


def fit(module: Base, folder: Path, resume: Path | None = None, epochs: int = 2, **settings) -> Base:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    own = {"accelerator": "cpu", "default_root_dir": folder, "callbacks": [ModelCheckpoint(folder, save_top_k=-1)]}
    trainer = Trainer(max_epochs=epochs, **own, **quiet, **settings)
    trainer.fit(module, DataLoader(TensorDataset(X, Y), batch_size=8), ckpt_path=resume)
    return module


def weights(module: nn.Module) -> torch.Tensor:
    return nn.utils.parameters_to_vector(module.parameters()).detach()


def own_loop(make, steps: int = 6, size: int = 8, autocast=None) -> tuple[list[float], torch.Tensor, Descent]:
    model = Base().model
    optimizer, losses = make(model.parameters()), []
    for step in range(steps):
        rows = slice(step * size % 24, step * size % 24 + size)
        losses.append(float(optimizer.step(Objective(model, nn.MSELoss(), X[rows], Y[rows], autocast=autocast))))
    return losses, weights(model), optimizer


@pytest.mark.parametrize("kind", [Automatic, Manual, HandedOver])
@pytest.mark.parametrize("name", MAKERS)
def test_steps_are_those_of_ones_own_loop_and_a_resumed_training_is_the_same(kind, name, tmp_path):
    whole = fit(kind(MAKERS[name]), tmp_path)
    losses, end, optimizer = own_loop(MAKERS[name])
    assert whole.losses == losses
    assert torch.equal(weights(whole), end)
    assert whole.descent.counts == optimizer.counts
    resumed = fit(kind(MAKERS[name]), tmp_path, resume=tmp_path / "epoch=0-step=3.ckpt")
    assert resumed.losses == losses[3:]
    assert torch.equal(weights(resumed), end)
    assert resumed.descent.counts == optimizer.counts


def test_lightnings_own_closure_is_enough_for_methods_with_gradients(tmp_path):
    class Plain(Base):
        def training_step(self, batch, batch_idx):
            return nn.functional.mse_loss(self.model(batch[0]), batch[1])

    module = fit(Plain(), tmp_path)
    _, end, optimizer = own_loop(Descent)
    assert torch.allclose(weights(module), end, atol=1e-6)
    assert module.descent.counts == optimizer.counts
    with pytest.raises(ValueError, match=r"Descent\(..., objective=...\); got partial"):
        fit(Plain(MAKERS["newton-cg"]), tmp_path)


@pytest.mark.parametrize("kind", [SOAP, NorMuon])
def test_preconditioned_optimizers_need_no_mixin(kind, tmp_path):
    class Plain(Base):
        def training_step(self, batch, batch_idx):
            return nn.functional.mse_loss(self.model(batch[0]), batch[1])

    def make(parameters):
        return kind(parameters, lr=0.05)

    ended = weights(fit(Plain(make), tmp_path))
    assert torch.equal(weights(fit(Plain(make), tmp_path, resume=tmp_path / "epoch=0-step=3.ckpt")), ended)
    model = Base().model
    optimizer = make(model.parameters())
    for step in range(6):
        rows = slice(step * 8 % 24, step * 8 % 24 + 8)
        optimizer.zero_grad()
        nn.functional.mse_loss(model(X[rows]), Y[rows]).backward()
        optimizer.step()
    assert torch.equal(weights(model), ended)


def test_accumulated_micro_batches_are_one_step(tmp_path):
    module = fit(Automatic(MAKERS["levenberg-marquardt"]), tmp_path, accumulate_grad_batches=3)
    losses, end, _ = own_loop(MAKERS["levenberg-marquardt"], steps=2, size=24)
    assert module.losses[2::3] == pytest.approx(losses, rel=1e-5)
    assert torch.allclose(weights(module), end, atol=1e-4)


def test_an_interrupted_step_leaves_nothing_behind(tmp_path):
    class Interrupted(Automatic):
        is_interrupted = True

        def training_step(self, batch, batch_idx):
            if self.is_interrupted and batch_idx == 1:
                raise RuntimeError("interrupted")
            return super().training_step(batch, batch_idx)

    module = Interrupted()
    with pytest.raises(RuntimeError, match="interrupted"):
        fit(module, tmp_path, accumulate_grad_batches=3)
    module.is_interrupted = False
    fit(module, tmp_path, accumulate_grad_batches=3)
    undisturbed = fit(Automatic(), tmp_path, accumulate_grad_batches=3)
    assert torch.equal(weights(module), weights(undisturbed))


@pytest.mark.parametrize(("algorithm", "clip"), [("norm", ClipNorm(0.01)), ("value", ClipValue(0.01))])
def test_clipping_is_that_of_the_step(algorithm, clip, tmp_path):
    settings = {"gradient_clip_val": 0.01, "gradient_clip_algorithm": algorithm}
    module = fit(Automatic(), tmp_path, epochs=1, **settings)
    losses, end, _ = own_loop(lambda p: Descent(p, clip=clip), steps=3)
    assert module.losses == losses
    assert torch.equal(weights(module), end)
    assert min(module.norms) > 0.01  # hooks see the gradient as it is


def test_the_precision_is_the_trainers(tmp_path):
    module = fit(Automatic(MAKERS["levenberg-marquardt"]), tmp_path, precision="bf16-mixed")
    losses, end, _ = own_loop(MAKERS["levenberg-marquardt"], autocast=torch.bfloat16)
    assert module.losses == losses
    assert torch.equal(weights(module), end)
    assert losses != own_loop(MAKERS["levenberg-marquardt"])[0]


@pytest.mark.parametrize("kind", [Automatic, HandedOver])
def test_scaled_gradients_are_refused_in_a_sentence(kind, tmp_path):
    plugin = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu"))
    with pytest.raises(ValueError, match=r"GradScaler's\s+factor|factor of a GradScaler"):
        fit(kind(), tmp_path, plugins=[plugin])


def test_updates_in_place_and_schedules_work_too(tmp_path):
    class Scheduled(Automatic):
        def configure_optimizers(self):
            optimizer = super().configure_optimizers()
            schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    module = fit(Scheduled(lambda p: Descent(p, Update(torch.optim.AdamW, lr=0.1), Fixed(1))), tmp_path)
    model = Base().model
    plain = torch.optim.AdamW(model.parameters(), lr=0.1)
    for step in range(6):
        rows = slice(step * 8 % 24, step * 8 % 24 + 8)
        plain.param_groups[0]["lr"] = 0.1 * 0.5**step
        plain.zero_grad()
        nn.functional.mse_loss(model(X[rows]), Y[rows]).backward()
        plain.step()
    assert torch.equal(weights(module), weights(model))
    assert module.descent.counts["gradients"] == 6


def test_misuse_is_told_in_a_sentence(tmp_path):
    with pytest.raises(ValueError, match="is for one Descent; configure_optimizers returned AdamW"):
        fit(Automatic(torch.optim.AdamW), tmp_path)

    class Forgetful(LightningSteps, Base):
        def training_step(self, batch, batch_idx):
            return nn.functional.mse_loss(self.model(batch[0]), batch[1])

    with pytest.raises(ValueError, match=r"must return self.minimized\(Objective"):
        fit(Forgetful(), tmp_path)
