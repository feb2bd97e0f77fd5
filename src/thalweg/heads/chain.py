"""Sums and maxima over all paths of a linear chain, by dynamic programming: what a CRF is made of.

A sequence has a tag y_t in 0..C-1 at each of its places, and the score of a path is

    score(y) = psi[0, 0, y_0] + sum_{t > 0} psi[t, 1 + y_{t-1}, y_t]

`psi` is `[batch, time, 1 + C, C]`: row 0 is for the first place, row 1 + j for a place after tag j. The probability
of a path is exp(score(y)) / Z. Sequences fill their rows from the left; `mask`, `[batch, time]`, is True there.
"""

import dataclasses
from typing import final

import torch
from torch import Tensor

IMPOSSIBLE = -1e9  # a score below all that is ruled out by choice; its exponential is 0, and no gradient is NaN


@final
@dataclasses.dataclass(frozen=True)
class Marginals:
    """Probabilities under the chain; zeros outside of a sequence.

    Args:
        pairs: `[batch, time, 1 + C, C]`: that the tag at t is k (row 0, first place), or j before and k (row 1 + j).
        given: the same shape: of tag k at t given the tag before; rows sum to one where the tag before is possible.
        log_partition: log Z, `[batch]`.
    """

    pairs: Tensor
    given: Tensor
    log_partition: Tensor

    @property
    def tags(self) -> Tensor:
        """Probability of each tag at each place, `[batch, time, C]`."""
        return self.pairs.sum(-2)


def path_scores(psi: Tensor, tags: Tensor, mask: Tensor) -> Tensor:
    """Return the score of one path of each sequence, `[batch]`; `tags` are ids `[batch, time]`, any where masked."""
    before = torch.cat([torch.zeros_like(tags[:, :1]), tags[:, :-1] + 1], 1)
    chosen = psi.flatten(-2).gather(-1, (before * psi.shape[-1] + tags).unsqueeze(-1)).squeeze(-1)
    return torch.where(mask, chosen, 0.0).sum(-1)


def through(psi: Tensor, tags: Tensor, given: Tensor) -> Tensor:
    """Return `psi` without the paths that have another tag than the given ones, of ids `[batch, time]`.

    Its log Z is the score of all paths with these tags together: the others are marginalized.
    """
    other = torch.arange(psi.shape[-1], device=psi.device) != tags.unsqueeze(-1)
    return psi + (other & given.unsqueeze(-1)).unsqueeze(-2) * IMPOSSIBLE


def log_partition(psi: Tensor, mask: Tensor) -> Tensor:
    """Return log Z of each sequence, `[batch]`; 0 for one without places."""
    alphas = _forward(psi, mask)
    return torch.where(mask.any(-1), torch.logsumexp(alphas[-1], -1), 0.0)


def marginals(psi: Tensor, mask: Tensor) -> Marginals:
    """Return the probabilities of pairs of neighboring tags, by the forward and the backward recursion."""
    alphas, betas = _forward(psi, mask), _backward(psi, mask)
    total = torch.logsumexp(alphas[-1], -1)
    pairs, given = torch.zeros_like(psi), torch.zeros_like(psi)
    for t in range(psi.shape[1]):
        here = mask[:, t, None, None]
        ahead = psi[:, t] + betas[t][:, None, :]  # [batch, 1 + C, C]
        log_pairs = ahead - total[:, None, None]
        if t:
            log_pairs = torch.cat(
                [torch.full_like(ahead[:, :1], -torch.inf), log_pairs[:, 1:] + alphas[t - 1][:, :, None]], 1
            )
        else:
            log_pairs = torch.cat([log_pairs[:, :1], torch.full_like(ahead[:, 1:], -torch.inf)], 1)
        pairs[:, t] = torch.where(here, log_pairs.exp(), 0.0)
        given[:, t] = torch.where(here, torch.softmax(ahead, -1), 0.0)
    return Marginals(pairs, given, torch.where(mask.any(-1), total, 0.0))


