"""Every form of the loss against the plain computation in `plain_loss.py`: 432 random batches, values and gradients."""

import itertools
import random
from dataclasses import replace

import pytest
import torch

from learner.advantages import ADVANTAGES
from learner.corrections import CORRECTIONS, SampledTokens
from learner.kl import ESTIMATORS
from learner.losses import NORMALISATIONS, policy_loss
from learner.overlong import OVERLONG
from tests.learner.plain_loss import Form, Group, loss_and_gradient, random_batch

LIMIT = 12  # longest completion
BATCHES = 12  # for each of the 36 forms: 432 in all


def ours(batch: list[Group], form: Form) -> tuple[float, list[float]]:
    """Return loss and gradient by the tables that the learner uses."""
    completions = [completion for group in batch for completion in group]
    lengths = [len(completion.new) for completion in completions]
    shape = OVERLONG[form.overlong]
    shaped = [shape([c.reward for c in g], [len(c.new) for c in g], [c.truncated for c in g], LIMIT) for g in batch]
    coefficients = NORMALISATIONS[form.normalise]([length for _, part in shaped for length in part], LIMIT)
    advantages = [value for rewards, _ in shaped for value in ADVANTAGES[form.advantages](rewards)]

    def tokens(name: str) -> torch.Tensor:
        return torch.tensor([value for c in completions for value in getattr(c, name)], dtype=torch.float64)

    def repeated(values: list[float]) -> torch.Tensor:
        return torch.repeat_interleave(torch.tensor(values, dtype=torch.float64), torch.tensor(lengths))

    new = tokens("new").requires_grad_()
    sampled = SampledTokens(
        new=new, old=tokens("old"), behaviour=tokens("behaviour"), advantages=repeated(advantages), lengths=lengths
    )
    found = policy_loss(
        sampled,
        reference=tokens("reference"),
        entropies=-new.detach(),
        coefficients=repeated(coefficients),
        correction=CORRECTIONS[form.correction],
        bounds=(form.low, form.high),
        estimator=ESTIMATORS[form.kl],
        beta=form.beta,
    )
    found.loss.backward()
    assert new.grad is not None
    return found.loss.item(), new.grad.tolist()


FORMS = [
    Form(correction=correction, kl=kl, normalise=normalise)
    for correction, kl, normalise in itertools.product(CORRECTIONS, ESTIMATORS, NORMALISATIONS)
]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: f"{form.correction}-{form.kl}-{form.normalise}")
def test_it_equals_the_plain_computation(form: Form) -> None:
    rng = random.Random(f"{form}")
    sides = itertools.product(ADVANTAGES, OVERLONG)
    for number, (advantages, overlong) in zip(range(BATCHES), itertools.cycle(sides), strict=False):
        low, high = rng.choice([(0.0, 2.0), (0.8, 1.2), (0.5, 5.0)])
        chosen = replace(form, advantages=advantages, overlong=overlong, low=low, high=high, beta=rng.choice([0.0, 0.08, 0.5]))
        drift, reference_drift = rng.choice([(0.05, 0.1), (0.3, 1.0), (1.0, 4.0), (15.0, 15.0)])
        batch = random_batch(rng, LIMIT, drift, reference_drift, on_policy=number % 2 == 0 or drift > 1)
        loss, gradient = ours(batch, chosen)
        expected, expected_gradient = loss_and_gradient(batch, chosen, LIMIT)
        assert loss == pytest.approx(expected, rel=1e-9, abs=1e-9), chosen
        assert gradient == pytest.approx(expected_gradient, rel=1e-9, abs=1e-9), chosen
