"""The interval in which the best possible loss lies, and the certificates it is made of."""

import dataclasses
import enum
import io
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import numpy as np

from thalweg.certificates.checker import check
from thalweg.report.cells import block, table
from thalweg.storage.files import write_file

# Two sums of the same numbers in float64 may differ by this fraction of their size; a larger difference is a mistake.
ROUNDING = 1e-9
Evidence = Mapping[str, np.ndarray | float | int | str]


class Proof(enum.Enum):
    """What stands behind a bound; the value of a member is what the user reads.

    Example:
        >>> Proof.PROOF_WITH_TOLERANCE.value
        'proof under a stated tolerance'
    """

    PROOF = "proof"
    PROOF_WITH_TOLERANCE = "proof under a stated tolerance"
    PROBABILISTIC = "probabilistic"
    ESTIMATE = "estimate"


def rounding_slack(*values: float) -> float:
    """Return by how much two float64 sums of the size of `values` may differ without a mistake."""
    return ROUNDING * max((abs(value) for value in values if math.isfinite(value)), default=0.0) + 1e-14


@final
@dataclasses.dataclass(frozen=True, kw_only=True)
class Certificate:
    r"""One lower bound $L$ of a loss at a point, $L \le f^* \le f(\hat\theta)$, and what proves it.

    Args:
        name: the level: "floor", "norm_floor", "head", "linear", "factored", "two_layer", "threshold", "separable",
            "local" or "held_out".
        quantity: what is bounded: "training loss", "training errors".
        unit: "nats", "errors", "squared error".
        loss: $f(\hat\theta)$, the quantity at the point, in float64.
        bound: $L$; above the loss by rounding it is lowered to the loss.
        scope: one sentence that says what the bound is about: which trainings cannot get below it.
        whole: whether the bound holds for every training of this configuration; False where something stays as it is
            (the features below a head, the neighborhood of a point).
        proof: what kind of statement it is.
        probability: the chance that a probabilistic statement is wrong, at most; None for the other kinds.
        assumptions: sentences; what must hold besides the evidence (tolerances, margins, dropout left out).
        reached: a lower loss that was reached on the way (a polished head, a better network); None: none was.
        upper: what the quantity is not above, by the same statement (the error on new data); None: it says nothing.
        seconds: time that computing the bound took.
        evidence: what `thalweg.certificates.checker.check` needs to verify the bound, by the names in its table;
            `evidence["rule"]` says which rule. Empty: nothing can be verified without computing again.
        products: how many products of numbers verifying it takes, besides those that the sizes of its arrays tell.

    Raises:
        ValueError: if the bound is above the loss by more than rounding, or a number is NaN: a mistake of ours.

    Example:
        >>> level = Certificate(name="floor", quantity="training loss", unit="nats", loss=0.5, bound=0.4,
        ...     scope="No model that reads this input has a lower training loss.", proof=Proof.PROOF, seconds=0.0)
        >>> f"{level.gap:.3f} {level.relative_gap:.3f}"
        '0.100 0.200'
    """

    name: str
    quantity: str
    unit: str
    loss: float
    bound: float
    scope: str
    proof: Proof
    seconds: float
    whole: bool = True
    probability: float | None = None
    assumptions: tuple[str, ...] = ()
    reached: float | None = None
    upper: float | None = None
    evidence: Evidence = dataclasses.field(default_factory=dict, repr=False)
    products: float = dataclasses.field(default=0.0, repr=False)

    def __post_init__(self) -> None:
        if self.evidence.get("rule") in check.RULES:
            about = check.statement(self.evidence)
            for key in ("quantity", "unit", "whole", "scope"):
                object.__setattr__(self, key, about[key])
            object.__setattr__(self, "proof", Proof(about["proof"]))
            object.__setattr__(self, "upper", about.get("upper"))
            said = (*about["assumptions"], *(one for one in self.assumptions if one not in about["assumptions"]))
            object.__setattr__(self, "assumptions", said)
        if math.isnan(self.loss) or math.isnan(self.bound):
            raise ValueError(f"The level {self.name!r} has the loss {self.loss} and the bound {self.bound}.")
        if self.bound > self.loss + rounding_slack(self.loss, self.bound):
            raise ValueError(
                f"The level {self.name!r} bounds the {self.quantity} by {self.bound:.17g}, above its value "
                f"{self.loss:.17g} at the point: one of them is wrong."
            )
        object.__setattr__(self, "bound", min(self.bound, self.loss))

    @property
    def gap(self) -> float:
        """By how much the loss can be above the optimum, at most; never negative, infinite without a bound."""
        return self.loss - self.bound

    @property
    def relative_gap(self) -> float:
        """The gap as a fraction of |loss|; where the loss is 0: zero if the gap is, else infinite."""
        return relative(self.gap, self.loss)


