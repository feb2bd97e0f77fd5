"""Numbers without rounding: data as float64, and dual points whose residuals are integers times a power of two.

A bias without a penalty asks that the residuals of each output sum to zero, and a softmax that those of each example
do: a bound from residuals that only nearly do is none, because the bias may be as large as it likes.
"""

import math
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from thalweg.certificates.losses import AbstractLoss
from thalweg.errors import InputError

SHRUNK: Final = 1.0 - 2.0**-40  # keeps a dual point inside its domain, whatever is rounded afterwards


def exactly(values: Any, what: str) -> np.ndarray:
    """Return numbers as float64, or raise an InputError where that would round one: 2^53 + 1 is not 2^53."""
    values = np.asarray(values)
    if values.dtype == np.float64:
        return values
    if values.dtype.kind not in "fiubO":
        raise InputError(f"The {what} must be real numbers; got an array of the type {values.dtype}.")
    try:
        found = values.astype(np.float64)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"The {what} must be real numbers; got an array of the type {values.dtype}.") from None
    if values.dtype.kind in "iu" and values.dtype.itemsize == 8:
        large = np.abs(found) >= 2.0**53
        same = all(int(a) == int(b) for a, b in zip(found[large].tolist(), values[large].tolist(), strict=True))
    elif values.dtype.kind == "O" or values.dtype.itemsize > 8:
        same = bool(((found == values) | (values != values)).all())
    else:
        same = True
    if not same:
        raise InputError(
            f"The {what} hold numbers that float64 has no room for (whole ones above 2^53, or longer fractions), so "
            "nothing is proved about them; subtract an offset from them, or round them."
        )
    return found


def exact_dual(loss: AbstractLoss, dual: Any, *, balanced: bool) -> dict[str, Any]:
    r"""Return a dual point as evidence: residual int64 `[num_examples, outputs]`, exponent, scale 1 and free_bias.

    The residual of the sum of the weighted losses is `scale * residual * 2**exponent`. It is rounded toward zero, so
    that it stays in the domain; then rows (softmax) and columns (balanced) are made to sum to zero by the few units
    that they are off. Where that is impossible the result is the zero residual, which is always valid.
    """
    arrays = loss.as_arrays()
    dual = dual.cpu().numpy() if hasattr(dual, "cpu") else np.asarray(dual)
    whole = np.zeros(arrays.targets.shape, np.int64)
    size = sum(float(np.abs(plain).sum()) for _, plain in _residuals(arrays, dual))
    if not 0.0 < size < 1e130:
        return _evidence(whole, 0, balanced=balanced)
    exponent = max(-600, math.frexp(size)[1] - 51)
    for rows, plain in _residuals(arrays, dual):
        whole[rows] = np.trunc(np.ldexp(plain, -exponent))
    if loss.name == "softmax":
        _close_rows(whole, loss, exponent)
        if balanced and not _close_softmax_columns(whole, loss, exponent):
            whole[:] = 0
    elif balanced:
        _close_columns(whole)
    return _evidence(whole, exponent, balanced=balanced)


def float_residual(evidence: dict[str, Any]) -> np.ndarray:
    """Return the residuals of `exact_dual`, without the scale, as float64; no rounding takes place."""
    plain = evidence["residual"].astype(np.float64)
    return np.ldexp(plain, evidence["exponent"], out=plain)


def _residuals(arrays: Any, dual: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield rows and their residuals of the sum of the losses, a little smaller than they are."""
    for rows, part in arrays.parts():
        yield rows, part.dual_residual(dual[rows]) * part.count * SHRUNK


def _evidence(whole: np.ndarray, exponent: int, *, balanced: bool) -> dict[str, Any]:
    return {"residual": whole, "exponent": exponent, "scale": 1.0, "free_bias": int(balanced)}


def _room(whole: np.ndarray, loss: AbstractLoss, exponent: int, columns: slice = slice(None)) -> np.ndarray:
    """Return by how many units residuals of a softmax may rise, with a margin: their weight times probability."""
    weight, targets = loss.weight.cpu().numpy(), loss.targets.cpu().numpy()
    q = np.ldexp(weight * targets[:, columns] * SHRUNK, -exponent) - whole[:, columns]
    return np.maximum(0.5 * q, 0.0)


def _close_rows(whole: np.ndarray, loss: AbstractLoss, exponent: int) -> None:
    """Let the target's entry, or the likeliest one of soft targets, take what a row is off."""
    rows = np.arange(len(whole))
    off = whole.sum(1)
    if loss.labels is not None:
        whole[rows, loss.labels.cpu().numpy()] -= off
        return
    room = _room(whole, loss, exponent)
    place = room.argmax(1)
    whole[rows, place] -= off
    whole[(room[rows, place] < np.abs(off)) & (off != 0)] = 0


def _close_columns(whole: np.ndarray) -> None:
    """Make residuals smaller in size, the largest first, until each column sums to zero."""
    for column, off in zip(whole.T, whole.sum(0), strict=True):
        side, left = np.sign(off), abs(int(off))
        for place in np.argsort(-side * column, kind="stable"):
            if left == 0:
                break
            taken = min(left, max(0, int(side * column[place])))
            column[place] -= side * taken
            left -= taken


def _close_softmax_columns(whole: np.ndarray, loss: AbstractLoss, exponent: int) -> bool:
    """Move units between two classes of likely rows until each column sums to zero; False where there is no room."""
    off = whole.sum(0)
    for _ in range(4 * whole.shape[1]):
        high, low = int(off.argmax()), int(off.argmin())
        if off[high] == 0:
            return True
        room = _room(whole, loss, exponent, slice(low, low + 1))[:, 0]
        place = int(room.argmax())
        moved = min(int(off[high]), int(-off[low]), int(room[place]))
        if moved <= 0:
            return False
        for column, change in ((high, -moved), (low, moved)):
            whole[place, column] += change
            off[column] += change
    return not off.any()
