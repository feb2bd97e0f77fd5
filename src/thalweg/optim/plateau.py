"""Learning-rate schedules that follow a score: stepped with it after each evaluation, not once a step.

A score is a number that should fall, such as the validation loss. Their state is plain numbers.
"""

import math
from typing import Any, final

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from typing_extensions import override

from thalweg.errors import require
from thalweg.optim.schedules import warmup_steps


def takes_score(schedule: object) -> bool:
    """Return whether a schedule is stepped with a score, by whoever has it."""
    return isinstance(schedule, ReduceLROnPlateau | GreedyLR)


def reduce_on_plateau(
    optimizer: Optimizer,
    *,
    total_steps: int | None = None,
    warmup: float = 0,
    factor: float = 0.5,
    patience: int = 2,
    threshold: float = 1e-4,
    min_lr: float = 0.0,
) -> ReduceLROnPlateau:
    """Return PyTorch's own `ReduceLROnPlateau`, with an absolute threshold and less patience.

    Args:
        optimizer: whose groups' rates are set.
        total_steps: not used; here so that all schedules are called alike.
        warmup: not used: this schedule moves at evaluations only, not at steps.
        factor: what the rate is multiplied with, in (0, 1).
        patience: evaluations without progress that are let pass, at least 0.
        threshold: progress below this doesn't count, at least 0, in the unit of the score.
        min_lr: the rate is not lowered below this, at least 0.

    Its `step` takes the score.
    """
    warmup_steps(warmup, total_steps)
    # PyTorch's relative threshold takes a standstill for progress where scores are negative.
    numbers = {"factor": factor, "patience": patience, "threshold": threshold, "min_lr": min_lr}
    return _plateau("reduce_on_plateau", optimizer, numbers, threshold_mode="abs")


def reduce_lr_on_plateau(
    optimizer: Optimizer,
    *,
    total_steps: int | None = None,
    warmup: float = 0,
    mode: str = "min",
    factor: float = 0.1,
    patience: int = 10,
    threshold: float = 1e-4,
    threshold_mode: str = "rel",
    cooldown: int = 0,
    min_lr: float = 0.0,
    eps: float = 1e-8,
) -> ReduceLROnPlateau:
    """Return PyTorch's own `ReduceLROnPlateau` with PyTorch's settings, which are Hugging Face's.

    Args:
        optimizer: whose groups' rates are set.
        total_steps: not used; here so that all schedules are called alike.
        warmup: not used: this schedule moves at evaluations only, not at steps.
        mode: "min" for a score that should fall, "max" for one that should rise. A relative threshold needs scores
            above zero, so training uses "max" for accuracies by itself.
        factor: what the rate is multiplied with, in (0, 1).
        patience: evaluations without progress that are let pass, at least 0.
        threshold: progress below this doesn't count, at least 0.
        threshold_mode: "rel" as a fraction of the best score, "abs" in its unit.
        cooldown: evaluations after a reduction that are not looked at, at least 0.
        min_lr: the rate is not lowered below this, at least 0.
        eps: reductions below this are left out, at least 0.

    Its `step` takes the score.
    """
    warmup_steps(warmup, total_steps)
    numbers = {"factor": factor, "patience": patience, "threshold": threshold, "cooldown": cooldown}
    numbers |= {"min_lr": min_lr, "eps": eps}
    return _plateau("reduce_lr_on_plateau", optimizer, numbers, threshold_mode=threshold_mode, mode=mode)


def greedy(
    optimizer: Optimizer,
    *,
    total_steps: int | None = None,
    warmup: float = 0,
    mode: str = "min",
    factor: float = 0.95,
    patience: int = 10,
    threshold: float = 1e-6,
    threshold_mode: str = "abs",
    cooldown: int = 0,
    hold: int = 0,
    min_lr: float = 1e-3,
    max_lr: float = 1.0,
    eps: float = 1e-8,
    smooth: bool = False,
    window_size: int = 50,
    reset_start: int = 500,
) -> "GreedyLR":
    """Return the schedule that raises the rate while the score improves and lowers it while it does not.

    More than `patience` improvements in a row divide every rate by `factor`, as many evaluations without one multiply
    it. Once all rates have stood at `min_lr` for `reset_start` reductions it starts over, at the first rates.

    Args:
        optimizer: whose groups' rates are set.
        total_steps: not used; here so that all schedules are called alike.
        warmup: not used: this schedule moves at evaluations only, not at steps.
        mode: "min" for a score that should fall, "max" for one that should rise.
        factor: of one change, in (0, 1).
        patience: evaluations of one kind that change nothing yet, at least 0.
        threshold: progress below this doesn't count, at least 0.
        threshold_mode: "abs" in the unit of the score, "rel" as a fraction of the best one.
        cooldown: evaluations after a reduction that are not looked at, at least 0.
        hold: evaluations after a rise that are not looked at, at least 0 (Hugging Face's `warmup`).
        min_lr: lowest rate, positive and at most the optimizer's.
        max_lr: highest rate, at least the optimizer's.
        eps: changes up to this are left out, at least 0.
        smooth: whether the mean of the last `window_size` scores is looked at.
        window_size: at least 1.
        reset_start: reductions at the lowest rate before it starts over, at least 1.

    Its `step` takes the score.

    Source: "GreedyLR: A Novel Adaptive Learning Rate Scheduler" (2025), arXiv:2512.14527, in the form that Hugging
    Face's `get_scheduler` has.

    Not with few evaluations: with the settings above a rate moves by 5 % after eleven of one kind.
    """
    warmup_steps(warmup, total_steps)
    _check("greedy", mode, threshold_mode, factor=factor)
    counts = {"patience": patience, "threshold": threshold, "cooldown": cooldown, "hold": hold, "eps": eps}
    for name, value in counts.items():
        require(value >= 0, f"greedy({name}=...) must not be negative", value)
    for name, value in (("window_size", window_size), ("reset_start", reset_start)):
        require(value >= 1, f"greedy({name}=...) must be at least 1", value)
    rates = [float(group["lr"]) for group in optimizer.param_groups]
    least, most = min(rates), max(rates)
    require(0 < min_lr <= least, f"greedy(min_lr=...) must be positive and at most the first rate, {least:g}", min_lr)
    require(most <= max_lr < math.inf, f"greedy(max_lr=...) must be at least the first rate, {most:g}", max_lr)
    settings = counts | {"mode": mode, "threshold_mode": threshold_mode, "factor": factor, "min_lr": min_lr}
    settings |= {"max_lr": max_lr, "window_size": window_size if smooth else 1, "reset_start": reset_start}
    return GreedyLR(optimizer, settings)


