"""What moves in a training, as one: how it is saved, put back, and compared with that of other processes."""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from thalweg import distributed, sharded
from thalweg.errors import InputError
from thalweg.heads.base import AbstractHead
from thalweg.optim.clipping import AbstractClip
from thalweg.training.folder import build, checkpoint
from thalweg.training.integrity import checkpoint_names
from thalweg.training.integrity.likeness import require_like


@final
@dataclasses.dataclass(frozen=True)
class Parts:
    """Networks, their optimizer, its schedule, and what clips."""

    model: nn.Module
    head: AbstractHead
    optimizer: torch.optim.Optimizer
    schedule: LRScheduler
    clip: AbstractClip

    def parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield all parameters with their names."""
        for part, network in (("model", self.model), ("head", self.head)):
            yield from network.named_parameters(part)

    def state(self, *, gradient: bool) -> dict[str, Any]:
        """Return everything, with the last step's `gradient` where the next step is compared with it."""
        kept = {name: one.grad for name, one in self.parameters() if one.grad is not None and not one.grad.is_sparse}
        return {
            "model": self.model.state_dict(),
            "head": self.head.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "clip": self.clip.state_dict(),
            "gradient": kept if gradient else {},
        }

    def put(self, state: Mapping[str, Any], place: Path, *, weights_only: bool) -> None:
        """Put back what `state` returned, from the checkpoint `place`; with `weights_only` after going back.

        An InputError tells that it is from another model or optimizer.
        """
        where = place / checkpoint.TENSORS
        networks = {"model": self.model, "head": self.head}
        with checkpoint_names.sound(place / checkpoint.TREE):
            saved = {f"{part}.{name}" for part in networks for name in state[part]}
            if not weights_only:  # after steps, the own ones have more names than at the start
                require_like(state["schedule"], self.schedule.state_dict(), "schedule")
                require_like(state["optimizer"]["param_groups"], self.optimizer.state_dict()["param_groups"], "groups")
        own = {f"{part}.{name}" for part, network in networks.items() for name in network.state_dict()}
        if own != saved:
            differing = sorted(own ^ saved)[0]
            raise InputError(
                f"{where} is from another model: '{differing}' is in only one of the two; use its own recipe."
            )
        try:
            for part, network in networks.items():
                network.load_state_dict(_placed(state[part], network.state_dict()))
            self.optimizer.load_state_dict(self._of_optimizer(state["optimizer"]))
        except (RuntimeError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"{where} is from another model or optimizer ({reason}); use its own recipe.") from None
        self.schedule.load_state_dict(state["schedule"])
        with checkpoint_names.sound(place / checkpoint.TREE):
            gradients = _placed(state.get("gradient", {}), dict(self.parameters()))
            for name, parameter in self.parameters():
                gradient = gradients.get(name)
                parameter.grad = None if gradient is None else gradient.to(parameter)
            self.clip.load_state_dict(state.get("clip", {}))  # of an older version: it starts anew

    def _of_optimizer(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """Return an optimizer's state, of each parameter that is divided divided in the same way."""
        parameters: list[Tensor] = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        memories = dict(state["state"])
        for place, parameter in enumerate(parameters):
            for name, value in memories.get(place, {}).items():
                memories[place] = memories[place] | _placed({name: value}, {name: parameter})
        return {**state, "state": memories}

    @property
    def divided(self) -> Tensor | None:
        """One of the parameters that are divided among processes; None: there is none."""
        return next((parameter for _, parameter in self.parameters() if sharded.is_divided(parameter)), None)

    def is_sound(self) -> bool:
        """Whether all weights are finite, so that they may be saved as good ones; on all processes."""
        weights = build.get_weights(self.model, self.head).values()
        is_sound = all(build.is_sound(sharded.own(tensor)) for tensor in weights)
        return is_sound if self.divided is None else not distributed.most([float(not is_sound)])[0]

    def fingerprint(self) -> int:
        """Return a number that tells apart weights of other bits, but for rare coincidences; takes one pass.

        Parameters that are divided among processes are left out.
        """
        total = 0
        for place, (_, parameter) in enumerate(self.parameters()):
            if sharded.is_divided(parameter):
                continue
            bits = parameter.detach().flatten().view(torch.uint8)
            words = bits[: bits.numel() // 4 * 4].view(torch.int32)
            total += (2 * place + 1) * int(words.sum(dtype=torch.long))
        return total


def _placed(values: Mapping[Any, Any], like: Mapping[Any, Tensor]) -> dict[Any, Any]:
    """Return values by name, and tensors of the shape of a divided one divided like it."""
    found = dict(values)
    for name, value in values.items():
        partner = like.get(name)
        if sharded.is_divided(partner) and isinstance(value, Tensor) and not sharded.is_divided(value):
            assert partner is not None
            if value.shape == partner.shape:
                found[name] = sharded.divided_as(value, partner)
    return found
