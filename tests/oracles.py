"""The published rules again, in NumPy and float64, one step after the other and nothing shared with the package.

Each function takes gradients and parameters of successive steps and returns the updates of each. Hyperparameters may be
schedules: they are called with the number of updates made before, 0 at first.
"""

import numpy as np


def at(value, count):
    """The hyperparameter at this count."""
    return float(value(count)) if callable(value) else value


def scale(grads, params, step_size):
    return [at(step_size, i) * g for i, g in enumerate(grads)]


def scale_by_schedule(grads, params, step_size_fn):
    return scale(grads, params, step_size_fn)


def scale_by_learning_rate(grads, params, learning_rate, flip_sign=True):
    return [(-1 if flip_sign else 1) * u for u in scale(grads, params, learning_rate)]


def identity(grads, params):
    return list(grads)


def chain(grads, params):
    return list(grads)


def clip(grads, params, max_delta):
    return [np.minimum(np.maximum(g, -at(max_delta, i)), at(max_delta, i)) for i, g in enumerate(grads)]


def clip_by_global_norm(grads, params, max_norm):
    norms = [np.sqrt(np.sum(g**2)) for g in grads]
    return [g * min(1.0, at(max_norm, i) / n) if n else g for i, (g, n) in enumerate(zip(grads, norms, strict=True))]


def add_decayed_weights(grads, params, weight_decay=0.0, mask=None):
    decays = mask is None or bool(mask)
    return [g + decays * at(weight_decay, i) * p for i, (g, p) in enumerate(zip(grads, params, strict=True))]


def trace(grads, params, decay, nesterov=False, accumulator_dtype=None):
    m, updates = 0.0, []
    for i, g in enumerate(grads):
        m = at(decay, i) * m + g
        updates.append(at(decay, i) * m + g if nesterov else m)
    return updates


def ema(grads, params, decay, debias=True, accumulator_dtype=None):
    v, updates = 0.0, []
    for i, g in enumerate(grads):
        b = at(decay, i)
        v = b * v + (1 - b) * g
        updates.append(v / (1 - b ** (i + 1)) if debias else v)
    return updates


def scale_by_rms(grads, params, decay=0.9, eps=1e-8, initial_scale=0.0, eps_in_sqrt=True, bias_correction=False):
    v, updates = initial_scale, []
    for i, g in enumerate(grads):
        b, e = at(decay, i), at(eps, i)
        v = b * v + (1 - b) * g**2
        w = v / (1 - b ** (i + 1)) if bias_correction else v
        updates.append(g / np.sqrt(w + e) if eps_in_sqrt else g / (np.sqrt(w) + e))
    return updates


def scale_by_stddev(grads, params, decay=0.9, eps=1e-8, initial_scale=0.0, eps_in_sqrt=True, bias_correction=False):
    m, v, updates = 0.0, initial_scale, []
    for i, g in enumerate(grads):
        b, e = at(decay, i), at(eps, i)
        m = b * m + (1 - b) * g
        v = b * v + (1 - b) * g**2
        c = 1 - b ** (i + 1) if bias_correction else 1.0
        variance = np.maximum(v / c - (m / c) ** 2, 0)
        updates.append(g / np.sqrt(variance + e) if eps_in_sqrt else g / (np.sqrt(variance) + e))
    return updates


def scale_by_rss(grads, params, initial_accumulator_value=0.1, eps=1e-7):
    s, updates = initial_accumulator_value, []
    for i, g in enumerate(grads):
        s = s + g**2
        updates.append(g / np.sqrt(s + at(eps, i)))
    return updates


def scale_by_adam(grads, params, b1=0.9, b2=0.999, eps=1e-8, eps_root=0.0, mu_dtype=None, *, nesterov=False):
    m, v, updates = 0.0, 0.0, []
    for i, g in enumerate(grads):
        t, c1, c2 = i + 1, at(b1, i), at(b2, i)
        m = c1 * m + (1 - c1) * g
        v = c2 * v + (1 - c2) * g**2
        m_hat = m / (1 - c1**t)
        if nesterov:
            m_hat = c1 * m / (1 - c1 ** (t + 1)) + (1 - c1) * g / (1 - c1**t)
        updates.append(m_hat / (np.sqrt(v / (1 - c2**t) + at(eps_root, i)) + at(eps, i)))
    return updates


def sgd(grads, params, learning_rate, momentum=None, nesterov=False, accumulator_dtype=None):
    directions = grads if momentum is None else trace(grads, params, momentum, nesterov)
    return scale_by_learning_rate(directions, params, learning_rate)


def ema_momentum(grads, params, learning_rate, beta=0.9, debias=False):
    return scale_by_learning_rate(ema(grads, params, beta, debias), params, learning_rate)


def rmsprop(
    grads,
    params,
    learning_rate,
    decay=0.9,
    eps=1e-8,
    initial_scale=0.0,
    eps_in_sqrt=True,
    centered=False,
    momentum=None,
    nesterov=False,
    bias_correction=False,
):
    rule = scale_by_stddev if centered else scale_by_rms
    scaled = rule(grads, params, decay, eps, initial_scale, eps_in_sqrt, bias_correction)
    steps = scale_by_learning_rate(scaled, params, learning_rate)
    return steps if momentum is None else trace(steps, params, momentum, nesterov)


def adagrad(grads, params, learning_rate, initial_accumulator_value=0.1, eps=1e-7):
    return scale_by_learning_rate(scale_by_rss(grads, params, initial_accumulator_value, eps), params, learning_rate)


def adam(grads, params, learning_rate, b1=0.9, b2=0.999, eps=1e-8, eps_root=0.0, mu_dtype=None, *, nesterov=False):
    directions = scale_by_adam(grads, params, b1, b2, eps, eps_root, nesterov=nesterov)
    return scale_by_learning_rate(directions, params, learning_rate)


def adamw(
    grads,
    params,
    learning_rate,
    b1=0.9,
    b2=0.999,
    eps=1e-8,
    eps_root=0.0,
    mu_dtype=None,
    weight_decay=1e-4,
    mask=None,
    *,
    nesterov=False,
):
    directions = scale_by_adam(grads, params, b1, b2, eps, eps_root, nesterov=nesterov)
    return scale_by_learning_rate(add_decayed_weights(directions, params, weight_decay, mask), params, learning_rate)
