"""Honest certificates of small problems, and a forger's tools to change them: every checksum is made anew."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from dual_cases import exact_bound, exact_loss

from thalweg.certificates.certificate.interval import Interval
from thalweg.certificates.checker import check as checker
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


def is_array(value: Any) -> bool:
    """Whether a value of the JSON's evidence stands for an array."""
    return isinstance(value, dict) and "array" in value


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
        return self.arrays[value["array"]].copy() if is_array(value) else value

    def __setitem__(self, key: str, value: Any) -> None:
        """Change it; arrays that levels share become the first level's own."""
        if isinstance(value, np.ndarray):
            name = f"new-{key}"
            old = self.evidence.get(key)
            self.evidence[key] = {"array": name}
            self.arrays[name] = value
            if is_array(old):
                self.forget(old["array"])
        else:
            old = self.evidence.get(key)
            self.evidence[key] = value
            if is_array(old):
                self.forget(old["array"])

    def __delitem__(self, key: str) -> None:
        """Leave it out."""
        old = self.evidence.pop(key)
        if is_array(old):
            self.forget(old["array"])

    def forget(self, name: str) -> None:
        """Drop an array that no level refers to any more."""
        used = {v["array"] for one in self.content["levels"] for v in one["evidence"].values() if is_array(v)}
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


# ---- mutations ----

NUMBERS = (
    0, 1, -1, 2, 0.5, -0.0, 1e-300, 1e300, 1e308, 5e-324, 2**53, 2**63, -(2**63), 10**400, True, False, None, "", "NaN",
    "1.0", "Infinity", [], [1.0], {}, "\x1b[31m", "\ud800", "softmax", "hinge", "squared", "l1", "l2", "ball",
)  # fmt: skip
TYPES = (np.float64, np.float32, np.int64, np.int32, np.int8, np.uint8, np.bool_, np.complex128)


def mutated_number(rng: np.random.Generator, value: Any) -> Any:
    """Another value for a number or a word."""
    if rng.random() < 0.3 or not checker.is_number(value) or abs(value) > 1e290:
        return NUMBERS[rng.integers(len(NUMBERS))]
    with np.errstate(all="ignore"):
        choice = rng.integers(6)
        if choice == 0:
            return value + int(rng.integers(-3, 4))
        if choice == 1:
            return float(np.nextafter(value, rng.choice([-np.inf, np.inf])))
        return type(value)(
            value * float(rng.choice([0.5, 2.0, 1 + 1e-12, 1 - 1e-12, -1.0, 10.0 ** rng.uniform(-9, 9)]))
        )


def mutated_array(rng: np.random.Generator, array: np.ndarray) -> np.ndarray:
    """Another array."""
    array = array.copy()
    choice = rng.integers(13)
    with np.errstate(all="ignore"):
        if choice <= 4 and array.size:
            flat = array.reshape(-1)
            places = rng.integers(flat.size, size=rng.integers(1, 3))
            if array.dtype.kind == "f":
                by = rng.choice([0.5, 2.0, -1.0, 0.0, 1e300, 1e-300, np.nan, np.inf, 1 + 1e-12])
                flat[places] = flat[places] * by
            else:
                flat[places] = (
                    flat[places].astype(np.int64) + rng.integers(-(2 ** rng.integers(1, 50)), 2**40)
                ).astype(array.dtype)
            return array
        if choice == 5:
            return array.astype(TYPES[rng.integers(len(TYPES))])
        if choice == 6:
            return array[: int(rng.integers(0, len(array) + 1))] if array.ndim else array
        if choice == 7:
            return np.roll(array, 1, axis=int(rng.integers(array.ndim))) if array.ndim else array
        if choice == 8:
            return array.T.copy()
        if choice == 9:
            return array.reshape(-1) if rng.random() < 0.5 else array[None]
        if choice == 10:
            return np.zeros_like(array)
        if choice == 11:
            return np.asfortranarray(array)
        return (array * float(rng.choice([0.5, 2.0, -1.0, 1e-9, 1e9]))).astype(array.dtype)


