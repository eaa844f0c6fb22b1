"""Loss and gradient of a whole batch in plain Python: one completion and one token at a time, derivatives by hand.

Nothing here is taken from `learner/`: it is written from docs/design.md, section 4, to be compared with.
"""

import math
import random
from dataclasses import dataclass, field
from statistics import mean, stdev


@dataclass(kw_only=True)
class Completion:
    """One completion with its log-probs of each token."""

    reward: float
    truncated: bool
    new: list[float] = field(default_factory=list)
    old: list[float] = field(default_factory=list)
    behaviour: list[float] = field(default_factory=list)
    reference: list[float] = field(default_factory=list)


Group = list[Completion]


@dataclass(frozen=True, kw_only=True)
class Form:
    """A form of the loss, by the names of the configuration."""

    correction: str
    kl: str
    normalise: str
    advantages: str = "normalised"
    overlong: str = "keep"
    low: float = 0.5
    high: float = 2.0
    beta: float = 0.1


def random_batch(rng: random.Random, limit: int, drift: float, reference_drift: float, *, on_policy: bool) -> list[Group]:
    """Return some groups of 2, 4 or 8 completions; `on_policy`: pi_theta is pi_old, as with one optimiser step per batch."""
    samples = rng.choice([2, 4, 8])
    batch = []
    for _ in range(rng.randint(1, 3)):
        group = []
        for _ in range(samples):
            length = rng.randint(1, limit)
            completion = Completion(reward=rng.choice([1.0, -1.0]), truncated=length == limit)
            for _ in range(length):
                old = -3 * rng.random()
                completion.old.append(old)
                completion.new.append(old if on_policy else old + rng.gauss(0, drift))
                completion.behaviour.append(old + rng.gauss(0, drift))
                completion.reference.append(old + rng.gauss(0, reference_drift))
            group.append(completion)
        batch.append(group)
    return batch


def loss_and_gradient(batch: list[Group], form: Form, limit: int) -> tuple[float, list[float]]:
    """Return the loss, and its derivative by each token's log pi_theta, completion after completion."""
    completions = [completion for group in batch for completion in group]
    lengths = [0 if form.overlong == "mask" and c.truncated else len(c.new) for c in completions]
    divisors = {
        "sequence": [len(completions) * length for length in lengths],
        "token": [sum(lengths)] * len(completions),
        "constant": [len(completions) * limit] * len(completions),
    }[form.normalise]
    advantages = [value for group in batch for value in _advantages(group, form, limit)]
    total, gradient = 0.0, []
    for completion, advantage, length, divisor in zip(completions, advantages, lengths, divisors, strict=True):
        if not length:
            gradient += [0.0] * len(completion.new)
            continue
        sequence = _sequence_ratio(completion, form)
        for at in range(len(completion.new)):
            value, slope = _token(completion, at, advantage, form, sequence)
            total += value / divisor
            gradient.append(slope / divisor)
    return total, gradient


def _advantages(group: Group, form: Form, limit: int) -> list[float]:
    rewards = [completion.reward for completion in group]
    if form.overlong == "penalty":
        free, part = 0.8 * limit, 0.2 * limit
        for i, completion in enumerate(group):
            if len(completion.new) > free:
                rewards[i] -= (len(completion.new) - free) / part
    middle = mean(rewards)
    scale = stdev(rewards) + 1e-6 if form.advantages == "normalised" else 1.0
    return [(reward - middle) / scale for reward in rewards]


def _limited(value: float) -> float:
    return max(-20.0, min(20.0, value))


def _sequence_ratio(completion: Completion, form: Form) -> float:
    total = sum(completion.old) - sum(completion.behaviour)
    if form.correction == "geometric":
        total /= len(completion.old)
    return math.exp(_limited(total))


def _token(completion: Completion, at: int, advantage: float, form: Form, sequence: float) -> tuple[float, float]:
    """Return the loss of a token and its derivative."""
    new, old, behaviour = completion.new[at], completion.old[at], completion.behaviour[at]
    ratio, weight = math.exp(new - old), math.exp(_limited(old - behaviour))
    if form.correction == "tis":
        weight = min(max(weight, form.low), form.high)
    elif form.correction == "icepop":
        weight = weight if form.low <= weight <= form.high else 0.0
    elif form.correction in ("sequence_mask", "geometric"):
        weight = sequence if form.low <= sequence <= form.high else 0.0
    else:
        weight = 1.0
    value, slope, ratio_slope = -weight * ratio * advantage, -weight * ratio * advantage, ratio
    if form.correction == "clip":
        ratio = math.exp(_limited(new - behaviour))
        ratio_slope = ratio if abs(new - behaviour) < 20 else 0.0
        cut = min(max(ratio, form.low), form.high)
        value = -min(ratio * advantage, cut * advantage)
        slope = -ratio_slope * advantage if value == -ratio * advantage else 0.0
    difference = _limited(completion.reference[at] - new)
    k3 = math.exp(difference) - difference - 1
    if form.kl == "k3":
        kl, kl_slope = (k3, 1 - math.exp(difference)) if k3 < 10 else (10.0, 0.0)
    else:
        kl, kl_slope = weight * ratio * min(k3, 10.0), -weight * ratio_slope * difference
    return value + form.beta * kl, slope + form.beta * kl_slope
