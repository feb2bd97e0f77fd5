"""A certificate against a run: every level's problem is computed again from the run's data and weights."""

from collections.abc import Callable
from typing import Any, Final, final

import torch

from thalweg.certificates.checker import check
from thalweg.certificates.floors.targets import collect_targets
from thalweg.certificates.halfspaces.level import separable_problem
from thalweg.certificates.levels import ERRORS, LOSS, floor_levels, hash_of_data, hash_of_weights
from thalweg.certificates.linear.last_layer import head_problem
from thalweg.certificates.problems import problem_at
from thalweg.certificates.two_layer.evidence import problem_evidence
from thalweg.certificates.two_layer.point import two_layer_point
from thalweg.errors import InputError
from thalweg.training.certified.certify import Opened, training_objective
from thalweg.training.certified.new_texts import counted_again

Evidence = dict[str, Any]

# What a level's evidence holds besides its problem: the dual point or whatever else proves the bound. All the rest is
# computed again from the run.
POINT: Final = ("residual", "exponent", "scale")
NEURONS: Final = (
    *("method", "axes", "cell", "side", "row", "multiplier", "theta", "delta"),
    *("unit", "H", "sign", "share", "hull", "products", "own", "cone", "reach"),
)
PROOF: Final = {
    "floor": (),
    "head": POINT,
    "linear": POINT,
    "factored": POINT,
    "two_layer": (*POINT, *NEURONS),
    "separable": ("rival", "set", "example", "stopped", "W", "b"),
    "held_out": (),
}


@final
class Rebuilt:
    """The problems that a certificate of a run is about, computed again from the run.

    Args:
        opened: the run, its data read again.

    Attributes:
        hashes: "data" and "weights" -> SHA-256.
    """

    def __init__(self, opened: Opened) -> None:
        run = opened.run
        objective, self._view = training_objective(run.recipe, opened.task, opened.trained, run.model, run.head)
        self.hashes = {"data": hash_of_data(objective), "weights": hash_of_weights(objective)}
        self._folder, self._about = run.folder, opened.task.about()
        self._exact = objective.copied(torch.float64)
        self._opened = opened

    def __call__(self, name: str, evidence: Evidence) -> Evidence:
        """Return a level's evidence with the run's own problem in place of the file's."""
        rule = evidence.get("rule")
        make = self._makers().get(rule) if isinstance(rule, str) else None
        if make is None or rule not in PROOF:
            raise check.Refused(f"The problem of a level {name!r} cannot be computed again from a run.")
        try:
            own = make(evidence)
        except InputError as error:
            raise check.Refused(f"{self._folder} has no such level: {error}") from None
        problem = {key: value for key, value in own.items() if key not in PROOF[rule]}
        return problem | {key: evidence[key] for key in PROOF[rule] if key in evidence}

    def differences(self, content: dict[str, Any]) -> list[str]:
        """Return sentences about what a certificate file itself says to be of another run."""
        claimed = content.get("hashes")
        return [
            f"The {what} of the certificate do not match those of {self._folder}."
            for what, digest in self.hashes.items()
            if not isinstance(claimed, dict) or claimed.get(what) != digest
        ]

    def _makers(self) -> dict[str, Callable[[Evidence], Evidence]]:
        return {
            "floor": self._floor,
            "head": self._head,
            "linear": self._whole,
            "factored": self._whole,
            "two_layer": self._two_layer,
            "separable": self._separable,
            "held_out": self._held_out,
        }

    def _floor(self, evidence: Evidence) -> Evidence:
        targets = collect_targets(self._exact)
        quantity = ERRORS if evidence.get("measure") == "errors" else LOSS
        for level in floor_levels(self._exact, targets.loss, targets, self._view):
            if level.quantity == quantity:
                return dict(level.evidence)
        raise check.Refused(f"{self._folder} has no floor of the {quantity}.")

    def _head(self, _: Evidence) -> Evidence:
        head, point, offset = head_problem(self._exact, about=self._about)
        return dict(head.certificate(point, offset=offset).evidence)

    def _two_layer(self, _: Evidence) -> Evidence:
        point = two_layer_point(self._exact)
        words = {**self._about, **point.words}
        problem = problem_evidence(point.problem, point.weights, point.offset, words)
        return {**problem, "free_bias": int(point.problem.free_intercept)}

    def _separable(self, evidence: Evidence) -> Evidence:
        return separable_problem(self._exact, evidence)

    def _held_out(self, evidence: Evidence) -> Evidence:
        opened = self._opened
        return counted_again(opened.run, opened.task, opened.prepared, evidence)

    def _whole(self, _: Evidence) -> Evidence:
        problem, point = problem_at(self._exact, about=self._about)
        return dict(problem.certificate(point).evidence)
