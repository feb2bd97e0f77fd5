"""Verifies the rules separable and threshold with numpy alone; `check.py` beside it calls these functions.

Rule separable, about output layers that give class k the score w_k . x + b_k (two classes: w . x + b > 0 or not):
  label, answer [n]         of all examples: the class, and the present layer's answer, whose errors are the loss
  X [m,d], example, rival, set [m]   a point, which of the examples it is, a class whose score must be below its own
                            class's, and which set the row belongs to
  stopped                   1 where the search for sets ended before it found no more
  Each set proves an error, as `conflicts.py` says, however ties are broken among classes. The multipliers are found
  again, so that none are saved; nothing is a matter of tolerance.
  or: X [n,d], W [K,d], b [K]   a layer that gives every example's own class strictly the highest score
Rule threshold: X [n,d], label, gate SINGLE | AND | OR, weights [1 or 2,d], bias; the network weights . x + bias > 0
  and either nothing more: every way to split the examples is listed again, and every pair of them is tried
  or set, example: sets of examples, each of which has an error for every such network: no hyperplane parts its labels,
  and (AND) one only is negative, or (OR) one only is positive, as these networks' answers have a convex side
"""

import importlib
import itertools

import numpy as np

CELLS, CONFLICTS = (
    importlib.import_module(f".{n}" if __package__ else n, __package__ or None) for n in ("cells", "conflicts")
)
MAX_CELLS = 3000
MAX_LISTED, MAX_BITS = 200_000, 1_000_000  # numbers and bits of the examples whose splits are listed
MAX_NUMBERS = 1e8


def check_separable(e, base):
    """Rule separable: each set of points proves an error; or a layer is right on all."""
    x, label, answer = e["X"], e["label"], e["answer"]
    base.need(x.ndim == 2 and label.shape == answer.shape == (label.size,), "X, label and answer do not fit together.")
    base.need(label.dtype.kind == answer.dtype.kind == "i", "Classes are no integers.")
    errors = float((label != answer).sum())
    if "W" in e:
        base.need(x.size * len(e["W"]) <= MAX_NUMBERS, "The layer is too large to be verified here.")
        base.need(
            len(x) == len(label) and sure(base, right, x, label, e["W"], e["b"]),
            "The layer is not right on every example.",
        )
        return base.Proved(errors, errors, 0.0, 0.0)
    rival, owner, example = e["rival"], e["set"], e["example"]
    base.need(rival.shape == owner.shape == example.shape == (len(x),), "The rows of the sets do not fit together.")
    base.need(rival.dtype.kind == owner.dtype.kind == example.dtype.kind == "i" and type(e["stopped"]) is int,
              "The sets are no integers.")  # fmt: skip
    base.need(not len(x) or 0 <= example.min() <= example.max() < len(label), "An example is none of the data.")
    own = label[example]
    base.need((own != rival).all(), "A class is its own rival.")
    number = CONFLICTS.conflicts(x, own, rival, owner, base)
    order = np.lexsort((owner, example))
    again = np.flatnonzero(np.diff(example[order]) == 0)
    one, two = order[again], order[again + 1]
    base.need((owner[one] == owner[two]).all(), "An example belongs to two sets.")
    base.need((x[one] == x[two]).all(), "An example is two points.")
    return base.Proved(errors, errors, float(number), 0.0)


def sure(base, function, *arguments):
    """Return what a function says of signs; refuses where it says that these take too long."""
    try:
        return function(*arguments)
    except ValueError as error:
        raise base.Refused(str(error)) from None


def right(x, own, weights, bias):
    """Return whether the layer gives every row's own class strictly the highest score."""
    if weights.shape != (len(bias), x.shape[1]) or not len(own) or not 0 <= own.min() <= own.max() < len(bias):
        return False
    left = [CELLS.MOST]
    for mine in range(len(bias)):
        every = x[own == mine]
        for rows, other in itertools.product(np.array_split(every, 1 + every.size // 2**20), range(len(bias))):
            if other != mine and len(rows):
                wide = np.c_[rows, rows, np.ones(len(rows))]
                by = np.r_[weights[mine], -weights[other], bias[mine]]
                if (CELLS.sides(wide, by, -bias[other], left) <= 0).any():
                    return False
    return True


def answers(x, weights, bias, gate):
    """Return what a network of threshold units answers, exactly: bool [n]."""
    units = np.stack([CELLS.sides(x, w, b) > 0 for w, b in zip(weights, bias, strict=True)])
    return units.any(0) if gate == "OR" else units.all(0)


def fewest(splits, positive, negative, gate):
    """Return the fewest errors of a gate over splits bool [s,m] of points with so many labels of each kind [m]."""
    splits, yes, no = (splits, positive, negative) if gate != "OR" else (~splits, negative, positive)
    splits = splits.astype(float)
    if gate == "SINGLE":
        return float((splits @ (no - yes) + yes.sum()).min())
    return min(
        float((yes.sum() + part * (no - yes) @ splits.T).min())
        for part in np.array_split(splits, 1 + len(splits) // 256)
    )


def different(x):
    """Return the different examples as vectors of integers (None: too many to list), and which of them each row is."""
    if x.size > MAX_LISTED:
        return None, np.arange(len(x))
    points, place = np.unique(x + 0.0, axis=0, return_inverse=True)
    most = max((r for r in range(12) if CELLS.most_cells(len(points), r) <= MAX_CELLS), default=0)
    fits = most > 0 and points.size * CELLS.most_bits(points) <= MAX_BITS
    return CELLS.independent(CELLS.integer_rows(points), most) if fits else None, place.ravel()


def check_threshold(e, base):
    """The network's errors, and the fewest: every way to split the examples is listed, every pair looked at."""
    x, label, gate = e["X"], e["label"], e["gate"]
    base.need(gate in ("SINGLE", "AND", "OR"), f"There is no gate {gate!r}.")
    base.need(
        x.ndim == 2 and label.shape == x.shape[:1] and len(x) > 0 and np.isin(label, (0, 1)).all(),
        "X and label do not fit.",
    )
    base.need(e["weights"].shape == (1 + (gate != "SINGLE"), x.shape[1]) and e["bias"].shape == e["weights"].shape[:1],
              "The weights do not fit the gate.")  # fmt: skip
    label = label.astype(bool)
    errors = float((sure(base, answers, x, e["weights"], e["bias"], gate) != label).sum())
    if "set" in e:
        return base.Proved(errors, errors, float(disjoint(e, label, base)), 0.0)
    normals, place = different(x)
    base.need(normals is not None, f"These {len(x)} examples can be split in too many ways to list all here.")
    normals = list(normals or [])
    positive, negative = (np.bincount(place[which], minlength=len(normals)) for which in (label, ~label))
    return base.Proved(errors, errors, fewest(CELLS.cells(normals) > 0, positive, negative, gate), 0.0)


def disjoint(e, label, base):
    """Return the number of sets of examples, without a common one, in each of which every network has an error."""
    owner, example, gate = e["set"], e["example"], e["gate"]
    base.need(len(owner) == len(example) and example.dtype.kind == "i", "The sets do not fit together.")
    base.need(len(np.unique(example)) == len(example), "An example belongs to two sets.")
    base.need(not len(example) or 0 <= example.min() <= example.max() < len(label), "A set names no example.")
    kind = label[example].astype(int)
    few = {"SINGLE": kind[:0], "AND": owner[kind == 0], "OR": owner[kind == 1]}[gate]
    base.need(len(np.unique(few)) == len(few), "A set does not fit the gate.")
    return CONFLICTS.conflicts(e["X"][example], kind, 1 - kind, owner, base)