def best_path(psi: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return the most probable path, ids `[batch, time]` (0 where masked), and its score `[batch]`, by Viterbi."""
    score = psi[:, 0, 0]
    back = []
    for t in range(1, psi.shape[1]):
        best, before = (score.unsqueeze(-1) + psi[:, t, 1:]).max(1)
        here = mask[:, t, None]
        score = torch.where(here, best, score)
        back.append(torch.where(here, before, torch.arange(psi.shape[-1], device=psi.device)))
    total, last = score.max(-1)
    path = [last]
    for before in reversed(back):
        path.append(before.gather(1, path[-1].unsqueeze(1)).squeeze(1))
    return torch.where(mask, torch.stack(path[::-1], 1), 0), torch.where(mask.any(-1), total, 0.0)


def covariance_product(chain: Marginals, v: Tensor) -> Tensor:
    r"""Return the covariance of the pair indicators of a path, times `v`: the second derivative of log Z in `psi`.

    With F = sum of v over the pairs of a path, entry (t, j, k) is p(j, k at t) (E[F | j, k at t] - E[F]); the
    expectation has a part before, found forwards, and one after, found backwards.

    Args:
        chain: `[batch, time, 1 + C, C]`, of `marginals`.
        v: the same shape, or with more dimensions in front.
    """
    after = _ahead(chain, v)
    mean = (chain.pairs * v).sum((-3, -2, -1))[..., None, None]
    before = torch.zeros_like(v[..., 0, 0, :])  # E[sum of v up to t - 1 | the tag there]
    out = []
    for t in range(v.shape[-3]):
        q = chain.pairs[:, t]
        here = v[..., t, :, :] + after[t].unsqueeze(-2)
        here = here + torch.cat([torch.zeros_like(before[..., :1]), before], -1).unsqueeze(-1)
        out.append(q * (here - mean))
        tags = q.sum(-2)
        sums = (q * (here - after[t].unsqueeze(-2))).sum(-2)
        before = torch.where(tags > 0.0, sums / tags.clamp_min(torch.finfo(q.dtype).tiny), 0.0)
    return torch.stack(out, -3)


def covariance_root(chain: Marginals, v: Tensor) -> Tensor:
    r"""Return `S v` for a square root S of that covariance, `S S^T` = the map of `covariance_product`.

    A path is drawn tag by tag, and F - E[F] is the sum of what each draw adds to the expectation: uncorrelated parts

        d_t(j, k) = v_t(j, k) + W_t(k) - W_{t-1}(j),   W_t(k) = E[sum of v after t | k at t],

    so that Var F = sum p_t(j, k) d_t(j, k)^2. S is the adjoint of the map v -> sqrt(p) d. Arguments as above.
    """
    u = chain.pairs.sqrt() * v
    out = []
    flow = torch.zeros_like(v[..., 0, 0, :])  # the adjoint of W_{t-1}
    for t in range(v.shape[-3]):
        here = u[..., t, :, :]
        rows = here.sum(-1)  # by the tag before; row 0: there is none
        held = torch.cat([-rows[..., :1] if t == 0 else torch.zeros_like(rows[..., :1]), flow - rows[..., 1:]], -1)
        moved = chain.given[:, t] * held.unsqueeze(-1)
        out.append(here + moved)
        flow = here.sum(-2) + moved.sum(-2)
    return torch.stack(out, -3)


def _ahead(chain: Marginals, v: Tensor) -> list[Tensor]:
    """Return W_t(k) for each t, `[..., C]`: what the sum of v after t is expected to be."""
    after = torch.zeros_like(v[..., 0, 0, :])
    found = []
    for t in reversed(range(v.shape[-3])):
        found.append(after)
        rows = (chain.given[:, t] * (v[..., t, :, :] + after.unsqueeze(-2))).sum(-1)
        after = rows[..., 1:]
    return found[::-1]


def _forward(psi: Tensor, mask: Tensor) -> list[Tensor]:
    alpha = psi[:, 0, 0]
    found = [alpha]
    for t in range(1, psi.shape[1]):
        new = torch.logsumexp(alpha.unsqueeze(-1) + psi[:, t, 1:], 1)
        alpha = torch.where(mask[:, t, None], new, alpha)
        found.append(alpha)
    return found


def _backward(psi: Tensor, mask: Tensor) -> list[Tensor]:
    beta = torch.zeros_like(psi[:, 0, 0])
    found = [beta]
    for t in range(psi.shape[1] - 1, 0, -1):
        new = torch.logsumexp(psi[:, t, 1:] + beta.unsqueeze(1), -1)
        beta = torch.where(mask[:, t, None], new, beta)
        found.append(beta)
    return found[::-1]


def packed_losses(scores: Tensor, matrix: Tensor, ends: Tensor, tags: Tensor, mask: Tensor) -> Tensor:
    """Return `log_partition - path_scores` of each sequence where all places have one matrix, `[batch]`.

    Much faster: sequences are sorted by length, so that padding costs nothing, and a step is a product with the
    exponentials of the matrix. Parts of the sum that are smaller than exp(-700) of it (in float64) are left out.

    Args:
        scores: of the tags at each place, `[batch, time, C]`.
        matrix: `[1 + C, C]`, added to them: see `path_scores`.
        ends: `[C]`, added at the last place.
        tags: ids `[batch, time]`, any id where masked.
        mask: `[batch, time]`.
    """
    lengths = mask.sum(1)
    order = torch.argsort(lengths, descending=True, stable=True)
    order = order[: int((lengths > 0).sum())]
    longest = int(lengths.max()) if len(order) else 0
    sizes = (lengths[order].unsqueeze(1) > torch.arange(longest, device=mask.device)).sum(0).tolist()
    each = scores.new_zeros(len(mask))
    if not longest:
        return each
    # Places of the first step, then those of the second, each in falling order of length.
    steps = torch.arange(longest, device=mask.device).unsqueeze(1)
    places = (order * mask.shape[1] + steps)[mask[order, :longest].T]
    parts = scores.flatten(0, 1).index_select(0, places).split(sizes)
    ids = tags.flatten().index_select(0, places).split(sizes)
    exponentials, tiny = matrix[1:].exp(), torch.finfo(scores.dtype).tiny
    alpha = parts[0] + matrix[0]
    path = alpha.gather(1, ids[0].unsqueeze(1)).squeeze(1)
    done_alpha, done_path, last = [], [], []
    for t in range(1, longest + 1):
        size = sizes[t] if t < longest else 0
        if size < len(alpha):
            done_alpha.append(alpha[size:])
            done_path.append(path[size:])
            last.append(ids[t - 1][size:])
            alpha, path = alpha[:size], path[:size]
        if not size:
            break
        top = alpha.amax(1, keepdim=True).detach()
        alpha = parts[t] + top + ((alpha - top).exp() @ exponentials).clamp_min(tiny).log()
        before = ids[t - 1][:size]
        path = path + parts[t].gather(1, ids[t].unsqueeze(1)).squeeze(1) + matrix[1 + before, ids[t]]
    total = torch.logsumexp(torch.cat(done_alpha[::-1]) + ends, 1)
    found = total - torch.cat(done_path[::-1]) - ends[torch.cat(last[::-1])]
    return each.index_copy(0, order, found)