def mutated_fields(rng: np.random.Generator, f: Forger) -> None:
    """Change a number, an array, a field of a level or of the interval, or the list of levels."""
    choice = rng.random()
    f.level = f.content["levels"][rng.integers(len(f.content["levels"]))]
    f.evidence = f.level["evidence"]
    keys = list(f.evidence)
    if choice < 0.65 and keys:
        key = keys[rng.integers(len(keys))]
        if rng.random() < 0.08:
            del f[key]
        elif is_array(f.evidence[key]):
            f[key] = mutated_array(rng, f[key])
        else:
            f[key] = mutated_number(rng, f[key])
    elif choice < 0.8:
        key = list(f.level)[rng.integers(len(f.level))]
        if key != "evidence":
            f.level[key] = mutated_number(rng, f.level[key])
    elif choice < 0.95:
        key = list(f.content)[rng.integers(len(f.content))]
        if key not in ("levels", "arrays"):
            f.content[key] = mutated_number(rng, f.content[key])
    else:
        f.content["levels"].insert(int(rng.integers(len(f.content["levels"]) + 1)), dict(f.level))


def fields_from_evidence(f: Forger) -> None:
    """Claim for each level what its evidence proves now, with all sentences that belong to it."""
    for level in f.content["levels"]:
        evidence = {k: f.arrays[v["array"]] if is_array(v) else v
                    for k, v in level["evidence"].items()}  # fmt: skip
        try:
            found = checker.prove(evidence)
            about = checker.statement(evidence)
        except (checker.Refused, *checker.ERRORS):
            continue
        loss = level["loss"] if found.loss is None else float(found.loss)
        if not checker.is_number(loss):
            continue
        bound = min(float(checker.proved(found)), loss)
        level.update({k: list(v) if isinstance(v, tuple) else v for k, v in about.items()})
        level.update(name=evidence["rule"], loss=loss, bound=bound, reached=None)
        level["relative_gap"] = (loss - bound) / abs(loss) if loss else None if bound != loss else 0.0
    whole = [one for one in f.content["levels"] if one["whole"] is True and checker.is_number(one["bound"])]
    best = max(whole, key=lambda one: one["bound"], default=None)
    if best is not None:
        keys = ("loss", "bound", "scope", "proof", "unit", "quantity", "relative_gap")
        f.content.update({key: best[key] for key in keys}, reached=best["loss"])


def mutated_file(rng: np.random.Generator, path: Path) -> None:
    """Change bytes of one of the two files."""
    chosen = path if rng.random() < 0.5 else path.with_suffix(".npz")
    raw = bytearray(chosen.read_bytes())
    for _ in range(rng.integers(1, 4)):
        at, size = int(rng.integers(len(raw) + 1)), int(2.0 ** rng.uniform(0, 7))
        choice = rng.integers(5)
        if choice == 0:
            raw[at : at + size] = b""
        elif choice == 1:
            raw[at:at] = rng.bytes(size)
        elif choice == 2:
            raw[at : at + size] = raw[:size]
        elif at < len(raw):
            raw[at] = rng.integers(256) if choice == 3 else raw[at] ^ (1 << rng.integers(8))
    chosen.write_bytes(raw)


def is_false(path: Path, report: checker.Report) -> str:
    """Say what is false in what was accepted; empty if nothing is."""
    content, arrays = checker.read(path)
    for level in content["levels"]:
        if level["name"] not in report.verified or level["name"] not in ("head", "factored"):
            continue
        e = {key: arrays[v["array"]] if isinstance(v, dict) else v for key, v in level["evidence"].items()}
        try:
            checker.check_level(level, e)
        except (checker.Refused, *checker.ERRORS):  # another level of this name is the one that is verified
            continue
        if level["bound"] > max(exact_bound(e), e["offset"]):
            return f"{level['name']}: the bound {level['bound']!r} is above {exact_bound(e)}"
        if e["regularizer"] == "nuclear":
            continue
        b = e["b"].tolist() if "b" in e else [0] * e["residual"].shape[1]
        if level["bound"] > exact_loss(e, e["W"].tolist(), b) * (1 + 1e-9):
            return f"{level['name']}: the bound {level['bound']!r} is above the loss of its weights"
    return ""
