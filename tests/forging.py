"""Honest certificates of small problems, and a forger's tools to change them: every checksum is made anew."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from thalweg.certificates.certificate.interval import Interval
from thalweg.certificates.checker.check import fingerprint
from thalweg.certificates.factored.problem import Factored
from thalweg.certificates.linear.head import Head
from thalweg.certificates.linear.matrices import Features
from thalweg.certificates.linear.regularizers import L1, L2, Ball, ElasticNet
from thalweg.certificates.losses import SoftmaxLoss
from thalweg.certificates.number_losses import HingeLoss, LogisticLoss, SquaredHingeLoss, SquaredLoss

N, D, K = 12, 5, 3


def bag(seed: int = 0, *, intercept: bool = True, labels: Any = None) -> Interval:
    """A factored level, which carries the bound, and that of its output layer alone."""
    rng = np.random.default_rng(seed)
    x = np.round(rng.random((N, D)) * (rng.random((N, D)) < 0.6), 2)
    labels = torch.from_numpy(rng.integers(0, K, N)) if labels is None else labels
    loss, l2 = SoftmaxLoss.of_labels(labels, K), 0.02
    embedding, weight = (torch.from_numpy(0.5 * rng.normal(size=shape)) for shape in ((D, 2), (K, 2)))
    bias = torch.from_numpy(0.1 * rng.normal(size=K)) if intercept else None
    factored = Factored(Features(torch.from_numpy(x).to_sparse()), loss, l2, intercept=intercept)
    whole = factored.certificate(factored.at(embedding, weight, bias))
    head = Head(Features(torch.from_numpy(x) @ embedding), loss, L2(l2), intercept=intercept)
    offset = 0.5 * l2 * float(embedding.square().sum())
    part = head.certificate(head.at(weight.T, bias), offset=offset)
    return Interval(loss=whole.loss, levels=(whole, part), notes=("Trained with dropout.",), hashes={"data": "0"})


def layer(kind: str, seed: int = 0) -> Interval:
    """The level of an output layer, by loss and penalty."""
    name, penalty = kind.split()
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(rng.normal(size=(N, D)).round(1))
    numbers, signs = torch.from_numpy(rng.normal(size=(N, 1))), torch.from_numpy(rng.choice([-1.0, 1.0], (N, 1)))
    weights = torch.from_numpy(rng.uniform(0.5, 2.0, N))
    loss = {
        "labels": lambda: SoftmaxLoss.of_labels(torch.from_numpy(rng.integers(0, K, N)), K),
        "soft": lambda: SoftmaxLoss(torch.from_numpy(rng.dirichlet(np.ones(K), N)), weights),
        "logistic": lambda: LogisticLoss((signs + 1) / 2, weights),
        "squared": lambda: SquaredLoss(numbers),
        "squared_hinge": lambda: SquaredHingeLoss(signs),
        "hinge": lambda: HingeLoss(signs),
    }[name]()
    w = torch.from_numpy(0.2 * rng.normal(size=(D, loss.num_outputs)))
    regularizer = {"l2": L2(0.05), "l1": L1(0.02), "elastic": ElasticNet(0.02, 0.05), "ball": Ball(float(w.norm()))}
    head = Head(Features(x.to_sparse() if penalty == "l1" else x), loss, regularizer[penalty], intercept=True)
    level = head.certificate(head.at(w))
    return Interval(loss=level.loss, levels=(level,), unit=level.unit)


HONEST: dict[str, Callable[[], Interval]] = {
    "bag": bag,
    "bag without bias": lambda: bag(1, intercept=False),
    **{kind: lambda kind=kind: layer(kind) for kind in (
        "labels l2", "soft elastic", "logistic l1", "squared ball", "squared_hinge l2", "hinge elastic", "labels ball",
        "soft l1", "logistic l2", "squared elastic",
    )},
}  # fmt: skip


class Forger:
    """A saved certificate in the hands of somebody who knows of the checksums."""

    def __init__(self, path: Path) -> None:
        self.path, self.beside = path, path.with_suffix(".npz")
        self.content: Any = json.loads(path.read_text())
        with np.load(self.beside) as file:
            self.arrays: dict[str, Any] = {name: file[name] for name in file.files}
        self.level: Any = self.content["levels"][0]
        self.evidence: Any = self.level["evidence"]
        self.hashed = True

    def name(self, key: str) -> str:
        """Name of the array of the first level's evidence."""
        return self.evidence[key]["array"]

    def __getitem__(self, key: str) -> Any:
        """A number of the first level's evidence, or a copy of an array."""
        value = self.evidence[key]
        return self.arrays[value["array"]].copy() if isinstance(value, dict) else value

    def __setitem__(self, key: str, value: Any) -> None:
        """Change it; arrays that levels share become the first level's own."""
        if isinstance(value, np.ndarray):
            name = f"new-{key}"
            old = self.evidence.get(key)
            self.evidence[key] = {"array": name}
            self.arrays[name] = value
            if isinstance(old, dict):
                self.forget(old["array"])
        else:
            old = self.evidence.get(key)
            self.evidence[key] = value
            if isinstance(old, dict):
                self.forget(old["array"])

    def __delitem__(self, key: str) -> None:
        """Leave it out."""
        old = self.evidence.pop(key)
        if isinstance(old, dict):
            self.forget(old["array"])

    def forget(self, name: str) -> None:
        """Drop an array that no level refers to any more."""
        used = {v["array"] for one in self.content["levels"] for v in one["evidence"].values() if isinstance(v, dict)}
        if name not in used:
            self.arrays.pop(name, None)

    def claim(self, bound: float, *, loss: float | None = None) -> None:
        """Claim a bound (and a loss) for the first level and the interval, with all that follows from it."""
        content = self.content
        for one in content["levels"] if loss is not None else []:
            one["loss"] = loss
            one["relative_gap"] = (loss - one["bound"]) / abs(loss)
        loss = self.level["loss"]
        self.level["bound"] = bound
        self.level["relative_gap"] = (loss - bound) / abs(loss)
        content["loss"], content["bound"] = loss, bound if self.level["whole"] else content["bound"]
        content["reached"] = max(min(content["reached"], loss), bound)
        content["relative_gap"] = self.level["relative_gap"] if self.level["whole"] else content["relative_gap"]

    def save(self) -> None:
        """Write both files."""
        if self.hashed:
            made = {name: "" if a.dtype == object else fingerprint({name: a}) for name, a in self.arrays.items()}
            self.content["arrays"] = made
        np.savez(self.beside, allow_pickle=True, **self.arrays)
        self.path.write_text(json.dumps(self.content))

    def zipped(self, compression: int = zipfile.ZIP_STORED, extra: tuple[str, bytes] | None = None) -> None:
        """Write the .npz again, compressed or with one more file in it."""
        self.save()
        with zipfile.ZipFile(self.beside) as file:
            every = {name: file.read(name) for name in file.namelist()}
        with zipfile.ZipFile(self.beside, "w", compression) as file:
            for name, data in [*every.items(), *([extra] if extra else [])]:
                file.writestr(name, data)
