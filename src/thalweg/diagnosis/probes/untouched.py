"""A measurement leaves networks as they were: weights, buffers, gradients, modes, and the random state."""

import contextlib
from collections.abc import Iterator

import torch

from thalweg.diagnosis.subject import Subject


@contextlib.contextmanager
def untouched(subject: Subject, *, training: bool = False) -> Iterator[None]:
    """Evaluate in evaluation mode (or, with `training`, in training mode), and put everything back afterwards."""
    networks = (subject.model, subject.head)
    modes = [(module, module.training) for network in networks for module in network.modules()]
    parameters = list(dict.fromkeys(p for network in networks for p in network.parameters()))
    buffers = list(dict.fromkeys(b for network in networks for b in network.buffers()))
    gradients = [(parameter, parameter.grad, parameter.requires_grad) for parameter in parameters]
    kept = [tensor.detach().clone() for tensor in (*parameters, *buffers)]
    devices = sorted({p.device.index or 0 for p in parameters if p.is_cuda})
    try:
        for network in networks:
            network.train(training)
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(0)
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, gradient, needs in gradients:
            parameter.grad = gradient
            parameter.requires_grad_(needs)
        with torch.no_grad():
            for tensor, value in zip((*parameters, *buffers), kept, strict=True):
                if not torch.equal(tensor, value):
                    tensor.copy_(value)