def relative(gap: float, loss: float) -> float:
    """Return a gap as a fraction of |loss|: 0 where both are 0, infinite where only the loss is."""
    if gap == 0.0:
        return 0.0
    return gap / abs(loss) if loss != 0.0 and math.isfinite(gap) else math.inf


@final
@dataclasses.dataclass(frozen=True, kw_only=True)
class Interval:
    """All levels of one point, and the interval [bound, loss] that they give for the best possible loss.

    The bound is the largest over the levels that hold for the whole configuration and speak of the same quantity.

    Args:
        loss: the quantity at the point.
        levels: certificates, in the order in which they are shown.
        quantity: what the interval is about.
        unit: its unit.
        left_out: level -> a sentence that says why it does not apply.
        hashes: "data" and "weights" -> SHA-256 of what was certified.
        notes: sentences about what training did that the certified quantity does not have (dropout).
        sample: what the loss was estimated from where there was no time for all data, such as "64 of 900 examples";
            empty: it is that of all data.

    Raises:
        ValueError: if a level of the same quantity has another loss: they would be about different points.

    Example:
        >>> level = Certificate(name="floor", quantity="training loss", unit="nats", loss=0.5, bound=0.4,
        ...     scope="No model that reads this input has a lower training loss.", proof=Proof.PROOF, seconds=0.0)
        >>> interval = Interval(loss=0.5, levels=(level,))
        >>> interval.bound, interval.proof
        (0.4, <Proof.PROOF: 'proof'>)
    """

    loss: float
    levels: tuple[Certificate, ...]
    quantity: str = "training loss"
    unit: str = "nats"
    left_out: Mapping[str, str] = dataclasses.field(default_factory=dict)
    hashes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    sample: str = ""

    def __post_init__(self) -> None:
        for level in self.levels:
            same = level.quantity == self.quantity
            if same and abs(level.loss - self.loss) > rounding_slack(level.loss, self.loss):
                raise ValueError(
                    f"The level {level.name!r} is about a point of loss {level.loss:.17g}, the interval about one of "
                    f"{self.loss:.17g}; certify one point at a time."
                )

    @property
    def best(self) -> Certificate | None:
        """The level with the highest bound for the whole configuration (of equal ones the one of the firmer proof)."""
        firmness = list(Proof)[::-1]
        levels = [level for level in self.levels if level.whole and level.quantity == self.quantity]
        return max(levels, key=lambda level: (level.bound, firmness.index(level.proof)), default=None)

    @property
    def bound(self) -> float:
        """The lower end; minus infinity where no level gives one; never above the loss."""
        return -math.inf if self.best is None else min(self.best.bound, self.loss)

    @property
    def best_reached(self) -> float:
        """The upper end: the lowest value that was reached, by the point or on the way; never below the bound."""
        levels = [level for level in self.levels if level.quantity == self.quantity or level.name == "local"]
        reached = [level.reached for level in levels if level.reached is not None]
        return max(min([self.loss, *reached]), self.bound)

    @property
    def gap(self) -> float:
        """By how much the loss can be above the best possible one, at most."""
        return self.loss - self.bound

    @property
    def relative_gap(self) -> float:
        """The gap as a fraction of |loss|; see `Certificate.relative_gap`."""
        return relative(self.gap, self.loss)

    @property
    def scope(self) -> str:
        """What the bound is about, in a sentence."""
        return "No level bounds the whole configuration." if self.best is None else self.best.scope

    @property
    def proof(self) -> Proof:
        """What kind of statement the bound is."""
        return Proof.ESTIMATE if self.best is None else self.best.proof

    def __repr__(self) -> str:
        bound = f"{self.bound:.6g}, " if self.best is not None else "no bound, "
        return f"Interval({self.quantity}: {bound}{self.loss:.6g}; {self.proof.value})"

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the two ends, and the levels that bound the loss."""
        rows = [
            (level.name.replace("_", " "), level.quantity, level.bound, level.relative_gap, level.proof.value)
            for level in self.levels
        ]
        low = None if self.best is None else self.bound
        ends = table((), [("at the point", self.loss), ("lower bound", low), ("relative gap", self.relative_gap)])
        levels = table(("level", "quantity", "bound", "relative gap", "kind of proof"), rows) if rows else ""
        unit = self.unit if self.best is None else self.best.unit
        return block(f"Best {self.quantity} in {unit}", [ends, levels], [self.scope, *self.notes])

    def save(self, path: str | os.PathLike[str], *, max_bytes: int = 2**28) -> None:
        """Write the interval to `path` (JSON), and the arrays of its evidence next to it, with the suffix `.npz`.

        The JSON holds the checksum of every array; `thalweg.certificates.checker.check` reads the two files.

        Args:
            path: where to.
            max_bytes: as for `files`.
        """
        path = Path(path)
        content, arrays = self.files(max_bytes=max_bytes)
        write_file(path.with_suffix(".npz"), arrays)
        write_file(path, content)

    def files(self, *, max_bytes: int = 2**28) -> tuple[bytes, bytes]:
        """Return what `save` writes: the interval as JSON, and the arrays of its evidence as an NPZ file.

        Args:
            max_bytes: a level whose evidence would bring all arrays above this, or above what the checker verifies in
                seconds, is saved without it, and the checker says so.
        """
        names: dict[str, str] = {}
        arrays: dict[str, np.ndarray] = {}
        content: dict[str, Any] = self.to_json()
        left, work = min(max_bytes, check.MAX_BYTES), check.MAX_PRODUCTS
        for entry, level in zip(content["levels"], self.levels, strict=True):
            entry["evidence"] = {}
            products, numbers = check.price(level.evidence) if level.evidence else (0.0, 0.0)
            products += level.products
            size = sum(8 * value.size for value in level.evidence.values() if isinstance(value, np.ndarray))
            if size > left or products > work or numbers > check.MAX_NUMBERS:
                continue
            left, work = left - size, work - products
            for key, value in level.evidence.items():
                if isinstance(value, np.ndarray):
                    digest = check.fingerprint({"": value})
                    name = names.setdefault(digest, f"{len(names)}-{key}")  # arrays that levels share are written once
                    arrays[name] = value
                    entry["evidence"][key] = {"array": name}
                else:
                    entry["evidence"][key] = value
        content["arrays"] = {name: check.fingerprint({name: value}) for name, value in arrays.items()}
        text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
        packed = io.BytesIO()
        np.savez(packed, allow_pickle=False, **arrays)
        return text.encode() + b"\n", packed.getvalue()

    def to_json(self) -> dict[str, Any]:
        """Return the interval as plain values (no arrays), as `thalweg certify --json` prints it; None: no bound."""
        return finite(self._content())

    def _content(self) -> dict[str, Any]:
        return {
            "loss": self.loss,
            "loss_estimated_from": self.sample or None,
            "bound": self.bound,
            "reached": self.best_reached,
            "relative_gap": self.relative_gap,
            "scope": self.scope,
            "proof": self.proof.value,
            "quantity": self.quantity,
            "unit": self.unit if self.best is None else self.best.unit,
            "levels": [level_to_json(level) for level in self.levels],
            "left_out": dict(self.left_out),
            "notes": list(self.notes),
            "hashes": dict(self.hashes),
        }


def level_to_json(level: Certificate) -> dict[str, Any]:
    """Return a certificate as plain values, without its evidence."""
    return {
        "name": level.name,
        "bound": level.bound,
        "scope": level.scope,
        "proof": level.proof.value,
        "seconds": level.seconds,
        "quantity": level.quantity,
        "unit": level.unit,
        "loss": level.loss,
        "relative_gap": level.relative_gap,
        "whole": level.whole,
        "probability": level.probability,
        "reached": level.reached,
        "upper": level.upper,
        "assumptions": list(level.assumptions),
    }


def finite(value: Any) -> Any:
    """Return the value with None in place of infinities, which JSON has no words for."""
    if isinstance(value, dict):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
