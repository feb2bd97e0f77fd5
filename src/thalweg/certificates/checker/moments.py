"""Semidefinite bounds on the value of every neuron, verified with numpy alone; part of the rule two_layer.

A neuron of ingoing weights u and outgoing weights a of the same length h is feasible for a residual R by a limit if
limit h^2 - a' R' sigma(x u + b) >= 0. Split x_i . u + b = unit_i (t_i - s_i) with t, s >= 0 and t_i s_i = 0, and let
w = (t, s). The cost, less multipliers times products of numbers that are never negative, is a quadratic form in
(h, a, u, b, t), and that it is positive is proved by Cholesky. With one output there is no a, but a case for each sign:
a = h, a = -h.

  unit [n]      powers of two
  H [r,r]       for a free bias: axes of an ellipsoid around the rows; b^2 <= u'Mu, because the kink lies at an example
  sign [c]      of the cases: 1 and -1, or a single 0 for several outputs
  share [c,.]   of the limit: what h^2, |a|^2 (several outputs) and |u|^2 are multiplied with; |h| = |a| = |u|
  hull [c]      >= 0, of u'Mu - b^2
  products [c,2n,2n], own [c,n]   >= 0, of w w'; any, of t_i s_i
  reach [c,n,2n]  for a free bias: >= 0, of r w twice; r_i = h max_k |row_i - row_k| / unit_i - t_i - s_i >= 0 as well
  cone [c,.,2n]  rows (h, a, u): of h w + p . a w + q . u w >= 0; the first at least |p| + |q|
"""

import math

import numpy as np


def in_unit(e, x, plain, limit, base):
    """Return all that values of neurons are linear in, times the power of two at which they are about 1.

    So nothing underflows. These are the residuals, the limit and the multipliers, which rounding may change.
    """
    wide = np.c_[x, np.ones(len(x))] if e["hidden_bias"] == "PENALIZED" else x
    largest, size = float(np.abs(wide).max(initial=0.0)), base.reach(wide, plain)
    base.need(largest == 0.0 or base.LEAST <= largest <= base.MOST, "The largest of X must be 0, or 1e-60 to 1e60.")
    power = -math.frexp(size)[1]
    limit = float(np.ldexp(limit * (1 - 8 * base.U), power))
    base.need(limit >= 1e-100, "The dual is not feasible: rounding leaves nothing.")
    names = {"multiplier", "hull", "share", "products", "own", "cone", "reach"} & set(e)
    e = {**e, **{name: np.ldexp(e[name].astype(float), power) for name in names}}
    return e, np.ldexp(plain, power), limit


def reduced(e, inputs, base):
    """Return rows = inputs @ axes, by how much the inputs are off [n], and how much longer a direction may get."""
    axes, size = e.get("axes"), base.row_lengths(inputs)
    off = 2 * base.U * size if e["hidden_bias"] == "FREE" else 0.0 * size  # of the differences
    if axes is None:
        return inputs, off, 1.0
    rows, (wide, rank) = inputs @ axes, axes.shape
    gram = np.abs(axes.T @ axes - np.eye(rank)).sum(1).max() + base.gamma(wide + 8) * base.length(axes) ** 2 * rank
    base.need(gram < 0.1, "The axes are not orthonormal.")
    rounding = base.gamma(wide + rank + 8) * (size + base.row_lengths(rows)) * base.length(axes) * (1 + rank)
    return rows, off + base.row_lengths(inputs - rows @ axes.T) + rounding, 1 + gram


def allowed(e, plain, limit, off, longer, base):
    """Return the largest value that a direction on the rows may have, so that none of the inputs is above the limit."""
    lost = float(np.sum(base.row_lengths(plain) * off)) * (1 + base.gamma(len(plain) + 4)) * max(1.0, abs(e["leak"]))
    left = (limit - lost) / longer * (1 - 8 * base.U)
    base.need(left > 0, "The dual is not feasible: rounding of the inputs leaves nothing.")
    return left


def placed(e, x, base):
    """Yield the rows that directions are multiplied with, one matrix for each place where a free bias may put the kink.

    With each comes the limit's part that it leaves: less what inputs and directions lose on the axes.
    """
    kind = e["hidden_bias"]
    for anchor in np.unique(x, axis=0, return_index=True)[1] if kind == "FREE" else [None]:
        inputs = x - x[anchor] if kind == "FREE" else np.c_[x, np.ones(len(x))] if kind == "PENALIZED" else x
        yield reduced(e, inputs, base)


