"""What is recorded of single steps of a training: by layer, by operation, and against the step before."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, final

import torch
from torch import Tensor, nn

from thalweg.batch import Batch
from thalweg.training.steps.gauges import alignment, label_figures, layer_figures, layer_names
from thalweg.training.steps.sites import Site, Sites, told

FIRST_WATCHED = 3  # steps at the start that are watched one by one
NUM_SITES = 22  # steps after these on which the operations are measured, too
NUM_WATCHED = 200
MIN_WATCH_EVERY = 50
MIN_SITES_EVERY = 100


@final
@dataclasses.dataclass(frozen=True)
class Watched:
    """What was recorded of one step.

    Args:
        layers: for each layer `grad_norm`, `update_ratio` and `unchanged` (see `gauges.layer_figures`).
        alignment: cosine between the step's gradient and that of the step before.
        sites: of each operation of the forward pass its figures, in order (see `sites.Sites`).
        labels: `label_kinds` and `label_share` of the step's targets.
        trouble: what could not be measured, and why.
    """

    layers: dict[str, dict[str, Any]] | None = None
    alignment: float | None = None
    sites: list[Site] | None = None
    labels: dict[str, Any] = dataclasses.field(default_factory=dict)
    trouble: dict[str, str] = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return what there is, as a history entry has it."""
        entry: dict[str, Any] = {name: getattr(self, name) for name in ("layers", "alignment", "sites")}
        entry = {name: value for name, value in entry.items() if value is not None} | self.labels
        return entry | {"unmeasured": self.trouble} if self.trouble else entry


@final
@dataclasses.dataclass(frozen=True)
class Interval:
    """Which steps are watched, by their number from 0.

    Args:
        layers: every so many steps, and on the first three, the figures by layer.
        sites: every so many steps, and on the first three, those of its operations.
    """

    layers: int = MIN_WATCH_EVERY
    sites: int = MIN_SITES_EVERY

    @staticmethod
    def of(total_steps: int) -> "Interval":
        """Return the interval at which watching takes about a hundredth of a training of so many steps."""
        layers = max(MIN_WATCH_EVERY, total_steps // NUM_WATCHED)
        return Interval(layers, layers * max(2, -(-total_steps // (NUM_SITES * layers))))

    def watches(self, step: int) -> bool:
        """Whether the layers are measured on a step."""
        return step < FIRST_WATCHED or step % self.layers == 0

    def sees_sites(self, step: int) -> bool:
        """Whether the operations are measured on a step."""
        return step < FIRST_WATCHED or step % self.sites == 0


@final
class Recorder:
    """Records steps: `before` one, and `after` it. It changes nothing, and whatever it cannot measure it leaves out.

    Args:
        networks: with the prefix of their modules' names; the model, with "", comes first.
    """

    def __init__(self, networks: Sequence[tuple[str, nn.Module]]) -> None:
        self.layers = layer_names(*(network for _, network in networks))
        self._parameters = [parameter for tensors in self.layers.values() for parameter in tensors]
        self._sites = Sites(networks)
        self._copies: dict[int, Tensor] | None = None
        self._gradients: list[Tensor | None] | None = None
        self._sees_sites = False
        self._failed: dict[str, str] = {}
        self._told: set[str] = set()

    def before_forward(self, *, sites: bool, entered: nn.Module | None = None) -> None:
        """Begin to measure the operations of the forward pass, if wanted.

        Args:
            sites: whether they are measured.
            entered: a module whose forward pass has begun already.
        """
        self._sees_sites = sites
        if sites:
            self._sites.attach(entered)

    def end_forward(self) -> None:
        """Measure no more operations of this step."""
        self._sites.end_forward()

    def before_step(self, *, layers: bool) -> None:
        """Copy the weights, if the layers are to be measured."""
        self._copies = None
        if layers:
            self._copies = self._measured("layers", self._copied)

    def stop(self) -> None:
        """Forget what was begun, after an error in the step."""
        self._sites.detach()
        self._copies, self._gradients, self._sees_sites = None, None, False

    def go_on(self) -> None:
        """Take the gradient that the parameters have for that of the step before, after a resume."""
        self._gradients = self._measured("alignment", self._kept)

    def after(
        self, batches: Sequence[Batch] = (), *, flow: Tensor | float = 1.0, keeps: bool = False
    ) -> Watched | None:
        """Return what was measured of the step, or None of one that was not watched.

        Args:
            batches: of the step; what their targets are is told as well.
            flow: factor on the gradients that came back to the operations.
            keeps: whether the next step is watched, so that it needs this one's gradient.
        """
        found: dict[str, Any] = {}
        if self._sees_sites:
            found["sites"] = self._sites.detach(float(flow)) or None
            if self._sites.trouble:
                self._failed.setdefault("sites", self._sites.trouble)
            self._sees_sites = False
        copies, self._copies = self._copies, None
        previous, self._gradients = self._gradients, None
        if copies is not None:
            found["layers"] = self._measured("layers", lambda: layer_figures(self.layers, copies))
            found["labels"] = self._measured("labels", lambda: label_figures(batches)) or {}
            if previous is not None:
                found["alignment"] = self._measured("alignment", lambda: alignment(previous, self._parameters))
        if keeps:
            self._gradients = self._measured("alignment", self._kept)
        news = {name: why for name, why in self._failed.items() if name not in self._told}
        self._told.update(news)
        return Watched(**found, trouble=news) if found or news else None

    def _copied(self) -> dict[int, Tensor]:
        return {id(parameter): parameter.detach().clone() for parameter in self._parameters}

    def _kept(self) -> list[Tensor | None]:
        gradients = [parameter.grad for parameter in self._parameters]
        return [None if grad is None or grad.is_sparse else grad.detach().clone() for grad in gradients]

    def _measured(self, what: str, measure: Callable[[], Any]) -> Any:
        """Return a measurement; one that raises is not tried again."""
        if what in self._failed:
            return None
        try:
            with torch.no_grad():
                return measure()
        except Exception as error:  # whatever it is, the training goes on
            self._failed[what] = told(error)
            return None
