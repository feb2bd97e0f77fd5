"""What a network is, by its modules."""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from thalweg.models.attention import Attention


def family_of(model: nn.Module) -> str:
    """Return what kind of network it is, by its modules."""
    modules = list(model.modules())
    kinds = {type(module).__name__ for module in modules}
    if any(isinstance(m, Attention | nn.MultiheadAttention) for m in modules) or any("Attention" in k for k in kinds):
        return "transformer"
    if any(isinstance(m, nn.RNNBase | nn.RNNCellBase) for m in modules):
        return "recurrent"
    activations = sum(isinstance(m, nn.ReLU | nn.GELU | nn.SiLU | nn.Tanh | nn.Sigmoid | nn.LeakyReLU) for m in modules)
    return "mlp" if activations else "linear"


def dropout_of(model: nn.Module) -> float:
    """Return the largest dropout probability among a network's modules."""
    rates = [float(module.p) for module in model.modules() if isinstance(module, nn.Dropout)]
    rates += [rate for module in model.modules() if isinstance(rate := getattr(module, "dropout", None), float)]
    return max(rates, default=0.0)


def depends_on_mode(model: nn.Module) -> bool:
    """Whether modules of a network answer otherwise in training mode: dropout and batch norm."""
    return dropout_of(model) > 0.0 or any(isinstance(module, _BatchNorm) for module in model.modules())