def verify_signs(e, x, plain, limit, base):
    """Longest sums over signs, bounded for any delta > 0 and theta in [0, 1]; the outputs are added as squares."""
    leak, number, outputs = float(e["leak"]), 0, plain.shape[1]
    for rows, off, longer in placed(e, x, base):
        squares, most = 0.0, allowed(e, plain, limit, off, longer, base)
        for column in plain.T:
            tops, rounding = [], base.gamma(2 * len(x) + 32) * (1 + abs(leak)) * 2
            rounding *= base.reach(rows, column[:, None])
            for sign in (1, -1):
                theta, delta = e["theta"][number], e["delta"][number]
                base.need(theta.min() >= 0 and theta.max() <= 1 and delta.min() > 0, "theta or delta is out of range.")
                v, number = sign * column, number + 1
                tail, v = leak * (v @ rows), (1 - leak) * v
                ahead, behind = np.maximum(v, 0)[:, None] * rows, np.minimum(v, 0)[:, None] * rows
                columns = np.vstack([tail + 0.5 * ahead.sum(0) + theta @ behind, 0.5 * ahead])
                kept = np.r_[True, v > 0]
                columns, delta = columns[kept], delta[kept]
                matrix = (columns / delta[:, None]).T @ columns
                size = float(np.sum(base.row_lengths(columns) ** 2 / delta)) * (1 + base.gamma(len(x) + 16))
                value = base.largest_eigenvalue(0.5 * (matrix + matrix.T)) + base.gamma(len(x) + 16) * size
                total, wrong = base.total(delta)
                tops.append(math.sqrt((total + wrong) * value) * (1 + 8 * base.U) + rounding)
            squares += float(np.max(tops)) ** 2 * (1 + 8 * base.U)  # NaN stays NaN, and is not below any limit
        value = math.sqrt(squares * (1 + base.gamma(outputs + 4)))
        base.need(value <= most, f"The dual is not feasible: a neuron may have the value {value:.9g} > {most:.9g}.")


def verify(e, x, plain, limit, base):
    """Refuse unless the multipliers prove that no neuron has a value above the limit."""
    n, outputs, leak, free = len(x), plain.shape[1], float(e["leak"]), e["hidden_bias"] == "FREE"
    signs, unit, single = e["sign"].tolist(), e["unit"], outputs == 1
    base.need(sorted(signs) == [-1.0, 1.0] if single else signs == [0.0], "The cases do not cover every neuron.")
    powers = unit.shape == (n,) and (np.frexp(unit)[0] == 0.5).all() and unit.min() > 1e-200 and unit.max() < 1e200
    base.need(powers, "A unit is no power of two.")
    inputs = x - x.mean(0) if free else np.c_[x, np.ones(n)] if e["hidden_bias"] == "PENALIZED" else x
    rows, off, longer = reduced(e, inputs, base)
    most = allowed(e, plain, limit, off, longer, base)
    rank = rows.shape[1]
    first = 1 if single else 1 + outputs
    cases = len(signs), 2 * n
    shapes = {"products": (*cases, 2 * n), "own": (len(signs), n), "cone": (len(signs), first + rank, 2 * n),
              "hull": (len(signs),), "share": (len(signs), 3 - single)}  # fmt: skip
    shapes |= {"reach": (len(signs), n, 2 * n)} if free else {}
    base.need(all(e[name].shape == shape for name, shape in shapes.items()), "The multipliers do not fit the rows.")
    head, a, u = first + rank + free, slice(0 if single else 1, first), slice(first, first + rank)
    walls = np.zeros((2 * n, head + n))  # (t, s) = walls (h, a, u, b, t)
    walls[:, head:] = np.vstack([np.eye(n), np.eye(n)])
    walls[n:, u] = -rows / unit[:, None]
    walls[n:, head - 1] -= free * (unit.max() / unit)  # b is in the largest unit
    if free:
        walls = np.vstack([walls, -walls[:n] - walls[n:]])
        walls[2 * n :, 0] += np.maximum(farthest(rows, base) / unit, 1e-290)  # no underflow: more is true as well
    place = np.arange(n)
    for i, sign in enumerate(signs):
        products, hull, cone = e["products"][i].astype(float), float(e["hull"][i]), e["cone"][i].astype(float)
        base.need((products == products.T).all() and products.min(initial=0) >= 0 and hull >= 0,
                  "A multiplier is negative, or the products are not symmetric.")  # fmt: skip
        products[place, n + place] = products[n + place, place] = 0.5 * e["own"][i]
        if free:
            far = e["reach"][i].astype(float)
            base.need(far.min(initial=0) >= 0, "A multiplier of a reach is negative.")
            products = np.block([[products, far.T], [far, np.zeros((n, n))]])
        parts = e["share"][i].tolist()
        spare = (most * (1 - 16 * base.U) - sum(parts)) * (1 - 16 * base.U) / len(parts)
        base.need(spare >= 0 and len(parts) == 3 - single, "The dual is not feasible: the shares are above the limit.")
        parts = [part + spare - 16 * base.U * abs(part) for part in parts]
        diagonal = np.zeros(head + n)
        diagonal[:first], diagonal[0], diagonal[u] = parts[1], parts[0], parts[-1]
        ends = plain.T * unit * (sign or 1.0)
        cross = np.zeros((head, 2 * n))
        cross[a] = np.hstack([ends, -leak * ends])
        least = base.row_lengths(cone[u].T) + (0 if single else base.row_lengths(cone[a].T))
        cone[0] = np.maximum(cone[0], least * (1 + 4 * base.U))
        cross[: u.stop] += cone
        form = np.diag(diagonal)
        size = np.abs(form) + quadratic(np.abs(walls), np.abs(products), np.abs(cross))
        form -= quadratic(walls, products, cross)
        if free:
            inside = ellipsoid(e["H"], rows, base)
            form[u, u] -= hull * inside
            size[u, u] += hull * np.abs(inside)
            form[head - 1, head - 1] += hull * unit.max() ** 2
            size[head - 1, head - 1] += hull * unit.max() ** 2
        positive(form, size, 6 * n + rank + outputs + 40, base)


