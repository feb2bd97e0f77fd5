"""Change honest certificates at random, and see that the checker accepts nothing false.

    OMP_NUM_THREADS=1 python benchmarks/forge.py 20000
    OMP_NUM_THREADS=1 python benchmarks/forge.py 1 --first 123          # the mutation of this seed once more

A third of the mutations change bytes of the JSON or of the .npz, a third change fields, numbers and arrays and make the
checksums anew, and a third also claim whatever the changed evidence then proves, with the loss, the gap and the
sentences that belong to it. What is accepted must be true: the bound of every verified linear level may not be above
the exact value of the dual point in its own evidence (fractions, 60 digits), nor above the loss of its weights. There
must be no traceback, no refusal of an honest certificate, at most 10 s for a file and 1 GB in all. The exit code is 1
if anything is violated.
"""

import argparse
import collections
import contextlib
import dataclasses
import io
import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from forging import HONEST, Forger, fields_from_evidence, is_false, mutated_fields, mutated_file

import thalweg
from thalweg.certificates.certificate.proved import proved_certificate
from thalweg.certificates.checker import check
from thalweg.certificates.halfspaces.level import separable_level


def network() -> thalweg.certificates.Interval:
    """The levels of a small network: floor, head, two layers, neighborhood."""
    torch.manual_seed(0)
    x = torch.randn(16, 2).round()
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    labels = (x[:, 0] + torch.randn(16) > 0).long()
    return thalweg.certify(thalweg.Objective(model, nn.CrossEntropyLoss(), x, labels, l2=1e-2))


def threshold() -> thalweg.certificates.Interval:
    """The errors of a threshold unit, all of whose answers are listed."""
    rng = np.random.default_rng(0)
    unit = thalweg.certificates.ThresholdNetwork(np.ones((1, 2)), np.zeros(1), thalweg.certificates.Gate.SINGLE)
    return of_level(thalweg.certificates.certify_threshold(rng.integers(-3, 4, (12, 2)) * 1.0, np.arange(12) % 2, unit))


def held_out() -> thalweg.certificates.Interval:
    """The error on new data."""
    counts = {"wrong": 7, "examples": 40, "chance": 0.05, "compared": 3, "baseline": 20}
    level = proved_certificate({"rule": "held_out", **counts, "data": "examples"}, loss=7 / 40, seconds=0.0)
    return of_level(dataclasses.replace(level, probability=counts["chance"]))


def separable() -> thalweg.certificates.Interval:
    """The errors of every output layer."""
    torch.manual_seed(0)
    x, labels = torch.randn(24, 2).round(), torch.arange(24) % 3
    objective = thalweg.Objective(nn.Linear(2, 3), nn.CrossEntropyLoss(), x, labels)
    return of_level(separable_level(objective, seconds=2.0))


def of_level(level: thalweg.certificates.Certificate) -> thalweg.certificates.Interval:
    """The interval of one level."""
    return thalweg.certificates.Interval(loss=level.loss, levels=(level,), unit=level.unit)


def main() -> int:
    """Draw the mutations and print the table; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mutations", type=int)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    options = parser.parse_args()
    makers = {**HONEST, "network": network, "threshold": threshold, "held_out": held_out, "separable": separable}
    found: collections.Counter[str] = collections.Counter()
    longest = violated = 0.0
    with tempfile.TemporaryDirectory() as folder:
        honest = {name: Path(folder) / f"{number}.json" for number, name in enumerate(makers)}
        for name, path in honest.items():
            makers[name]().save(path)
            if check.check(path).refused:
                violated += 1
                print(f"VIOLATED: {name} is honest and refused: {check.check(path).refused}")
        path = Path(folder) / "mutant.json"
        for seed in range(options.first, options.first + options.mutations):
            rng = np.random.default_rng(seed)
            name = list(honest)[seed % len(honest)]
            path.write_bytes(honest[name].read_bytes())
            path.with_suffix(".npz").write_bytes(honest[name].with_suffix(".npz").read_bytes())
            kind = ("bytes", "values", "values, claims made to fit")[seed // len(honest) % 3]
            if kind == "bytes":
                mutated_file(rng, path)
            else:
                forger = Forger(path)
                for _ in range(rng.integers(1, 4)):
                    mutated_fields(rng, forger)
                if kind != "values":
                    fields_from_evidence(forger)
                with contextlib.suppress(TypeError, ValueError):  # what JSON has no words for
                    forger.save()
            begin, said = time.perf_counter(), io.StringIO()
            try:
                with contextlib.redirect_stdout(said):
                    code = check.main([str(path)])
                wrong = is_false(path, check.check(path)) if code < 2 else ""
            except Exception as error:
                code, wrong = 3, f"a traceback: {type(error).__name__}: {error}"
            took = time.perf_counter() - begin
            longest = max(longest, took)
            lines = said.getvalue().splitlines()
            verified = code < 2 and not lines[-1].split(": ", 1)[1].startswith("0 of")
            word = {2: "unreadable", 3: "traceback"}.get(
                code, "some level verified" if verified else "nothing verified"
            )
            found[f"{kind}: {word}"] += 1
            if wrong or took > 10.0 or "\x1b" in said.getvalue():
                violated += 1
                print(f"VIOLATED, seed {seed} ({name}, {kind}): {wrong or f'{took:.1f} s'}", flush=True)
    for name, count in sorted(found.items()):
        print(f"{name:50s} {count:7d}")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"violated {violated:.0f}; longest {longest:.2f} s with the exact value; {memory:.2f} GB of memory in all")
    print(json.dumps({"mutations": options.mutations, "violated": int(violated), **found}))
    return 1 if violated or memory > 1.0 else 0


if __name__ == "__main__":
    sys.exit(main())
