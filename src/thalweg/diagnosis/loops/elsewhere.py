"""Parameters of a model that another optimizer moves than the one that is watched."""

from typing import Any, Final, final

from torch import nn
from torch.optim import Optimizer

LOOKS: Final = 20  # steps at the start on which is looked what has moved since the one before


@final
class Elsewhere:
    """Notes which parameters that an optimizer has not are written to between its steps: others train them."""

    def __init__(self, model: nn.Module, optimizer: Optimizer) -> None:
        own = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        self._others = {name: p for name, p in model.named_parameters() if p.requires_grad and id(p) not in own}
        self._versions: dict[str, int] | None = None
        self._looks, self._moved = 0, set[str]()

    def look(self) -> None:
        """Look at them before a step."""
        if not self._others or self._looks > LOOKS:
            return
        self._looks += 1
        before, self._versions = self._versions, {name: p._version for name, p in self._others.items()}
        if before is not None:
            self._moved |= {name for name, version in self._versions.items() if version != before[name]}

    def left_out(self, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return entries of a history that say nothing of layers that are trained elsewhere."""
        if not self._moved:
            return entries
        layers = {name.rpartition(".")[0] for name in self._moved}
        return [self._without(entry, layers) for entry in entries]

    def _without(self, entry: dict[str, Any], layers: set[str]) -> dict[str, Any]:
        if "not_in_optimizer" in entry:
            entry = entry | {
                "not_in_optimizer": [name for name in entry["not_in_optimizer"] if name not in self._moved]
            }
        if "layers" in entry:
            entry = entry | {"layers": {name: one for name, one in entry["layers"].items() if name not in layers}}
        return entry
