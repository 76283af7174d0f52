"""The losses of the value-based menu as the papers write them: one sample, Python floats, loops.

A sample is a dictionary: ``action``, ``reward``, ``discount``, and what each forward made, by
action: ``online_s``, ``online_s2``, ``target_s``, ``target_s2``, and ``choice``, which is the
target network on s2 with fractions of its own. ``tau`` are the fractions of ``online_s``.
"""

import math


def argmax(values):
    """The first of equals."""
    return max(range(len(values)), key=lambda i: (values[i], -i))


def mean(values):
    return math.fsum(values) / len(values)


def dot(xs, ys):
    return math.fsum(x * y for x, y in zip(xs, ys, strict=True))


def log_softmax(logits):
    highest = max(logits)
    total = math.log(math.fsum(math.exp(x - highest) for x in logits))
    return [x - highest - total for x in logits]


def huber(u, kappa):
    """Huber 1964."""
    return u * u / 2 if abs(u) <= kappa else kappa * (abs(u) - kappa / 2)


# --- Q itself ------------------------------------------------------------------------------------


def scalar(sample, *, double, loss="huber", delta=1.0, soft=None):
    """Loss, TD error and priority of DQN, double DQN or Munchausen DQN (``soft``)."""
    reward, following = sample["reward"], sample["target_s2"]
    if soft is not None:
        whose = sample["target_s" if soft["policy"] == "target" else "online_s"]
        reward += bonus(whose, sample["action"], soft)
        value = soft_value(following, following, soft["temperature"])
    else:
        value = following[argmax(sample["online_s2" if double else "target_s2"])]
    td = sample["online_s"][sample["action"]] - (reward + sample["discount"] * value)
    return (huber(td, delta) if loss == "huber" else td * td), td, abs(td)


# --- atoms (Bellemare 2017) ----------------------------------------------------------------------


def atoms(value_min, value_max, count):
    return [value_min + i * (value_max - value_min) / (count - 1) for i in range(count)]


def project(probabilities, reward, discount, value_min, value_max):
    """Algorithm 1: by floor and ceiling, and all of an atom's mass where both are the same."""
    count = len(probabilities)
    step = (value_max - value_min) / (count - 1)
    found = [0.0] * count
    for z, p in zip(atoms(value_min, value_max, count), probabilities, strict=True):
        moved = min(max(reward + discount * z, value_min), value_max)
        place = min(max((moved - value_min) / step, 0.0), count - 1.0)
        low, high = math.floor(place), math.ceil(place)
        if low == high:
            found[low] += p
        else:
            found[low] += p * (high - place)
            found[high] += p * (place - low)
    return found


def cross_entropy(logits, target):
    return -dot(target, log_softmax(logits))


def expectation(logits, values):
    return dot(values, [math.exp(log) for log in log_softmax(logits)])


def categorical(sample, *, double, value_min, value_max):
    """Loss, difference of expectations and priority of C51."""
    predicted = sample["online_s"][sample["action"]]
    z = atoms(value_min, value_max, len(predicted))
    chooser = sample["online_s2" if double else "target_s2"]
    best = argmax([expectation(logits, z) for logits in chooser])
    following = [math.exp(log) for log in log_softmax(sample["target_s2"][best])]
    target = project(following, sample["reward"], sample["discount"], value_min, value_max)
    loss = cross_entropy(predicted, target)
    td = expectation(predicted, z) - dot(target, z)
    return loss, td, loss


# --- quantiles (Dabney 2018a, 2018b) -------------------------------------------------------------


def midpoints(count):
    return [(2 * i + 1) / (2 * count) for i in range(count)]


def quantile_huber(quantiles, target, fractions, kappa):
    """Dabney 2018b, eq. 3: a sum over one's own quantiles of means over the target's."""
    loss = 0.0
    for theta, tau in zip(quantiles, fractions, strict=True):
        of_theta = 0.0
        for y in target:
            u = y - theta
            of_theta += (1 - tau if u < 0 else tau) * huber(u, kappa) / kappa
        loss += of_theta / len(target)
    return loss


def quantile(sample, *, double, kappa, implicit, soft=None):
    """Loss, difference of means and priority of QR-DQN or IQN, or of Munchausen's form of both."""
    predicted, following = sample["online_s"][sample["action"]], sample["target_s2"]
    by_target = "choice" if implicit else "target_s2"
    reward = sample["reward"]
    if soft is None:
        best = argmax([mean(z) for z in sample["online_s2" if double else by_target]])
        values = following[best]
    else:
        whose = sample["target_s" if soft["policy"] == "target" else "online_s"]
        reward += bonus([mean(z) for z in whose], sample["action"], soft)
        q = [mean(z) for z in sample[by_target]]
        values = [
            soft_value(q, column, soft["temperature"]) for column in zip(*following, strict=True)
        ]
    target = [reward + sample["discount"] * z for z in values]
    fractions = sample["tau"] if implicit else midpoints(len(predicted))
    loss = quantile_huber(predicted, target, fractions, kappa)
    return loss, mean(predicted) - mean(target), loss


# --- soft policies (Vieillard 2020) --------------------------------------------------------------


def policy(q, temperature):
    """pi and log pi of ``softmax(q / t)``."""
    log_pi = log_softmax([x / temperature for x in q])
    return [math.exp(log) for log in log_pi], log_pi


def soft_value(q, values, temperature):
    """``sum_a pi(a|s) (value of a - t log pi(a|s))``, the soft value in eq. 1."""
    pi, log_pi = policy(q, temperature)
    return math.fsum(
        p * (v - temperature * log) for p, v, log in zip(pi, values, log_pi, strict=True)
    )


def bonus(q, action, soft):
    """``alpha [t log pi(a|s)]`` clipped to [l0, 0], eq. 1."""
    t_log_pi = soft["temperature"] * policy(q, soft["temperature"])[1][action]
    return soft["alpha"] * min(max(t_log_pi, soft["clip"]), 0.0)


# --- layers --------------------------------------------------------------------------------------


def noisy_linear(x, weight, bias, weight_sigma, bias_sigma, noise_in, noise_out):
    """One row through Fortunato 2018, eq. 9 and 10, with a matrix of noise."""

    def f(e):
        return math.copysign(math.sqrt(abs(e)), e)

    return [
        math.fsum(
            (weight[o][i] + weight_sigma[o][i] * f(noise_out[o]) * f(noise_in[i])) * x[i]
            for i in range(len(x))
        )
        + bias[o]
        + bias_sigma[o] * f(noise_out[o])
        for o in range(len(bias))
    ]


def cosine_features(tau, weight, bias, first):
    """One fraction through Dabney 2018b, eq. 4."""
    found = []
    for row, b in zip(weight, bias, strict=True):
        waves = (w * math.cos(math.pi * (first + k) * tau) for k, w in enumerate(row))
        found.append(max(0.0, math.fsum(waves) + b))
    return found


def dueling(value, advantages):
    """``V + A - mean A`` number by number (Wang 2016, eq. 9): N of the state, A x N of actions."""
    return [
        [v + a[n] - mean([other[n] for other in advantages]) for n, v in enumerate(value)]
        for a in advantages
    ]
