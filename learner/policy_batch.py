"""A batch of groups laid out for the policy loss: the completions of all, and what each of them weighs."""

from collections.abc import Sequence
from dataclasses import dataclass

from buffer.messages import ExperienceGroup
from configs.schema import Config
from learner import losses
from learner.overlong import OVERLONG
from learner.own_loss import advantages_of


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicyBatch:
    """The completions of a batch, group after group; one item per completion in each field."""

    completions: list[tuple[int, ...]]
    """Token ids."""
    behaviour_logprobs: list[tuple[float, ...]]
    """log mu of each token, as the rollout recorded it."""
    advantages: list[float]
    """A."""
    coefficients: list[float]
    """Coefficient of each of its tokens in the loss; 0 where it is left out."""


def policy_batch(groups: Sequence[ExperienceGroup], config: Config) -> PolicyBatch:
    """Lay out groups for the loss, by `grpo.overlong`, `grpo.advantages` and `grpo.normalise`."""
    grpo, limit = config.grpo, config.rollout.max_new_tokens
    advantages = advantages_of(grpo.advantages)
    completions = [ids for group in groups for ids in group.completion_ids]
    shaped = [
        OVERLONG[grpo.overlong](group.rewards, [len(ids) for ids in group.completion_ids], group.truncated, limit)
        for group in groups
    ]
    return PolicyBatch(
        completions=completions,
        behaviour_logprobs=[logprobs for group in groups for logprobs in group.logprobs],
        advantages=[advantage for rewards, _ in shaped for advantage in advantages(rewards)],
        coefficients=losses.NORMALISATIONS[grpo.normalise]([length for _, part in shaped for length in part], limit),
    )
