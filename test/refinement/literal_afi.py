"""AFI once more, slow and literal: full distance matrices, arrays with all axes, formula by formula.

What the fast code is compared with. Votes in, votes out; preparation and election are tested by hand.
"""

import numpy as np


def literal_votes(points, votes, config):
    """(N, 3) float64 and (N, C) float64, rows sum to 1 or 0 -> (N, C) float64."""
    levels = [(points, votes, None)]
    size = config.base_count
    for stage in range(config.num_stages):
        size = size // config.decimation
        count = min(max(size, 1), len(levels[-1][0]))
        levels.append(_up(*levels[-1], count, config, first=stage == 0))
    result = levels[-1][1]
    for fine, coarse in zip(levels[-2::-1], levels[:0:-1], strict=True):
        result = _down(fine, coarse, result, config)
    return result


def _up(points, votes, bag, count, config, first):
    centers = _farthest(points, count)
    k = min(config.num_neighbors, len(points))
    near = np.argsort(_distances(points[centers], points), axis=1, kind="stable")[:, :k]
    offset = points[near] - points[centers][:, None]  # (M, K, 3)
    distance = np.linalg.norm(offset, axis=2)
    unit = offset / (distance[..., None] + 1e-8)
    sphere = _sphere(config.num_directions)
    in_bin = np.argmax(unit @ sphere.T, axis=2)[..., None] == np.arange(config.num_directions)  # (M, K, B)
    n = in_bin.sum(axis=1).astype(float)
    n[:, 0] -= 1  # the centre
    mean = np.einsum("mkb,mkx->mbx", in_bin, offset) / np.maximum(n, 1)[..., None]
    length = np.linalg.norm(mean, axis=2)
    direction = mean / (length[..., None] + 1e-8)
    if first:
        kept = n * (n > config.min_count)
        pi, influence, voice = (
            kept / np.maximum(kept.sum(axis=1, keepdims=True), 1),
            np.ones(count),
            np.ones(near.shape),
        )
    else:
        w = _line_weights(unit, distance, centers, near, bag, config.min_cosine)
        total = w.sum(axis=1)
        shares = w / np.where(total > 0, total, 1)[:, None]
        pi = np.einsum("mk,mkb->mb", shares, in_bin)
        influence = total / max(total.mean(), 1e-8)
        voice = shares if config.weighted_votes else np.ones(near.shape)
    vote_of_bin = _norm(np.einsum("mkb,mk,mkc->mbc", in_bin, voice, votes[near]))
    v = _norm(pi / (length + 1e-8))
    pooled = np.einsum("mb,mbc->mc", v, vote_of_bin)
    x = influence[:, None] * pooled + config.keep_weight * votes[centers] + 1e-8 * votes[near].max(axis=1)
    return points[centers], _norm(x), (pi, direction, length)


def _line_weights(unit, distance, centers, near, bag, gamma):
    pi, direction, length = bag
    cos_c = np.einsum("mkx,mbx->mkb", unit, direction[centers])
    cos_j = np.einsum("mkx,mkbx->mkb", unit, direction[near])
    a_c = (pi[centers][:, None] * (np.abs(cos_c) > gamma)).sum(axis=2)
    a_j = (pi[near] * (np.abs(cos_j) > gamma)).sum(axis=2)
    c_plus = (length[centers][:, None] * (cos_c > gamma)).max(axis=2)
    c_minus = (length[centers][:, None] * (cos_c < -gamma)).max(axis=2)
    j_plus = (length[near] * (cos_j > gamma)).max(axis=2)
    j_minus = (length[near] * (cos_j < -gamma)).max(axis=2)
    both = (c_plus + c_minus > 0) & (j_plus + j_minus > 0)
    rho = both * (c_plus + c_minus + j_plus + j_minus) / (distance + c_minus + j_plus + 1e-8)
    return a_c * a_j * rho


def _down(fine, coarse, coarse_votes, config):
    points, votes, _ = fine
    coarse_points, _, (pi, direction, _) = coarse
    k = min(config.num_decoder_neighbors, len(coarse_points))
    near = np.argsort(_distances(points, coarse_points), axis=1, kind="stable")[:, :k]
    offset = coarse_points[near] - points[:, None]
    unit = offset / (np.linalg.norm(offset, axis=2, keepdims=True) + 1e-8)
    cosine = np.einsum("nkx,nkbx->nkb", unit, direction[near])
    a = (pi[near] * (np.abs(cosine) > config.min_cosine)).sum(axis=2)
    s = a.sum(axis=1) + 1e-8
    share = _norm(a / s[:, None] + 1e-6)
    interpolated = np.einsum("nk,nkc->nc", share, coarse_votes[near])
    exact = len(points) == config.decimation * len(coarse_points)
    c = config.skip_weight if exact else config.skip_weight_inexact
    return _norm(s[:, None] * interpolated + (c * s.mean() + 1e-8) * votes)


def _farthest(points, count):
    chosen = [0]
    nearest = ((points - points[0]) ** 2).sum(axis=1)
    while len(chosen) < count:
        nearest[chosen] = -1
        chosen.append(int(np.argmax(nearest)))
        nearest = np.minimum(nearest, ((points - points[chosen[-1]]) ** 2).sum(axis=1))
    return np.array(chosen)


def _distances(a, b):
    return np.linalg.norm(a[:, None] - b[None], axis=2)


def _sphere(count):
    rows = []
    for i in range(count):
        y = 1 - 2 * i / (count - 1)
        radius, angle = np.sqrt(max(0, 1 - y * y)), np.pi * (3 - np.sqrt(5)) * i
        rows.append((np.cos(angle) * radius, y, np.sin(angle) * radius))
    return np.array(rows)


def _norm(values):
    total = values.sum(axis=-1, keepdims=True)
    return values / np.where(total > 0, total, 1)
