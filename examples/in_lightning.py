"""Levenberg-Marquardt inside Lightning, in automatic and in manual optimization; and resumed bit for bit."""

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from thalweg import Descent, LevenbergMarquardt, Objective
from thalweg.frameworks import LightningSteps


class Automatic(LightningSteps, LightningModule):
    """`training_step` hands an objective over; accumulation, clipping and precision are the Trainer's settings."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(2, 12), nn.Tanh(), nn.Linear(12, 1))

    def training_step(self, batch: list[Tensor]) -> Tensor:
        """Return the loss of an objective, and take the step on it."""
        x, y = batch
        loss = self.minimized(Objective(self.model, nn.MSELoss(), x, y))
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> Descent:
        """Return the optimizer."""
        return Descent(self.model.parameters(), LevenbergMarquardt())


class Manual(LightningModule):
    """Manual optimization needs nothing but the objective."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.automatic_optimization = False
        self.model = nn.Sequential(nn.Linear(2, 12), nn.Tanh(), nn.Linear(12, 1))

    def training_step(self, batch: list[Tensor]) -> None:
        """Take a step."""
        x, y = batch
        optimizer = self.optimizers()
        assert isinstance(optimizer, Descent)  # in Lightning's wrapping
        loss = optimizer.step(Objective(self.model, nn.MSELoss(), x, y))
        assert loss is not None
        self.log("loss", loss)

    def configure_optimizers(self) -> Descent:
        """Return the optimizer."""
        return Descent(self.model.parameters(), LevenbergMarquardt())


def train(module: LightningModule, name: str, resume: str | None = None) -> LightningModule:
    x = torch.rand(120, 2, generator=torch.Generator().manual_seed(1))
    y = (6.0 * x[:, :1]).sin() * x[:, 1:]
    checkpoints = ModelCheckpoint(f"checkpoints/{name}", filename="{epoch}", every_n_epochs=4, save_top_k=-1)
    trainer = Trainer(
        max_epochs=8,
        accelerator="cpu",
        callbacks=[checkpoints],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader(TensorDataset(x, y), batch_size=60), ckpt_path=resume)
    print(f"{name}: loss {trainer.callback_metrics['loss']:.5f}")
    return module


def main() -> None:
    for kind in (Automatic, Manual):
        name = kind.__name__.lower()
        whole = train(kind(), name)
        resumed = train(kind(), name, f"checkpoints/{name}/epoch=3.ckpt")
        pairs = zip(whole.parameters(), resumed.parameters(), strict=True)
        assert all(torch.equal(one, other) for one, other in pairs)
        print(f"{name}: resumed after epoch 4, the same to the last bit after epoch 8")


if __name__ == "__main__":
    main()
