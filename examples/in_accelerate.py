"""L-BFGS in a loop with accelerate: micro-batches, clipping, a schedule; and resumed bit for bit."""

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from thalweg import Batch, Descent, Objective
from thalweg.optim import ClipNorm, cosine


class Loop:
    """Model, optimizer and data as accelerate has prepared them."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(2, 12), nn.Tanh(), nn.Linear(12, 1))
        optimizer = Descent(model.parameters(), clip=ClipNorm(10.0))  # L-BFGS; clips what directions are made from
        self.x = torch.rand(120, 2, generator=torch.Generator().manual_seed(1))
        self.y = (6.0 * self.x[:, :1]).sin() * self.x[:, 1:]
        loader = DataLoader(TensorDataset(self.x, self.y), batch_size=30)
        self.accelerator = Accelerator(cpu=True, gradient_accumulation_steps=4)
        prepared = self.accelerator.prepare(model, optimizer, loader, cosine(optimizer, total_steps=40))
        self.model, self.optimizer, self.loader, self.schedule = prepared

    def train(self, epochs: int) -> Tensor:
        """Go on for some epochs, and return the loss."""
        waiting: list[Batch] = []
        for _ in range(epochs):
            for x, y in self.loader:
                with self.accelerator.accumulate(self.model):
                    waiting.append(Batch({"input": x}, y))
                    if self.accelerator.sync_gradients:  # else accelerate takes no step, and drops what it is given
                        network = self.accelerator.unwrap_model(self.model)
                        self.optimizer.step(Objective(network, nn.MSELoss(), waiting))
                        self.schedule.step()
                        waiting = []
        return nn.functional.mse_loss(self.model(self.x), self.y)


def main() -> None:
    loop = Loop()
    print(f"loss {loop.train(20):.5f} after 20 steps")
    loop.accelerator.save_state("checkpoint")
    print(f"loss {loop.train(20):.5f} after 40 steps")

    resumed = Loop()
    resumed.accelerator.load_state("checkpoint")
    resumed.train(20)
    pairs = zip(loop.model.parameters(), resumed.model.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    print("resumed after step 20, the same to the last bit after step 40")


if __name__ == "__main__":
    main()