@final
class GreedyLR(LRScheduler):
    """What `greedy` returns.

    Args:
        optimizer: whose groups' rates are set.
        settings: those of `greedy`, checked.
    """

    def __init__(self, optimizer: Optimizer, settings: dict[str, Any]) -> None:
        # As in PyTorch's ReduceLROnPlateau: what the base class prepares is for schedules stepped without a score.
        self.optimizer = optimizer
        self.settings = settings
        self.mode: str = settings["mode"]
        self.base_lrs = [float(group["lr"]) for group in optimizer.param_groups]
        self.last_epoch = 0
        self._start_over()

    @override
    def step(self, metrics: Any, epoch: int | None = None) -> None:  # type: ignore[override]
        """Take a score and change the rates where it is time to."""
        settings, score = self.settings, float(metrics)
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        self.scores = [*self.scores, score][-settings["window_size"] :]
        score = sum(self.scores) / len(self.scores)
        if self.waiting > 0:
            self.waiting -= 1
            self.good = self.bad = 0
            return
        if self._is_better(score):
            self.best, self.good, self.bad = score, self.good + 1, 0
        else:
            self.good, self.bad = 0, self.bad + 1
        if self.good > settings["patience"]:
            self.good, self.waiting, self.to_reset = 0, settings["hold"], settings["reset_start"]
            self._change(1.0 / settings["factor"])
        elif self.bad > settings["patience"]:
            self._change(settings["factor"])
            self.bad = 0
            if all(group["lr"] <= settings["min_lr"] for group in self.optimizer.param_groups):
                self.to_reset -= 1
                if self.to_reset <= 0:
                    self._start_over()
                    for group, rate in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
                        group["lr"] = rate
            self.waiting = settings["cooldown"]

    @override
    def get_last_lr(self) -> list[float | Tensor]:
        """Return the rates of the groups."""
        return [float(group["lr"]) for group in self.optimizer.param_groups]

    @override
    def state_dict(self) -> dict[str, Any]:
        """Return what has to be saved: plain numbers; settings and rates are the caller's and the optimizer's."""
        return {name: value for name, value in self.__dict__.items() if name not in ("optimizer", "settings", "mode")}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self.__dict__.update(state_dict)

    def _start_over(self) -> None:
        self.best: float | None = None
        self.scores: list[float] = []
        self.good = self.bad = self.waiting = 0
        self.to_reset: int = self.settings["reset_start"]

    def _is_better(self, score: float) -> bool:
        if self.best is None:
            return not math.isnan(score)
        sign, threshold = (1.0 if self.mode == "max" else -1.0), self.settings["threshold"]
        relative = self.settings["threshold_mode"] == "rel"
        needed = self.best * (1.0 + sign * threshold) if relative else self.best + sign * threshold
        return score > needed if self.mode == "max" else score < needed

    def _change(self, factor: float) -> None:
        lowest, highest = self.settings["min_lr"], self.settings["max_lr"]
        for group in self.optimizer.param_groups:
            rate = min(max(group["lr"] * factor, lowest), highest)
            if abs(rate - group["lr"]) > self.settings["eps"]:
                group["lr"] = rate


def _plateau(
    name: str, optimizer: Optimizer, numbers: dict[str, float], *, threshold_mode: str, mode: str = "min"
) -> ReduceLROnPlateau:
    _check(name, mode, threshold_mode, factor=numbers["factor"])
    for key, value in numbers.items():
        require(value >= 0, f"{name}({key}=...) must not be negative", value)
    return ReduceLROnPlateau(optimizer, mode=mode, threshold_mode=threshold_mode, **numbers)  # type: ignore[arg-type]


def _check(name: str, mode: str, threshold_mode: str, *, factor: float) -> None:
    require(0 < factor < 1, f"{name}(factor=...) must lie in (0, 1)", factor)
    for key, value, choices in (("mode", mode, ("min", "max")), ("threshold_mode", threshold_mode, ("rel", "abs"))):
        if value not in choices:
            raise ValueError(f"{name}({key}=...) must be {choices[0]} or {choices[1]}; got {value!r}.")