def farthest(rows, base):
    """Return the distance of each row from the one that is farthest from it, rounded up; the kink lies at a row."""
    return np.array([base.row_lengths(rows - row).max() for row in rows]) * (1 + 8 * base.U)


def quadratic(walls, products, cross):
    """Return the form w' products w + (a, u, b)' cross w for w = walls (a, u, b, t)."""
    form, half = walls.T @ (products @ walls), 0.5 * (cross @ walls[: cross.shape[1]])
    form[: len(cross)] += half
    form[:, : len(cross)] += half.T
    return form


def positive(form, size, terms, base):
    """Refuse unless a symmetric matrix is positive, each entry a sum of so many terms of a size (Rump 2006)."""
    unit = np.ldexp(1.0, -(np.frexp(np.maximum(np.diag(form), 1e-280))[1] // 2))  # powers of two: nothing is rounded
    form, size = form * unit[:, None] * unit, size * unit[:, None] * unit
    order = len(form)
    shift = 2 * base.gamma(terms) * float(size.sum(1).max()) + base.TINY
    shift += 8 * (order + 2) * base.U * (float(np.trace(np.abs(form))) + order * shift)
    base.need(np.isfinite(form).all() and np.isfinite(shift), "The dual is not feasible: its numbers are too large.")
    try:
        np.linalg.cholesky(0.5 * (form + form.T) - shift * np.eye(order))
    except np.linalg.LinAlgError:
        raise base.Refused("The dual is not feasible: a quadratic form is not positive.") from None


def ellipsoid(axes, rows, base):
    """Return M with (row . u)^2 <= u'Mu for every row: H H', scaled, and a little more for rounding."""
    inner = np.linalg.solve(axes, rows.T)
    rest = np.abs(rows.T - axes @ inner) + base.gamma(len(axes) + 4) * (np.abs(rows.T) + np.abs(axes) @ np.abs(inner))
    most, left = base.row_lengths(inner.T).max() ** 2, base.row_lengths(rest.T).max() ** 2
    more = 1.01e8 * left + base.gamma(len(axes) + 8) * base.length(axes) ** 2 * most * 2
    return axes @ axes.T * (most * (1 + 1e-8)) + more * np.eye(len(axes))
